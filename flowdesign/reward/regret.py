"""Top-1 regret: what is lost by taking the workflow that a predictor likes best.

The best of 64 measured means is the best by luck too. So half of the seeds choose the best workflow, and
the other half measures both it and the predictor's choice (then they change places, and other halves
are drawn). A perfect predictor may so come out a little above 0: the half that chooses errs as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowdesign.reward.bootstrap import Bootstrap, Estimate, Values
from flowdesign.reward.metrics import FEWEST
from flowdesign.reward.pairing import Pairs, equal_digits

AMONG = 64
HALVINGS = 10


@dataclass(frozen=True)
class TopOne:
    """Mean measured score, per prompt (prompts,), of the predictor's choice, of the best workflow and of
    a random one, and among how many workflows they were chosen. NaN for a prompt with too few."""

    chosen: Values
    best: Values
    random: Values
    candidates: Values

    def regret(self, bootstrap: Bootstrap) -> Estimate:
        """Score of the choice minus that of the best, in the scores' unit: 0 is perfect, less is worse."""
        return bootstrap.mean(self.chosen - self.best)

    def share(self, bootstrap: Bootstrap) -> Estimate:
        """The regret as a share of (best - random): -1 is no better than chance."""
        return bootstrap.ratio(self.chosen - self.best, self.best - self.random)


def top_one(
    pairs: Pairs, predicted: Values, seed: int, among: int = AMONG, fewest: int = FEWEST
) -> TopOne:
    """Choose and measure within each prompt, among at most `among` of its workflows with two seeds or more.

    Workflows that are tied for the choice share it. Equal seeds choose by equal halves.
    """
    found = np.full((len(pairs.prompts), 4), np.nan)
    for number, (group, grid) in enumerate(pairs.grids()):
        several = np.isfinite(grid).sum(1) > 1
        if several.sum() >= fewest:
            rng = np.random.default_rng([seed, number])
            said = equal_digits(predicted[group][several])
            found[number] = _measured(said, grid[several], among, rng)
    return TopOne(*found.T)


def _measured(
    said: Values, grid: Values, among: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Choice, best, random and number of candidates, averaged over halvings in both directions."""
    candidates = min(len(said), among)
    found = []
    for _ in range(HALVINGS):
        some = np.sort(rng.permutation(len(said))[:candidates])
        one, other = _halves(grid[some][:, rng.permutation(grid.shape[1])])
        for choosing, measuring in ((one, other), (other, one)):
            chosen, best = _of_best(said[some], measuring), _of_best(choosing, measuring)
            found.append((chosen, best, float(measuring.mean())))
    chosen, best, average = np.mean(found, 0).tolist()
    return chosen, best, average, float(candidates)


def _halves(grid: Values) -> tuple[Values, Values]:
    """Means (n,) over the first half of each row's scores and over the rest, each of one or more."""
    there = np.isfinite(grid)
    first = there & (np.cumsum(there, 1) <= there.sum(1, keepdims=True) // 2)
    scores = np.where(there, grid, 0.0)
    one, other = ((scores * part).sum(1) / part.sum(1) for part in (first, there & ~first))
    return equal_digits(one), equal_digits(other)


def _of_best(liked: Values, measured: Values) -> float:
    """The mean measured score of what is liked best."""
    return float(measured[liked == liked.max()].mean())
