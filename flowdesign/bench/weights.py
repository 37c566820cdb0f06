"""Random weights for models of real structure, where published ones cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SPREAD = 0.02


def random_weight(name: str, shape: torch.Size) -> torch.Tensor:
    """A bfloat16 weight of this name that keeps signals alive: norms are neutral, biases 0."""
    import torch

    if len(shape) == 1:
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.bfloat16)
    return torch.randn(shape, dtype=torch.bfloat16) * SPREAD
