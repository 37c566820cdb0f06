"""Sentences one choice away: valid, near, and every choice can be reached."""

import random

import pytest
from language_toys import AUTOMATON, PLAIN, random_sentences

from flowdesign.tokens import (
    VOCABULARY,
    alternatives,
    changed,
    decode,
    parse_sentence,
    sentence_text,
    variants,
)

PLACES = {word.split(":")[0][1:]: at for at, word in enumerate(PLAIN.split())}


def _changed(place: str, word: str) -> str:
    sentence = parse_sentence(PLAIN)
    token = VOCABULARY.index(word)
    return sentence_text(changed(sentence, PLACES[place], token, AUTOMATON, random.Random(0)))


def test_a_plain_choice_changes_one_word() -> None:
    assert _changed("sampler", "<sampler:ddim>") == PLAIN.replace("sampler:euler", "sampler:ddim")


def test_a_lora_brings_its_strength_and_nothing_else() -> None:
    words = _changed("lora", "<lora:flat_dusk>").split()
    extra = [word for word in words if word not in PLAIN.split()]
    assert extra[0] == "<lora:flat_dusk>" and extra[1].startswith("<strength:")
    assert set(PLAIN.split()) - set(words) <= {"<lora:none>"}
    assert words[-1] == "<end>" and not decode(parse_sentence(" ".join(words))).problems


def test_taking_a_lora_away_takes_its_strength_along() -> None:
    with_lora = parse_sentence(_changed("lora", "<lora:flat_dusk>"))
    none = VOCABULARY.index("<lora:none>")
    back = changed(with_lora, PLACES["lora"], none, AUTOMATON, random.Random(1))
    assert sentence_text(back) == PLAIN


def test_every_variant_is_a_workflow_that_differs_where_it_says() -> None:
    for sentence in random_sentences(6, seed=3):
        found = list(variants(sentence, AUTOMATON, random.Random(0)))
        assert len(found) > 30
        for place, token, variant in found:
            assert variant[:place] == sentence[:place] and variant[place] == token
            assert variant != sentence
            assert not decode(variant).problems


def test_the_rest_of_a_variant_mostly_stays() -> None:
    """The median variant keeps nearly all words of its sentence."""
    kept = []
    for sentence in random_sentences(6, seed=4):
        for _, _, variant in variants(sentence, AUTOMATON, random.Random(0)):
            kept.append(len(set(variant) & set(sentence)) / len(set(sentence)))
    assert sorted(kept)[len(kept) // 2] > 0.9


def test_what_is_not_in_the_language_is_refused() -> None:
    sentence = parse_sentence(PLAIN)
    rng = random.Random(0)
    with pytest.raises(ValueError, match="no place 99"):
        alternatives(sentence, 99, AUTOMATON)
    with pytest.raises(ValueError, match="not of this language"):
        alternatives((*sentence[1:], sentence[0]), 3, AUTOMATON)
    with pytest.raises(ValueError, match="may not stand at place 0"):
        changed(sentence, 0, VOCABULARY.index("<end>"), AUTOMATON, rng)
