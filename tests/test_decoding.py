"""The fast reader of a policy's trunk, against the library's model."""

import pytest
import torch
from toys import write_tiny_base

from flowdesign import lm
from flowdesign.catalog import known_assets
from flowdesign.decoding import ROOM, decoder_of
from flowdesign.growing import Growing, Places, in_order
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
    """Rows of different lengths, sentences that part, guesses, rows that end, more places than were set aside."""
    policy = moved(base, dtype)
    decoder = decoder_of(policy.trunk)
    assert decoder is not None
    ours, theirs = decoder.open(), lm.Context(policy.trunk, policy.device)
    embedded = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))

    def compare(ids: torch.Tensor, places: Places) -> None:
        found, expected = (one.read(embedded[ids], places) for one in (ours, theirs))
        counts = places.there
        torch.testing.assert_close(found[counts], expected[counts], rtol=off, atol=off)

    ids, places = in_order([[4, 5, 6], [7]], 0)
    compare(ids, places)
    growing = Growing([0, 0, 1], places.there)
    for tokens, guesses in (
        ([[1], [1], [1]], [[2, 3], [2, 3], []]),
        ([[2, 3, 9], [2, 8], [5]], [[1], [], [6, 7]]),
        ([list(range(10, 10 + ROOM)), [2], [6, 6]], ()),
    ):
        lot = growing.grow(tokens, guesses)
        compare(lot.ids, lot.places)
    for reading in (ours, theirs):
        reading.keep([1])
    assert growing.keep([2]) == [1]
    lot = growing.grow([[3]])
    compare(lot.ids, lot.places)


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
