"""Noise levels: what a model was trained at, and how noise and latent are mixed there.

Sigma is the standard deviation of the noise on an unscaled latent, or the share of noise in a
flow-matching model. The rules are those of ComfyUI 0.3.64, computed in float32, as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

NEAR_MAXIMUM = 1e-5  # relative; a first level this near the maximum counts as pure noise
LEAST_SIGNAL = 4.8973451890853435e-08  # alpha of a last step without signal, ComfyUI's


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels a model was trained at: `betas` from `start` to `end` in `count` steps."""

    start: float = 0.00085
    end: float = 0.012
    count: int = 1000
    scaled: bool = True  # linear in the square root of beta, as Stable Diffusion has it
    zero_snr: bool = False  # the last step holds no signal (arXiv 2305.08891, section 3.1)
    flow = False

    @cached_property
    def _exact(self) -> Tensor:
        power = 2 if self.scaled else 1
        ends = self.start ** (1 / power), self.end ** (1 / power)
        betas = torch.linspace(*ends, self.count, dtype=torch.float64) ** power
        alphas = torch.cumprod(1 - betas, dim=0)
        if self.zero_snr:
            alphas = _without_signal(alphas)
        return ((1 - alphas) / alphas).sqrt()

    @cached_property
    def table(self) -> Tensor:
        """Sigma of every training step, rising, (count,)."""
        return self._exact.float()

    @cached_property
    def logs(self) -> Tensor:
        """Natural logarithm of the table, (count,)."""
        return self._exact.log().float()

    @cached_property
    def smallest(self) -> float:
        """The least noise a model was trained at."""
        return float(self.table[0])

    @cached_property
    def largest(self) -> float:
        """The most noise a model was trained at."""
        return float(self.table[-1])

    def at(self, timesteps: Tensor) -> Tensor:
        """Sigma at fractional timesteps: linear in its logarithm."""
        low, part = timesteps.floor().long(), timesteps.frac()
        high = timesteps.ceil().long()
        return ((1 - part) * self.logs[low] + part * self.logs[high]).exp()

    def timestep(self, sigma: float) -> int:
        """The training step whose sigma is nearest in logarithm; an integer, never in between."""
        log = torch.tensor(sigma, dtype=torch.float32).log()
        return int((log - self.logs).abs().argmin())

    @property
    def span(self) -> tuple[float, float]:
        """The timesteps between which a schedule is spread, the noisiest first."""
        return self.count - 1, 0

    def noised(self, latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Return what a sampler starts from: the (scaled) latent with noise of level `sigma`.

        At the top the model expects unit variance after scaling, so noise counts as sqrt(1 + sigma^2).
        """
        at_top = sigma > self.largest or math.isclose(sigma, self.largest, rel_tol=NEAR_MAXIMUM)
        return latent + noise * (math.sqrt(1 + sigma**2) if at_top else sigma)

    def left(self, x: Tensor, sigma: float) -> Tensor:
        """Return what a sampler hands on when it stops at `sigma`."""
        return x


def _without_signal(alphas: Tensor) -> Tensor:
    """Shift and stretch the square roots so that the last is 0, and then all but 0: sigma is finite."""
    roots = alphas.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    shifted = ((roots - last) * (first / (first - last))) ** 2
    shifted[-1] = LEAST_SIGNAL
    return shifted


@dataclass(frozen=True)
class FlowLevels:
    """The levels of a flow-matching model: x is sigma noise + (1 - sigma) latent, sigma in 0..1.

    `shift` puts more of the steps where there is much noise (arXiv 2403.03206, equation 23). The
    model is told sigma times `scale`.
    """

    shift: float = 3.0
    count: int = 1000
    scale: float = 1000.0
    flow = True

    @cached_property
    def table(self) -> Tensor:
        """Sigma at `count` evenly spaced timesteps, rising, (count,)."""
        return self.at(torch.arange(1, self.count + 1) / self.count * self.scale)

    @cached_property
    def smallest(self) -> float:
        """The least level of the table."""
        return float(self.table[0])

    @cached_property
    def largest(self) -> float:
        """Pure noise."""
        return float(self.table[-1])

    def at(self, timesteps: Tensor) -> Tensor:
        """Sigma at timesteps in 0..scale, shifted."""
        part = timesteps / self.scale
        return self.shift * part / (1 + (self.shift - 1) * part)

    def timestep(self, sigma: float) -> float:
        """What the model is told; not the inverse of `at`, which shifts."""
        return sigma * self.scale

    @property
    def span(self) -> tuple[float, float]:
        """The timesteps between which a schedule is spread; the last one is shifted twice, as there."""
        return self.timestep(self.largest), self.timestep(self.smallest)

    def noised(self, latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Return what a sampler starts from: the latent and the noise, mixed."""
        return sigma * noise + (1 - sigma) * latent

    def left(self, x: Tensor, sigma: float) -> Tensor:
        """Return what a sampler hands on when it stops at `sigma`: `noised` without noise undoes it."""
        return x / (1 - sigma)


Levels = NoiseLevels | FlowLevels
