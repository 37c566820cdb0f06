"""Run every sampler over every schedule, and say how far the latents are from the references."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from flowdesign.parity.stored import Stored, read
from flowdesign.parity.toy import RUNS, SEED, SHAPE, Run, denoised, error
from flowdesign.parity.witnesses import WITNESSES
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.noise import initial_noise
from flowdesign.render.samplers import SAMPLERS, sampler
from flowdesign.render.sampling import Plan
from flowdesign.render.sigmas import SCHEDULES

LEVELS = NoiseLevels()  # of Stable Diffusion
TOLERANCE = 1e-5
# Of samplers with Brownian noise: noise at a level that another CPU rounds otherwise is that of another place of the
# tree. (4.8e-5 on an AMD EPYC, from references that were stored on an Intel Xeon.)
BROWNIAN_TOLERANCE = 2e-4
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """A sampler: whose work its reference is, and the largest error over each schedule.

    `witness` is a scheduler of diffusers that takes the same steps, with the largest error against it
    over all schedules; empty and None where there is none.
    """

    sampler: str
    source: str
    errors: Mapping[str, float]
    witness: str
    witness_error: float | None


@dataclass(frozen=True)
class Parity:
    """The largest relative error of each schedule's levels, and a row for each sampler."""

    levels: Mapping[str, float]
    rows: tuple[Row, ...]

    @property
    def close(self) -> bool:
        """Whether no error is larger than it may be."""
        return max(self.levels.values()) < TOLERANCE and all(
            max([*row.errors.values(), row.witness_error or 0.0]) < tolerance(row.sampler)
            for row in self.rows
        )


def measure(names: Sequence[str], say: Say) -> Parity:
    """Compare samplers, all of them when none is named, over all schedules.

    Raises UnknownSampler, and OSError where the file of references is missing.
    """
    samplers, references = {name: sampler(name) for name in names or SAMPLERS}, read()
    rows = []
    for name in samplers:
        say(f"{name}: {len(SCHEDULES)} schedules")
        rows.append(_row(name, references))
    return Parity({name: _levels_error(name, references) for name in SCHEDULES}, tuple(rows))


def tolerance(name: str) -> float:
    """How large a sampler's errors may be."""
    return BROWNIAN_TOLERANCE if SAMPLERS[name].noise == "brownian" else TOLERANCE


def _row(name: str, references: Stored) -> Row:
    errors, seen = {}, []
    for schedule in SCHEDULES:
        found = {run.name: _pair(name, schedule, run, references) for run in RUNS}
        errors[schedule] = max(own for own, _ in found.values())
        seen += [by_witness for _, by_witness in found.values() if by_witness is not None]
    witness = WITNESSES[name].scheduler if name in WITNESSES else ""
    return Row(name, references.sources[name], errors, witness, max(seen, default=None))


def _pair(name: str, schedule: str, run: Run, references: Stored) -> tuple[float, float | None]:
    """Return the error of one run against the reference, and against diffusers' scheduler."""
    chosen = SAMPLERS[name]
    sigmas = Plan(chosen, schedule, run.steps, run.denoise).sigmas(LEVELS)
    if chosen.noise == "brownian":
        # The last bit of a level changes a Brownian tree's noise, and levels are compared by themselves.
        sigmas = references.sigmas[schedule, run.name, chosen.extra_step].float()
    noise = initial_noise([SEED], SHAPE)
    x = LEVELS.noised(run.latent, noise, float(sigmas[0]))
    found = chosen.run(denoised, x, sigmas, chosen.noise_for([SEED], x, sigmas))
    own = error(found, references.latents[name, schedule, run.name])
    if name not in WITNESSES:
        return own, None
    seen = WITNESSES[name].run(x, sigmas, chosen.noise_for([SEED], x, sigmas))
    return own, error(found, seen)


def _levels_error(schedule: str, references: Stored) -> float:
    """The largest relative difference of any level of any run; infinite when their numbers differ."""
    return max(
        _relative(Plan(chosen, schedule, run.steps, run.denoise).sigmas(LEVELS), expected)
        for chosen in (SAMPLERS["euler"], SAMPLERS["uni_pc"])  # without and with a level left out
        for run in RUNS
        for expected in (references.sigmas[schedule, run.name, chosen.extra_step],)
    )


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape or found[-1] != 0:
        return math.inf
    return float((found[:-1] / expected[:-1] - 1).abs().max())
