"""The noise ceiling: how well a perfect predictor would order a prompt's workflows, as far as a few
seeds can tell.

Even the true scores correlate imperfectly with means over m images. How much is estimated by drawing
the seeds again, in a world that is as noisy as the real one. A pair's own images alone would make a
world of too much difference between workflows (their means differ by noise too) and too little noise;
so a draw is, with chance 1 - k, that of another workflow of the prompt instead. Then

    true score of that world     k * Y + (1 - k) * (mean of the prompt),    Y the mean of the images
    its variance                 k^2 var(Y) = var(t)   for   k^2 = var(t) / (var(t) + noise / m)

so that true scores differ as much as the estimate of var(t) says (the constrained estimates of Louis
1984, JASA 79, 393-398), single scores have the distribution of all images of the prompt, and the rest is
noise. Scores stay those that occur, with their ties. A draw takes one seed for all workflows of a
prompt: what a seed does to all alike moves no rank, here as there.

var(t) is the covariance, over a prompt's workflows, of the scores by one seed and by another. Its share of
the variance of single scores is estimated per prompt and drawn towards the mean share of all prompts by
as much as `POOLED` more workflows would.

Why not the square root of the split-half reliability (Spearman-Brown), which is shorter: where prompts
differ in noise the root of a mean is more than the mean of the roots. In simulations (64 workflows,
4 seeds; tests/test_reward_ceiling.py) it was up to 0.07 too high where this is within 0.03. Both are
too high where most workflows almost never succeed: true scores of 0.001 and 0.0001 are an order that no
four images show, nor that there is one to find.
"""

from __future__ import annotations

import math

import numpy as np

from flowdesign.reward.bootstrap import Values
from flowdesign.reward.metrics import FEWEST, judged, spearman
from flowdesign.reward.pairing import Pairs, equal_digits

POOLED = 10.0  # workflows
WORLDS = 20  # that are drawn of each prompt
FEWEST_REPEATED = 3  # workflows with several seeds, for a prompt to have an estimate of its own


def within_ceiling(pairs: Pairs, seed: int, fewest: int = FEWEST, worlds: int = WORLDS) -> Values:
    """The Spearman that true scores would reach within each judged prompt (prompts,), NaN elsewhere.

    All NaN where no pair has several images.
    """
    grids = [grid for _, grid in pairs.grids()]
    counts = judged(pairs, fewest)
    shares = reliabilities(grids)
    rng = np.random.default_rng(seed)
    found = np.full(len(grids), np.nan)
    for number in np.flatnonzero(counts & np.isfinite(shares)):
        draws = [_world(grids[number], shares[number], rng) for _ in range(worlds)]
        found[number] = np.nanmean(draws) if np.isfinite(draws).any() else 0.0
    return found


def reliabilities(grids: list[Values]) -> Values:
    """var(t) / var(single scores) within each prompt (prompts,), from scores (workflows, seeds)."""
    parts = np.array([_parts(grid) for grid in grids]).reshape(-1, 3)
    signal, total, workflows = parts.T
    known = total > 0
    if not known.any():
        return np.full(len(grids), np.nan)
    # From -1 to 1, so no prompt outweighs the others because its scores vary more.
    own = np.where(known, signal / np.where(known, total, 1), 0.0)
    weight = np.where(known, workflows, 0.0)
    everywhere = np.clip(own @ weight / weight.sum(), 0, 1)
    found: Values = np.clip((weight * own + POOLED * everywhere) / (weight + POOLED), 0, 1)
    return found


def _parts(grid: Values) -> tuple[float, float, float]:
    """Variance of true scores and of single ones over the workflows that have several seeds, and how
    many these are; noughts where they are too few."""
    grid = grid[np.isfinite(grid).sum(1) > 1]
    seeds = grid.shape[1]
    signal: list[float] = []
    total: list[float] = []
    for one in range(seeds):
        for other in range(one + 1, seeds):
            both = grid[np.isfinite(grid[:, one]) & np.isfinite(grid[:, other])][:, [one, other]]
            if len(both) >= FEWEST_REPEATED:
                table = np.cov(both, rowvar=False)
                signal.append(float(table[0, 1]))
                total.append(float(np.trace(table)) / 2)
    return (float(np.mean(signal)), float(np.mean(total)), len(grid)) if signal else (0.0, 0.0, 0.0)


def _world(grid: Values, share: float, rng: np.random.Generator) -> float:
    """Draw the seeds of one prompt again; Spearman of true and measured scores, NaN if all are equal."""
    there = np.isfinite(grid)
    count = there.sum(1)
    kept = np.sqrt(share / (share + (1 - share) / count)) if share > 0 else np.zeros(len(grid))
    full = _filled(grid, there, rng)
    seeds = rng.integers(grid.shape[1], size=grid.shape[1])
    others = rng.integers(len(grid), size=grid.shape)
    own = rng.random(grid.shape) < kept[:, None]
    drawn = np.where(own, full[:, seeds], full[others, seeds])
    measured = np.where(there, drawn, 0.0).sum(1) / count
    true = kept * np.where(there, grid, 0.0).sum(1) / count + (1 - kept) * full.mean()
    measured, true = equal_digits(measured), equal_digits(true)
    if not np.ptp(measured) > 0:
        return math.nan
    return spearman(true, measured) if np.ptp(true) > 0 else 0.0


def _filled(grid: Values, there: np.ndarray, rng: np.random.Generator) -> Values:
    """The grid with a random one of a workflow's own scores wherever a seed was not rendered."""
    if there.all():
        return grid
    chance = np.where(there[:, None, :], rng.random((*grid.shape, grid.shape[1])), -1.0)
    own = np.take_along_axis(grid, chance.argmax(2), 1)
    return np.where(there, grid, own)
