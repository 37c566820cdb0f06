"""From a network to a denoiser: guidance by texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from flowdesign.render.areas import average, counts_at, window
from flowdesign.render.levels import Levels
from flowdesign.render.networks import SCORES, Network
from flowdesign.render.stacking import stacked
from flowdesign.render.values import Condition, Conditioning, Guider

Perturbed = Callable[[], AbstractContextManager[None]]


class Denoiser:
    """A model under guidance: `denoiser(x, sigma)` is what a sampler calls.

    `check` is called before every evaluation and may raise to stop the sampling. While `perturbed` is
    open, the network attends as PerturbedAttentionGuidance wants it. `seen` is what was returned last
    at the level `watched`.
    """

    def __init__(
        self,
        network: Network,
        guider: Guider,
        levels: Levels,
        check: Callable[[], None],
        perturbed: Perturbed,
        watched: float = math.nan,
    ) -> None:
        self._network = network
        self._model = guider.model
        self._levels = levels
        self._positive = guider.positive
        # As in ComfyUI the negative text is not evaluated when its weight would be 0.
        unasked = guider.negative is None or math.isclose(guider.cfg, 1.0)
        self._negative = None if unasked else _scored(guider.negative)
        self._cfg = guider.cfg
        self._check = check
        self._perturbed = perturbed
        self._watched = watched
        self.seen: Tensor | None = None
        for text in (guider.positive, guider.negative):
            for entry in text.entries if text else ():
                network.check(entry)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided prediction of the clean latent, of the shape and dtype of x."""
        self._check()
        texts = [self._positive] + ([self._negative] if self._negative else [])
        wanted, *unwanted = self._predict(x, sigma, texts)
        guided = self._guide(x, sigma, wanted, unwanted[0]) if unwanted else wanted
        if self._model.perturbed:
            with self._perturbed():
                (broken,) = self._predict(x, sigma, [self._positive])
            guided = guided + (wanted - broken) * self._model.perturbed
        if sigma == self._watched:
            self.seen = guided
        return guided

    def _guide(self, x: Tensor, sigma: float, wanted: Tensor, unwanted: Tensor) -> Tensor:
        if self._model.rescale is None:
            return unwanted + (wanted - unwanted) * self._cfg
        # RescaleCFG (Lin et al. 2023, arXiv 2305.08891, section 3.4), on the v parametrisation.
        scaled, to_v = x / (sigma**2 + 1), math.sqrt(sigma**2 + 1) / sigma
        v, v_other = (scaled - wanted) * to_v, (scaled - unwanted) * to_v
        plain = v_other + (v - v_other) * self._cfg
        deviations = [each.std(dim=(1, 2, 3), keepdim=True) for each in (v, plain)]
        rescaled = plain * (deviations[0] / deviations[1])
        mixed = self._model.rescale * rescaled + (1 - self._model.rescale) * plain
        return scaled - mixed / to_v

    def _predict(self, x: Tensor, sigma: float, texts: Sequence[Conditioning]) -> list[Tensor]:
        """Return the prediction under each of the texts; one evaluation for all that have one size."""
        counting = [[e for e in t.entries if counts_at(e, sigma, self._levels)] for t in texts]
        entries = [entry for each in counting for entry in each]
        whole = x.shape[-2], x.shape[-1]

        def evaluate(group: Sequence[Condition]) -> list[Tensor]:
            noisy = torch.cat([x[(..., *window(entry, x))] for entry in group])
            return list(self._network.clean(noisy, sigma, group, whole).chunk(len(group)))

        def size(entry: Condition) -> tuple[int, ...]:
            return tuple(part.stop - part.start for part in window(entry, x))

        found = iter(stacked(entries, size, evaluate, max(len(entries), 1)))
        return [average(x, each, [next(found) for _ in each]) for each in counting]


def _scored(negative: Conditioning | None) -> Conditioning | None:
    """Give a negative text the low score that the refiner is told, unless it says another."""
    if negative is None:
        return None
    return Conditioning(
        tuple(
            replace(entry, sizes=replace(entry.sizes, score=SCORES[1]))
            if entry.sizes.score is None
            else entry
            for entry in negative.entries
        )
    )
