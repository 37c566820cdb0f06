"""Where randomness comes from: initial noise, and the noise that stochastic samplers add.

All noise is drawn on the CPU in float32, for each image from a generator of its own, so that neither
the device nor the other images of a batch change it. As in ComfyUI 0.3.64 on a CPU, the noise of a
stochastic sampler has the seed of the initial noise (0.8.0 adds one to it).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torchsde
from torch import Tensor

from flowdesign.render.cache import Cache

SAMPLER_SEED_OFFSET = 0  # ComfyUI 0.3.64; 0.8.0 has 1
TREE_TOLERANCE = 1e-6  # of the Brownian tree's time axis, torchsde's default
# Walking a tree takes as long as a small UNet, and a grid of prompts asks for the same noise again.
WALKED = Cache(64 * 2**20)


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise, (len(seeds) * shape[0], *shape[1:]): one draw per seed."""
    return torch.cat([torch.randn(tuple(shape), generator=_generator(seed)) for seed in seeds])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


class NoNoise:
    """For samplers that add none."""

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Never called by a deterministic sampler."""
        raise AssertionError("a deterministic sampler asked for noise")


class NormalNoise:
    """Independent noise at every call, one generator per seed."""

    def __init__(self, seeds: Sequence[int], x: Tensor) -> None:
        self._generators = [_generator(seed + SAMPLER_SEED_OFFSET) for seed in seeds]
        self._shape = (x.shape[0] // len(seeds), *x.shape[1:])
        self._device = x.device

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Return noise of unit variance, of the shape of x."""
        parts = [torch.randn(self._shape, generator=each) for each in self._generators]
        return torch.cat(parts).to(self._device)


class BrownianNoise:
    """Increments of one Brownian motion over sigma per seed, scaled to unit variance.

    The noise between two levels does not depend on the levels in between, so an image keeps its
    looks when the number of steps changes (k-diffusion's BrownianTreeNoiseSampler, by torchsde).
    """

    def __init__(self, seeds: Sequence[int], x: Tensor, sigmas: Tensor) -> None:
        self._seeds = [seed + SAMPLER_SEED_OFFSET for seed in seeds]
        self._shape = (x.shape[0] // len(seeds), *x.shape[1:])
        self._range = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        self._device = x.device
        self._trees: dict[int, torchsde.BrownianTree] = {}  # large, so they end with the sampling

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Return the increment from `sigma` to `sigma_next`, of unit variance."""
        ends = min(sigma, sigma_next), max(sigma, sigma_next)
        sign = 1.0 if sigma < sigma_next else -1.0
        parts = [self._increment(seed, ends) for seed in self._seeds]
        return (torch.cat(parts) * sign).to(self._device)

    def _increment(self, seed: int, ends: tuple[float, float]) -> Tensor:
        key = seed, self._shape, self._range, ends
        found: Tensor | None = WALKED.get(key)
        if found is None:
            if seed not in self._trees:
                self._trees[seed] = _tree(seed, self._shape, self._range)
            found = _walk(self._trees[seed], ends)
            WALKED.put(key, found)
        return found


def _tree(seed: int, shape: tuple[int, ...], span: tuple[float, float]) -> torchsde.BrownianTree:
    low, high = (torch.tensor(end) for end in span)
    return torchsde.BrownianTree(low, torch.zeros(shape), high, entropy=seed, tol=TREE_TOLERANCE)


def _walk(tree: torchsde.BrownianTree, ends: tuple[float, float]) -> Tensor:
    low, high = (torch.tensor(end) for end in ends)
    with warnings.catch_warnings():  # torchsde warns when rounding puts a level just outside
        warnings.simplefilter("ignore", UserWarning)
        walked: Tensor = tree(low, high)
    return walked / (high - low).abs().sqrt()
