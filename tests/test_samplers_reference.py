"""Samplers against independent implementations: k-diffusion's own, and formulas written another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UniPCMultistepScheduler
from published_samplers import k_diffusion
from scipy import integrate
from test_samplers import (
    BETAS,
    LEVELS,
    SCHEDULES,
    SEED,
    SHAPE,
    denoised,
    error,
    levels,
    predicted_noise,
    theirs,
)
from torch import Tensor

from flowdesign.render.noise import initial_noise
from flowdesign.render.samplers import Noise, sampler

TOLERANCE = 5e-6  # relative, of float32 latents after 12 steps


def start(sigmas: Tensor) -> Tensor:
    return initial_noise([SEED], SHAPE) * math.sqrt(1 + float(sigmas[0]) ** 2)


def chance() -> Noise:
    """Noise that is the same at every call of this, in order."""
    generator = torch.Generator().manual_seed(SEED)
    return lambda sigma, following: torch.randn(SHAPE, generator=generator)


def ours(name: str, sigmas: Tensor) -> Tensor:
    return sampler(name).run(denoised, start(sigmas), sigmas, chance())


def of_batches(x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
    """The model as k-diffusion calls it: with a level for each image."""
    return denoised(x, float(sigma[0]))


PUBLISHED: dict[str, dict[str, Any]] = {
    "euler": {}, "heun": {}, "dpm_2": {}, "dpmpp_2m": {}, "euler_ancestral": {"noisy": True},
    "dpm_2_ancestral": {"noisy": True}, "dpmpp_2s_ancestral": {"noisy": True},
    "dpmpp_sde": {"noisy": True}, "dpmpp_2m_sde": {"noisy": True, "solver_type": "midpoint"},
    "dpmpp_2m_sde_heun": {"noisy": True, "solver_type": "heun", "name": "dpmpp_2m_sde"},
    "dpmpp_3m_sde": {"noisy": True},
}  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_sampler_is_that_of_k_diffusion(name: str, schedule: str) -> None:
    sigmas = levels(name, schedule)
    options = dict(PUBLISHED[name])
    function = getattr(k_diffusion(), f"sample_{options.pop('name', name)}")
    if options.pop("noisy", False):
        options["noise_sampler"] = chance()
    expected = function(of_batches, start(sigmas), sigmas, disable=True, **options)
    assert error(ours(name, sigmas), expected) < TOLERANCE


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lms_is_that_of_k_diffusion_until_the_last_step(schedule: str) -> None:
    """The last one is a jump to the denoised image, as ComfyUI has it."""
    sigmas = levels("lms", schedule)
    before = k_diffusion().sample_lms(of_batches, start(sigmas), sigmas[:-1], disable=True)
    expected = denoised(before, float(sigmas[-2]))
    assert error(ours("lms", sigmas), expected) < TOLERANCE


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_uni_pc_bh2_is_uni_pc_multistep(schedule: str) -> None:
    sigmas = levels("uni_pc_bh2", schedule).clone()
    sigmas[-1] = 0.001
    scheduler = UniPCMultistepScheduler(
        **BETAS, solver_order=3, solver_type="bh2", final_sigmas_type="sigma_min"
    )
    expected = theirs(scheduler, sigmas, variance_preserving=True)
    assert error(ours("uni_pc_bh2", levels("uni_pc_bh2", schedule)), expected) < 5e-5


def test_ddpm_is_the_posterior_of_the_variance_preserving_model() -> None:
    """From one training step to the one before it: DDPMScheduler, which draws the same noise."""
    at = 600
    sigmas = torch.stack([LEVELS.table[at], LEVELS.table[at - 1]])
    x = start(sigmas)
    found = sampler("ddpm").run(denoised, x, sigmas, chance())
    scheduler = DDPMScheduler(**BETAS, clip_sample=False, variance_type="fixed_small")
    scaled = x / math.sqrt(1 + float(sigmas[0]) ** 2)
    generator = torch.Generator().manual_seed(SEED)
    stepped = scheduler.step(predicted_noise(scaled, at), at, scaled, generator=generator)
    expected = stepped.prev_sample * math.sqrt(1 + float(sigmas[1]) ** 2)
    assert error(found, expected) < TOLERANCE


def test_deis_integrates_the_polynomials_of_its_slopes() -> None:
    """With slopes that are polynomials of DEIS' time, of degree 2, the third step is their integral."""
    sigmas = torch.tensor([10.0, 6.0, 3.0, 1.0])
    rise = 2 * (math.log(0.002**2 + 1) / 1e-3 - math.log(80.0**2 + 1)) / (1e-3 - 1)
    first = math.log(80.0**2 + 1) - rise / 2

    def time(sigma: float) -> float:
        return (math.sqrt(first**2 + 2 * rise * math.log(sigma**2 + 1)) - first) / rise

    def slope(sigma: float) -> float:
        return 0.3 - 2 * time(sigma) + 5 * time(sigma) ** 2

    places: list[Tensor] = []

    def model(x: Tensor, sigma: float) -> Tensor:
        places.append(x)
        return x - sigma * slope(sigma)

    found = sampler("deis").run(model, torch.zeros(SHAPE), sigmas, chance())
    expected = places[2] + integrate.quad(slope, 3.0, 1.0)[0]
    assert error(found, expected) < 2e-4  # a sum of 10,000 stands for the integral


@pytest.mark.parametrize("name", ["deis", "ipndm", "lms", "res_multistep"])
def test_many_small_steps_solve_the_same_equation(name: str) -> None:
    """A smooth model, so that orders tell: Heun's method is the judge."""
    sigmas = torch.linspace(math.log(14.0), math.log(0.05), 300).exp()

    def smooth(x: Tensor, sigma: float) -> Tensor:
        return torch.tanh(x / (1 + sigma)) + 0.2 * x / (1 + sigma**2)

    found, expected = (
        sampler(each).run(smooth, start(sigmas), sigmas, chance()) for each in (name, "heun")
    )
    assert error(found, expected) < 1e-3


@pytest.mark.parametrize("name", ["ipndm", "lms"])
def test_multistep_samplers_integrate_cubic_slopes(name: str) -> None:
    """Of four slopes at equal steps the Adams-Bashforth formula is exact for cubic polynomials."""
    sigmas = torch.linspace(9.0, 1.0, 9, dtype=torch.float64)
    cubic = np.polynomial.Polynomial([0.5, -0.3, 0.07, 0.01])
    places: list[Tensor] = []

    def model(x: Tensor, sigma: float) -> Tensor:
        places.append(x)
        return x - sigma * float(cubic(sigma))

    x = torch.zeros(SHAPE, dtype=torch.float64)
    found = sampler(name).run(model, x, sigmas, chance())
    whole = cubic.integ()
    expected = places[3] + float(whole(1.0) - whole(6.0))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_heunpp2_by_hand() -> None:
    """Four levels: a step of three slopes, one of two, and Euler's."""
    a, b, c = 6.0, 3.0, 1.0
    x = start(torch.tensor([a]))

    def slope(x: Tensor, sigma: float) -> Tensor:
        return (x - denoised(x, sigma)) / sigma

    one = slope(x, a)
    second = x + one * (b - a)
    two = slope(second, b)
    three = slope(second + two * (c - b), c)
    w2, w3 = b / (3 * a), c / (3 * a)
    x = x + ((1 - w2 - w3) * one + w2 * two + w3 * three) * (b - a)
    one = slope(x, b)
    two = slope(x + one * (c - b), c)
    w2 = c / (2 * a)
    x = x + ((1 - w2) * one + w2 * two) * (c - b)
    expected = denoised(x, c)
    assert error(ours("heunpp2", torch.tensor([a, b, c, 0.0])), expected) < TOLERANCE


def test_gradient_estimation_by_hand() -> None:
    a, b, c = 6.0, 3.0, 1.0
    x = start(torch.tensor([a]))
    one = (x - denoised(x, a)) / a
    x = x + one * (b - a)
    two = (x - denoised(x, b)) / b
    x = x + (2 * two - one) * (c - b)
    expected = denoised(x, c)
    assert error(ours("gradient_estimation", torch.tensor([a, b, c, 0.0])), expected) < TOLERANCE


@pytest.mark.parametrize("sigmas", [[8.0, 4.0, 1.5, 0.0], [5.0, 4.0, 0.5, 0.1]])
def test_res_multistep_is_exact_for_images_that_change_evenly(sigmas: list[float]) -> None:
    """Where the denoised image is linear in the logarithm of the level, the second step solves
    dx / d log sigma = x - D(log sigma) exactly."""
    images: list[Tensor] = []

    def model(x: Tensor, sigma: float) -> Tensor:
        images.append(x)
        return torch.full_like(x, 0.7 + 0.4 * math.log(sigma))

    x = torch.full(SHAPE, 2.0, dtype=torch.float64)
    levels = torch.tensor(sigmas, dtype=torch.float64)
    sampler("res_multistep").run(model, x, levels, chance())
    before, high, low = images[1], sigmas[1], sigmas[2]

    def right(sigma: float) -> float:
        return (0.7 + 0.4 * math.log(sigma)) / sigma**2

    # x / sigma changes by -D / sigma^2 d sigma.
    change = integrate.quad(right, low, high, epsabs=1e-12)[0]
    expected = low * (before / high + change)
    torch.testing.assert_close(images[2], expected, rtol=1e-9, atol=1e-9)


def test_res_multistep_ancestral_denoises_further_and_adds_noise() -> None:
    """Two steps: Euler's to the lower level with noise up to the next, then the last one."""
    a, b = 4.0, 2.0
    up = math.sqrt(b**2 * (a**2 - b**2) / a**2)
    down = math.sqrt(b**2 - up**2)
    x = start(torch.tensor([a]))
    first = denoised(x, a)
    x = first + (x - first) * (down / a) + up * chance()(a, b)
    expected = denoised(x, b)
    found = ours("res_multistep_ancestral", torch.tensor([a, b, 0.0]))
    assert error(found, expected) < TOLERANCE
