"""Curves of an ablation: what each value of a numeric axis comes to, with 95 % intervals.

A point is the mean over all cells at its value: over the other axis, the prompts and the seeds. Its interval
comes from a bootstrap over pairs of prompt and seed (`flowdesign.reward.bootstrap`), because cells of one
pair share their chance; the same draws serve all points. One pair alone gives no interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from flowdesign.ablation.axes import Kind, Value
from flowdesign.ablation.plan import Cell, Plan
from flowdesign.ablation.running import HELD_OUT, Outcome
from flowdesign.reward.bootstrap import Bootstrap, Estimate
from flowdesign.scorers import SCORERS

SEED = 0  # of the draws
Share = tuple[float, float]  # what an outcome adds above and below the line of a mean
Tell = Callable[[Plan, Sequence[Outcome]], list[Share]]
Place = Callable[[Cell], Value]


@dataclass(frozen=True)
class Curve:
    """One figure along the axis: (number of the axis, estimate) in the order of the numbers.

    `ends` are the lowest and the highest value that it can have, where there are such.
    """

    name: str
    about: str
    ends: tuple[float, float] | None
    points: tuple[tuple[float, Estimate], ...]


@dataclass(frozen=True)
class Figure:
    """What is drawn, and what every outcome adds to it."""

    name: str
    about: str
    tell: Tell
    ends: tuple[float, float] | None = None


def axis_of(plan: Plan) -> Kind | None:
    """The axis that curves go along: guidance if one varies it, else a numeric one, X first."""
    numeric = [kind for kind in (plan.x, plan.y) if len(_numbers(plan, kind)) > 1]
    guided = [kind for kind in numeric if kind.name == "guidance"]
    return next(iter([*guided, *numeric]), None)


def curves_of(plan: Plan, outcomes: Iterable[Outcome]) -> list[Curve]:
    """All curves of what is finished so far; none where no axis is numeric."""
    kind = axis_of(plan)
    if kind is None:
        return []
    place = _place(plan, kind)
    done = [one for one in outcomes if place(one.cell).number is not None]
    tables = {figure: figure.tell(plan, done) for figure in FIGURES}
    return [
        Curve(figure.name, figure.about, figure.ends, _points(done, place, shares))
        for figure, shares in tables.items()
        if any(below for _, below in shares)
    ]


def _place(plan: Plan, kind: Kind) -> Place:
    """Where a cell lies on this axis."""
    return (lambda cell: cell.x) if kind is plan.x else (lambda cell: cell.y)


def _numbers(plan: Plan, kind: Kind) -> set[float]:
    place = _place(plan, kind)
    return {number for cell in plan.cells if (number := place(cell).number) is not None}


def _points(
    done: Sequence[Outcome], place: Place, shares: Sequence[Share]
) -> tuple[tuple[float, Estimate], ...]:
    """The mean of shares at each number, over pairs of prompt and seed."""
    pairs = {pair: at for at, pair in enumerate(dict.fromkeys(map(_pair, done)))}
    sums: dict[float, np.ndarray] = {}
    for outcome, share in zip(done, shares, strict=True):
        number = place(outcome.cell).number
        if number is not None:
            here = sums.setdefault(number, np.zeros((2, len(pairs))))
            here[:, pairs[_pair(outcome)]] += share
    draws = Bootstrap(len(pairs), SEED)
    return tuple((number, draws.ratio(*sums[number])) for number in sorted(sums))


def _pair(outcome: Outcome) -> tuple[str, int]:
    return outcome.cell.request.prompt, outcome.cell.request.seed


# --- figures


def _known(value: Callable[[Outcome], float | None]) -> Tell:
    """The mean of a score; an outcome without it is left out."""

    def tell(plan: Plan, done: Sequence[Outcome]) -> list[Share]:
        found = [value(outcome) for outcome in done]
        return [(0.0, 0.0) if one is None else (one, 1.0) for one in found]

    return tell


def _valid(plan: Plan, done: Sequence[Outcome]) -> list[Share]:
    """Valid designs of all that were said."""
    return [(len(outcome.sentences), outcome.said) for outcome in done]


def _distinct(plan: Plan, done: Sequence[Outcome]) -> list[Share]:
    """Distinct workflows of all valid ones: each counts as one over how often it was said.

    Summed up that is the number of distinct ones, and a mean, so that it can be drawn again. It is
    counted among cells with equal settings, which differ by prompt and seed alone: cells that share
    their chance say the same more often, and that is no lack of diversity.
    """
    said: dict[Hashable, Counter[tuple[int, ...]]] = {}
    for outcome in done:
        said.setdefault(_setting(plan, outcome.cell), Counter()).update(outcome.sentences)
    return [
        (
            sum(1 / said[_setting(plan, outcome.cell)][one] for one in outcome.sentences),
            len(outcome.sentences),
        )
        for outcome in done
    ]


def _setting(plan: Plan, cell: Cell) -> Hashable:
    """What a cell shares with those that differ from it by prompt and seed alone."""
    values = ((plan.x, cell.x), (plan.y, cell.y))
    return tuple(value.label for kind, value in values if kind.name not in ("prompt", "seed"))


def _bounds(scorer: str) -> tuple[float, float] | None:
    low, high = SCORERS[scorer].low, SCORERS[scorer].high
    return None if low is None or high is None else (low, high)


FIGURES = (
    Figure(
        "true score",
        "combined score of the images, in standard deviations",
        _known(lambda outcome: outcome.true),
    ),
    Figure(
        "predicted score",
        "what the reward ensemble expected of them",
        _known(lambda outcome: outcome.predicted),
    ),
    Figure(
        HELD_OUT.replace("_", " "),
        "the scorer that nothing is trained on",
        _known(lambda outcome: outcome.held_out),
        _bounds(HELD_OUT),
    ),
    Figure("valid", "share of what was said that is a workflow", _valid, (0.0, 1.0)),
    Figure(
        "distinct",
        "share of the workflows that differ, over prompts and seeds",
        _distinct,
        (0.0, 1.0),
    ),
)
