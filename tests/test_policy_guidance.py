"""Guidance between two policies: its ends are the policies, and beyond them it is the formula."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import write_tiny_base

from flowdesign.catalog import known_assets
from flowdesign.decoding import Decoder, Memory, decoder_of
from flowdesign.guidance import Guided, Pair
from flowdesign.habits import Habits
from flowdesign.lm import Context
from flowdesign.policy import Anatomy, Policy
from flowdesign.sampling import Speaker
from flowdesign.tokens import CannotFix, Vocabulary, sentence_text

PROMPT = "a red star"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    """A policy that knows nothing, and a twin that has moved."""
    base = str(write_tiny_base(tmp_path_factory.mktemp("base")))
    torch.manual_seed(0)
    sft = Policy.create(Anatomy(base, 4), "fp32", models=known_assets())
    grpo = sft.twin()
    with torch.no_grad():
        for weight in grpo.trainable().values():
            weight.add_(0.02 * torch.randn(weight.shape))
    return sft, grpo


def said(speaker: Speaker, **options: float) -> list[tuple[int, ...]]:
    return [sample.tokens for sample in speaker.sample(PROMPT, 8, 3, **options)]  # type: ignore[arg-type]


def test_its_ends_are_the_two_policies_exactly(pair: tuple[Policy, Policy]) -> None:
    sft, grpo = pair
    assert said(sft) != said(grpo)
    for policy, scale in ((sft, 0.0), (grpo, 1.0)):
        ours, theirs = (one.sample(PROMPT, 8, 3) for one in (Pair(sft, grpo).at(scale), policy))
        for one, other in zip(ours, theirs, strict=True):
            assert one.tokens == other.tokens
            assert one.logprob == pytest.approx(other.logprob, rel=1e-5)


def test_fixed_words_are_said_at_every_scale_and_all_stays_valid(
    pair: tuple[Policy, Policy],
) -> None:
    fixed = ("ckpt:mini_night", "upscaler:mini_2x", "lora:none")
    for scale in (0.0, 1.0, 4.0):
        speaker = Pair(*pair).at(scale)
        samples = list(speaker.sample_stream(PROMPT, 8, 3, fixed=fixed))
        assert all(sample.valid for sample in samples)
        for sample in samples:
            assert {f"<{fix}>" for fix in fixed} <= set(sentence_text(sample.tokens).split())
        assert len({sample.tokens for sample in samples}) == 8
    with pytest.raises(CannotFix, match="Did you mean 'mini_night'"):
        list(speaker.sample_stream(PROMPT, 1, 3, fixed=("ckpt:mini_nigt",)))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 2.0, 10.0])
def test_logits_follow_the_formula(
    pair: tuple[Policy, Policy], scale: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the project's decoder reads or the library."""
    sft, grpo = pair
    if not fast:
        monkeypatch.setattr("flowdesign.guidance.decoder_of", lambda *trunks, alike: None)
    prompts = [PROMPT, "a blue circle", PROMPT]
    guided = Guided(Pair(sft, grpo), scale)
    low, high, both = (one.open(prompts) for one in (sft, grpo, guided))
    assert isinstance(both.context, Memory if fast else Context)
    tokens = [[sft.begin]] * 3
    for kept in ([0, 1, 2], [2, 0]):
        for session in (low, high, both):
            session.keep(kept)
        tokens = tokens[: len(kept)]
        one, other, mixed = (session.feed(tokens)[:, 0] for session in (low, high, both))
        expected = one + scale * (other - one)
        torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-4)
        assert torch.allclose(mixed, one, rtol=1e-4, atol=1e-4) == (scale == 0)
        tokens = [[1], [2], [1]]


@pytest.mark.parametrize("scale", [-1.0, 2.0])
def test_layers_that_did_not_move_are_read_once(
    pair: tuple[Policy, Policy], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sft, grpo = pair[0], pair[0].twin()
    grpo.hold_below(1)
    with torch.no_grad():
        for weight in grpo.trainable().values():
            weight.add_(0.05 * torch.randn(weight.shape))
    own = Pair(sft, grpo)
    decoder = decoder_of(sft.trunk, grpo.trunk, alike=True)
    assert decoder is not None and decoder.shared == len(decoder.layers) - 1 > 0
    prompts = [PROMPT, "a blue circle", PROMPT]
    low, high, both = (one.open(prompts) for one in (sft, grpo, Guided(own, scale)))
    rows: list[int] = []
    attend = Decoder._attend

    def counted(self: Decoder, asked: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append(len(asked))
        return attend(self, asked, *rest)

    for tokens in ([[sft.begin]] * 3, [[1], [2], [1]]):
        one, other = low.feed(tokens)[:, 0], high.feed(tokens)[:, 0]
        with monkeypatch.context() as patch:
            patch.setattr(Decoder, "_attend", counted)
            mixed = both.feed(tokens)[:, 0]
        torch.testing.assert_close(mixed, one + scale * (other - one), rtol=1e-4, atol=1e-4)
    assert rows == 2 * [*[2] * decoder.shared, 4]  # two prompts, of which one is asked for twice
    with torch.no_grad():
        grpo.rows.inputs.weight.add_(0.1)
    assert Pair(sft, grpo).opens.__self__.shared == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.0, 3.0, 10.0])
def test_everything_said_is_a_workflow_at_any_scale(
    pair: tuple[Policy, Policy], scale: float
) -> None:
    samples = Pair(*pair).at(scale).sample(PROMPT, 12, 0, temperature=1.5, top_p=0.9)
    assert len(samples) == 12 and all(sample.valid for sample in samples)


def test_without_the_grammar_anything_may_be_said(pair: tuple[Policy, Policy]) -> None:
    samples = Pair(*pair).at(2.0).sample(PROMPT, 6, 0, constrained=False)
    assert not all(sample.valid for sample in samples)


def test_near_scales_say_nearly_the_same(pair: tuple[Policy, Policy]) -> None:
    """The chance of a sample does not depend on the scale: a small step changes few samples."""
    one, near = (Pair(*pair).at(scale).sample(PROMPT, 24, 1) for scale in (0.5, 0.5001))
    assert sum(a.tokens == b.tokens for a, b in zip(one, near, strict=True)) >= 22


@pytest.mark.parametrize("scale", [-1.01, 10.5, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_told(pair: tuple[Policy, Policy], scale: float) -> None:
    with pytest.raises(ValueError, match="from -1 to 10"):
        Pair(*pair).at(scale)


def test_policies_of_different_vocabularies_are_told(
    pair: tuple[Policy, Policy], tmp_path: Path
) -> None:
    sft, grpo = pair
    other = grpo.twin()
    other.vocabulary = Vocabulary(grpo.vocabulary.tokens[:-1])
    with pytest.raises(ValueError, match="one vocabulary"):
        Pair(sft, other)


def test_policies_of_different_bases_are_told(pair: tuple[Policy, Policy], tmp_path: Path) -> None:
    sft, grpo = pair
    other = grpo.twin()
    other.anatomy = Anatomy("another", 4)
    with pytest.raises(ValueError, match="one base"):
        Pair(sft, other)


def test_policies_of_different_ranks_guide(pair: tuple[Policy, Policy]) -> None:
    sft, _ = pair
    wide = Policy.create(Anatomy(sft.anatomy.base, 6), "fp32", models=known_assets(), beside=sft)
    with torch.no_grad():
        for weight in wide.trainable().values():
            weight.add_(0.02 * torch.randn(weight.shape))
    low, high, both = (one.open([PROMPT]) for one in (sft, wide, Pair(sft, wide).at(3.0)))
    one, other, mixed = (session.feed([[sft.begin, 3]])[:, 0] for session in (low, high, both))
    torch.testing.assert_close(mixed, one + 3.0 * (other - one), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_guesses_change_nothing_that_is_said(pair: tuple[Policy, Policy], scale: float) -> None:
    """Designs for a prompt when nothing is known, and when much is: fewer passes say the same."""
    speaker = Pair(*pair).at(scale)
    speaker.habits = Habits()
    drawn, passes = [], []
    for _ in range(2):
        asked = iter(range(10**6))
        stream = speaker.sample_stream(PROMPT, 6, 5, cancel=lambda asked=asked: next(asked) < 0)
        drawn.append(sorted(stream, key=lambda sample: sample.index))
        passes.append(next(asked))
    assert 3 * passes[1] < passes[0]
    for one, other in zip(*drawn, strict=True):
        assert one.tokens == other.tokens
        assert one.logprob == pytest.approx(other.logprob, rel=1e-4)


def test_a_policy_beside_another_holds_the_base_once(
    pair: tuple[Policy, Policy], tmp_path: Path
) -> None:
    sft, grpo = pair
    grpo.save(tmp_path)
    loaded = Policy.load(tmp_path, "fp32", models=known_assets(), beside=sft)
    frozen = [
        {id(p) for p in one.trunk.parameters() if not p.requires_grad} for one in (sft, loaded)
    ]
    assert frozen[0] and frozen[0] == frozen[1]
    assert not {id(p) for p in loaded.trainable().values()} & {
        id(p) for p in sft.trainable().values()
    }
    assert [one.tokens for one in loaded.sample(PROMPT, 4, 0)] == [
        one.tokens for one in grpo.sample(PROMPT, 4, 0)
    ]
