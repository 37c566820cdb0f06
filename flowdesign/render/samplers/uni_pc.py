"""UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor and corrector that reuses each evaluation for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flowdesign.render.samplers.common import Model, Noise

LAST = 0.001  # the logarithm of sigma is worked in, so it stops just above 0
ORDER = 3
Scale = Callable[[float], float]  # B(h) of the paper, for a step of width -h in log sigma


def uni_pc(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """B(h) = h."""
    return _run(model, x, sigmas, lambda h: h)


def uni_pc_bh2(model: Model, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """B(h) = exp(h) - 1."""
    return _run(model, x, sigmas, math.expm1)


def _run(model: Model, x: Tensor, sigmas: Tensor, scale: Scale) -> Tensor:
    levels = [level if level > 0 else LAST for level in sigmas.tolist()]
    count = len(levels) - 1
    highest = max(min(ORDER, count - 1), 1)
    history = [(levels[0], model(x, levels[0]))]
    for step in range(1, count + 1):
        order = min(highest, step, count + 1 - step) if step >= highest else step
        start, predicted = x, _predict(x, history, levels[step], order, scale)
        if step == count:
            return predicted
        denoised = model(predicted, levels[step])
        x = _correct(start, history, levels[step], denoised, order, scale)
        history = [*history, (levels[step], denoised)][-highest:]
    return x


def _predict(
    x: Tensor, history: Sequence[tuple[float, Tensor]], sigma: float, order: int, scale: Scale
) -> Tensor:
    base, h, ratios, slopes = _base(x, history, sigma, order)
    if not slopes:
        return base
    # At order 2 the published solution of the one-row system is the constant 1/2.
    weights = [0.5] if order == 2 else _weights(ratios[:-1], h, scale)
    return base - scale(h) * sum(w * slope for w, slope in zip(weights, slopes, strict=True))


def _correct(
    x: Tensor,
    history: Sequence[tuple[float, Tensor]],
    sigma: float,
    found: Tensor,
    order: int,
    scale: Scale,
) -> Tensor:
    base, h, ratios, slopes = _base(x, history, sigma, order)
    weights = [0.5] if order == 1 else _weights(ratios, h, scale)
    slopes = [*slopes, found - history[-1][1]]
    return base - scale(h) * sum(w * slope for w, slope in zip(weights, slopes, strict=True))


def _base(
    x: Tensor, history: Sequence[tuple[float, Tensor]], sigma: float, order: int
) -> tuple[Tensor, float, list[float], list[Tensor]]:
    """Return (first-order step, h, places of the slopes, the slopes)."""
    last, denoised = history[-1]
    width = math.log(last / sigma)
    base = (sigma / last) * x - math.expm1(-width) * denoised
    earlier = history[-order:-1][::-1]
    ratios = [math.log(last / level) / width for level, _ in earlier]
    slopes = [(value - denoised) / r for r, (_, value) in zip(ratios, earlier, strict=True)]
    return base, -width, [*ratios, 1.0], slopes


def _weights(ratios: Sequence[float], h: float, scale: Scale) -> list[float]:
    """Solve for the weights that make the step exact for polynomials (theorem 3.1)."""
    phi, factorial, right = math.expm1(h) / h - 1, 1, []
    for power in range(1, len(ratios) + 1):
        right.append(phi * factorial / scale(h))
        factorial *= power + 1
        phi = phi / h - 1 / factorial
    left = torch.tensor([[r**p for r in ratios] for p in range(len(ratios))], dtype=torch.float64)
    solved: list[float] = torch.linalg.solve(
        left, torch.tensor(right, dtype=torch.float64)
    ).tolist()
    return solved
