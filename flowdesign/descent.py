"""What every step of training does: set the learning rates, and update when the gradients are there."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from flowdesign.runs import NotANumber

LARGEST_GRADIENT = 1.0


def set_rates(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Give each group of weights this share of its peak learning rate, its "peak"."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


def descend(
    optimiser: torch.optim.Optimizer,
    weights: Iterable[Tensor],
    told: dict[str, float],
    whose: str,
    advice: str,
) -> None:
    """Clip the gradient, add its norm to what is `told` of the step as grad_norm, and update the weights.

    Raises NotANumber before the weights are touched when anything told is not finite: `whose` says whose
    loss it is, `advice` what to start another run with.
    """
    norm = torch.nn.utils.clip_grad_norm_(list(weights), LARGEST_GRADIENT)
    told["grad_norm"] = norm.item()
    if not all(map(math.isfinite, told.values())):
        raise NotANumber(
            f"The loss of {whose} is not a number any more. What was learned until the last checkpoint "
            f"is kept. Start another run (--run NAME) with {advice}."
        )
    optimiser.step()
