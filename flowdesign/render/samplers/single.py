"""Samplers that look at one step alone: deterministic ones."""

from __future__ import annotations

from torch import Tensor

from flowdesign.render.samplers.common import Model, Noise, between, slope, steps


def euler(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Follow the slope at the start of each step. ComfyUI's ddim is the same."""
    for sigma, following in steps(sigmas):
        x = x + slope(model, x, sigma) * (following - sigma)
    return x


def heun(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Average the slopes at both ends of each step: two evaluations, second order."""
    for sigma, following in steps(sigmas):
        first = slope(model, x, sigma)
        guess = x + first * (following - sigma)
        if following > 0:
            second = slope(model, guess, following)
            guess = x + (first + second) / 2 * (following - sigma)
        x = guess
    return x


def heunpp2(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Heun++: average the slopes of up to three levels, weighted by their share of the first level.

    The last step is Euler's; the one before it has two levels. (Carzit, sd-webui-samplers-scheduler)
    """
    levels = sigmas.tolist()
    for at, sigma in enumerate(levels[:-1]):
        place, level = x, sigma
        slopes = [slope(model, x, sigma)]
        later = levels[at + 1 : min(at + 3, len(levels) - 1)]
        for following in later:
            place = place + slopes[-1] * (following - level)
            slopes.append(slope(model, place, following))
            level = following
        shares = [following / (len(slopes) * levels[0]) for following in later]
        mean = (1 - sum(shares)) * slopes[0]
        for share, each in zip(shares, slopes[1:], strict=True):
            mean = mean + share * each
        x = x + mean * (levels[at + 1] - sigma)
    return x


def dpm_2(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Follow the slope at the middle of each step, in the logarithm: two evaluations."""
    for sigma, following in steps(sigmas):
        found = slope(model, x, sigma)
        if following > 0:
            middle = between(sigma, following)
            found = slope(model, x + found * (middle - sigma), middle)
        x = x + found * (following - sigma)
    return x
