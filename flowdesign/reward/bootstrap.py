"""Cluster bootstrap over prompts: how sure a figure is.

Images of one prompt are alike, so whole prompts are drawn with replacement (Davison and Hinkley 1997,
section 3.8), and every figure is computed again from how often each prompt was drawn. The interval
holds the middle 95 % of the results. All figures of one `Bootstrap` are computed from the same draws, so
a difference of two figures is a paired one. That other workflows could have been measured is not in the
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]  # of the number of times each prompt counts, (prompts,)
TIMES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; NaN where it cannot be said."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def to_json(self) -> dict[str, float | None]:
        """The figure as JSON has it: None for what cannot be said."""
        pairs = (("value", self.value), ("low", self.low), ("high", self.high))
        return {name: number(value) for name, value in pairs}


UNKNOWN = Estimate(math.nan)


def number(value: float) -> float | None:
    """A number for JSON, of six significant digits; None for one that is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


class Bootstrap:
    """`times` draws of `prompts` prompts; equal seeds give equal draws."""

    def __init__(self, prompts: int, seed: int, times: int = TIMES) -> None:
        self.prompts = prompts
        rng = np.random.default_rng(seed)
        self._draws: Values = np.zeros((times, prompts))
        if prompts:
            self._draws += rng.multinomial(prompts, np.full(prompts, 1 / prompts), times)

    def mean(self, values: Values) -> Estimate:
        """The mean of one value per prompt (prompts,); a prompt with NaN is left out."""
        known = np.isfinite(values)
        return self.ratio(np.where(known, values, 0.0), known.astype(np.float64))

    def ratio(self, top: Values, bottom: Values) -> Estimate:
        """The sum of `top` over the sum of `bottom`, (prompts,) each; NaN in either leaves both out.

        Cannot be said where the sum below is not above 0.
        """
        known = np.isfinite(top) & np.isfinite(bottom)
        sums = np.stack([np.where(known, top, 0.0), np.where(known, bottom, 0.0)], 1)
        return self._estimate(_quotient(sums.sum(0)[None])[0], _quotient(self._draws @ sums))

    def of(self, statistic: Statistic) -> Estimate:
        """Any figure, given as a function of how often each prompt counts."""
        if not self.prompts:
            return UNKNOWN
        value = statistic(np.ones(self.prompts))
        return self._estimate(value, np.array([statistic(weights) for weights in self._draws]))

    def _estimate(self, value: float, drawn: Values) -> Estimate:
        known = drawn[np.isfinite(drawn)]
        if self.prompts < 2 or not len(known) or not math.isfinite(value):
            return Estimate(float(value))
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(float(value), float(low), float(high))


def _quotient(sums: Values) -> Values:
    """Quotients (n,) of sums (n, 2), NaN where the lower one is not above 0."""
    top, bottom = sums[:, 0], sums[:, 1]
    found: Values = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)
    return found
