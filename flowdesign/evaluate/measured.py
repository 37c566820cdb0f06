"""What was measured: arrays of scores, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flowdesign.collect.plan import Pair
from flowdesign.evaluate.contestants import Contestant
from flowdesign.evaluate.setting import Sentence, Setting, Values
from flowdesign.records import COMBINED, StoredRecord
from flowdesign.tokens import parse_sentence


@dataclass
class Measured:
    """A contestant, its pairs in the order of the prompts, the seconds that each choice took, and for
    each pair the records of its images."""

    contestant: Contestant
    pairs: list[Pair]
    seconds: list[float]
    records: list[list[StoredRecord]] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """The contestants of one name, which differ in their training seed: `runs` of them."""

    name: str
    runs: tuple[Measured, ...]
    scores: dict[str, Values]  # by scorer, and combined: (runs, prompts, seeds)

    @property
    def first(self) -> Measured:
        """One of them, where they do not differ."""
        return self.runs[0]

    @property
    def prompts(self) -> int:
        """How many prompts it was measured on."""
        return len(self.first.pairs)

    def means(self, scorer: str = COMBINED) -> Values:
        """One value for each prompt: the mean over runs and seeds."""
        found: Values = self.scores[scorer].mean((0, 2))
        return found

    def sentences(self, run: int = 0) -> list[Sentence]:
        """What one of them chose, prompt by prompt."""
        return [parse_sentence(pair.sentence) for pair in self.runs[run].pairs]

    @property
    def failed(self) -> int:
        """How many images could not be made."""
        return sum(bool(one.failure) for each in self.runs for row in each.records for one in row)


def groups_of(setting: Setting, measured: Sequence[Measured]) -> list[Group]:
    """Gather what was measured by name; an image that failed has each scorer's worst score of all."""
    scorers = (COMBINED, *setting.config.all_scorers)
    raw = {
        scorer: [
            np.array([_values(setting, row, scorer) for row in one.records]) for one in measured
        ]
        for scorer in scorers
    }
    worst = {scorer: min(float(np.nanmin(each)) for each in raw[scorer]) for scorer in scorers}
    names = dict.fromkeys(one.contestant.name for one in measured)
    found = []
    for name in names:
        places = [at for at, one in enumerate(measured) if one.contestant.name == name]
        scores = {
            scorer: np.nan_to_num(np.stack([raw[scorer][at] for at in places]), nan=worst[scorer])
            for scorer in scorers
        }
        found.append(Group(name, tuple(measured[at] for at in places), scores))
    return found


def _values(setting: Setting, records: Sequence[StoredRecord], scorer: str) -> list[float]:
    if scorer == COMBINED:
        return [setting.combined(one) for one in records]
    return [one.scores.get(scorer, float("nan")) for one in records]
