"""How far people agree: with themselves on repeated pairs, and with each other on shared ones.

Two figures: the share of equal answers, which anyone can read, and Krippendorff's alpha for nominal
data (Krippendorff, Content Analysis, 4th ed., chapter 12), which takes chance away and allows that
not every rater saw every pair: 1 is perfect, 0 is what chance would give, below 0 is worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from flowdesign.votes.strengths import Outcome

Answer = Literal["first", "second", "tie"]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Agreement:
    """Over `units` pairs with two answers or more.

    `equal` is the share of equal answers, each pair of them counted alike within its unit; `alpha` is
    Krippendorff's. None where nothing can be said: no units, or for alpha only one kind of answer.
    """

    units: int
    equal: float | None
    alpha: float | None


def answer(vote: Outcome) -> tuple[Pair, Answer]:
    """A vote without its sides: the pair in order of ids, and which of the two was better."""
    pair = (min(vote.left, vote.right), max(vote.left, vote.right))
    if vote.choice == "tie":
        return pair, "tie"
    better = vote.left if vote.choice == "left" else vote.right
    return pair, "first" if better == pair[0] else "second"


class Tally:
    """Answers by unit, with the coincidences that both figures need, kept up to date.

    Adding and removing one answer takes constant time, so the figures can be shown after every vote.
    """

    def __init__(self) -> None:
        self._units: dict[Hashable, Counter[str]] = {}
        self._values: Counter[str] = Counter()  # of the units with two answers or more
        self._pairable = 0
        self._agreeing = 0.0  # the diagonal of the coincidence matrix

    def add(self, unit: Hashable, value: str) -> None:
        """Count one more answer to a unit."""
        self._change(unit, value, 1)

    def remove(self, unit: Hashable, value: str) -> None:
        """Take back an answer that was added. Raises KeyError for one that was not."""
        if self._units.get(unit, Counter())[value] < 1:
            raise KeyError(f"There is no answer {value!r} to {unit!r}.")
        self._change(unit, value, -1)

    def agreement(self) -> Agreement:
        """Both figures, of all units with two answers or more."""
        total = self._values.total()
        if not total:
            return Agreement(0, None, None)
        equal = self._agreeing / total
        chance = sum(n * (n - 1) for n in self._values.values()) / (total * (total - 1))
        alpha = None if chance == 1 else 1 - (1 - equal) / (1 - chance)
        return Agreement(self._pairable, equal, alpha)

    def _change(self, unit: Hashable, value: str, by: int) -> None:
        answers = self._units.setdefault(unit, Counter())
        self._weigh(answers, -1)
        answers[value] += by
        self._weigh(answers, 1)
        if not answers.total():
            del self._units[unit]

    def _weigh(self, answers: Counter[str], sign: int) -> None:
        """Add a unit's part of the coincidence matrix, or take it away."""
        count = answers.total()
        if count < 2:
            return
        self._pairable += sign
        self._agreeing += sign * sum(n * (n - 1) for n in answers.values()) / (count - 1)
        for value, n in answers.items():
            self._values[value] += sign * n


def krippendorff(units: Mapping[Hashable, Iterable[str]]) -> Agreement:
    """Agreement of all answers, by unit."""
    tally = Tally()
    for unit, values in units.items():
        for value in values:
            tally.add(unit, value)
    return tally.agreement()
