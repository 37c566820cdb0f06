"""Vote scores and automatic scores become one score for each image.

Votes say how the images of one prompt lie to each other, and are sure only where there are many; an
automatic score is there for every image and comparable between prompts. So votes move an image within
its group, as far as they are certain, around the group's automatic mean:

    combined = (1 - w) * automatic + w * (group mean + scale * strength)     w = weight * certainty

An image without votes keeps its automatic score.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from flowdesign.votes.strengths import Strength

# Standard deviations of the automatic score in one logit: the logistic distribution's own.
LOGIT = 3**0.5 / 3.141592653589793


def combine(
    votes: Mapping[int, Strength],
    automatic: Mapping[int, float],
    weight: float,
    scale: float = LOGIT,
) -> dict[int, float]:
    """One score for each item of `votes` and of `automatic`, in its units (standardised scores).

    `weight` is from 0 (automatic alone) to 1 (votes alone, where they are certain); `scale` is how
    many units one logit of strength is. Items with votes but no automatic score are centred at 0.
    Raises ValueError for a weight outside 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"The weight of the votes is from 0 to 1, not {weight}.")
    centres = _centres(votes, automatic)
    combined = dict(automatic)
    for item, strength in votes.items():
        centre = centres.get(strength.group, 0.0)
        share = weight * strength.certainty
        base = automatic.get(item, centre)
        combined[item] = (1 - share) * base + share * (centre + scale * strength.value)
    return combined


def _centres(votes: Mapping[int, Strength], automatic: Mapping[int, float]) -> dict[int, float]:
    """The mean automatic score of each group, of its items that have one."""
    known: dict[int, list[float]] = {}
    for item, strength in votes.items():
        if item in automatic:
            known.setdefault(strength.group, []).append(automatic[item])
    return {group: fmean(values) for group, values in known.items()}
