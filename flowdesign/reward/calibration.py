"""Calibration: intervals that hold, learned from validation prompts. No torch.

Split conformal prediction with a normalised score (Lei et al. 2018, arXiv 1604.04173; Papadopoulos et
al. 2002): of validation images the misses (score - mean) / sd are ranked, separately below and above,
because scores pile up at their ends. The interval of a nominal level is then

    mean - low * sd  to  mean + high * sd,    sd = sqrt(noise^2 + spread^2)

and covers that share of new images if those are like the validation images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
USUAL = 0.9


@dataclass(frozen=True)
class Calibration:
    """How many standard deviations an interval reaches below and above, for each of `levels`.

    Of a narrow level one may be negative: where scores are skewed, the middle is not at the mean.
    """

    levels: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    images: int  # that it was learned from

    def interval(self, mean: Values, sd: Values, level: float = USUAL) -> tuple[Values, Values]:
        """The interval of a score that is predicted with `mean` and `sd`.

        Raises ValueError for a level that was not calibrated.
        """
        if level not in self.levels:
            raise ValueError(f"Level {level} is not calibrated. Calibrated: {self.levels}")
        at = self.levels.index(level)
        return mean - self.low[at] * sd, mean + self.high[at] * sd


def calibrate(score: Values, mean: Values, sd: Values) -> Calibration:
    """Learn a calibration from images (n,) with their scores and predictions.

    Raises ValueError without images.
    """
    if not len(score):
        raise ValueError("Nothing to calibrate with: there are no validation images.")
    misses = (score - mean) / sd
    low = tuple(_reach(-misses, level) for level in LEVELS)
    high = tuple(_reach(misses, level) for level in LEVELS)
    return Calibration(LEVELS, low, high, len(score))


def _reach(misses: Values, level: float) -> float:
    """The quantile that leaves half of the rest beyond it, with the finite-sample correction."""
    wanted = math.ceil((len(misses) + 1) * (1 + level) / 2)
    return float(np.sort(misses)[min(wanted, len(misses)) - 1])
