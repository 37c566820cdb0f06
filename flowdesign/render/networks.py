"""What a denoiser asks of a model: the clean latents under some texts, whatever its architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from flowdesign.render.checkpoint import Checkpoint
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.levels import Levels
from flowdesign.render.values import Condition, Sizes
from flowdesign.workflow import VAE_FACTOR

SCORES = (6.0, 2.5)  # that the refiner is told of a positive and of a negative text
GUIDANCE = 3.5  # that FLUX.1 dev is told unless FluxGuidance says another


Whole = tuple[int, int]  # rows and columns of the latent that a window is of


class Network(Protocol):
    """A model at work."""

    def clean(
        self, noisy: Tensor, sigma: float, entries: Sequence[Condition], whole: Whole
    ) -> Tensor:
        """Return the clean latents, each part of the batch under its entry.

        `noisy` is (entries * batch, channels, rows, columns), entry by entry: windows of one size of
        a latent whose own size is `whole`.
        """
        ...

    def check(self, entry: Condition) -> None:
        """Raise BadWorkflow when a text was encoded for another kind of model."""
        ...


class UNet:
    """Stable Diffusion 1, 2 and XL: x is a latent plus noise, texts are attended to."""

    def __init__(self, module: Any, checkpoint: Checkpoint, levels: Levels) -> None:
        self._module = module
        self._checkpoint = checkpoint
        self._levels = levels
        self._texts: dict[tuple[int, ...], Tensor] = {}

    def clean(
        self, noisy: Tensor, sigma: float, entries: Sequence[Condition], whole: Whole
    ) -> Tensor:
        """Return the clean latents; one evaluation for all entries."""
        batch = len(noisy) // len(entries)
        output = self._module(
            (noisy / math.sqrt(sigma**2 + 1)).to(self._module.dtype),
            torch.tensor(self._levels.timestep(sigma), device=noisy.device),
            encoder_hidden_states=self._joined(entries, batch),
            added_cond_kwargs=self._added(entries, batch, whole, noisy.device)
            if self._checkpoint.is_xl
            else {},
            return_dict=False,
        )[0].to(noisy.dtype)
        if self._checkpoint.prediction == "epsilon":
            return noisy - output * sigma
        return noisy / (sigma**2 + 1) - output * (sigma / math.sqrt(sigma**2 + 1))

    def check(self, entry: Condition) -> None:
        """Raise BadWorkflow when a text is of another width, or has no pooled part."""
        width = self._module.config.cross_attention_dim
        lacks = self._checkpoint.is_xl and entry.pooled is None
        if entry.hidden.shape[-1] != width or lacks:
            raise BadWorkflow(_other_text(self._checkpoint, entry, width))

    def _joined(self, entries: Sequence[Condition], batch: int) -> Tensor:
        """Return the texts in one batch; the same tensor at every step, so that attention knows it.

        A shorter text is repeated: attention over repeated tokens is the same attention.
        """
        key = tuple(id(entry) for entry in entries)
        if key not in self._texts:
            length = math.lcm(*(entry.hidden.shape[1] for entry in entries))
            parts = [
                _repeat(entry.hidden, batch).repeat(1, length // entry.hidden.shape[1], 1)
                for entry in entries
            ]
            self._texts[key] = torch.cat(parts).to(self._module.dtype)
        return self._texts[key]

    def _added(
        self, entries: Sequence[Condition], batch: int, whole: Whole, device: torch.device
    ) -> dict[str, Tensor]:
        """Return what the XL layout adds: pooled texts, and sizes as numbers.

        The size is that of the whole image for a text of an area, too.
        """
        pooled = [_repeat(entry.pooled, batch) for entry in entries if entry.pooled is not None]
        config = self._module.config
        numbers = config.projection_class_embeddings_input_dim - pooled[0].shape[-1]
        count = numbers // config.addition_time_embed_dim
        sides = whole[1] * VAE_FACTOR, whole[0] * VAE_FACTOR
        rows = [size_numbers(entry.sizes, *sides, count) for entry in entries]
        ids = torch.tensor(rows, dtype=self._module.dtype, device=device)
        return {
            "text_embeds": torch.cat(pooled).to(self._module.dtype),
            "time_ids": ids.repeat_interleave(batch, dim=0),
        }


def size_numbers(told: Sizes, width: int, height: int, count: int) -> list[float]:
    """Return what SDXL is told of a picture of this size: six numbers, of the refiner five."""
    shown = _or(told.height, height), _or(told.width, width)
    crop = told.crop_y, told.crop_x
    if count == 5:
        return [*shown, *crop, _or(told.score, SCORES[0])]
    return [*shown, *crop, _or(told.target_height, shown[0]), _or(told.target_width, shown[1])]


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


class SD3:
    """Stable Diffusion 3 and 3.5: x is a mixture of noise and latent, texts stand beside patches."""

    def __init__(self, module: Any, checkpoint: Checkpoint, levels: Levels) -> None:
        self._module = module
        self._checkpoint = checkpoint
        self._levels = levels

    def clean(
        self, noisy: Tensor, sigma: float, entries: Sequence[Condition], whole: Whole
    ) -> Tensor:
        """Return the clean latents; texts of different lengths are evaluated one by one."""
        parts = noisy.chunk(len(entries))
        if len({entry.hidden.shape[1] for entry in entries}) > 1:
            pairs = zip(parts, entries, strict=True)
            return torch.cat([self.clean(part, sigma, [entry], whole) for part, entry in pairs])
        batch = len(parts[0])
        dtype = self._module.dtype
        height, width = noisy.shape[-2:]
        told = torch.full((len(noisy),), self._levels.timestep(sigma), device=noisy.device)
        hidden = torch.cat([_repeat(entry.hidden, batch) for entry in entries]).to(dtype)
        pooled = torch.cat([_repeat(_pooled(entry), batch) for entry in entries]).to(dtype)
        output = self._run(even(noisy).to(dtype), told, hidden, pooled, entries)
        return noisy - output[..., :height, :width].to(noisy.dtype) * sigma

    def check(self, entry: Condition) -> None:
        """Raise BadWorkflow when a text is of another width, or its pooled part is."""
        config = self._module.config
        pooled = 0 if entry.pooled is None else entry.pooled.shape[-1]
        fits = entry.hidden.shape[-1] == config.joint_attention_dim
        if not fits or pooled != config.pooled_projection_dim:
            raise BadWorkflow(_other_text(self._checkpoint, entry, config.joint_attention_dim))

    def _run(
        self, x: Tensor, told: Tensor, hidden: Tensor, pooled: Tensor, entries: Sequence[Condition]
    ) -> Tensor:
        """Return the velocity, of the shape of x."""
        found: Tensor = self._module(
            hidden_states=x,
            timestep=told,
            encoder_hidden_states=hidden,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        return found


class Flux(SD3):
    """FLUX.1: as SD 3, on rows of 2x2 patches that are told their places."""

    def _run(
        self, x: Tensor, told: Tensor, hidden: Tensor, pooled: Tensor, entries: Sequence[Condition]
    ) -> Tensor:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        guidance = [_or(entry.guidance, GUIDANCE) for entry in entries]
        strengths = torch.tensor(guidance, device=x.device).repeat_interleave(
            len(x) // len(entries)
        )
        places = torch.cartesian_prod(*map(torch.arange, (1, height, width)))
        rows: Tensor = self._module(
            hidden_states=_packed(x),
            timestep=told,
            guidance=strengths if self._module.config.guidance_embeds else None,
            pooled_projections=pooled,
            encoder_hidden_states=hidden,
            txt_ids=torch.zeros((hidden.shape[1], 3), device=x.device),
            img_ids=places.float().to(x.device),
            return_dict=False,
        )[0]
        return _unpacked(rows, height, width)


def _packed(x: Tensor) -> Tensor:
    """(n, channels, 2h, 2w) to (n, h * w, channels * 4)."""
    n, channels, height, width = x.shape
    split = x.reshape(n, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(n, height * width // 4, channels * 4)


def _unpacked(rows: Tensor, height: int, width: int) -> Tensor:
    """(n, h * w, channels * 4) to (n, channels, 2h, 2w)."""
    split = rows.reshape(len(rows), height, width, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return split.reshape(len(rows), -1, 2 * height, 2 * width)


def even(x: Tensor) -> Tensor:
    """Continue a latent of an odd side by its beginning, as ComfyUI does, to make patches of 2x2."""
    right, below = x.shape[-1] % 2, x.shape[-2] % 2
    return functional.pad(x, (0, right, 0, below), mode="circular") if right or below else x


def _pooled(entry: Condition) -> Tensor:
    assert entry.pooled is not None, "check() lets no text pass without"
    return entry.pooled


def _repeat(texts: Tensor, batch: int) -> Tensor:
    """Repeat each of n texts for its share of the batch, (n, ...) -> (batch, ...)."""
    return texts.repeat_interleave(batch // len(texts), dim=0)


def _other_text(checkpoint: Checkpoint, entry: Condition, width: int) -> str:
    return (
        f"The text was encoded for another kind of model than '{checkpoint.name}': "
        f"its width is {entry.hidden.shape[-1]}, not {width}."
    )


NETWORKS: Mapping[str, type[UNet] | type[SD3]] = MappingProxyType(
    {"sd1": UNet, "sd2": UNet, "sdxl": UNet, "sd3": SD3, "flux": Flux}
)


def network(module: Any, checkpoint: Checkpoint, levels: Levels) -> Network:
    """Return a module as the network of its family."""
    return NETWORKS[checkpoint.family](module, checkpoint, levels)
