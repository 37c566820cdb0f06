"""What samplers share: their signature, and the arithmetic of one step.

Every sampler has one signature. `model(x, sigma)` returns the denoised x; `sigmas` fall, and usually
end in 0; `noise(sigma, sigma_next)` gives unit noise for one step. x is (batch, channels, height,
width) in unscaled ("variance exploding") form: a clean latent plus sigma times noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Model = Callable[[Tensor, float], Tensor]
Noise = Callable[[float, float], Tensor]
Function = Callable[[Model, Tensor, Tensor, Noise], Tensor]


def steps(sigmas: Tensor) -> Iterator[tuple[float, float]]:
    """Yield (sigma, next sigma) of each step."""
    levels = sigmas.tolist()
    yield from zip(levels[:-1], levels[1:], strict=True)


def ancestral(sigma: float, following: float) -> tuple[float, float]:
    """Split a step in (level to denoise to, noise to add) so that the sum has the next level."""
    up = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
    return math.sqrt(max(following**2 - up**2, 0.0)), up


def between(sigma: float, other: float) -> float:
    """The level halfway between two in the logarithm."""
    return math.sqrt(sigma * other)


def halfway(sigma: float, other: float) -> float:
    """The same level, worked out in float32 as k-diffusion does, for whoever asks for noise there.

    A Brownian tree is so rough that the last bit of a level changes its noise.
    """
    start, end = (-torch.tensor(level).log() for level in (sigma, other))
    return float((-(start + (end - start) / 2)).exp())


def slope(model: Model, x: Tensor, sigma: float) -> Tensor:
    """dx / dsigma of the probability flow (Karras et al. 2022, equation 3)."""
    return (x - model(x, sigma)) / sigma


def blend(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """Where x is when `ratio` of its noise is left: exact while the denoised image stays."""
    return ratio * x + (1 - ratio) * denoised
