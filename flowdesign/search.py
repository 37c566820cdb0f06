"""Search for workflows that a reward ensemble expects much of, one choice at a time.

    found = search(bound, prompts, sentences, language, sweeps=2, temperature=0.3, seed=0)

A sweep visits every place of a sentence where something else could stand, the last one first, since a
change may add or drop what follows it. There it looks at all sentences that one other choice leads to (`tokens.variants`) and draws one with weights
exp(reward / temperature): Gibbs sampling of exp(reward / temperature), where a choice is free. Where a
choice brings others with it, those are drawn at random, so that it is only near to that. Temperature 0
takes the best: coordinate ascent.

All sentences are searched side by side, so that the ensemble is asked few times for many at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flowdesign.tokens import Automaton, alternatives, changed

Sentence = tuple[int, ...]


class Bound(Protocol):
    """What is searched under: the lower bound of a reward ensemble."""

    def __call__(self, prompts: Sequence[str], sentences: Sequence[Sentence]) -> Sequence[float]:
        """The reward of each pair."""


@dataclass(frozen=True)
class Found:
    """A sentence that was found for a prompt, and its reward."""

    prompt: str
    sentence: Sentence
    reward: float


@dataclass
class _Chain:
    """A sentence while it is being changed: `places` are still to be visited in this sweep."""

    prompt: str
    sentence: Sentence
    reward: float
    rng: random.Random
    places: list[int]

    def options(self, language: Automaton) -> list[Sentence]:
        """What the next place could be changed to; nothing when the sweep is over."""
        while self.places:
            place = self.places.pop()
            if tokens := alternatives(self.sentence, place, language):
                return [changed(self.sentence, place, t, language, self.rng) for t in tokens]
        return []

    def take(self, options: Sequence[Sentence], rewards: Sequence[float], heat: float) -> None:
        """Go on with one of the options, or stay."""
        said, values = [self.sentence, *options], [self.reward, *map(float, rewards)]
        best = max(values)
        if heat == 0:
            place = values.index(best)
        else:
            weights = [math.exp((value - best) / heat) for value in values]
            place = self.rng.choices(range(len(values)), weights)[0]
        self.sentence, self.reward = said[place], values[place]


def search(
    bound: Bound,
    prompts: Sequence[str],
    sentences: Sequence[Sentence],
    language: Automaton,
    sweeps: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Found]:
    """Change each sentence to suit its prompt; aligned with what was given.

    The answer for a pair depends on the pair, its place in the list, the settings and the seed, not on
    its company. Raises ValueError for a sentence outside the language or a temperature below 0.
    """
    if not temperature >= 0:
        raise ValueError(f"The temperature of a search is 0 or more, not {temperature}.")
    first = bound(prompts, sentences) if prompts else []
    chains = [
        _Chain(prompt, tuple(sentence), float(reward), random.Random(f"search/{seed}/{at}"), [])
        for at, (prompt, sentence, reward) in enumerate(zip(prompts, sentences, first, strict=True))
    ]
    for _ in range(sweeps):
        _sweep(bound, chains, language, temperature)
    return [Found(chain.prompt, chain.sentence, chain.reward) for chain in chains]


def changes(sentence: Sentence, language: Automaton, rng: random.Random) -> Sentence:
    """The sentence with another choice at a place drawn at random, and a rest that fits."""
    places = rng.sample(range(len(sentence)), len(sentence))
    for place in places:
        if tokens := alternatives(sentence, place, language):
            return changed(sentence, place, rng.choice(tokens), language, rng)
    return sentence


def _sweep(bound: Bound, chains: Sequence[_Chain], language: Automaton, heat: float) -> None:
    for chain in chains:
        chain.places = list(range(len(chain.sentence)))
    while asked := [(chain, options) for chain in chains if (options := chain.options(language))]:
        prompts = [chain.prompt for chain, options in asked for _ in options]
        rewards = bound(prompts, [option for _, options in asked for option in options])
        begin = 0
        for chain, options in asked:
            chain.take(options, rewards[begin : begin + len(options)], heat)
            begin += len(options)
