"""Search under a reward: what it finds, and how the draws are distributed."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from flowdesign.catalog import known_assets
from flowdesign.search import Sentence, search
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence

LANGUAGE = Automaton(VOCABULARY, known_assets())
HIGH = VOCABULARY.index("<cfg:7>")
KEYS = {"a star": "<cfg:7>", "a moon": "<cfg:2>"}


def starts(count: int) -> list[Sentence]:
    rng = random.Random(1)
    return [tuple(random_sentence(LANGUAGE, rng)) for _ in range(count)]


def keyed(prompts: Sequence[str], sentences: Sequence[Sentence]) -> list[float]:
    """1 for the first pass's cfg that the prompt asks for, 0.5 more for eight steps there."""
    found = []
    for prompt, sentence in zip(prompts, sentences, strict=True):
        words = [VOCABULARY.tokens[token] for token in sentence]
        cfg = next(word for word in words if word.startswith("<cfg:"))
        steps = next(word for word in words if word.startswith("<steps:"))
        found.append(float(cfg == KEYS[prompt]) + 0.5 * (steps == "<steps:8>"))
    return found


def test_ascent_finds_what_each_prompt_wants_in_one_sweep() -> None:
    prompts = ["a star", "a moon"] * 4
    found = search(keyed, prompts, starts(8), LANGUAGE)
    assert [one.reward for one in found] == [1.5] * 8
    assert [one.prompt for one in found] == prompts
    assert keyed(prompts, [one.sentence for one in found]) == [1.5] * 8
    assert all(LANGUAGE.accepts(one.sentence) for one in found)


def test_ascent_never_loses() -> None:
    def odd(prompts: Sequence[str], sentences: Sequence[Sentence]) -> list[float]:
        return [sum(hash((prompt, s[i : i + 2])) % 97 for i in range(len(s))) / 97
                for prompt, s in zip(prompts, sentences, strict=True)]  # fmt: skip

    prompts, sentences = ["x"] * 5, starts(5)
    before = odd(prompts, sentences)
    after = search(odd, prompts, sentences, LANGUAGE, sweeps=2)
    assert all(one.reward >= old for one, old in zip(after, before, strict=True))


def test_draws_follow_the_reward_by_the_temperature() -> None:
    """A free choice with rewards 0 and 1: at temperature 1 the better one is e times as frequent."""
    words = [token for token in VOCABULARY.tokens if token.startswith("<clip_skip:")]
    good = VOCABULARY.index(words[1])

    def likes(prompts: Sequence[str], sentences: Sequence[Sentence]) -> list[float]:
        return [float(good in sentence) for sentence in sentences]

    count = 1500
    found = search(likes, ["a star"] * count, starts(count), LANGUAGE, 1, 1.0, seed=3)
    said = Counter(good in one.sentence for one in found)
    share = 2.718281828 / (2.718281828 + len(words) - 1)
    assert said[True] / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


def test_the_same_seed_finds_the_same_whatever_the_company() -> None:
    sentences = starts(4)
    settings = (LANGUAGE, 1, 0.5)
    every = search(keyed, ["a star"] * 4, sentences, *settings, seed=2)
    alone = search(keyed, ["a star"], sentences[:1], *settings, seed=2)
    other = search(keyed, ["a star"] * 4, sentences, *settings, seed=3)
    assert every[0] == alone[0]
    assert every == search(keyed, ["a star"] * 4, sentences, *settings, seed=2) != other


def test_nothing_asked_nothing_found_and_bad_settings_are_told() -> None:
    assert search(keyed, [], [], LANGUAGE) == []
    with pytest.raises(ValueError, match="temperature of a search"):
        search(keyed, ["a star"], starts(1), LANGUAGE, temperature=-1.0)
    with pytest.raises(ValueError, match="not of this language"):
        search(lambda p, s: [0.0] * len(s), ["a star"], [(HIGH, HIGH)], LANGUAGE)
    with pytest.raises(ValueError):
        search(keyed, ["a star"], [], LANGUAGE)
