"""What policies are improved against: the lower bound of a reward ensemble."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowdesign.reward.ensemble import Ensemble
from flowdesign.runs import folder_of
from flowdesign.search import Sentence


@dataclass(frozen=True)
class Bound:
    """Mean - trust x spread of an ensemble (`reward.ensemble.Ensemble`, or one like it)."""

    ensemble: Any
    trust: float

    def __call__(self, prompts: Sequence[str], sentences: Sequence[Sentence]) -> list[float]:
        """The bound for each pair."""
        found: list[float] = self.ensemble.predict(prompts, sentences).lower(self.trust).tolist()
        return found

    def of_some(self, count: int, rng: random.Random) -> Bound:
        """That of `count` members, drawn by chance: so much quicker; of all for 0, or where there are no more."""
        members = range(len(self.ensemble.members))
        return self._of(rng.sample(members, count)) if 0 < count < len(members) else self

    def of_first(self, count: int) -> Bound:
        """That of the first `count` members; of all for 0, or where there are no more."""
        return self._of(range(count)) if 0 < count < len(self.ensemble.members) else self

    def _of(self, members: Sequence[int]) -> Bound:
        return Bound(self.ensemble.of(members), self.trust)

    def afresh(self) -> Bound:
        """The same, with nothing remembered: what it says next depends on what it is asked alone."""
        self.ensemble.forget()
        return self


def open_bound(name: str, trust: float, device: str = "cpu", threads: int = 1) -> Bound:
    """That of the ensemble in a run or folder. Raises what `Ensemble.load` does."""
    return Bound(Ensemble.load(folder_of(name), device, threads), trust)
