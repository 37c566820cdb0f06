"""Choices that are fixed by hand: what is said, what is free, and that all of it stays valid."""

import random

import pytest

from flowdesign.catalog import Installed, known_assets
from flowdesign.tokens import (
    VOCABULARY,
    Automaton,
    CannotFix,
    Restricted,
    decode,
    restrict,
    sentence_text,
)
from flowdesign.tokens.restriction import SEVERAL, values_of

LANGUAGE = Automaton(VOCABULARY, known_assets())


def walk(language: Restricted, seed: int) -> tuple[int, ...]:
    """A random sentence, each word as likely as another."""
    rng, state, tokens = random.Random(seed), language.start(), list[int]()
    while not language.done(state):
        tokens.append(rng.choice(language.allowed(state)))
        state = language.advance(state, tokens[-1])
    return tuple(tokens)


def said(tokens: tuple[int, ...], group: str) -> list[str]:
    """What a sentence says of a group."""
    words = sentence_text(tokens).replace("> <", ">\n<").split("\n")
    return [word for word in words if word.startswith(f"<{group}:")]


FIXES = (
    "ckpt:mini_night", "lora:outline_mint", "sampler:heun", "steps:12", "cfg:4", "size:96x96",
    "negative:blurry, messy", "upscaler:mini_4x", "denoise:0.5", "pass:refine", "strength:0.6",
)  # fmt: skip


@pytest.mark.parametrize("fix", FIXES)
def test_a_fixed_word_is_said_and_every_sentence_is_a_workflow(fix: str) -> None:
    language, group = restrict(LANGUAGE, (fix,)), fix.partition(":")[0]
    sentences = {walk(language, seed) for seed in range(25)}
    assert len(sentences) > 20  # all else is free
    for tokens in sentences:
        assert LANGUAGE.accepts(tokens) and language.accepts(tokens)
        assert not decode(tokens).problems
        words = said(tokens, group)
        assert f"<{fix}>" in words
        assert group in SEVERAL or set(words) == {f"<{fix}>"}


@pytest.mark.parametrize("fix", ["upscaler:none", "pass:none", "lora:none", "vae:none"])
def test_none_means_that_the_choice_is_not_made(fix: str) -> None:
    language, group = restrict(LANGUAGE, (fix,)), fix.partition(":")[0]
    for seed in range(25):
        assert set(said(walk(language, seed), group)) <= {f"<{fix}>"}


def test_a_sentence_without_the_word_is_not_of_the_language() -> None:
    language = restrict(LANGUAGE, ("upscaler:none",))
    fixed = restrict(LANGUAGE, ("upscaler:mini_2x",))
    tokens = walk(language, 1)
    assert language.accepts(tokens) and not fixed.accepts(tokens)
    assert not fixed.accepts(walk(fixed, 1)[:-1])
    with pytest.raises(ValueError, match="may not follow"):
        fixed.advance(fixed.start(), VOCABULARY.end)


def test_several_loras_may_be_fixed_at_once_and_two_samplers_may_not() -> None:
    both = restrict(LANGUAGE, ("lora:flat_dusk", "lora:night_crowd"))
    for seed in range(10):
        assert {"<lora:flat_dusk>", "<lora:night_crowd>"} <= set(said(walk(both, seed), "lora"))
    with pytest.raises(CannotFix, match="'sampler' is fixed twice"):
        restrict(LANGUAGE, ("sampler:euler", "sampler:heun"))
    with pytest.raises(CannotFix, match="'lora' is fixed twice"):
        restrict(LANGUAGE, ("lora:none", "lora:flat_dusk"))


@pytest.mark.parametrize(
    ("fixes", "words"),
    [
        (("ckpt:none",), "No workflow that runs here has ckpt:none"),
        (("lora:none", "strength:1"), "lora:none and strength:1"),
        (("pass:none", "denoise:0.5"), "pass:none and denoise:0.5"),
        (("size:128x128", "upscaler:mini_4x", "resize:none", "pass:latent"), "No workflow"),
        (("ckpt:mini_fla",), "Did you mean 'mini_flat'"),
        (("colour:red",), "fixes no choice"),
        (("mini_flat",), "GROUP:VALUE"),
        (("end:",), "fixes no choice"),
    ],
)
def test_what_cannot_be_fixed_is_told(fixes: tuple[str, ...], words: str) -> None:
    with pytest.raises(CannotFix, match=words):
        restrict(LANGUAGE, fixes)


def test_what_is_not_installed_cannot_be_fixed() -> None:
    known = known_assets()
    kinds = ("checkpoints", "vae", "upscale_models")
    paths = {kind: {name: known.path(kind, name) for name in known.names(kind)} for kind in kinds}
    without = Automaton(VOCABULARY, Installed(paths))
    with pytest.raises(CannotFix, match="lora:flat_dusk"):
        restrict(without, ("lora:flat_dusk",))


def test_all_words_can_be_fixed_but_the_end() -> None:
    found = values_of(VOCABULARY)
    count = sum(len(values) for values in found.values())
    assert count == len(VOCABULARY) - 1 and "end" not in found
