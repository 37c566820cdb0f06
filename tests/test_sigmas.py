"""Schedules against numbers derived anew, in double precision, from the formulas alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from published_samplers import k_diffusion
from sigma_formulas import EXPECTED, TABLE

from flowdesign.catalog import SCHEDULERS, UNSPOKEN_SCHEDULERS
from flowdesign.render.errors import BadWorkflow, UnknownScheduler
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.sigmas import SCHEDULES, denoising_levels, schedule, take

LEVELS = NoiseLevels()
TOLERANCE = 2e-6  # relative; comfyui.md's agreement between these formulas and ComfyUI


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


@pytest.mark.parametrize("name", ["karras", "exponential"])
def test_two_schedules_are_those_of_k_diffusion_to_the_last_bit(name: str) -> None:
    """In float32, as ComfyUI has them: the last bit of a level changes the noise of a Brownian tree."""
    make = getattr(k_diffusion(), f"get_sigmas_{name}")
    for steps in (1, 7, 20, 40):
        expected = make(steps, LEVELS.smallest, LEVELS.largest)
        assert torch.equal(schedule(name, LEVELS, steps), expected)


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
    assert LEVELS.noised(latent, noise, top)[0, 0, 0, 0].item() == pytest.approx(
        0.5 + math.sqrt(1 + top**2), rel=1e-6
    )
    assert LEVELS.noised(latent, noise, 2.0)[0, 0, 0, 0].item() == 2.5


def test_an_unknown_schedule_is_named_with_a_suggestion() -> None:
    with pytest.raises(UnknownScheduler, match="'karas'.*Did you mean 'karras'"):
        schedule("karas", LEVELS, 10)


def test_no_steps_is_an_error() -> None:
    with pytest.raises(BadWorkflow, match="at least 1 step"):
        schedule("normal", LEVELS, 0)
