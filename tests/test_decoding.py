"""The fast reader of a policy's trunk, against the library's model."""

import pytest
import torch
from toys import write_tiny_base

from flowdesign import lm
from flowdesign.catalog import known_assets
from flowdesign.decoding import PLACES, decoder_of
from flowdesign.policy import Anatomy, Policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    base = str(write_tiny_base(tmp_path_factory.mktemp("base")))
    policy = Policy.create(Anatomy(base, 4), models=known_assets())
    torch.manual_seed(2)
    for weight in policy.trainable().values():
        torch.nn.init.normal_(weight, std=0.1)
    return policy


@torch.no_grad()
def test_it_gives_what_the_library_gives(policy: Policy) -> None:
    """Prompts of different lengths, tokens in lots, sequences that end, and more places than were set aside."""
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
        torch.testing.assert_close(found[counts], expected[counts], rtol=1e-4, atol=1e-4)
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
