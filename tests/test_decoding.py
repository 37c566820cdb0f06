"""The fast reader of a policy's trunk, against the library's model."""

import pytest
import torch
from toys import write_tiny_base

from flowdesign import lm
from flowdesign.catalog import known_assets
from flowdesign.decoding import PLACES, decoder_of
from flowdesign.policy import Anatomy, Policy


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def policy(base: str) -> Policy:
    return moved(base)


def moved(base: str, dtype: lm.Dtype = "nf4") -> Policy:
    """A policy whose LoRA says something."""
    policy = Policy.create(Anatomy(base, 4), dtype, models=known_assets())
    torch.manual_seed(2)
    for weight in policy.trainable().values():
        torch.nn.init.normal_(weight, std=0.1)
    return policy


@pytest.mark.parametrize(("dtype", "off"), [("nf4", 1e-4), ("fp32", 1e-4), ("bf16", 0.05)])
@torch.no_grad()
def test_it_gives_what_the_library_gives(base: str, dtype: lm.Dtype, off: float) -> None:
    """Prompts of different lengths, tokens in lots, sequences that end, and more places than were set aside."""
    policy = moved(base, dtype)
    decoder = decoder_of(policy.trunk)
    assert decoder is not None
    ours, theirs = decoder.open(3), lm.Context(policy.trunk, 3, policy.device)
    generator = torch.Generator().manual_seed(0)
    for time, kept in (
        (9, [0, 2, 2, 1]),
        (1, [3, 0, 1]),
        (4, [0, 1, 2]),
        (PLACES, [2, 1]),
        (2, [0]),
    ):
        group = len(ours.there)
        vectors = torch.randn(group, time, 64, generator=generator)
        lengths = torch.randint(1, time + 1, (group, 1), generator=generator)
        there = (torch.arange(time) >= time - lengths).long()  # padded on the left
        found, expected = ours.read(vectors, there), theirs.read(vectors, there)
        counts = there.bool()
        torch.testing.assert_close(found[counts], expected[counts], rtol=off, atol=off)
        for reading in (ours, theirs):
            reading.keep(kept)


def test_it_follows_the_weights(policy: Policy) -> None:
    changed = policy.twin()
    before = changed.sample("a red star", 4, 0)
    assert [one.tokens for one in before] == [
        one.tokens for one in policy.sample("a red star", 4, 0)
    ]
    for weight in changed.trainable().values():
        torch.nn.init.normal_(weight, std=0.1)
    samples = changed.sample("a red star", 4, 0)
    assert samples != before
    with torch.no_grad():
        logs = changed.log_probs(["a red star"] * 4, [s.tokens for s in samples], changed.automaton)
    assert [s.logprob for s in samples] == pytest.approx(logs.tolist(), rel=1e-4)


def test_weights_in_4_bits_are_left_to_the_library(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm, "UNPACKED", 0)
    packed = Policy.create(policy.anatomy, models=known_assets())
    assert decoder_of(packed.trunk) is None
    assert packed.sample("a red star", 1, 0)[0].valid
