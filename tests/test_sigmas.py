"""Schedules against numbers derived here anew, in double precision, from the formulas alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from scipy.special import betaincinv

from flowdesign.catalog import SCHEDULERS, UNSPOKEN_SCHEDULERS
from flowdesign.render.errors import BadWorkflow, UnknownScheduler
from flowdesign.render.sigmas import (
    SCHEDULES,
    NoiseLevels,
    denoising_levels,
    noised,
    schedule,
    take,
)

LEVELS = NoiseLevels()
BETAS = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
ALPHAS = np.cumprod(1 - BETAS)
TABLE = np.sqrt((1 - ALPHAS) / ALPHAS)
TOLERANCE = 2e-6  # relative; comfyui.md's agreement between these formulas and ComfyUI


def at(timesteps: np.ndarray) -> np.ndarray:
    """Sigma at fractional timesteps."""
    return np.exp(np.interp(timesteps, np.arange(1000), np.log(TABLE)))


def karras(n: int) -> np.ndarray:
    low, high = TABLE[0] ** (1 / 7), TABLE[-1] ** (1 / 7)
    return (high + np.linspace(0, 1, n) * (low - high)) ** 7


def beta(n: int) -> np.ndarray:
    places = np.rint(999 * betaincinv(0.6, 0.6, 1 - np.arange(n) / n)).astype(int)
    return TABLE[sorted(set(places), reverse=True)]


def kl_optimal(n: int) -> np.ndarray:
    part = np.linspace(0, 1, n)
    return np.tan(part * np.arctan(TABLE[0]) + (1 - part) * np.arctan(TABLE[-1]))


def linear_quadratic(n: int) -> np.ndarray:
    """A line through 0 to 0.025 at half of the steps, and the parabola that goes on from it with the same
    slope and ends in 1: the noise that is gone."""
    half = n // 2
    if not half:
        return TABLE[-1:]
    slope = 0.025 / half
    bend = (1 - 0.025 - slope * (n - half)) / (n - half) ** 2
    at = np.arange(n) - half
    gone = np.where(at < 0, slope * np.arange(n), 0.025 + slope * at + bend * at**2)
    return (1 - gone) * TABLE[-1]


EXPECTED: dict[str, Callable[[int], np.ndarray]] = {
    "normal": lambda n: at(np.linspace(999, 0, n)),
    "sgm_uniform": lambda n: at(np.linspace(999, 0, n + 1)[:-1]),
    "simple": lambda n: TABLE[[999 - int(i * 1000 / n) for i in range(n)]],
    "ddim_uniform": lambda n: TABLE[list(range(1, 1000, max(1000 // n, 1)))[::-1]],
    "karras": karras,
    "exponential": lambda n: np.exp(np.linspace(np.log(TABLE[-1]), np.log(TABLE[0]), n)),
    "beta": beta,
    "kl_optimal": kl_optimal,
    "linear_quadratic": linear_quadratic,
}


def test_every_catalogued_schedule_is_here_and_checked() -> None:
    assert {*SCHEDULERS, *UNSPOKEN_SCHEDULERS} == set(SCHEDULES) == set(EXPECTED)


@pytest.mark.parametrize("steps", [1, 4, 6, 8, 12, 16, 20, 28, 50, 300])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_formula_and_ends_in_zero(name: str, steps: int) -> None:
    found = schedule(name, LEVELS, steps).double().numpy()
    assert found[-1] == 0
    np.testing.assert_allclose(found[:-1], EXPECTED[name](steps), rtol=TOLERANCE)


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_fall(name: str) -> None:
    found = schedule(name, LEVELS, 28)
    assert (found.diff() < 0).all()


def test_known_numbers_of_stable_diffusion() -> None:
    assert round(LEVELS.smallest, 4) == 0.0292
    assert round(LEVELS.largest, 4) == 14.6146


def diffusers_levels(**flags: object) -> torch.Tensor:
    """Sigmas of 20 steps from diffusers; it agrees with ComfyUI for these two schedules."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = DPMSolverMultistepScheduler(**betas, final_sigmas_type="zero", **flags)
    scheduler.set_timesteps(20)
    return scheduler.sigmas.float()


def test_karras_is_that_of_diffusers() -> None:
    expected = diffusers_levels(use_karras_sigmas=True)
    torch.testing.assert_close(schedule("karras", LEVELS, 20), expected, rtol=2e-5, atol=0)


def test_simple_is_the_trailing_spacing_of_diffusers() -> None:
    expected = diffusers_levels(timestep_spacing="trailing")
    torch.testing.assert_close(schedule("simple", LEVELS, 20), expected, rtol=1e-5, atol=0)


def test_ddim_uniform_can_have_more_levels_than_steps() -> None:
    assert len(schedule("ddim_uniform", LEVELS, 28)) == 29 + 1


def test_beta_drops_repeated_levels() -> None:
    assert len(schedule("beta", LEVELS, 300)) < 301


def test_timesteps_are_the_nearest_whole_ones() -> None:
    assert [LEVELS.timestep(float(s)) for s in TABLE[[0, 1, 500, 998, 999]]] == [
        0,
        1,
        500,
        998,
        999,
    ]
    between = math.exp(0.4 * math.log(TABLE[500]) + 0.6 * math.log(TABLE[501]))
    assert LEVELS.timestep(between) == 501
    assert LEVELS.timestep(1e-6) == 0
    assert LEVELS.timestep(1e6) == 999


def test_denoise_keeps_the_last_steps_of_a_longer_schedule() -> None:
    whole = schedule("karras", LEVELS, 40)
    assert denoising_levels("karras", LEVELS, 20, 0.5).tolist() == whole[-21:].tolist()
    assert denoising_levels("normal", LEVELS, 20, 0.3).tolist() == (
        schedule("normal", LEVELS, 66)[-21:].tolist()
    )
    assert len(denoising_levels("normal", LEVELS, 20, 0.0)) == 0


def test_uni_pc_computes_one_step_more_and_leaves_the_penultimate_level_out() -> None:
    whole = schedule("normal", LEVELS, 11)
    found = denoising_levels("normal", LEVELS, 10, extra_step=True)
    assert found.tolist() == [*whole[:-2].tolist(), 0.0]
    half = denoising_levels("normal", LEVELS, 10, 0.5, extra_step=True)
    longer = schedule("normal", LEVELS, 21)
    assert half.tolist() == [*longer[:-2].tolist(), 0.0][-11:]


def test_a_slice_of_the_steps() -> None:
    whole = schedule("karras", LEVELS, 20)
    first = take(whole, 0, 6, leftover_noise=True)
    assert first.tolist() == whole[:7].tolist()
    assert take(whole, 6, 10000, leftover_noise=False).tolist() == whole[6:].tolist()
    forced = take(whole, 0, 6, leftover_noise=False)
    assert forced.tolist() == [*whole[:6].tolist(), 0.0]
    assert len(take(whole, 20, 10000, leftover_noise=False)) == 0
    assert whole[6] > 0  # the schedule itself is untouched


def test_noise_at_the_top_counts_as_unit_variance() -> None:
    latent, noise = torch.full((1, 4, 2, 2), 0.5), torch.ones(1, 4, 2, 2)
    top = LEVELS.largest
    assert noised(latent, noise, top, LEVELS)[0, 0, 0, 0].item() == pytest.approx(
        0.5 + math.sqrt(1 + top**2), rel=1e-6
    )
    assert noised(latent, noise, 2.0, LEVELS)[0, 0, 0, 0].item() == 2.5


def test_an_unknown_schedule_is_named_with_a_suggestion() -> None:
    with pytest.raises(UnknownScheduler, match="'karas'.*Did you mean 'karras'"):
        schedule("karas", LEVELS, 10)


def test_no_steps_is_an_error() -> None:
    with pytest.raises(BadWorkflow, match="at least 1 step"):
        schedule("normal", LEVELS, 0)
