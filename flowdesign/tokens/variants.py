"""Sentences that differ from a given one by one choice: what a search or an ablation looks at.

A choice may bring others with it (a LoRA its strength, a second pass its sampler) or take some away.
`changed` keeps the rest of the sentence as far as the grammar allows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from flowdesign.tokens.automaton import Automaton
from flowdesign.tokens.grammar import State

BRIDGE = 2  # tokens that may be put in before the next one: a LoRA brings its strength and an end


def alternatives(sentence: Sequence[int], place: int, language: Automaton) -> list[int]:
    """The other tokens that may stand at a place, given what stands before it.

    Raises ValueError for a sentence outside the language or a place beyond its end.
    """
    state = _state_at(sentence, place, language)
    return [token for token in language.allowed(state) if token != sentence[place]]


def changed(
    sentence: Sequence[int], place: int, token: int, language: Automaton, rng: random.Random
) -> tuple[int, ...]:
    """The sentence with another token at a place, and a rest that fits.

    What follows is kept token by token. Where the next one is not allowed, the fewest tokens that must
    come before it are drawn and put in; where few do not lead to it, it is dropped.
    """
    state = _state_at(sentence, place, language)
    if token not in language.allowed(state):
        raise ValueError(f"Token {token} may not stand at place {place} of this sentence.")
    said = [*sentence[:place], token]
    state = language.advance(state, token)
    rest = list(sentence[place + 1 :])
    while not language.done(state):
        following = _next(state, rest, language, rng)
        if rest and following == rest[0]:
            rest.pop(0)
        said.append(following)
        state = language.advance(state, following)
    return tuple(said)


def _next(state: State, rest: list[int], language: Automaton, rng: random.Random) -> int:
    """The token to say next; drops from `rest` what cannot follow."""
    while rest:
        for depth in range(BRIDGE + 1):
            if first := _towards(state, rest[0], depth, language):
                return rng.choice(first)
        rest.pop(0)
    return rng.choice(language.allowed(state))


def _towards(state: State, wanted: int, depth: int, language: Automaton) -> list[int]:
    """The tokens to say next so that, after `depth` of them, the wanted one may be said."""
    allowed = language.allowed(state)
    if depth == 0:
        return [wanted] if wanted in allowed else []
    return [t for t in allowed if _towards(language.advance(state, t), wanted, depth - 1, language)]


def variants(
    sentence: Sequence[int], language: Automaton, rng: random.Random
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield every sentence that one choice away leads to, as (place, token, sentence)."""
    for place in range(len(sentence)):
        for token in alternatives(sentence, place, language):
            yield place, token, changed(sentence, place, token, language, rng)


def _state_at(sentence: Sequence[int], place: int, language: Automaton) -> State:
    if not 0 <= place < len(sentence):
        raise ValueError(f"The sentence has {len(sentence)} tokens; there is no place {place}.")
    state = language.start()
    for token in sentence[:place]:
        if token not in language.allowed(state):
            raise ValueError("The sentence is not of this language.")
        state = language.advance(state, token)
    if sentence[place] not in language.allowed(state):
        raise ValueError("The sentence is not of this language.")
    return state
