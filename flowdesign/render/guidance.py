"""From a UNet to a denoiser: scaling, timestep, parametrisation, and guidance by texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from flowdesign.render.areas import average, counts_at, window
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.files import Checkpoint
from flowdesign.render.patches import perturbed_attention
from flowdesign.render.stacking import stacked
from flowdesign.render.values import Condition, Conditioning, Model
from flowdesign.workflow import VAE_FACTOR


class Denoiser:
    """A model under guidance: `denoiser(x, sigma)` is what a sampler calls.

    `check` is called before every evaluation and may raise to stop the sampling.
    """

    def __init__(
        self,
        unet: Any,
        checkpoint: Checkpoint,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        cfg: float,
        check: Callable[[], None],
    ) -> None:
        self._unet = unet
        self._dtype = unet.dtype
        self._checkpoint = checkpoint
        self._model = model
        self._positive = positive
        # As in ComfyUI the negative text is not evaluated when its weight would be 0.
        self._negative = None if math.isclose(cfg, 1.0) else negative
        self._cfg = cfg
        self._check = check
        self._texts: dict[tuple[int, ...], Tensor] = {}
        for entry in (*positive.entries, *negative.entries):
            self._fits(entry)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided prediction of the clean latent, of the shape and dtype of x."""
        self._check()
        texts = [self._positive] + ([self._negative] if self._negative else [])
        wanted, *unwanted = self._predict(x, sigma, texts)
        guided = self._guide(x, sigma, wanted, unwanted[0]) if unwanted else wanted
        if self._model.perturbed:
            with perturbed_attention(self._unet):
                (broken,) = self._predict(x, sigma, [self._positive])
            guided = guided + (wanted - broken) * self._model.perturbed
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
        levels = self._checkpoint.levels
        counting = [[e for e in text.entries if counts_at(e, sigma, levels)] for text in texts]
        entries = [entry for each in counting for entry in each]

        def evaluate(group: Sequence[Condition]) -> list[Tensor]:
            return list(self._evaluate(x, sigma, group).chunk(len(group)))

        def size(entry: Condition) -> tuple[int, ...]:
            return tuple(part.stop - part.start for part in window(entry, x))

        found = iter(stacked(entries, size, evaluate, max(len(entries), 1)))
        return [average(x, each, [next(found) for _ in each]) for each in counting]

    def _evaluate(self, x: Tensor, sigma: float, entries: Sequence[Condition]) -> Tensor:
        """Return the clean latents in the windows of entries of one size, (entries * batch, ...)."""
        dtype = self._dtype
        noisy = torch.cat([x[(..., *window(entry, x))] for entry in entries])
        output = self._unet(
            (noisy / math.sqrt(sigma**2 + 1)).to(dtype),
            torch.tensor(self._checkpoint.levels.timestep(sigma), device=x.device),
            encoder_hidden_states=self._joined(entries, len(x)),
            added_cond_kwargs=self._sizes(x, entries, dtype),
            return_dict=False,
        )[0].to(x.dtype)
        if self._checkpoint.prediction == "epsilon":
            return noisy - output * sigma
        return noisy / (sigma**2 + 1) - output * (sigma / math.sqrt(sigma**2 + 1))

    def _joined(self, entries: Sequence[Condition], batch: int) -> Tensor:
        """Return the texts in one batch; the same tensor at every step, so that attention knows it."""
        key = tuple(id(entry) for entry in entries)
        if key not in self._texts:
            self._texts[key] = _join(entries, batch).to(self._unet.dtype)
        return self._texts[key]

    def _sizes(self, x: Tensor, entries: Sequence[Condition], dtype: Any) -> dict[str, Tensor]:
        """Return what the XL layout adds: pooled texts and size (original, crop, target) of the image.

        The size is that of the whole image for a text of an area, too.
        """
        if not self._checkpoint.is_xl:
            return {}
        height, width = x.shape[-2] * VAE_FACTOR, x.shape[-1] * VAE_FACTOR
        ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=dtype, device=x.device)
        pooled = [_repeat(entry.pooled, len(x)) for entry in entries if entry.pooled is not None]
        return {
            "text_embeds": torch.cat(pooled).to(dtype),
            "time_ids": ids.expand(len(entries) * len(x), -1),
        }

    def _fits(self, entry: Condition) -> None:
        width = self._unet.config.cross_attention_dim
        if entry.hidden.shape[-1] != width or (self._checkpoint.is_xl and entry.pooled is None):
            raise BadWorkflow(
                f"The text was encoded for another kind of model than "
                f"'{self._model.checkpoint}': its width is {entry.hidden.shape[-1]}, not {width}."
            )


def _join(entries: Sequence[Condition], batch: int) -> Tensor:
    """Put texts of different lengths in one batch.

    A shorter text is repeated: attention over repeated tokens is the same attention.
    """
    length = math.lcm(*(entry.hidden.shape[1] for entry in entries))
    parts = [
        _repeat(entry.hidden, batch).repeat(1, length // entry.hidden.shape[1], 1)
        for entry in entries
    ]
    return torch.cat(parts)


def _repeat(texts: Tensor, batch: int) -> Tensor:
    """Repeat each of n texts for its share of the batch, (n, ...) -> (batch, ...)."""
    return texts.repeat_interleave(batch // len(texts), dim=0)
