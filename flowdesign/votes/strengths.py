"""Votes become scores: Bradley-Terry with ties, after Davidson (1970, JASA 65, 317-328).

Each item has a strength; with d the difference of two strengths, the three answers are a softmax:

    first is better  d/2      second is better  -d/2      tie  log(nu)

so two equal items tie with probability nu / (2 + nu), and without ties the odds are exp(d), which is
Bradley-Terry's model. The log-likelihood is concave. A normal prior on every strength keeps the items
that always win, and those never compared, finite; one on log(nu) does the same where nobody ties.
The errors are those of the normal distribution that fits the posterior at its top (Laplace).

Strengths exist within a group only: items that a chain of votes connects. They are given, with their
errors, relative to the mean of the group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Result = Literal["left", "right", "tie"]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

SPREAD = 1.5  # standard deviation of the prior of a strength: two items differ by 2.1, odds of 8
TIES, TIES_SPREAD = -0.7, 1.0  # prior of log(nu): one vote in five is a tie between equal items
PRECISION = 1e-10  # of the Newton decrement, in units of the log-posterior
MOST_STEPS = 100


class Outcome(NamedTuple):
    """One vote on two different items (their ids), as it counts here: sides do not matter."""

    left: int
    right: int
    choice: Result


@dataclass(frozen=True)
class Strength:
    """One item's strength in logits relative to its group's mean, its standard error and votes."""

    value: float
    error: float
    group: int
    votes: int
    certainty: float  # from 0 to 1: the share of the prior's variance that votes have taken away


@dataclass(frozen=True)
class Strengths:
    """The fit: a strength for each voted item, and nu, which says how readily people tie."""

    items: Mapping[int, Strength]
    nu: float


def bradley_terry(outcomes: Iterable[Outcome], spread: float = SPREAD) -> Strengths:
    """Fit all votes at once; nu is shared, the groups are found. No votes give no items.

    `spread` is the prior's standard deviation of a strength, in logits. Raises ValueError for an
    item compared with itself, an unknown choice or a spread that is not above 0.
    """
    table = _Table.of(outcomes)
    groups = _groups(table, spread)
    log_nu, tie_variance = _climb([block for _, block in groups], TIES, free=True)
    votes = table.votes
    items = {
        table.items[member]: strength
        for number, (members, block) in enumerate(groups)
        for member, strength in zip(
            members, _strengths(block, number, votes[members], log_nu, tie_variance), strict=True
        )
    }
    return Strengths(items, math.exp(log_nu))


def posterior(
    items: Sequence[int],
    outcomes: Iterable[Outcome],
    means: Vector,
    nu: float,
    spread: float = SPREAD,
) -> tuple[Vector, Matrix]:
    """Mean (n,) and covariance (n, n) of the strengths of these items, in logits, for a given nu.

    `means` (n,) is what is expected of each before any vote, e.g. by automatic scores.
    """
    table = _Table.of(outcomes, items)
    block = _Block.of(table.pairs, table.counts, np.asarray(means, dtype=float), spread)
    log_nu = math.log(nu)
    _climb([block], log_nu, free=False)
    return block.values, np.linalg.inv(block.curvature(log_nu)[0]).astype(np.float64)


def probabilities(difference: Vector, nu: float) -> Matrix:
    """The chances (..., 3) that left is better, right is better, and of a tie.

    `difference` (...) is left's strength less right's, in logits.
    """
    half = np.asarray(difference, dtype=float) / 2
    logits = np.stack([half, -half, np.full_like(half, math.log(nu))], axis=-1)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances: Matrix = weights / weights.sum(axis=-1, keepdims=True)
    return chances


def information(difference: Vector, nu: float) -> Vector:
    """Fisher information about the difference that one vote brings, per logit squared."""
    left, right, _ = np.moveaxis(probabilities(difference, nu), -1, 0)
    known: Vector = (left + right) / 4 - ((left - right) / 2) ** 2
    return known


@dataclass(frozen=True)
class _Table:
    """Votes by pair: `counts` (pairs, 3) are left, right, tie; `pairs` (pairs, 2) index `items`."""

    items: list[int]
    pairs: NDArray[np.intp]
    counts: Vector

    @staticmethod
    def of(outcomes: Iterable[Outcome], items: Sequence[int] = ()) -> _Table:
        columns = {"left": 0, "right": 1, "tie": 2}
        index = {item: number for number, item in enumerate(items)}
        rows: dict[tuple[int, int], list[float]] = {}
        for left, right, choice in outcomes:
            if left == right:
                raise ValueError(f"Item {left} is compared with itself.")
            if choice not in columns:
                raise ValueError(f"A vote is one of {', '.join(columns)}, not {choice!r}.")
            pair = index.setdefault(left, len(index)), index.setdefault(right, len(index))
            column = columns[choice]
            if pair[0] > pair[1]:
                pair, column = (pair[1], pair[0]), (1, 0, 2)[column]
            rows.setdefault(pair, [0.0, 0.0, 0.0])[column] += 1
        pairs = np.array(list(rows), dtype=np.intp).reshape(-1, 2)
        return _Table(list(index), pairs, np.array(list(rows.values())).reshape(-1, 3))

    @property
    def votes(self) -> Vector:
        """How many votes each item has (items,)."""
        each = np.repeat(self.counts.sum(axis=1), 2)
        return _summed(self.pairs.ravel(), each, len(self.items))


def _groups(table: _Table, spread: float) -> list[tuple[NDArray[np.intp], _Block]]:
    """The items that votes connect, as arrays of indices, each with its votes."""
    size, first = len(table.items), table.pairs[:, 0]
    links = coo_array((np.ones(len(first)), (first, table.pairs[:, 1])), shape=(size, size))
    count, found = connected_components(links, directed=False) if size else (0, np.zeros(0))
    labels = np.asarray(found, dtype=np.intp)
    members = _split(labels, count)
    rows = _split(labels[first], count)
    place = np.zeros(size, dtype=np.intp)
    for inside in members:
        place[inside] = np.arange(len(inside))
    blocks = [
        _Block.of(place[table.pairs[row]], table.counts[row], np.zeros(len(inside)), spread)
        for inside, row in zip(members, rows, strict=True)
    ]
    return list(zip(members, blocks, strict=True))


def _summed(places: NDArray[np.intp], values: Vector, size: int) -> Vector:
    """The sum of the values at each place (size,)."""
    return np.bincount(places, values, size).astype(np.float64)


def _split(labels: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """The positions of each label from 0 to `count` - 1."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(1, count))
    return np.split(order, bounds) if count else []


def _strengths(
    block: _Block, group: int, votes: Vector, log_nu: float, tie_variance: float
) -> list[Strength]:
    """What is known of a group's items, relative to its mean.

    The votes say nothing about the mean, so its direction is an eigenvector of the curvature: it gets
    a harmless eigenvalue before the inversion and is taken out after it, where a wide prior would
    drown everything else.
    """
    matrix, mixed, _ = block.curvature(log_nu)
    prior = (1 - 1 / len(votes)) / block.weight
    mean = np.full_like(matrix, 1 / len(votes))
    level = np.trace(matrix) / len(votes)
    centred = np.linalg.inv(matrix + (level - block.weight) * mean) - mean / level
    variance = np.diag(centred) + (centred @ mixed) ** 2 * tie_variance
    certainty = np.clip(1 - variance / prior, 0, 1)
    return [
        Strength(float(value), math.sqrt(own), group, int(count), float(sure))
        for value, own, count, sure in zip(block.values, variance, votes, certainty, strict=True)
    ]


@dataclass
class _Block:
    """The votes of one group, its prior, and the strengths (n,) found so far."""

    pairs: NDArray[np.intp]
    counts: Vector
    means: Vector
    weight: float  # of the prior: 1 / variance
    values: Vector

    @staticmethod
    def of(pairs: NDArray[np.intp], counts: Vector, means: Vector, spread: float) -> _Block:
        if not spread > 0:
            raise ValueError(f"The spread is above 0, not {spread}.")
        return _Block(pairs, counts, means, spread**-2, means.copy())

    def score(self, values: Vector, log_nu: float) -> float:
        """The log-posterior, up to a constant and without the prior of nu."""
        chances = self._chances(values, log_nu)
        prior = self.weight / 2 * ((values - self.means) ** 2).sum()
        return float((self.counts * np.log(chances)).sum() - prior)

    def slope(self, log_nu: float) -> tuple[Vector, float]:
        """Its gradient by the strengths (n,) and by log(nu)."""
        chances = self._chances(self.values, log_nu)
        excess = self.counts - self.counts.sum(axis=1, keepdims=True) * chances
        slope = self._spread_out((excess[:, 0] - excess[:, 1]) / 2)
        return slope - self.weight * (self.values - self.means), float(excess[:, 2].sum())

    def curvature(self, log_nu: float) -> tuple[Matrix, Vector, float]:
        """Its negative second derivatives: by strengths (n, n), mixed (n,), and by log(nu)."""
        left, right, tie = self._chances(self.values, log_nu).T
        votes, lean = self.counts.sum(axis=1), (left - right) / 2
        known = votes * ((left + right) / 4 - lean**2)
        size = len(self.values)
        first, second = self.pairs.T
        matrix = np.zeros((size, size))
        np.add.at(matrix, (first, second), -known)
        matrix += matrix.T
        matrix[np.diag_indices(size)] = self.weight - matrix.sum(axis=1)
        mixed = self._spread_out(-votes * tie * lean)
        return matrix, mixed, float((votes * tie * (1 - tie)).sum())

    def _chances(self, values: Vector, log_nu: float) -> Matrix:
        return probabilities(values[self.pairs[:, 0]] - values[self.pairs[:, 1]], math.exp(log_nu))

    def _spread_out(self, by_pair: Vector) -> Vector:
        """Add to the first item of each pair, take from the second."""
        size = len(self.values)
        first, second = self.pairs.T
        return _summed(first, by_pair, size) - _summed(second, by_pair, size)


def _climb(blocks: Sequence[_Block], log_nu: float, free: bool) -> tuple[float, float]:
    """Newton's method to the top of the posterior; the strengths stay in the blocks.

    The groups meet only in nu (when it is `free`), so each step solves one small system per group
    and one number for nu. Gives log(nu) and its variance.
    """
    for _ in range(MOST_STEPS):
        parts, slope, rest = [], -(log_nu - TIES) / TIES_SPREAD**2, TIES_SPREAD**-2
        for block in blocks:
            steep, steep_nu = block.slope(log_nu)
            matrix, mixed, own = block.curvature(log_nu)
            ahead, aside = np.linalg.solve(matrix, np.column_stack([steep, mixed])).T
            parts.append((ahead, aside, steep))
            slope += steep_nu - mixed @ ahead
            rest += own - mixed @ aside
        step_nu = slope / rest if free else 0.0
        steps = [ahead - aside * step_nu for ahead, aside, _ in parts]
        decrement = sum(steep @ ahead for ahead, _, steep in parts) + slope * step_nu
        if decrement < PRECISION:
            return log_nu, 1 / rest
        log_nu = _advance(blocks, steps, log_nu, step_nu, decrement)
    raise ArithmeticError(f"The strengths did not settle in {MOST_STEPS} steps.")


def _advance(
    blocks: Sequence[_Block], steps: Sequence[Vector], log_nu: float, step_nu: float, gain: float
) -> float:
    """Take the step, halved until the posterior rises; gives the new log(nu)."""
    before, start = [block.values for block in blocks], log_nu
    floor, length = _score(blocks, log_nu), 1.0
    while True:
        log_nu = start + length * step_nu
        for block, values, step in zip(blocks, before, steps, strict=True):
            block.values = values + length * step
        # Near the top the rise drowns in rounding: a step that small is always safe.
        if _score(blocks, log_nu) >= floor + length * gain / 10 - 1e-9 * (1 + abs(floor)):
            return log_nu
        length /= 2


def _score(blocks: Sequence[_Block], log_nu: float) -> float:
    prior = ((log_nu - TIES) / TIES_SPREAD) ** 2 / 2
    return sum(block.score(block.values, log_nu) for block in blocks) - prior
