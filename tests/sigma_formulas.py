"""Schedules in double precision, from the formulas alone: what the project's own are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv

BETAS = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
ALPHAS = np.cumprod(1 - BETAS)
TABLE = np.sqrt((1 - ALPHAS) / ALPHAS)


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


def visited(name: str, steps: int, denoise: float, extra_step: bool) -> np.ndarray:
    """What a KSampler visits: with an extra step the penultimate level is left out, and with a denoise
    below 1 only the last steps of a longer schedule are taken."""
    levels = EXPECTED[name](int(steps / denoise) + extra_step)
    if extra_step:
        levels = levels[:-1]
    levels = np.append(levels, 0.0)
    return levels if denoise == 1 else levels[-(steps + 1) :]
