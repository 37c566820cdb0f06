"""Noise that is kept for the next image: bounded in bytes, and the same as fresh noise."""

import torch
from torch import Tensor

from flowdesign.render import noise
from flowdesign.render.cache import Cache
from flowdesign.render.noise import BrownianNoise

SIGMAS = torch.tensor([14.6, 7.0, 2.0, 0.5, 0.03, 0.0])
PAIRS = [(14.6, 7.0), (7.0, 2.0), (2.0, 0.5), (0.5, 0.03)]


def draw(seeds: list[int], side: int = 8) -> list[Tensor]:
    source = BrownianNoise(seeds, torch.zeros(len(seeds), 4, side, side), SIGMAS)
    return [source(*pair) for pair in PAIRS]


def test_kept_noise_is_fresh_noise(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    fresh = draw([3, 4])
    kept = draw([3, 4])
    monkeypatch.setattr(noise, "WALKED", Cache(0))
    none = draw([3, 4])
    for a, b, c in zip(fresh, kept, none, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert abs(float(torch.cat(fresh).std()) - 1) < 0.1


def test_kept_noise_is_bounded_in_bytes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """It was bounded in entries: 6 GB of noise for large images."""
    assert noise.WALKED.limit <= 64 * 2**20
    one = 4 * 32 * 32 * 4
    monkeypatch.setattr(noise, "WALKED", Cache(5 * one))
    draw(list(range(4)), side=32)
    assert 0 < noise.WALKED.bytes <= 5 * one


def test_nothing_large_outlives_a_sampling() -> None:
    source = BrownianNoise([1], torch.zeros(1, 4, 64, 64), SIGMAS)
    source(*PAIRS[0])
    assert not hasattr(noise, "lru_cache") and list(source._trees) == [1]
