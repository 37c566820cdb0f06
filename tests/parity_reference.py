"""The references that `python -m flowdesign fidelity` compares with, made anew in double precision.

Nothing of the project's samplers, schedules or noise is used: samplers are k-diffusion's own, or their
formulas written another way than in the project (integrals by quadrature, posteriors of the
variance-preserving model); schedules are formulas; noise is torch's and torchsde's. A test compares what
is stored with what this makes. Write it with: python tests/parity_reference.py
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_samplers import k_diffusion
from scipy import optimize
from sigma_formulas import EXPECTED, TABLE, visited
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flowdesign.parity.stored import Stored, write
from flowdesign.parity.toy import RUNS, SEED, SHAPE, Run, denoised, noise

Levels = Sequence[float]
Noise = Callable[[Any, Any], Tensor]
Sampler = Callable[[Tensor, Levels, Noise], Tensor]

TOP = TABLE[-1]  # the most noise
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(40)


def published(name: str, **options: Any) -> Sampler:
    """A sampler of k-diffusion. It runs in the precision of x."""

    def run(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
        function = getattr(k_diffusion(), f"sample_{name}")
        if "noise_sampler" in function.__wrapped__.__code__.co_varnames:
            options["noise_sampler"] = draw
        return function(_of_batches, x, x.new_tensor(levels), disable=True, **options)

    return run


def _of_batches(x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
    """The model as k-diffusion calls it: with a level for each image."""
    return denoised(x, float(sigma[0]))


def slope(x: Tensor, sigma: float) -> Tensor:
    return (x - denoised(x, sigma)) / sigma


def lms(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
    """k-diffusion's, but for the last step, which ComfyUI takes to the denoised image."""
    x = published("lms")(x, levels[:-1], draw)
    return denoised(x, levels[-2])


def ipndm(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
    """Adams and Bashforth: the integrals of Lagrange's polynomials over equal steps."""
    weigh, places, past = k_diffusion().linear_multistep_coeff, range(10), []
    for sigma, following in zip(levels[:-1], levels[1:], strict=True):
        past = [slope(x, sigma), *past[:3]]
        if following == 0:
            return denoised(x, sigma)
        weights = [weigh(len(past), places, 5, at) for at in range(len(past))]
        x = x + (following - sigma) * sum(w * s for w, s in zip(weights, past, strict=True))
    return x


def lagrange(places: Sequence[float], at: int, where: Any) -> Any:
    """The polynomial that is 1 at one of the places and 0 at the others."""
    others = [place for number, place in enumerate(places) if number != at]
    found = np.ones_like(where)
    for other in others:
        found = found * (where - other) / (places[at] - other)
    return found


def deis(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
    """The time of the authors' VP model by root finding, its speed by automatic differentiation, and
    their sum of 10,000 points."""
    low, high = math.log(0.002**2 + 1), math.log(80.0**2 + 1)
    rise = 2 * (low / 1e-3 - high) / (1e-3 - 1)
    first = high - rise / 2

    def time_of(sigma: float) -> float:
        wanted, lowest = math.log(sigma**2 + 1), -first / rise
        return optimize.brentq(
            lambda t: first * t + rise * t**2 / 2 - wanted, lowest, 2, xtol=1e-15
        )

    times = [time_of(sigma) for sigma in levels]
    past: list[Tensor] = []
    for at, (sigma, following) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        past = [slope(x, sigma), *past[:2]]
        if following == 0:
            return denoised(x, sigma)
        if len(past) == 1:
            x = x + (following - sigma) * past[0]
            continue
        points = torch.linspace(times[at], times[at + 1], 10_000, dtype=torch.float64)
        points.requires_grad_()
        sigmas = torch.expm1(first * points + rise * points**2 / 2).sqrt()
        (speed,) = torch.autograd.grad(sigmas.sum(), points)
        where, width = points.detach().numpy(), (times[at + 1] - times[at]) / 10_000
        places = times[at - len(past) + 1 : at + 1][::-1]
        weights = [
            (speed.numpy() * lagrange(places, number, where)).sum() * width
            for number in range(len(past))
        ]
        x = x + sum(w * s for w, s in zip(weights, past, strict=True))
    return x


def heunpp2(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
    """Its three kinds of step, written out."""
    count = len(levels) - 1
    for at in range(count):
        width, one = levels[at + 1] - levels[at], slope(x, levels[at])
        if at == count - 1:
            mean = one
        elif at == count - 2:
            two = slope(x + one * width, levels[at + 1])
            w2 = levels[at + 1] / (2 * levels[0])
            mean = (1 - w2) * one + w2 * two
        else:
            second = x + one * width
            two = slope(second, levels[at + 1])
            three = slope(second + two * (levels[at + 2] - levels[at + 1]), levels[at + 2])
            w2, w3 = (levels[at + n] / (3 * levels[0]) for n in (1, 2))
            mean = (1 - w2 - w3) * one + w2 * two + w3 * three
        x = x + mean * width
    return x


def gradient_estimation(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
    """Permenter and Yuan, algorithm 1 with gamma 2: along 2 new - old."""
    before: Tensor | None = None
    for sigma, following in zip(levels[:-1], levels[1:], strict=True):
        if following == 0:
            return denoised(x, sigma)
        new = slope(x, sigma)
        along = new if before is None else 2 * new - before
        x, before = x + along * (following - sigma), new
    return x


def exponential_step(
    x: Tensor, width: float, places: Sequence[float], images: Sequence[Tensor]
) -> Tensor:
    """Solve dx / dl = D(l) - x over `width` of l = -log sigma, for the polynomial D through the images.

    The places are relative to the start. By Gauss and Legendre: exact but for rounding.
    """
    where = (NODES + 1) * width / 2
    fading = NODE_WEIGHTS * width / 2 * np.exp(where - width)
    found = math.exp(-width) * x
    for at, image in enumerate(images):
        found = found + float((fading * lagrange(places, at, where)).sum()) * image
    return found


def res(ancestral: bool) -> Sampler:
    """The line through the last two denoised images, integrated. For the ancestral one the older image
    stands as far back as its own step was from where that step denoised to."""

    def run(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
        before: tuple[float, Tensor] | None = None
        for sigma, following in zip(levels[:-1], levels[1:], strict=True):
            image = denoised(x, sigma)
            if following == 0:
                return image
            up = following * math.sqrt(1 - (following / sigma) ** 2) if ancestral else 0.0
            down = math.sqrt(following**2 - up**2)
            places, images = [0.0], [image]
            if before is not None:
                places, images = [0.0, -before[0]], [image, before[1]]
            x = exponential_step(x, math.log(sigma / down), places, images)
            if ancestral:
                x = x + up * draw(sigma, following)
            before = math.log(sigma / down), image
        return x

    return run


def uni_pc(scale: Callable[[float], float]) -> Sampler:
    """UniPC-3 by Lagrange's polynomials; where one difference is left, the paper has 1/2 and B(h).

    Its orders: rising at the start, falling at the end. It stops at 0.001 in place of 0.
    """

    def step(x: Tensor, width: float, places: list[float], images: list[Tensor]) -> Tensor:
        if len(places) != 2:
            return exponential_step(x, width, places, images)
        difference = (images[1] - images[0]) * (width / places[1])
        return exponential_step(x, width, [0.0], images[:1]) - scale(-width) * difference / 2

    def run(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
        logs = [-math.log(level or 0.001) for level in levels]
        images = [denoised(x, levels[0])]
        for at in range(1, len(logs)):
            order = min(3, at, len(logs) - at)
            width = logs[at] - logs[at - 1]
            places = [logs[at - 1 - n] - logs[at - 1] for n in range(order)]
            recent = images[::-1][:order]
            predicted = step(x, width, places, recent)
            if at == len(logs) - 1:
                return predicted
            images.append(denoised(predicted, levels[at]))
            both = [places[0], width, *places[1:]], [recent[0], images[-1], *recent[1:]]
            x = step(x, width, *both)
        return x

    return run


def ddpm(x: Tensor, levels: Levels, draw: Noise) -> Tensor:
    """Ho et al. 2020, equation 7: the posterior of the variance-preserving latent, step by step."""
    scaled = x / math.sqrt(1 + levels[0] ** 2)
    for sigma, following in zip(levels[:-1], levels[1:], strict=True):
        kept, kept_next = 1 / (1 + sigma**2), 1 / (1 + following**2)  # alpha bar
        alpha = kept / kept_next
        image = denoised(scaled / math.sqrt(kept), sigma)
        scaled = (
            math.sqrt(kept_next) * (1 - alpha) * image + math.sqrt(alpha) * (1 - kept_next) * scaled
        ) / (1 - kept)
        if following > 0:
            deviation = math.sqrt((1 - kept_next) / (1 - kept) * (1 - alpha))
            scaled = scaled + deviation * draw(sigma, following)
    return scaled


@dataclass(frozen=True)
class Reference:
    """How a sampler's reference is made, and from whose work."""

    run: Sampler
    source: str
    noise: str = "none"  # none, normal or brownian
    extra_step: bool = False


def _published(
    name: str, noise: str = "none", extra_step: bool = False, **options: Any
) -> Reference:
    return Reference(published(name, **options), "k-diffusion", noise, extra_step)


ALL_NOISE = 1e9  # an eta that leaves nothing of the old noise

REFERENCES: dict[str, Reference] = {
    "euler": _published("euler"),
    "euler_ancestral": _published("euler_ancestral", "normal"),
    "heun": _published("heun"),
    "dpmpp_2m": _published("dpmpp_2m"),
    "dpmpp_2m_sde": _published("dpmpp_2m_sde", "brownian", solver_type="midpoint"),
    "dpmpp_sde": _published("dpmpp_sde", "brownian"),
    "ddim": _published("euler"),
    "uni_pc": Reference(uni_pc(lambda h: h), "integrals", extra_step=True),
    "lcm": _published("euler_ancestral", "normal", eta=ALL_NOISE),
    "heunpp2": Reference(heunpp2, "written out"),
    "dpm_2": _published("dpm_2", extra_step=True),
    "dpm_2_ancestral": _published("dpm_2_ancestral", "normal", extra_step=True),
    "lms": Reference(lms, "k-diffusion"),
    "dpmpp_2s_ancestral": _published("dpmpp_2s_ancestral", "normal"),
    "dpmpp_2m_sde_heun": _published("dpmpp_2m_sde", "brownian", solver_type="heun"),
    "dpmpp_3m_sde": _published("dpmpp_3m_sde", "brownian"),
    "ddpm": Reference(ddpm, "its paper", "normal"),
    "ipndm": Reference(ipndm, "integrals"),
    "deis": Reference(deis, "integrals"),
    "res_multistep": Reference(res(ancestral=False), "integrals"),
    "res_multistep_ancestral": Reference(res(ancestral=True), "integrals", "normal"),
    "gradient_estimation": Reference(gradient_estimation, "written out"),
    "uni_pc_bh2": Reference(uni_pc(math.expm1), "integrals", extra_step=True),
}


def normal_noise() -> Noise:
    """The seed's stream from its beginning, as ComfyUI 0.3.64 has it on a CPU: float32."""
    generator = torch.Generator().manual_seed(SEED)
    return lambda sigma, following: torch.randn(SHAPE, generator=generator).double()


def brownian_noise(levels: Levels, run: Sampler, x: Tensor) -> Noise:
    """k-diffusion's Brownian tree of float32, asked between the levels that its samplers reach in float32.

    A tree is so rough that the last bit of a level changes the noise, so the levels are part of the rule.
    Where a sampler means a level of the schedule, ComfyUI 0.3.64 asks with that level.
    """
    exact = torch.tensor(levels, dtype=torch.float32)
    inner = k_diffusion().BrownianTreeNoiseSampler(
        torch.zeros(SHAPE), exact[exact > 0].min(), exact.max(), seed=SEED
    )
    asked: list[Tensor] = []

    def place(level: Any) -> Tensor:
        level = torch.as_tensor(level, dtype=torch.float32)
        nearest = exact[(exact - level).abs().argmin()]
        return nearest if abs(nearest - level) <= 1e-5 * nearest else level

    def record(sigma: Any, following: Any) -> Tensor:
        asked.append(inner(place(sigma), place(following)))
        return asked[-1]

    with warnings.catch_warnings():  # torchsde warns when rounding puts a level just outside
        warnings.simplefilter("ignore", UserWarning)
        run(x.float(), exact.tolist(), record)
    replayed = iter(asked)
    return lambda sigma, following: next(replayed).double()


def latent(name: str, schedule: str, run: Run) -> Tensor:
    """The latent at the end of a run, float64."""
    own = REFERENCES[name]
    levels = visited(schedule, run.steps, run.denoise, own.extra_step).tolist()
    at_top = math.isclose(levels[0], TOP, rel_tol=1e-5)
    x = run.latent.double() + noise().double() * (
        math.sqrt(1 + levels[0] ** 2) if at_top else levels[0]
    )
    if own.noise == "brownian":
        return own.run(x, levels, brownian_noise(levels, own.run, x))
    return own.run(x, levels, normal_noise())


def stored() -> Stored:
    """Every reference."""
    return Stored(
        sources={name: own.source for name, own in REFERENCES.items()},
        sigmas={
            (schedule, run.name, extra): torch.from_numpy(
                visited(schedule, run.steps, run.denoise, extra)
            )
            for schedule in EXPECTED
            for run in RUNS
            for extra in (False, True)
        },
        latents={
            (name, schedule, run.name): latent(name, schedule, run)
            for name in REFERENCES
            for schedule in EXPECTED
            for run in RUNS
        },
    )


if __name__ == "__main__":
    write(stored())
