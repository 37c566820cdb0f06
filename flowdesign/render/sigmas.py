"""Schedules over a model's noise levels, and a sampler's share of them.

The rules are those of ComfyUI 0.3.64, so that an image here is an image there. A schedule is the list
of noise levels that a sampler visits, from the noisiest to 0. Computed in float32, as there, so that
ties between two training steps fall the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from flowdesign.catalog import suggest
from flowdesign.render.errors import BadWorkflow, UnknownScheduler
from flowdesign.render.levels import Levels

RHO = 7.0  # Karras et al. 2022 (arXiv 2206.00364), equation 5
BETA_SHAPE = 0.6  # both parameters of the beta distribution (arXiv 2407.12173)
LINEAR_PART = 0.025  # of the noise, that the equal steps of linear_quadratic remove
FULL_DENOISE = 0.9999  # above it a denoise counts as 1


Schedule = Callable[[Levels, int], Tensor]


def normal(levels: Levels, steps: int) -> Tensor:
    """Timesteps evenly spaced, both ends included."""
    return levels.at(torch.linspace(*levels.span, steps))


def karras(levels: Levels, steps: int) -> Tensor:
    """Evenly spaced in sigma^(1/7)."""
    low, high = levels.smallest ** (1 / RHO), levels.largest ** (1 / RHO)
    return (high + torch.linspace(0, 1, steps) * (low - high)) ** RHO


def exponential(levels: Levels, steps: int) -> Tensor:
    """Evenly spaced in the logarithm of sigma."""
    return torch.linspace(math.log(levels.largest), math.log(levels.smallest), steps).exp()


def sgm_uniform(levels: Levels, steps: int) -> Tensor:
    """Timesteps evenly spaced, the last one left out."""
    return levels.at(torch.linspace(*levels.span, steps + 1)[:-1])


def simple(levels: Levels, steps: int) -> Tensor:
    """Every (count / steps)-th training level, from the noisiest."""
    stride = levels.count / steps
    return levels.table[[levels.count - 1 - int(i * stride) for i in range(steps)]]


def ddim_uniform(levels: Levels, steps: int) -> Tensor:
    """Training levels 1, 1 + k, 1 + 2k, ...: sometimes one or a few more than were asked for."""
    return levels.table[1 :: max(levels.count // steps, 1)].flip(0)


def beta(levels: Levels, steps: int) -> Tensor:
    """Timesteps at quantiles of a beta distribution: dense at both ends; repeats are dropped."""
    quantiles = 1 - np.linspace(0, 1, steps, endpoint=False)
    places = betaincinv(BETA_SHAPE, BETA_SHAPE, quantiles) * (levels.count - 1)
    return levels.table[list(dict.fromkeys(np.rint(places).astype(int).tolist()))]


def kl_optimal(levels: Levels, steps: int) -> Tensor:
    """Evenly spaced in the arc tangent of sigma (arXiv 2404.14507)."""
    part = torch.arange(steps) / max(steps - 1, 1)  # as ComfyUI: linspace differs in the last bit
    low, high = math.atan(levels.smallest), math.atan(levels.largest)
    return (part * low + (1 - part) * high).tan()


def linear_quadratic(levels: Levels, steps: int) -> Tensor:
    """Half of the steps small and equal, down to 0.975 of the most noise, the others ever larger.

    Mochi's schedule (Genmo, Apache-2.0), in shares of the most noise.
    """
    first = steps // 2
    if not first:
        return torch.tensor([levels.largest])
    stride, left = LINEAR_PART / first, steps - first
    bend = (first - LINEAR_PART * steps) / (first * left**2)
    slope = stride - 2 * (first - LINEAR_PART * steps) / left**2
    small = [at * stride for at in range(first)]
    large = [bend * (at**2 + first**2) + slope * at for at in range(first, steps)]
    return (1 - torch.tensor([*small, *large], dtype=torch.float64)).float() * levels.largest


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "normal": normal,
        "karras": karras,
        "exponential": exponential,
        "sgm_uniform": sgm_uniform,
        "simple": simple,
        "ddim_uniform": ddim_uniform,
        "beta": beta,
        "kl_optimal": kl_optimal,
        "linear_quadratic": linear_quadratic,
    }
)


def schedule(name: str, levels: Levels, steps: int) -> Tensor:
    """Return the levels of a named schedule, falling, 0 at the end; raises UnknownScheduler."""
    if name not in SCHEDULES:
        raise UnknownScheduler(f"Unknown scheduler '{name}'. {suggest(name, SCHEDULES)}")
    if steps < 1:
        raise BadWorkflow(f"A schedule needs at least 1 step, not {steps}.")
    return _schedule(name, levels, steps).clone()


@lru_cache(maxsize=256)
def _schedule(name: str, levels: Levels, steps: int) -> Tensor:
    return torch.cat([SCHEDULES[name](levels, steps), torch.zeros(1)])


def denoising_levels(
    name: str, levels: Levels, steps: int, denoise: float = 1.0, extra_step: bool = False
) -> Tensor:
    """Return what a KSampler visits; empty when `denoise` is 0.

    With denoise < 1 they are the last steps of a longer schedule. `extra_step` is for samplers that
    compute one step more and leave the penultimate level out.
    """
    if denoise <= 0:
        return torch.empty(0)
    total = steps if denoise > FULL_DENOISE else int(steps / denoise)
    found = schedule(name, levels, total + extra_step)
    if extra_step:
        found = torch.cat([found[:-2], found[-1:]])
    return found if denoise > FULL_DENOISE else found[-(steps + 1) :]


def take(sigmas: Tensor, start: int, end: int, leftover_noise: bool) -> Tensor:
    """Return the levels of steps `start` to `end` (KSamplerAdvanced); empty when none is left.

    Unless noise may be left over, a share that ends early jumps to 0 in its last step.
    """
    if end < len(sigmas) - 1:
        sigmas = sigmas[: end + 1].clone()
        if not leftover_noise:
            sigmas[-1] = 0
    return sigmas[start:] if start < len(sigmas) - 1 else sigmas[:0]
