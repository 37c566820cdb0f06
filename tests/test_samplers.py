"""Samplers on a small nonlinear model: against diffusers where both agree, and by hand elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchsde
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from flowdesign import catalog
from flowdesign.render.errors import UnknownSampler
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.noise import BrownianNoise, initial_noise
from flowdesign.render.samplers import SAMPLERS, sampler
from flowdesign.render.sigmas import denoising_levels

torch.set_num_threads(1)

LEVELS = NoiseLevels()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_NO_NOISE = (HeunDiscreteScheduler, UniPCMultistepScheduler)
SEED = 5
SHAPE = (1, 4, 8, 8)
STEPS = 12


def predicted_noise(x: Tensor, timestep: int) -> Tensor:
    """A toy eps-model of the scaled latent: nonlinear in it, and different at every timestep."""
    return torch.tanh(x * (0.6 + 0.4 * math.cos(timestep / 150))) + 0.1 * torch.sin(3 * x)


def denoised(x: Tensor, sigma: float) -> Tensor:
    """The same model as a denoiser of the unscaled latent."""
    scaled = x / math.sqrt(1 + sigma**2)
    return x - sigma * predicted_noise(scaled, LEVELS.timestep(sigma))


def levels(name: str, schedule: str) -> Tensor:
    return denoising_levels(schedule, LEVELS, STEPS, extra_step=sampler(name).extra_step)


def ours(name: str, sigmas: Tensor, model: Callable[[Tensor, float], Tensor] = denoised) -> Tensor:
    """Run a sampler of the project from pure noise."""
    x = initial_noise([SEED], SHAPE) * math.sqrt(1 + float(sigmas[0]) ** 2)
    chosen = sampler(name)
    return chosen.run(model, x, sigmas, chosen.noise_for([SEED], x, sigmas))


def timesteps(sigmas: Tensor) -> list[int]:
    return [LEVELS.timestep(float(sigma)) for sigma in sigmas[:-1]]


def theirs(scheduler: Any, sigmas: Tensor, variance_preserving: bool = False) -> Tensor:
    """Run a diffusers scheduler with its sigmas and timesteps overwritten."""
    count = len(sigmas) - 1
    scheduler.set_timesteps(count)
    steps = timesteps(sigmas)
    if isinstance(scheduler, HeunDiscreteScheduler):
        steps = [steps[0], *(t for t in steps[1:] for _ in range(2))]
        middle = sigmas[1:-1].repeat_interleave(2)
        scheduler.sigmas = torch.cat([sigmas[:1], middle, sigmas[-1:]])
    else:
        scheduler.sigmas = sigmas.clone()
        scheduler.num_inference_steps = count
    scheduler.timesteps = torch.tensor(steps, dtype=torch.long if variance_preserving else None)
    if not variance_preserving:
        scheduler.timesteps = scheduler.timesteps.float()
    x = initial_noise([SEED], SHAPE)
    if not variance_preserving:
        x = x * math.sqrt(1 + float(sigmas[0]) ** 2)
    generator = torch.Generator().manual_seed(SEED)
    # By place, because a timestep can come twice.
    scheduler._step_index = 0
    for timestep in steps:
        scaled = x if variance_preserving else _scale(x, scheduler)
        model_output = predicted_noise(scaled, timestep)
        options = {} if isinstance(scheduler, _NO_NOISE) else {"generator": generator}
        x = scheduler.step(model_output, scheduler.timesteps[0], x, **options).prev_sample
    return x


def _scale(x: Tensor, scheduler: Any) -> Tensor:
    return x / (scheduler.sigmas[scheduler._step_index] ** 2 + 1) ** 0.5


def error(found: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    return float((found - expected).norm() / expected.norm())


SCHEDULES = catalog.SCHEDULERS


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["euler", "ddim"])
def test_euler_and_ddim_are_euler_discrete(name: str, schedule: str) -> None:
    sigmas = levels(name, schedule)
    assert error(ours(name, sigmas), theirs(EulerDiscreteScheduler(**BETAS), sigmas)) < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_heun_is_heun_discrete(schedule: str) -> None:
    sigmas = levels("heun", schedule)
    assert error(ours("heun", sigmas), theirs(HeunDiscreteScheduler(**BETAS), sigmas)) < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_euler_ancestral_is_euler_ancestral_discrete(schedule: str) -> None:
    sigmas = levels("euler_ancestral", schedule)
    expected = theirs(EulerAncestralDiscreteScheduler(**BETAS), sigmas)
    assert error(ours("euler_ancestral", sigmas), expected) < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpmpp_2m_is_dpm_solver_multistep(schedule: str) -> None:
    sigmas = levels("dpmpp_2m", schedule)
    scheduler = DPMSolverMultistepScheduler(
        **BETAS, final_sigmas_type="zero", lower_order_final=True, algorithm_type="dpmsolver++"
    )
    expected = theirs(scheduler, sigmas, variance_preserving=True)
    assert error(ours("dpmpp_2m", sigmas), expected) < 2e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpmpp_2m_sde_is_the_stochastic_dpm_solver(schedule: str) -> None:
    """With plain noise for both: Brownian noise is tested on its own below."""
    sigmas = levels("dpmpp_2m_sde", schedule)
    scheduler = DPMSolverMultistepScheduler(
        **BETAS,
        final_sigmas_type="zero",
        lower_order_final=True,
        algorithm_type="sde-dpmsolver++",
        solver_type="midpoint",
    )
    expected = theirs(scheduler, sigmas, variance_preserving=True)
    generator = torch.Generator().manual_seed(SEED)
    x = initial_noise([SEED], SHAPE) * math.sqrt(1 + float(sigmas[0]) ** 2)
    found = sampler("dpmpp_2m_sde").run(
        denoised, x, sigmas, lambda a, b: torch.randn(SHAPE, generator=generator)
    )
    assert error(found, expected) < 2e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_uni_pc_is_uni_pc_multistep(schedule: str) -> None:
    sigmas = levels("uni_pc", schedule).clone()
    sigmas[-1] = 0.001  # where ComfyUI's wrapper stops
    scheduler = UniPCMultistepScheduler(
        **BETAS, solver_order=3, solver_type="bh1", final_sigmas_type="sigma_min"
    )
    expected = theirs(scheduler, sigmas, variance_preserving=True)
    assert error(ours("uni_pc", levels("uni_pc", schedule)), expected) < 5e-5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lcm_by_hand(schedule: str) -> None:
    """Jump to the denoised latent, add noise of the next level (LCMScheduler also mixes in x)."""
    sigmas = levels("lcm", schedule)
    generator = torch.Generator().manual_seed(SEED)
    x = initial_noise([SEED], SHAPE) * math.sqrt(1 + float(sigmas[0]) ** 2)
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = denoised(x, sigma)
        if following:
            x = x + torch.randn(SHAPE, generator=generator) * following
    assert error(ours("lcm", sigmas), x) == 0


def test_dpmpp_sde_by_hand() -> None:
    """Two steps of the formulas of Lu et al. 2022, with r = 1/2, written out."""
    sigmas = torch.tensor([4.0, 1.0, 0.0])
    draws = [torch.full(SHAPE, 0.3), torch.full(SHAPE, -0.7)]
    noise = iter(draws)
    x = torch.full(SHAPE, 2.0)
    found = sampler("dpmpp_sde").run(denoised, x, sigmas, lambda a, b: next(noise))

    def step(x: Tensor, target: Tensor, a: float, b: float, e: Tensor) -> Tensor:
        up = math.sqrt(b**2 * (a**2 - b**2) / a**2)
        down = math.sqrt(b**2 - up**2)
        return down / a * x + (1 - down / a) * target + up * e

    first = denoised(x, 4.0)
    middle = step(x, first, 4.0, 2.0, draws[0])
    # 1 / (2 r) = 1: the estimate at the midpoint replaces the first one.
    end = step(x, denoised(middle, 2.0), 4.0, 1.0, draws[1])
    torch.testing.assert_close(found, denoised(end, 1.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "uni_pc"])
def test_deterministic_samplers_find_the_exact_solution(name: str) -> None:
    """For Gaussian data of deviation s the probability flow is known: x ~ sqrt(sigma^2 + s^2)."""
    deviation = 0.8
    sigmas = denoising_levels("karras", LEVELS, 200, extra_step=sampler(name).extra_step)

    def posterior(x: Tensor, sigma: float) -> Tensor:
        return x * deviation**2 / (deviation**2 + sigma**2)

    x = initial_noise([SEED], SHAPE) * 14.6
    found = sampler(name).run(posterior, x, sigmas, lambda a, b: torch.zeros(SHAPE))
    top = float(sigmas[0])
    expected = x * deviation / math.sqrt(deviation**2 + top**2)
    assert error(found, expected) < (3e-2 if name == "euler" else 2e-3)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("euler_ancestral", 0.07), ("dpmpp_2m_sde", 0.03), ("dpmpp_sde", 0.03)]
)
def test_stochastic_samplers_keep_the_distribution(name: str, tolerance: float) -> None:
    deviation, shape = 0.8, (1, 4, 64, 64)
    sigmas = denoising_levels("karras", LEVELS, 60)

    def posterior(x: Tensor, sigma: float) -> Tensor:
        return x * deviation**2 / (deviation**2 + sigma**2)

    x = initial_noise([SEED], shape) * math.sqrt(float(sigmas[0]) ** 2 + deviation**2)
    chosen = sampler(name)
    # Another seed: the first increment of the initial noise's own seed is the initial noise.
    found = chosen.run(posterior, x, sigmas, chosen.noise_for([SEED + 1], x, sigmas))
    assert float(found.std()) == pytest.approx(deviation, rel=tolerance)


def test_brownian_noise_is_torchsde_with_the_seed_as_entropy() -> None:
    sigmas = denoising_levels("karras", LEVELS, 8)
    x = torch.zeros(SHAPE)
    noise = BrownianNoise([SEED], x, sigmas)
    low, high = sigmas[sigmas > 0].min(), sigmas.max()
    tree = torchsde.BrownianTree(low, x, high, entropy=SEED, tol=1e-6)
    a, b = float(sigmas[0]), float(sigmas[1])
    expected = -tree(torch.tensor(b), torch.tensor(a)) / math.sqrt(a - b)
    torch.testing.assert_close(noise(a, b), expected)


def test_brownian_noise_adds_up_over_a_split_step() -> None:
    sigmas = denoising_levels("karras", LEVELS, 8)
    noise = BrownianNoise([SEED], torch.zeros(SHAPE), sigmas)
    a, b, c = 10.0, 5.0, 1.0
    whole = noise(a, c) * math.sqrt(a - c)
    parts = noise(a, b) * math.sqrt(a - b) + noise(b, c) * math.sqrt(b - c)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_does_not_depend_on_the_others_of_its_batch(name: str) -> None:
    """Bit for bit: every sampler works element by element, noise has one generator per image."""
    sigmas = levels(name, "karras")
    chosen = sampler(name)
    x = initial_noise([1, 2, 3], SHAPE) * float(sigmas[0])
    together = chosen.run(denoised, x, sigmas, chosen.noise_for([1, 2, 3], x, sigmas))
    for row, seed in enumerate([1, 2, 3]):
        own = x[row : row + 1]
        alone = chosen.run(denoised, own, sigmas, chosen.noise_for([seed], own, sigmas))
        assert torch.equal(together[row : row + 1], alone)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_evaluates_the_model_as_often_as_it_says(name: str) -> None:
    calls = 0

    def counted(x: Tensor, sigma: float) -> Tensor:
        nonlocal calls
        calls += 1
        return denoised(x, sigma)

    ours(name, levels(name, "normal"), counted)
    chosen = sampler(name)
    assert STEPS * chosen.evaluations - calls in (0, 1, 3)  # less in the last steps


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_few_steps_give_finite_latents(name: str, schedule: str, steps: int) -> None:
    sigmas = denoising_levels(schedule, LEVELS, steps, extra_step=sampler(name).extra_step)
    assert ours(name, sigmas).isfinite().all()


def test_every_catalogued_sampler_is_here() -> None:
    assert [*catalog.SAMPLERS, *catalog.UNSPOKEN_SAMPLERS] == list(SAMPLERS)


def test_an_unknown_sampler_is_named_with_a_suggestion() -> None:
    with pytest.raises(UnknownSampler, match="'eulr'.*Did you mean 'euler'"):
        sampler("eulr")
