"""Samplers that remember earlier steps: deterministic ones, one evaluation a step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowdesign.render.samplers.common import Model, Noise, steps

LMS_ORDER = 4
# Adams and Bashforth: the weights of the slopes, the newest first, for equal steps.
ADAMS = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
DEIS_ORDER = 3
DEIS_POINTS = 10_000  # of the sum that stands for an integral
DEIS_LEVELS = (0.002, 80.0)  # between which the time of DEIS goes from DEIS_START to 1
DEIS_START = 1e-3
GRADIENT_GAIN = 2.0  # how far gradient_estimation goes beyond the newest slope


def lms(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Linear multistep: integrate the polynomial through the last four slopes."""
    levels = sigmas.tolist()
    slopes: list[Tensor] = []
    for at, (sigma, following) in enumerate(steps(sigmas)):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes[: LMS_ORDER - 1]]
        past = levels[max(at - LMS_ORDER + 1, 0) : at + 1][::-1]
        x = _moved(x, slopes, _integrals(past, sigma, following))
    return x


def ipndm(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Adams-Bashforth of up to four slopes, as if all steps were equal (Zhang and Chen, arXiv 2204.13902)."""
    slopes: list[Tensor] = []
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes[: len(ADAMS) - 1]]
        width = following - sigma
        x = _moved(x, slopes, [width * weight for weight in ADAMS[len(slopes) - 1]])
    return x


def deis(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DEIS, tAB: integrate the polynomial, in the time of a VP model, through three slopes.

    Zhang and Chen 2022, arXiv 2204.13902; the integral is a sum of DEIS_POINTS, as in the authors' code.
    """
    times = [_deis_time(level) for level in sigmas.tolist()]
    slopes: list[Tensor] = []
    for at, (sigma, following) in enumerate(steps(sigmas)):
        slopes = [(x - model(x, sigma)) / sigma, *slopes[: DEIS_ORDER - 1]]
        if following == 0 or len(slopes) == 1:
            x = x + (following - sigma) * slopes[0]
            continue
        past = times[at - len(slopes) + 1 : at + 1][::-1]
        x = _moved(x, slopes, _deis_weights(past, times[at], times[at + 1]))
    return x


def dpmpp_2m(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M): extrapolate the denoised image from the last two steps."""
    before: Tensor | None = None
    last_width = 0.0
    for sigma, following in steps(sigmas):
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


def gradient_estimation(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Euler along the newest slope and the way from the one before it, beyond it (arXiv 2306.04848)."""
    before: Tensor | None = None
    for sigma, following in steps(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        found = (x - denoised) / sigma
        further = found if before is None else found + (GRADIENT_GAIN - 1) * (found - before)
        x, before = x + further * (following - sigma), found
    return x


def _moved(x: Tensor, slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        x = x + weight * slope
    return x


def _integrals(past: Sequence[float], start: float, end: float) -> list[float]:
    """The integrals from start to end of the polynomials that are 1 at one of the places and 0 at others.

    Places count from the start: far from 0 the terms of a polynomial cancel, and digits with them.
    """
    past, end = [place - start for place in past], end - start
    found = []
    for at, place in enumerate(past):
        others = [other for number, other in enumerate(past) if number != at]
        basis = (
            np.polynomial.Polynomial.fromroots(others) if others else np.polynomial.Polynomial([1])
        )
        whole = (basis / basis(place)).integ()
        found.append(float(whole(end)))
    return found


def _deis_slopes() -> tuple[float, float]:
    """Beta at time 0 of the VP model with DEIS_LEVELS, and how much it rises until time 1."""
    low, high = (math.log(level**2 + 1) for level in DEIS_LEVELS)
    rise = 2 * (low / DEIS_START - high) / (DEIS_START - 1)
    return high - rise / 2, rise


def _deis_time(sigma: float) -> float:
    """When a VP model has this level: sigma^2 + 1 = exp(beta t + rise t^2 / 2)."""
    first, rise = _deis_slopes()
    return (math.sqrt(first**2 + 2 * rise * math.log(sigma**2 + 1)) - first) / rise


def _deis_weights(past: Sequence[float], start: float, end: float) -> list[float]:
    """The sums over the step of d sigma and of the polynomials that are 1 at one of the times."""
    first, rise = _deis_slopes()
    times = torch.linspace(start, end, DEIS_POINTS, dtype=torch.float64)
    variance = torch.expm1(first * times + rise * times**2 / 2)
    speed = (first + rise * times) * (variance + 1) / (2 * variance.sqrt())  # d sigma / dt
    found = []
    for at, place in enumerate(past):
        basis = torch.ones_like(times)
        for number, other in enumerate(past):
            if number != at:
                basis = basis * (times - other) / (place - other)
        found.append(float((speed * basis).sum()) * (end - start) / DEIS_POINTS)
    return found
