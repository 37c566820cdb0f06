"""What a reward model must beat: simple predictors of the mean score of (prompt, workflow).

All learn from the training split, and choose their one setting (strength, number of trees, number of
neighbours) on the validation split; what is measured later is never seen. `BASELINES` lists them.

component means      blind to the prompt: what is known of each component on its own
ridge                blind to the prompt: all components at once, shrunk
boosted trees        components x words of the prompt (x its embedding), with interactions
nearest neighbour    the mean of the most alike prompts with the most alike workflows
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowdesign.reward.bootstrap import Values
from flowdesign.reward.components import FEWEST_PROMPTS, Columns, components_of, words_of
from flowdesign.reward.data import Rows, Table
from flowdesign.reward.pairing import Pairs

Sentences = Sequence[Sequence[int]]
Embed = Callable[[Sequence[str]], NDArray[np.floating[Any]]]  # prompts -> (prompts, numbers)

STRENGTHS = tuple(10.0**power for power in range(-2, 6))  # of ridge
MOST_TREES, TREES_SEED = 300, 0
NEIGHBOURS = (1, 2, 5, 10, 20, 50, 100)
SHARES = (0.2, 0.5, 0.8)  # of the prompt in the distance between two pairs
AT_ONCE = 256  # pairs whose distances to all others are held at once


@dataclass(frozen=True)
class Examples:
    """Pairs (n,) with the mean of their images' scores, and the number of images as a weight."""

    prompts: Sequence[str]
    sentences: Sequence[tuple[int, ...]]
    score: Values
    weight: Values

    def __len__(self) -> int:
        return len(self.score)

    @staticmethod
    def of(table: Table, rows: Rows) -> Examples:
        """Gather rows of a table."""
        pairs = Pairs.of(table, rows)
        return Examples(*pairs.texts(table), pairs.mean, pairs.count)

    def error(self, predicted: Values) -> float:
        """The weighted mean squared error of predictions."""
        return float(np.average((self.score - predicted) ** 2, weights=self.weight))


class Baseline(Protocol):
    """One way to predict. `fit` before `predict`; fitting again starts anew."""

    def fit(self, training: Examples, validation: Examples) -> None:
        """Learn from one set of pairs, choose what there is to choose on the other."""

    def predict(self, prompts: Sequence[str], sentences: Sentences) -> Values:
        """The mean score of each pair (n,)."""


def fit_baselines(
    table: Table, embed: Embed | None = None, names: Sequence[str] | None = None
) -> dict[str, Baseline]:
    """Fit the baselines (or some, by name) on a table's training and validation splits.

    Raises ValueError for a split without rows.
    """
    splits = {"training": table.training, "validation": table.validation}
    if empty := [name for name, rows in splits.items() if not len(rows)]:
        raise ValueError(f"Baselines need records in the {empty[0]} split; there are none.")
    training, validation = (Examples.of(table, rows) for rows in splits.values())
    found = {name: BASELINES[name](embed) for name in names or BASELINES}
    for baseline in found.values():
        baseline.fit(training, validation)
    return found


class ComponentMeans:
    """The sum of what each component's mean lies above the mean of all, times one factor.

    Each component is looked at on its own, as in a table of means. Since components go together the sum
    is too large or too small, so it is multiplied by the factor that suits the training pairs best; the
    order of workflows does not depend on it. Nothing is chosen on the validation pairs.
    """

    def fit(self, training: Examples, validation: Examples) -> None:
        parts = [components_of(sentence) for sentence in training.sentences]
        self._columns = Columns.of(parts)
        there = self._columns(parts)
        self._mean = float(np.average(training.score, weights=training.weight))
        above = training.weight * (training.score - self._mean)
        self._effects = (there.T @ above) / (there.T @ training.weight)
        sums = there @ self._effects
        scale = float((training.weight * sums) @ sums)
        self._factor = float(above @ sums) / scale if scale > 0 else 0.0

    def predict(self, prompts: Sequence[str], sentences: Sentences) -> Values:
        there = self._columns([components_of(tuple(sentence)) for sentence in sentences])
        found: Values = self._mean + self._factor * (there @ self._effects)
        return found


class Ridge:
    """Least squares on indicators of components, with the squared weights held down.

    min sum of n (y - mean - x w)^2 + strength |w|^2 with centred x, by the eigenvectors of x'x; the
    strength is the one of `STRENGTHS` with the least error on the validation pairs.
    """

    strength: float

    def fit(self, training: Examples, validation: Examples) -> None:
        parts = [components_of(sentence) for sentence in training.sentences]
        self._columns = Columns.of(parts)
        x, weight = self._columns(parts), training.weight
        self._mean = float(np.average(training.score, weights=weight))
        self._centre = np.average(x, axis=0, weights=weight)
        x = x - self._centre
        values, vectors = np.linalg.eigh((x * weight[:, None]).T @ x)
        along = vectors.T @ (x.T @ (weight * (training.score - self._mean)))
        errors = {}
        for strength in STRENGTHS:
            self._weights = vectors @ (along / (np.maximum(values, 0) + strength))
            errors[strength] = validation.error(
                self.predict(validation.prompts, validation.sentences)
            )
        self.strength = min(errors, key=errors.__getitem__)
        self._weights = vectors @ (along / (np.maximum(values, 0) + self.strength))

    def predict(self, prompts: Sequence[str], sentences: Sentences) -> Values:
        x = self._columns([components_of(tuple(sentence)) for sentence in sentences])
        found: Values = self._mean + (x - self._centre) @ self._weights
        return found


class BoostedTrees:
    """Gradient-boosted trees (scikit-learn's histogram ones) on components, words and embedding.

    The number of trees is the one with the least error on the validation pairs, up to `MOST_TREES`.
    """

    trees: int

    def __init__(self, embed: Embed | None = None) -> None:
        self._embed = embed

    def fit(self, training: Examples, validation: Examples) -> None:
        """Learn from one set, choose the number of trees on the other."""
        parts = [components_of(sentence) for sentence in training.sentences]
        self._components = Columns.of(parts)
        words = map(words_of, dict.fromkeys(training.prompts))
        self._words = Columns.of(words, FEWEST_PROMPTS)
        x = self._features(training.prompts, training.sentences)
        full = _trees(MOST_TREES).fit(x, training.score, training.weight)
        held_out = self._features(validation.prompts, validation.sentences)
        errors = [validation.error(predicted) for predicted in full.staged_predict(held_out)]
        self.trees = int(np.argmin(errors)) + 1
        self._model = _trees(self.trees).fit(x, training.score, training.weight)

    def predict(self, prompts: Sequence[str], sentences: Sentences) -> Values:
        if not len(prompts):
            return np.zeros(0)
        found: Values = self._model.predict(self._features(prompts, sentences))
        return found

    def _features(self, prompts: Sequence[str], sentences: Sentences) -> Values:
        """Columns (n, features): components, words of the prompt, its embedding."""
        distinct, which = _distinct(prompts)
        read = [self._words([words_of(prompt) for prompt in distinct])]
        if self._embed is not None:
            read.append(np.asarray(self._embed(distinct), dtype=np.float64))
        of_prompts = np.concatenate(read, 1)[which]
        parts = self._components([components_of(tuple(sentence)) for sentence in sentences])
        return np.concatenate([parts, of_prompts], 1)


class NearestNeighbour:
    """The weighted mean of the k training pairs that are nearest.

    distance = share * (1 - likeness of the prompts) + (1 - share) * (1 - likeness of the workflows)

    Workflows are as alike as the share of components that they have in common (Jaccard: common / all);
    prompts likewise by their words, or by the cosine of their embeddings where `embed` is given. k and
    the share are those with the least error on the validation pairs.
    """

    k: int
    share: float

    def __init__(self, embed: Embed | None = None) -> None:
        self._embed = embed

    def fit(self, training: Examples, validation: Examples) -> None:
        self._training = training
        self._components = Columns.of(map(components_of, training.sentences))
        self._parts = self._components([components_of(each) for each in training.sentences])
        self._prompts, self._which = _distinct(training.prompts)
        self._words = Columns.of(map(words_of, self._prompts))
        self._told = self._tell(self._prompts)
        errors: dict[tuple[float, int], float] = {}
        for share in SHARES:
            means = self._means(validation.prompts, validation.sentences, share, NEIGHBOURS)
            for k, predicted in zip(NEIGHBOURS, means.T, strict=True):
                errors[share, k] = validation.error(predicted)
        self.share, self.k = min(errors, key=errors.__getitem__)

    def predict(self, prompts: Sequence[str], sentences: Sentences) -> Values:
        return self._means(prompts, sentences, self.share, (self.k,))[:, 0]

    def _means(
        self, prompts: Sequence[str], sentences: Sentences, share: float, numbers: Sequence[int]
    ) -> Values:
        """The mean of the nearest k pairs (n, numbers), for each k of `numbers`."""
        most, found = min(max(numbers), len(self._training)), []
        for distances in self._distances(prompts, sentences, share):
            near = np.argsort(distances, axis=1, kind="stable")[:, :most]
            weight = self._training.weight[near]
            score = np.cumsum(self._training.score[near] * weight, 1) / np.cumsum(weight, 1)
            found.append(score[:, [min(k, most) - 1 for k in numbers]])
        return np.concatenate(found) if found else np.zeros((0, len(numbers)))

    def _distances(
        self, prompts: Sequence[str], sentences: Sentences, share: float
    ) -> Iterator[Values]:
        """Distances (some pairs, training pairs) of all pairs, in parts."""
        distinct, which = _distinct(prompts)
        apart = self._prompts_apart(distinct)
        for start in range(0, len(prompts), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            names = [components_of(tuple(sentence)) for sentence in sentences[part]]
            alike = _jaccard(self._components(names), [len(each) for each in names], self._parts)
            yield share * apart[which[part]][:, self._which] + (1 - share) * (1 - alike)

    def _prompts_apart(self, prompts: Sequence[str]) -> Values:
        """Distances (prompts, training prompts)."""
        told = self._tell(prompts)
        if self._embed is None:
            return 1 - _jaccard(told, [len(words_of(each)) for each in prompts], self._told)
        found: Values = 1 - told @ self._told.T
        return found

    def _tell(self, prompts: Sequence[str]) -> Values:
        """Words (prompts, columns), or embeddings of length 1."""
        if self._embed is None:
            return self._words([words_of(prompt) for prompt in prompts])
        read = np.asarray(self._embed(prompts), dtype=np.float64)
        found: Values = read / np.maximum(np.linalg.norm(read, axis=1, keepdims=True), 1e-12)
        return found


def _jaccard(one: Values, sizes: Sequence[int], other: Values) -> Values:
    """Common names / all names (n, m) of two tables of indicators.

    `sizes` (n,) count the names of the first, with those that have no column.
    """
    common = one @ other.T
    everything = np.asarray(sizes, float)[:, None] + other.sum(1) - common
    found: Values = common / np.maximum(everything, 1.0)
    return found


def _distinct(prompts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct prompts, and the place of each one in them."""
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    return list(places), np.array([places[prompt] for prompt in prompts], np.int64)


def _trees(count: int) -> Any:
    """A model of `count` trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Its own early stopping would hold out pairs of training prompts, which is a leak.
    return HistGradientBoostingRegressor(
        max_iter=count, early_stopping=False, random_state=TREES_SEED
    )


BASELINES: Mapping[str, Callable[[Embed | None], Baseline]] = {
    "component means": lambda embed: ComponentMeans(),
    "ridge": lambda embed: Ridge(),
    "boosted trees": BoostedTrees,
    "nearest neighbour": NearestNeighbour,
}
