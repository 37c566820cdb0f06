"""Samplers that add noise on the way."""

from __future__ import annotations

import math

from torch import Tensor

from flowdesign.render.samplers.common import (
    Model,
    Noise,
    ancestral,
    between,
    blend,
    halfway,
    slope,
    steps,
)


def euler_ancestral(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Denoise further than the next level, then add noise up to it."""
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        down, up = ancestral(sigma, following)
        if down == 0:
            x = denoised
            continue
        x = x + (x - denoised) / sigma * (down - sigma)
        x = x + noise(sigma, following) * up
    return x


def euler_ancestral_flow(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """The same where x is sigma noise + (1 - sigma) latent: the latent's share is scaled as well."""
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        down = following * following / sigma
        share = (1 - following) / (1 - down)
        up = math.sqrt(max(following**2 - (down * share) ** 2, 0.0))
        x = blend(x, denoised, down / sigma) * share + noise(sigma, following) * up
    return x


def dpm_2_ancestral(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Follow the slope at the middle of each step beyond the next level, then add noise up to it."""
    for sigma, following in steps(sigmas):
        found = slope(model, x, sigma)
        down, up = ancestral(sigma, following)
        if down > 0:
            middle = between(sigma, down)
            found = slope(model, x + found * (middle - sigma), middle)
        x = x + found * (down - sigma)
        if down > 0:
            x = x + noise(sigma, following) * up
    return x


def dpmpp_2s_ancestral(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2S) beyond the next level, then noise up to it: two evaluations."""
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        down, up = ancestral(sigma, following)
        if down == 0:
            x = denoised
            continue
        middle = between(sigma, down)
        denoised = model(blend(x, denoised, middle / sigma), middle)
        x = blend(x, denoised, down / sigma) + noise(sigma, following) * up
    return x


def dpmpp_sde(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++ of the stochastic equation, single step: two evaluations."""
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        middle = halfway(sigma, following)
        denoised = model(_noised(x, denoised, sigma, middle, noise), middle)
        x = _noised(x, denoised, sigma, following, noise)
    return x


def _noised(x: Tensor, denoised: Tensor, sigma: float, to: float, noise: Noise) -> Tensor:
    """Denoise further than a level, then add noise up to it."""
    down, up = ancestral(sigma, to)
    return blend(x, denoised, down / sigma) + noise(sigma, to) * up


def dpmpp_2m_sde(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) of the stochastic equation, midpoint form."""
    return _multistep(model, x, sigmas, noise, 2, midpoint=True)


def dpmpp_2m_sde_heun(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) of the stochastic equation, in the form named after Heun."""
    return _multistep(model, x, sigmas, noise, 2)


def dpmpp_3m_sde(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(3M) of the stochastic equation."""
    return _multistep(model, x, sigmas, noise, 3)


def _multistep(
    model: Model, x: Tensor, sigmas: Tensor, noise: Noise, order: int, midpoint: bool = False
) -> Tensor:
    """DPM-Solver++ of the stochastic equation from the denoised images of up to `order` steps."""
    past: list[tuple[float, Tensor]] = []  # each step's width and denoised image, newest first
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        width = math.log(sigma / following)
        double = 2 * width  # with noise a step is twice as wide for what is denoised
        x = (following / sigma) * math.exp(-width) * x - math.expm1(-double) * denoised
        if past:
            x = x + _correction(denoised, past, width, midpoint)
        x = x + noise(sigma, following) * (following * math.sqrt(-math.expm1(-double)))
        past = [(width, denoised), *past[: order - 2]]
    return x


def _correction(
    denoised: Tensor, past: list[tuple[float, Tensor]], width: float, midpoint: bool
) -> Tensor:
    """What the change of the denoised image adds: to first order in the logarithm of the level, or to
    second with two past steps."""
    double = 2 * width
    second = math.expm1(-double) / double + 1
    first = (denoised - past[0][1]) * (width / past[0][0])
    if len(past) == 1:
        return first * (-math.expm1(-double) / 2 if midpoint else second)
    newer, older = past[0][0] / width, past[1][0] / width
    before = (past[0][1] - past[1][1]) / older
    bend = (first - before) / (newer + older)
    return second * (first + newer * bend) - (second / double - 0.5) * bend


def res_multistep(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Refined exponential solver, second-order multistep (arXiv 2308.02157)."""
    return _res(model, x, sigmas, noise, noisy=False)


def res_multistep_ancestral(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Refined exponential solver beyond the next level, then noise up to it."""
    return _res(model, x, sigmas, noise, noisy=True)


def _res(model: Model, x: Tensor, sigmas: Tensor, noise: Noise, noisy: bool) -> Tensor:
    before: tuple[float, float, Tensor] | None = None  # level, level denoised to, denoised image
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        down, up = ancestral(sigma, following) if noisy else (following, 0.0)
        if down == 0 or before is None:
            x = blend(x, denoised, down / sigma)
        else:
            width = math.log(sigma / down)
            back = math.log(before[1] / before[0]) / width  # where the earlier image is, in widths
            one = -math.expm1(-width) / width
            two = (1 - one) / width
            share = two / back if back else 0.0
            x = math.exp(-width) * x + width * ((one - share) * denoised + share * before[2])
        if up and following > 0:
            x = x + noise(sigma, following) * up
        before = sigma, down, denoised
    return x


def ddpm(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """The posterior of DDPM (arXiv 2006.11239, equations 6 and 7) between two levels."""
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        x = _noised(x, denoised, sigma, following, noise)
    return x


def lcm(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Jump to the denoised image and noise it again, for latent consistency models."""
    for sigma, following in steps(sigmas):
        x = model(x, sigma)
        if following > 0:
            x = x + noise(sigma, following) * following
    return x


def lcm_flow(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """The same where x is sigma noise + (1 - sigma) latent."""
    for sigma, following in steps(sigmas):
        x = model(x, sigma)
        if following > 0:
            x = following * noise(sigma, following) + (1 - following) * x
    return x
