"""Which guidance scale is taken, of those that were tried on validation prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdesign.evaluate.setting import Values


def choose_scale(scores: Mapping[float, Values]) -> dict[str, Any]:
    """Of scales with scores (runs, prompts) of the same prompts: the mean of each, which is best, and which is
    taken: the nearest to 1 that is not worse than the best by more than one standard error.

    Scales further from 1 say fewer different workflows, and often score the same within what these
    prompts can tell. (The rule is that of Breiman et al., Classification and Regression Trees, 1984, section
    3.4.3; the error is that of the paired difference, over prompts.)
    """
    means = {scale: float(each.mean()) for scale, each in sorted(scores.items())}
    best = max(means, key=lambda scale: means[scale])
    as_good = [scale for scale in means if not _worse(scores[scale], scores[best])]
    taken = min(as_good, key=lambda scale: (abs(scale - 1), -means[scale]))
    return {
        "scale": taken,
        "best": best,
        "prompts": scores[best].shape[1],
        "validation": {f"{scale:g}": mean for scale, mean in means.items()},
    }


def _worse(scores: Values, others: Values) -> bool:
    """Whether scores are lower than others by more than the standard error of their mean difference."""
    gaps = (others - scores).mean(0)
    return bool(gaps.mean() > gaps.std(ddof=1) / np.sqrt(len(gaps)))
