"""Second witnesses: diffusers' schedulers over the same levels, where one of them takes the same steps.

diffusers has other schedules and fractional timesteps, so its levels are replaced by those that a
sampler visits; what remains are its own steps, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from torch import Tensor

from flowdesign.parity.toy import SEED, denoised
from flowdesign.render.samplers import Noise
from flowdesign.render.samplers.common import ancestral, between, halfway, steps

TRAINED = (
    100  # training levels that a scheduler is made with; they are replaced, and few are made sooner
)
ABOVE_ZERO = 0.001  # where UniPC's schedule ends in ComfyUI

Run = Callable[[Tensor, Tensor, Noise], Tensor]


@dataclass(frozen=True)
class Witness:
    """A scheduler of diffusers: run(x, sigmas, noise) gives the latent, float32."""

    scheduler: str
    run: Run


def _slope(x: Tensor, sigma: float) -> Tensor:
    return (x - denoised(x, sigma)) / sigma


def _ready(name: str, sigmas: Tensor, **options: Any) -> Any:
    """A scheduler at its first step, with these levels for its own."""
    scheduler = getattr(diffusers, name)(num_train_timesteps=TRAINED, **options)
    count = len(sigmas) - 1
    scheduler.set_timesteps(count)
    scheduler.sigmas, scheduler.num_inference_steps = sigmas.clone(), count
    scheduler._step_index = 0  # by place: with replaced levels a timestep can come twice
    return scheduler


def _step(scheduler: Any, output: Tensor, x: Tensor, **options: Any) -> Tensor:
    stepped: Tensor = scheduler.step(output, scheduler.timesteps[0], x, **options).prev_sample
    return stepped


def _exploding(name: str) -> Witness:
    """A scheduler of unscaled latents, one evaluation a step; any noise is the seed's stream."""

    def run(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
        scheduler = _ready(name, sigmas)
        scheduler.is_scale_input_called = True  # it is scaled here: the model takes the level
        chance = {"generator": torch.Generator().manual_seed(SEED)}
        for sigma, _ in steps(sigmas):
            x = _step(scheduler, _slope(x, sigma), x, **chance)
        return x

    return Witness(name, run)


def _preserving(name: str, noisy: bool = False, end: float = 0.0, **options: Any) -> Witness:
    """A scheduler of latents scaled to unit variance."""

    def run(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
        sigmas = torch.cat([sigmas[:-1], torch.tensor([end])])
        scheduler = _ready(name, sigmas, **options)
        x = x / math.sqrt(1 + float(sigmas[0]) ** 2)
        for sigma, following in steps(sigmas):
            given = {}
            if noisy:
                last = following == 0
                given["variance_noise"] = torch.zeros_like(x) if last else noise(sigma, following)
            output = _slope(x * math.sqrt(1 + sigma**2), sigma)
            x = _step(scheduler, output, x, **given)
        return x * math.sqrt(1 + end**2)

    return Witness(name, run)


def _twice(sigmas: Tensor) -> Tensor:
    """Every level but the ends twice, as schedulers of two evaluations a step have them."""
    return torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])


def _heun(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    scheduler = _ready("HeunDiscreteScheduler", sigmas)
    scheduler.sigmas = _twice(sigmas)
    for sigma in scheduler.sigmas[:-1].tolist():
        x = _step(scheduler, _slope(x, sigma), x)
    return x


def _lms(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """But for the last step, which ComfyUI takes to the denoised image.

    In double precision, for its weights over uneven steps are large and multiply what is rounded.
    """
    x, sigmas = x.double(), sigmas.double()
    scheduler = _ready("LMSDiscreteScheduler", sigmas)
    scheduler.is_scale_input_called = True
    for sigma, following in steps(sigmas):
        if following == 0:
            return denoised(x, sigma)
        x = _step(scheduler, _slope(x, sigma), x)
    return x


def _ipndm(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """On unscaled latents: alpha 1 and its beta the level. But for the last step, as above.

    In double precision, because the scheduler adds what is taken off here.
    """
    x, sigmas = x.double(), sigmas.double()
    scheduler = diffusers.IPNDMScheduler()
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.alphas, scheduler.betas = torch.ones_like(sigmas), sigmas
    scheduler._step_index = 0
    for sigma, following in steps(sigmas):
        if following == 0:
            return denoised(x, sigma)
        x = _step(scheduler, _slope(x, sigma) - sigma * x, x)
    return x


def _dpm_2(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """But for the last step: diffusers would look for a level halfway to 0."""
    levels = sigmas[:-1].tolist()
    middles = [between(*pair) for pair in steps(sigmas[:-1])]
    scheduler = _ready("KDPM2DiscreteScheduler", sigmas[:-1])
    scheduler.sigmas = _twice(torch.tensor([*levels, levels[-1]]))
    scheduler.sigmas_interpol = _twice(torch.tensor([0.0, *middles, 0.0]))
    return _halves(scheduler, x, levels, middles)


def _dpm_2_ancestral(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """But for the last step, as above. Its noise is the seed's stream."""
    levels = sigmas[:-1].tolist()
    parts = [ancestral(*pair) for pair in steps(sigmas[:-1])]
    middles = [between(sigma, down) for sigma, (down, _) in zip(levels, parts, strict=False)]
    scheduler = _ready("KDPM2AncestralDiscreteScheduler", sigmas[:-1])
    scheduler.sigmas = _twice(torch.tensor([*levels, levels[-1]]))
    scheduler.sigmas_interpol = _twice(torch.tensor([*middles, 0.0]))
    scheduler.sigmas_down = _twice(torch.tensor([*(down for down, _ in parts), 0.0]))
    scheduler.sigmas_up = _twice(torch.tensor([*(up for _, up in parts), 0.0]))
    chance = {"generator": torch.Generator().manual_seed(SEED)}
    return _halves(scheduler, x, levels, middles, **chance)


def _halves(
    scheduler: Any, x: Tensor, levels: list[float], middles: list[float], **options: Any
) -> Tensor:
    """Steps of two evaluations, at a level and in the middle of the step; then the denoised image."""
    for sigma, middle in zip(levels, middles, strict=False):
        x = _step(scheduler, _slope(x, sigma), x, **options)
        x = _step(scheduler, _slope(x, middle), x, **options)
    return denoised(x, levels[-1])


def _dpmpp_sde(x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    scheduler = _ready("DPMSolverSDEScheduler", sigmas)
    scheduler.sigmas = _twice(sigmas)
    asked: list[Tensor] = []
    scheduler.noise_sampler = lambda sigma, following: asked.pop()
    for sigma, following in steps(sigmas):
        if following == 0:
            return _step(scheduler, _slope(x, sigma), x)
        middle = halfway(sigma, following)
        for level, to in ((sigma, middle), (middle, following)):
            asked.append(noise(sigma, to))
            x = _step(scheduler, _slope(x, level), x)
    return x


_SDE: dict[str, Any] = {"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "zero"}

# Schedulers of diffusers by the sampler whose steps they take; the other samplers have none.
WITNESSES: Mapping[str, Witness] = MappingProxyType(
    {
        "euler": _exploding("EulerDiscreteScheduler"),
        "euler_ancestral": _exploding("EulerAncestralDiscreteScheduler"),
        "heun": Witness("HeunDiscreteScheduler", _heun),
        "dpmpp_2m": _preserving("DPMSolverMultistepScheduler", final_sigmas_type="zero"),
        "dpmpp_2m_sde": _preserving(
            "DPMSolverMultistepScheduler", noisy=True, solver_type="midpoint", **_SDE
        ),
        "dpmpp_sde": Witness("DPMSolverSDEScheduler", _dpmpp_sde),
        "ddim": _exploding("EulerDiscreteScheduler"),
        "uni_pc": _preserving(
            "UniPCMultistepScheduler", end=ABOVE_ZERO, solver_order=3, solver_type="bh1"
        ),
        "dpm_2": Witness("KDPM2DiscreteScheduler", _dpm_2),
        "dpm_2_ancestral": Witness("KDPM2AncestralDiscreteScheduler", _dpm_2_ancestral),
        "lms": Witness("LMSDiscreteScheduler", _lms),
        "dpmpp_2m_sde_heun": _preserving(
            "DPMSolverMultistepScheduler", noisy=True, solver_type="heun", **_SDE
        ),
        "ddpm": _exploding("EulerAncestralDiscreteScheduler"),
        "ipndm": Witness("IPNDMScheduler", _ipndm),
        "uni_pc_bh2": _preserving(
            "UniPCMultistepScheduler", end=ABOVE_ZERO, solver_order=3, solver_type="bh2"
        ),
    }
)
