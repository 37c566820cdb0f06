"""What each choice of a workflow contributes to its predicted score, by leaving it out one at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flowdesign.reward.data import Scores
from flowdesign.tokens import Automaton, variants


@dataclass(frozen=True)
class Contribution:
    """One token of a sentence. `gain` is how much higher the sentence is predicted with it than with
    its `others` alternatives on average; `best` is the alternative predicted highest, with its `best_gain`
    over the sentence. In standard deviations of the reference set."""

    place: int
    token: int
    gain: float
    others: int
    best: int
    best_gain: float


class Means(Protocol):
    """The part of a prediction that is looked at."""

    @property
    def mean(self) -> Scores: ...


class Predictor(Protocol):
    """A reward ensemble."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Means: ...


def contributions(
    ensemble: Predictor, prompt: str, sentence: Sequence[int], language: Automaton, seed: int = 0
) -> list[Contribution]:
    """Judge every choice of a sentence that had alternatives, in the order of the sentence.

    Raises ValueError for a sentence outside the language.
    """
    if not language.accepts(sentence):
        raise ValueError("The sentence is not of this language, or not at its end.")
    changes = list(variants(sentence, language, random.Random(f"ablation/{seed}")))
    sentences = [tuple(sentence), *(variant for _, _, variant in changes)]
    means = ensemble.predict([prompt] * len(sentences), sentences).mean
    found = []
    for place in dict.fromkeys(place for place, _, _ in changes):
        here = [at for at, change in enumerate(changes, 1) if change[0] == place]
        best = here[int(np.argmax(means[here]))]
        found.append(
            Contribution(
                place, sentence[place], float(means[0] - means[here].mean()), len(here),
                changes[best - 1][1], float(means[best] - means[0]),
            )
        )  # fmt: skip
    return found
