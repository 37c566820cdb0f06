"""Samplers: how noise is removed, step by step.

Every sampler has one signature. `model(x, sigma)` returns the denoised x; `sigmas` fall, and usually
end in 0; `noise(sigma, sigma_next)` gives unit noise for one step. x is (batch, channels, height,
width) in unscaled ("variance exploding") form: a clean latent plus sigma times noise. The formulas
are k-diffusion's (MIT; Karras et al. 2022, Lu et al. 2022) and UniPC's (Zhao et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from flowdesign.catalog import suggest
from flowdesign.render.errors import UnknownSampler
from flowdesign.render.noise import BrownianNoise, NoNoise, NormalNoise

Model = Callable[[Tensor, float], Tensor]
Noise = Callable[[float, float], Tensor]
Function = Callable[[Model, Tensor, Tensor, Noise], Tensor]

UNI_PC_LAST = 0.001  # UniPC works in the logarithm of sigma, so it stops just above 0
UNI_PC_ORDER = 3
SDE_MIDPOINT = 0.5  # where dpmpp_sde evaluates the model between two levels


def _steps(sigmas: Tensor) -> Iterator[tuple[float, float]]:
    """Yield (sigma, next sigma) of each step."""
    levels = sigmas.tolist()
    yield from zip(levels[:-1], levels[1:], strict=True)


def _ancestral(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Split a step in (level to denoise to, noise to add) so that the sum has `sigma_next`."""
    up = min(sigma_next, math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return math.sqrt(max(sigma_next**2 - up**2, 0.0)), up


def euler(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Follow the slope at the start of each step. ComfyUI's ddim is the same."""
    for sigma, following in _steps(sigmas):
        slope = (x - model(x, sigma)) / sigma
        x = x + slope * (following - sigma)
    return x


def euler_ancestral(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Denoise further than the next level, then add noise up to it."""
    for sigma, following in _steps(sigmas):
        denoised = model(x, sigma)
        down, up = _ancestral(sigma, following)
        if down == 0:
            x = denoised
            continue
        x = x + (x - denoised) / sigma * (down - sigma)
        x = x + noise(sigma, following) * up
    return x


def heun(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Average the slopes at both ends of each step: two evaluations, second order."""
    for sigma, following in _steps(sigmas):
        slope = (x - model(x, sigma)) / sigma
        guess = x + slope * (following - sigma)
        if following > 0:
            slope = (slope + (guess - model(guess, following)) / following) / 2
            guess = x + slope * (following - sigma)
        x = guess
    return x


def dpmpp_2m(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M): extrapolate the denoised image from the last two steps."""
    before: Tensor | None = None
    last_width = 0.0
    for sigma, following in _steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        width = math.log(sigma / following)
        target = denoised
        if before is not None:
            half = width / (2 * last_width)
            target = (1 + half) * denoised - half * before
        x = (following / sigma) * x - math.expm1(-width) * target
        before, last_width = denoised, width
    return x


def dpmpp_2m_sde(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) of the stochastic equation, midpoint form."""
    before: Tensor | None = None
    last_width = 0.0
    for sigma, following in _steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        width = math.log(sigma / following)
        gain = -math.expm1(-2 * width)
        x = (following / sigma) * math.exp(-width) * x + gain * denoised
        if before is not None:
            x = x + 0.5 * gain * (width / last_width) * (denoised - before)
        x = x + noise(sigma, following) * (following * math.sqrt(gain))
        before, last_width = denoised, width
    return x


def dpmpp_sde(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++ of the stochastic equation, single step: two evaluations."""
    blend = 1 / (2 * SDE_MIDPOINT)
    for sigma, following in _steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        middle = math.exp((1 - SDE_MIDPOINT) * math.log(sigma) + SDE_MIDPOINT * math.log(following))
        between = _sde_step(x, denoised, sigma, middle, noise)
        target = (1 - blend) * denoised + blend * model(between, middle)
        x = _sde_step(x, target, sigma, following, noise)
    return x


def _sde_step(x: Tensor, denoised: Tensor, sigma: float, to: float, noise: Noise) -> Tensor:
    down, up = _ancestral(sigma, to)
    ratio = down / sigma
    return ratio * x + (1 - ratio) * denoised + noise(sigma, to) * up


def lcm(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Jump to the denoised image and noise it again, for latent consistency models."""
    for sigma, following in _steps(sigmas):
        x = model(x, sigma)
        if following > 0:
            x = x + noise(sigma, following) * following
    return x


def uni_pc(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """UniPC (bh1), a predictor and corrector of order 3 that reuses each evaluation for both."""
    levels = [level if level > 0 else UNI_PC_LAST for level in sigmas.tolist()]
    count = len(levels) - 1
    highest = max(min(UNI_PC_ORDER, count - 1), 1)
    history = [(levels[0], model(x, levels[0]))]
    for step in range(1, count + 1):
        order = min(highest, step, count + 1 - step) if step >= highest else step
        start, predicted = x, _uni_pc_predict(x, history, levels[step], order)
        if step == count:
            return predicted
        denoised = model(predicted, levels[step])
        x = _uni_pc_correct(start, history, levels[step], denoised, order)
        history = [*history, (levels[step], denoised)][-highest:]
    return x


def _uni_pc_predict(
    x: Tensor, history: Sequence[tuple[float, Tensor]], sigma: float, order: int
) -> Tensor:
    base, width, ratios, slopes = _uni_pc_base(x, history, sigma, order)
    if not slopes:
        return base
    # At order 2 the published solution of the one-row system is the constant 1/2.
    weights = [0.5] if order == 2 else _uni_pc_weights(ratios[:-1], width)
    return base + width * sum(w * slope for w, slope in zip(weights, slopes, strict=True))


def _uni_pc_correct(
    x: Tensor, history: Sequence[tuple[float, Tensor]], sigma: float, found: Tensor, order: int
) -> Tensor:
    base, width, ratios, slopes = _uni_pc_base(x, history, sigma, order)
    weights = [0.5] if order == 1 else _uni_pc_weights(ratios, width)
    slopes = [*slopes, found - history[-1][1]]
    return base + width * sum(w * slope for w, slope in zip(weights, slopes, strict=True))


def _uni_pc_base(
    x: Tensor, history: Sequence[tuple[float, Tensor]], sigma: float, order: int
) -> tuple[Tensor, float, list[float], list[Tensor]]:
    """Return (first-order step, its width in log sigma, places of the slopes, the slopes)."""
    last, denoised = history[-1]
    width = math.log(last / sigma)
    base = (sigma / last) * x - math.expm1(-width) * denoised
    earlier = history[-order:-1][::-1]
    ratios = [math.log(last / level) / width for level, _ in earlier]
    slopes = [(value - denoised) / r for r, (_, value) in zip(ratios, earlier, strict=True)]
    return base, width, [*ratios, 1.0], slopes


def _uni_pc_weights(ratios: Sequence[float], width: float) -> list[float]:
    """Solve for the weights that make the step exact for polynomials (UniPC, theorem 3.1)."""
    h = -width
    phi, factorial, right = math.expm1(h) / h - 1, 1, []
    for power in range(1, len(ratios) + 1):
        right.append(phi * factorial / h)
        factorial *= power + 1
        phi = phi / h - 1 / factorial
    left = torch.tensor([[r**p for r in ratios] for p in range(len(ratios))], dtype=torch.float64)
    solved: list[float] = torch.linalg.solve(
        left, torch.tensor(right, dtype=torch.float64)
    ).tolist()
    return solved


@dataclass(frozen=True)
class Sampler:
    """A sampler, the noise it needs, and what it asks of the schedule."""

    run: Function
    noise: str = "none"  # none, normal or brownian
    extra_step: bool = False  # compute one step more and leave the penultimate level out
    evaluations: int = 1  # of the model, per step

    def noise_for(self, seeds: Sequence[int], x: Tensor, sigmas: Tensor) -> Noise:
        """Return the source of noise for a run from x over sigmas, one seed per image."""
        if self.noise == "normal":
            return NormalNoise(seeds, x)
        return BrownianNoise(seeds, x, sigmas) if self.noise == "brownian" else NoNoise()


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "euler": Sampler(euler),
        "euler_ancestral": Sampler(euler_ancestral, "normal"),
        "heun": Sampler(heun, evaluations=2),
        "dpmpp_2m": Sampler(dpmpp_2m),
        "dpmpp_2m_sde": Sampler(dpmpp_2m_sde, "brownian"),
        "dpmpp_sde": Sampler(dpmpp_sde, "brownian", evaluations=2),
        "ddim": Sampler(euler),
        "uni_pc": Sampler(uni_pc, extra_step=True),
        "lcm": Sampler(lcm, "normal"),
    }
)


def sampler(name: str) -> Sampler:
    """Return the sampler of a name; raises UnknownSampler."""
    if name not in SAMPLERS:
        raise UnknownSampler(f"Unknown sampler '{name}'. {suggest(name, SAMPLERS)}")
    return SAMPLERS[name]
