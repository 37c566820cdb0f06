"""What a step learns from: workflows that the policy says for some prompts, and what they earn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowdesign.reward.bound import Bound
from flowdesign.runs import NotANumber
from flowdesign.search import Sentence


@dataclass(frozen=True)
class Earned:
    """Rewards (groups, size) of a rollout, the means that they are the lower bounds of, and the
    rewards (groups, size, foils) of the same workflows for other prompts of the step."""

    own: Tensor
    mean: Tensor
    elsewhere: Tensor

    @property
    def gain(self) -> float:
        """How much more the workflows earn than they would for other prompts; 0 without any."""
        there = self.elsewhere.shape[-1] > 0
        return float((self.own - self.elsewhere.mean(-1)).mean()) if there else 0.0


def earn(
    bound: Bound, prompts: Sequence[str], groups: Sequence[Sequence[Sentence]], foils: int
) -> Earned:
    """Bound every workflow for its prompt and for the next `foils` prompts of the step.

    Raises NotANumber where the ensemble gives no number.
    """
    foils = min(foils, len(prompts) - 1)
    asked = [
        (prompts[(at + shift) % len(prompts)], sentence)
        for at, group in enumerate(groups)
        for sentence in group
        for shift in range(foils + 1)
    ]
    found = bound.ensemble.predict([prompt for prompt, _ in asked], [said for _, said in asked])
    shape = (len(prompts), len(groups[0]), foils + 1)
    lower, mean = (
        torch.from_numpy(np.asarray(values, np.float64)).float().view(shape)
        for values in (found.lower(bound.trust), found.mean)
    )
    if not bool(torch.isfinite(lower).all()):
        raise NotANumber(
            "The reward ensemble gives a reward that is not a number, so nothing can be learned from it. "
            "Name another with --reward."
        )
    return Earned(lower[..., 0], mean[..., 0], lower[..., 1:])
