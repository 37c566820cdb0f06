"""How varied designs are, how much of them is copied, and how much they look at the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowdesign.evaluate.setting import Sentence, Values
from flowdesign.reward.components import components_of
from flowdesign.tokens import VOCABULARY
from flowdesign.tokens.choices import choices_of

SHUFFLES = 200


def distinct(sentences: Sequence[Sentence]) -> float:
    """The share of distinct ones."""
    return len(set(sentences)) / len(sentences)


class Nearest:
    """Training workflows, to which designs are compared.

    The similarity of two workflows is the share of the choices of either that both make (Jaccard index of
    reward.components): 1 for the same choices, whatever their order. ComfyGen's is not published.
    """

    def __init__(self, training: Sequence[Sentence]) -> None:
        self._known = set(training)
        sets = [components_of(one) for one in self._known]
        self._columns = {c: at for at, c in enumerate(sorted({c for s in sets for c in s}))}
        self._matrix = self._rows(sets)
        self._sizes = np.array([len(one) for one in sets], np.float32)

    def similarity(self, sentences: Sequence[Sentence]) -> Values:
        """Of each sentence (n,) to the training workflow that is most like it; 0 where there is none."""
        if not self._known:
            return np.zeros(len(sentences))
        asked = {one: components_of(one) for one in dict.fromkeys(sentences)}
        both = self._rows(list(asked.values())) @ self._matrix.T
        sizes = np.array([len(one) for one in asked.values()], np.float32)
        best = (both / (sizes[:, None] + self._sizes - both)).max(1)
        found = dict(zip(asked, best.tolist(), strict=True))
        return np.array([found[one] for one in sentences])

    def copies(self, sentences: Sequence[Sentence]) -> float:
        """The share that is exactly a training workflow."""
        return float(np.mean([one in self._known for one in sentences]))

    def _rows(
        self, sets: Sequence[Sequence[str]]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        rows = np.zeros((len(sets), len(self._columns)), np.float32)
        for row, components in zip(rows, sets, strict=True):
            row[[self._columns[c] for c in components if c in self._columns]] = 1.0
        return rows


def information(kinds: Sequence[str], sentences: Sequence[Sentence], seed: int = 0) -> float:
    """The mutual information, in bits, between the kind of prompt (its domain) and the workflow's checkpoint.

    Of few pairs even independent ones seem to share some; the mean of that, over shuffled pairs, is taken away.
    """
    asked = np.unique(kinds, return_inverse=True)[1]
    checkpoints = np.unique([checkpoint_of(one) for one in sentences], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    chance = [_information(asked, rng.permutation(checkpoints)) for _ in range(SHUFFLES)]
    return _information(asked, checkpoints) - float(np.mean(chance))


def checkpoint_of(sentence: Sentence) -> str:
    """The checkpoint that a sentence begins with."""
    return choices_of([VOCABULARY.words[token] for token in sentence]).checkpoint


def _information(first: np.ndarray, second: np.ndarray) -> float:  # type: ignore[type-arg]
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first, second), 1 / len(first))
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / apart[there])).sum())
