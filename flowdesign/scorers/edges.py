"""Sharpness without a reference: how narrow the edges of an image are.

After the edge width of Marziliano et al. ("A no-reference perceptual blur metric", 2002), turned
into the unit in which lenses are tested: how many edge widths fit across the picture.

1. Along every row and column of every colour channel, a *rise* is a run of pixels that only gets
   brighter or only darker. Its contrast is the whole change, its steepest step the largest
   difference of two neighbours, and its width contrast / step: 1 pixel for a hard edge, n for an
   even ramp over n pixels, 2.5 sigma for an edge blurred by a Gaussian.
2. Rises that stand out of the noise count: contrast at least 0.1 and 8 times the noise, which is
   read from the mixed second difference (Immerkaer, "Fast noise variance estimation", 1996) by its
   median, so that edges hardly move it.
3. The figure is log2(longest side / median width), the median weighted by contrast. One more is
   twice as sharp at equal display size, so doubling an image without adding detail gains nothing.

It says nothing of what is shown. Noise beyond those limits reads as edges; the judge counts that
as debris.
"""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEAST_CONTRAST = 0.1  # of the range from black to white
NOISE_FACTOR = 8.0  # two neighbours of pure noise differ by as much once in 10^8
_MASK = (1.0, -2.0, 1.0)  # second difference; along both axes noise sigma becomes 6 sigma
_MEDIAN_OF_ABSOLUTE = 0.6745  # of a standard normal variable


def sharpness(pixels: Array) -> float:
    """Measure an image of shape (height, width, channels), values 0..1."""
    least = max(LEAST_CONTRAST, NOISE_FACTOR * noise(pixels))
    channels = [pixels[..., index] for index in range(pixels.shape[-1])]
    lines = [channel for one in channels for channel in (one, one.T)]
    contrast, width = (np.concatenate(each) for each in zip(*map(rises, lines), strict=True))
    kept = contrast >= least
    if not kept.any():
        return 0.0
    return max(0.0, log2(max(pixels.shape[:2]) / _weighted_median(width[kept], contrast[kept])))


def rises(lines: Array) -> tuple[Array, Array]:
    """Give contrast and width in pixels of every monotone run along the last axis of (lines, pixels)."""
    steps = np.diff(lines, axis=-1)
    if steps.size == 0:
        return np.zeros(0), np.zeros(0)
    sign = np.sign(steps)
    starts = np.ones(
        steps.shape, bool
    )  # every line starts a run, and so does a change of direction
    starts[:, 1:] = sign[:, 1:] != sign[:, :-1]
    at = np.flatnonzero(starts.ravel())
    size = np.abs(steps.ravel())
    contrast, steepest = np.add.reduceat(size, at), np.maximum.reduceat(size, at)
    moves = contrast > 0
    return contrast[moves], contrast[moves] / steepest[moves]


def noise(pixels: Array) -> float:
    """Estimate the standard deviation of white noise in an image of shape (height, width, channels)."""
    if min(pixels.shape[:2]) < 3:
        return 0.0
    response = np.diff(np.diff(pixels, 2, axis=0), 2, axis=1)
    gain = sum(one * one for one in _MASK)  # of two independent passes, each sqrt(6)
    return float(np.median(np.abs(response))) / (_MEDIAN_OF_ABSOLUTE * gain)


def _weighted_median(values: Array, weights: Array) -> float:
    order: npt.NDArray[Any] = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
