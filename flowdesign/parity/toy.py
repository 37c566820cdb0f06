"""What the samplers are compared on: a model whose exact answer is known, and runs that start from fixed seeds.

The data are numbers drawn from a mixture of normal distributions, each place of a latent by itself. The
best denoiser of such data is a formula, smooth in the latent and in the level, so that a difference
between two samplers is the samplers' own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SHAPE = (1, 4, 4, 4)  # of a latent: batch, channels, height, width
SEED = 7  # of the noise
LATENT_SEED = 8  # of the latent that a run with a denoise below 1 starts from
WEIGHTS = (0.3, 0.45, 0.25)  # of the normal distributions
MEANS = (-1.2, 0.2, 1.5)
DEVIATION = 0.5


@dataclass(frozen=True)
class Run:
    """One use of a KSampler."""

    name: str
    steps: int
    denoise: float

    @property
    def latent(self) -> Tensor:
        """What it starts from, float32: nothing, or an earlier latent when some of it is kept."""
        if self.denoise == 1:
            return torch.zeros(SHAPE)
        return torch.randn(SHAPE, generator=torch.Generator().manual_seed(LATENT_SEED))


RUNS = (Run("whole", 20, 1.0), Run("part", 10, 0.5))


def denoised(x: Tensor, sigma: float) -> Tensor:
    """The mean of the data given x, which is the data plus sigma times noise; of the dtype of x."""
    means, weights = x.new_tensor(MEANS), x.new_tensor(WEIGHTS)
    variance = DEVIATION**2 + sigma**2
    away = x.unsqueeze(-1) - means  # (..., distributions)
    shares = (weights.log() - away**2 / (2 * variance)).softmax(-1)
    found: Tensor = (shares * (means + away * (DEVIATION**2 / variance))).sum(-1)
    return found


def noise() -> Tensor:
    """The noise of a run, as ComfyUI draws it on a CPU: float32, from the seed alone."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference at any place, in units of the root mean square of what was expected."""
    expected = expected.double()
    return float((found.double() - expected).abs().max()) / math.sqrt(float((expected**2).mean()))
