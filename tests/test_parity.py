"""The table of `python -m flowdesign fidelity`: its references are others' work, and the README has it."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
from parity_reference import REFERENCES, latent, normal_noise
from readme_tree import README
from sigma_formulas import EXPECTED, visited

from flowdesign.__main__ import main
from flowdesign.parity import TOLERANCE, Parity, Row, as_markdown, tolerance
from flowdesign.parity.stored import read
from flowdesign.parity.toy import MEANS, RUNS, SEED, SHAPE, Run, denoised, error, noise
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.samplers import SAMPLERS
from flowdesign.render.sampling import Plan
from flowdesign.render.sigmas import SCHEDULES

torch.set_num_threads(1)

LEVELS = NoiseLevels()
STORED = read()
# Every sampler with one schedule, and every schedule with two or three samplers.
SOME = [(name, list(SCHEDULES)[at % len(SCHEDULES)]) for at, name in enumerate(SAMPLERS)]


def test_there_is_a_reference_for_every_pair() -> None:
    assert list(REFERENCES) == list(SAMPLERS) and set(EXPECTED) == set(SCHEDULES)
    pairs = {(n, s, run.name) for n in SAMPLERS for s in SCHEDULES for run in RUNS}
    assert set(STORED.latents) == pairs
    assert STORED.sources == {name: own.source for name, own in REFERENCES.items()}


@pytest.mark.parametrize(("name", "schedule"), SOME)
def test_what_is_stored_is_what_the_references_say(name: str, schedule: str) -> None:
    for run in RUNS:
        again = latent(name, schedule, run)
        # The last bits of noise differ between CPUs.
        allowed = 1e-6 if SAMPLERS[name].noise else 1e-9
        assert error(STORED.latents[name, schedule, run.name], again) < allowed
        for extra in (False, True):
            levels = visited(schedule, run.steps, run.denoise, extra)
            stored = STORED.sigmas[schedule, run.name, extra].numpy()
            np.testing.assert_allclose(stored, levels, rtol=1e-12)


def test_references_ask_for_what_samplers_ask_for() -> None:
    for name, own in REFERENCES.items():
        assert (own.noise, own.extra_step) == (SAMPLERS[name].noise, SAMPLERS[name].extra_step)


def test_the_toy_is_the_best_denoiser_of_its_mixture() -> None:
    """The mean of the data given x by numerical integration over the data."""
    data = np.linspace(-6, 6, 20_001)
    parts = [
        w * np.exp(-((data - m) ** 2) / 0.5) for w, m in zip((0.3, 0.45, 0.25), MEANS, strict=True)
    ]
    for x, sigma in ((0.7, 0.4), (-3.0, 2.0), (20.0, 14.0), (0.1, 0.03)):
        posterior = sum(parts) * np.exp(-((x - data) ** 2) / (2 * sigma**2))
        expected = (posterior * data).sum() / posterior.sum()
        found = denoised(torch.tensor([x], dtype=torch.float64), sigma)
        assert float(found[0]) == pytest.approx(expected, rel=1e-6)


def test_the_command_measures_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole table takes minutes; these samplers are of every kind of noise."""
    names = ["euler_ancestral", "dpmpp_sde", "res_multistep"]
    assert main(["fidelity", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["sampler"] for row in found["rows"]] == names
    for row in found["rows"]:
        errors = list(row["errors"].values())
        assert len(errors) == len(SCHEDULES) and 0 < max(errors) < tolerance(row["sampler"])
    assert 0 < max(found["levels"].values()) < TOLERANCE
    assert [row["witness_error"] is None for row in found["rows"]] == [False, False, True]


def test_an_unknown_sampler_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fidelity", "eulr"]) == 2
    assert "Did you mean 'euler'" in capsys.readouterr().err


def test_a_figure_tells_samplers_apart() -> None:
    """Another sampler's steps would stand out: of all pairs only these two are the same sampler."""
    latents = {name: STORED.latents[name, "karras", "whole"] for name in SAMPLERS}
    alike = {
        (one, other)
        for one, other in itertools.combinations(SAMPLERS, 2)
        if error(latents[one], latents[other]) < 10 * TOLERANCE
    }
    assert alike == {("euler", "ddim"), ("euler_ancestral", "ddpm")}


def test_an_error_of_anything_is_told() -> None:
    def close(level: float, own: float, seen: float | None, name: str = "euler") -> bool:
        good = Row("heun", "k-diffusion", {"normal": 0.0}, "", None)
        row = Row(name, "k-diffusion", {"normal": own}, "", seen)
        return Parity({"normal": level}, (good, row)).close

    assert close(9e-6, 9e-6, None) and close(9e-6, 9e-6, 9e-6)
    assert not close(2e-5, 0.0, None) and not close(0.0, 2e-5, 0.0) and not close(0.0, 0.0, 2e-5)
    assert close(0.0, 1e-4, None, "dpmpp_sde") and not close(0.0, 3e-4, None, "dpmpp_sde")
    assert not close(0.0, math.inf, None, "dpmpp_sde")


def test_the_table_as_markdown() -> None:
    row = Row("euler", "k-diffusion", {"normal": 4.31e-7}, "EulerDiscreteScheduler", 0.0)
    other = Row("deis", "integrals", {"normal": math.inf}, "", None)
    assert as_markdown(Parity({"normal": 2.5e-12}, (row, other))).splitlines()[2:] == [
        "| *levels alone* | formulas | 2.5e-12 |  |",
        "| euler | k-diffusion | 4.3e-7 | 0.0 EulerDiscrete |",
        "| deis | integrals | inf | none |",
    ]


def test_the_readme_has_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"(?<=<!-- fidelity -->\n)(.*?)(?=<!-- end of fidelity -->)", text, re.DOTALL)
    assert found is not None, "write it with: python -m flowdesign fidelity"
    head, _, *lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in found[1].strip().splitlines()
    ]
    assert head == ["sampler", "reference", *SCHEDULES, "diffusers"]
    assert [line[0] for line in lines] == ["*levels alone*", *SAMPLERS]
    assert [line[1] for line in lines[1:]] == list(STORED.sources.values())
    errors = [float(cell) for line in lines for cell in line[2:-1]]
    assert len(errors) == (1 + len(SAMPLERS)) * len(SCHEDULES) and max(errors) < TOLERANCE


# --- shares of a schedule ------------------------------------------------------------------------


def shared(
    name: str, start: int, end: int, leftover: bool, latent: torch.Tensor, adds: bool
) -> torch.Tensor:
    """A KSamplerAdvanced of the project on the toy."""
    chosen = SAMPLERS[name]
    plan = Plan(
        chosen, "karras", 12, start=start, end=end, leftover_noise=leftover, adds_noise=adds
    )
    sigmas = plan.sigmas(LEVELS)
    x = LEVELS.noised(latent, noise() * adds, float(sigmas[0]))
    return chosen.run(denoised, x, sigmas, chosen.noise_for([SEED], x, sigmas))


@pytest.mark.parametrize(
    "name", ["euler", "dpmpp_2m", "euler_ancestral", "dpm_2", "uni_pc", "res_multistep"]
)
def test_two_samplers_share_a_schedule(name: str) -> None:
    """The first leaves noise, the second adds none and remembers nothing; noise begins anew."""
    own = REFERENCES[name]
    levels = visited("karras", 12, 1.0, own.extra_step).tolist()
    x = noise().double() * math.sqrt(1 + levels[0] ** 2)
    middle = own.run(x, levels[:6], normal_noise())
    expected = own.run(middle, levels[5:], normal_noise())
    first = shared(name, 0, 5, True, torch.zeros(SHAPE), True)
    assert error(first, middle) < TOLERANCE
    assert error(shared(name, 5, 10_000, False, middle.float(), False), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m"])
def test_a_share_without_leftover_noise_jumps_to_the_image(name: str) -> None:
    levels = [*visited("karras", 12, 1.0, False).tolist()[:5], 0.0]
    x = noise().double() * math.sqrt(1 + levels[0] ** 2)
    expected = REFERENCES[name].run(x, levels, normal_noise())
    assert error(shared(name, 0, 5, False, torch.zeros(SHAPE), True), expected) < TOLERANCE


def test_a_later_share_may_add_noise_of_its_first_level() -> None:
    levels = visited("karras", 12, 1.0, False).tolist()[4:]
    latent = Run("", 1, 0.5).latent
    x = latent.double() + noise().double() * levels[0]
    expected = REFERENCES["heun"].run(x, levels, normal_noise())
    assert error(shared("heun", 4, 10_000, False, latent, True), expected) < TOLERANCE
