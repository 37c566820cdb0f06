"""The sampling of one or more alike jobs, and the way between pixels and latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowdesign.render.areas import settled
from flowdesign.render.attention import texts_once
from flowdesign.render.checkpoint import Checkpoint
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.guidance import Denoiser
from flowdesign.render.levels import Levels
from flowdesign.render.models import Library
from flowdesign.render.networks import network
from flowdesign.render.noise import initial_noise
from flowdesign.render.patches import free_u, perturbed_attention
from flowdesign.render.samplers import Function, Sampler, sampler
from flowdesign.render.sigmas import denoising_levels, take
from flowdesign.render.values import Condition, Conditioning, Guider, Latent, Model, Noise
from flowdesign.workflow import VAE_FACTOR

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """Which levels a sampler visits, and whether noise is added first."""

    sampler: Sampler
    scheduler: str
    steps: int
    denoise: float = 1.0
    start: int = 0
    end: int = 10**9
    leftover_noise: bool = False
    adds_noise: bool = True

    @staticmethod
    def simple(inputs: Inputs) -> Plan:
        """Read the widgets of a KSampler."""
        return Plan(
            sampler(inputs["sampler_name"]),
            inputs["scheduler"],
            int(inputs["steps"]),
            float(inputs["denoise"]),
        )

    @staticmethod
    def advanced(inputs: Inputs) -> Plan:
        """Read the widgets of a KSamplerAdvanced."""
        return Plan(
            sampler(inputs["sampler_name"]),
            inputs["scheduler"],
            int(inputs["steps"]),
            start=int(inputs["start_at_step"]),
            end=int(inputs["end_at_step"]),
            leftover_noise=inputs["return_with_leftover_noise"] == "enable",
            adds_noise=inputs["add_noise"] == "enable",
        )

    def sigmas(self, levels: Levels) -> Tensor:
        """Return the noise levels to visit; fewer than two mean that nothing is to be done."""
        full = denoising_levels(
            self.scheduler, levels, self.steps, self.denoise, self.sampler.extra_step
        )
        return take(full, self.start, self.end, self.leftover_noise)


@dataclass(frozen=True)
class Work:
    """One sampling: what guides it, the noise, and the latent that it starts from."""

    guider: Guider
    noise: Noise
    latent: Tensor


def sample(
    library: Library,
    check: Callable[[], None],
    works: Sequence[Work],
    chosen: Sampler,
    sigmas: Tensor,
) -> list[tuple[Latent, Latent]]:
    """Run a sampler for works that differ in texts, seeds and latent values only.

    Returns (the latent, the last prediction of the clean latent) of each.
    """
    model = works[0].guider.model
    checkpoint = library.checkpoint(model.checkpoint, model.kind)
    levels = levels_of(model, checkpoint)
    latents = [_fit_channels(work.latent, checkpoint) for work in works]
    if len(sigmas) < 2:
        return [(Latent(latent), Latent(latent)) for latent in latents]
    _check_patches(model, checkpoint)
    run = _function(chosen, levels, checkpoint)
    module = library.network(model)
    guider = _together([work.guider for work in works])
    guider = _settled(guider, *latents[0].shape[-2:])
    ask = network(module, checkpoint, levels)
    denoiser = Denoiser(
        ask, guider, levels, check, lambda: perturbed_attention(module), sigmas[-2].item()
    )
    seeds = [work.noise.seed for work in works]
    start = torch.cat([_scaled(latent, checkpoint) for latent in latents])
    noise = _noise(works, seeds, latents[0].shape).to(start.device)
    with torch.no_grad(), ExitStack() as stack:
        if checkpoint.has_unet:
            stack.enter_context(free_u(module, model.freeu))
            stack.enter_context(texts_once(module))
        x = levels.noised(start, noise, float(sigmas[0]))
        x = run(denoiser, x, sigmas, chosen.noise_for(seeds, x, sigmas))
        x = levels.left(x, float(sigmas[-1]))
        found = [x, x if denoiser.seen is None else denoiser.seen]
        pairs = [(each / checkpoint.scaling + checkpoint.shift).chunk(len(works)) for each in found]
    return [(Latent(last), Latent(clean)) for last, clean in zip(*pairs, strict=True)]


def levels_of(model: Model, checkpoint: Checkpoint) -> Levels:
    """Return a model's noise levels: its checkpoint's, unless a node says others."""
    return checkpoint.levels if model.levels is None else model.levels


def _function(chosen: Sampler, levels: Levels, checkpoint: Checkpoint) -> Function:
    found = chosen.for_flow if levels.flow else chosen.run
    if found is None:
        raise BadWorkflow(
            f"The sampler adds noise in a way that does not fit '{checkpoint.name}', a flow-matching "
            "model. Take one that adds none, euler_ancestral or lcm."
        )
    return found


def _check_patches(model: Model, checkpoint: Checkpoint) -> None:
    patched = bool(model.freeu) * ["FreeU_V2"] + bool(model.perturbed) * [
        "PerturbedAttentionGuidance"
    ]
    if patched and not checkpoint.has_unet:
        raise BadWorkflow(f"{patched[0]} changes a UNet; '{checkpoint.name}' has a transformer.")


def _noise(works: Sequence[Work], seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    if not works[0].noise.added:
        return torch.zeros((len(works) * shape[0], *shape[1:]))
    return initial_noise(seeds, shape)


def _scaled(latent: Tensor, checkpoint: Checkpoint) -> Tensor:
    """Return a latent as the model knows it; an empty one stays zero, as in ComfyUI."""
    return (latent - checkpoint.shift) * checkpoint.scaling if latent.any() else latent


def _fit_channels(latent: Tensor, checkpoint: Checkpoint) -> Tensor:
    """Give an empty latent the model's number of channels; raise BadWorkflow for another's latent."""
    channels = checkpoint.latent_channels
    if latent.shape[1] == channels:
        return latent
    if latent.any():
        raise BadWorkflow(
            f"The latent has {latent.shape[1]} channels, but '{checkpoint.name}' works "
            f"on {channels}: it comes from another kind of model."
        )
    return latent.new_zeros((latent.shape[0], channels, *latent.shape[2:]))


def _together(guiders: Sequence[Guider]) -> Guider:
    """Put the texts of several works in one, entry by entry."""
    if len(guiders) == 1:
        return guiders[0]
    positive = _joined([guider.positive for guider in guiders])
    negatives = [guider.negative for guider in guiders if guider.negative]
    return replace(
        guiders[0], positive=positive, negative=_joined(negatives) if negatives else None
    )


def _settled(guider: Guider, height: int, width: int) -> Guider:
    """Give the areas of texts their places in a latent of this size."""
    negative = guider.negative or Conditioning(())
    positive, negative = settled(guider.positive, negative, height, width)
    return replace(guider, positive=positive, negative=negative if guider.negative else None)


def _joined(texts: Sequence[Conditioning]) -> Conditioning:
    columns = zip(*(text.entries for text in texts), strict=True)
    return Conditioning(tuple(_stacked(entries) for entries in columns))


def _stacked(entries: Sequence[Condition]) -> Condition:
    pooled = [entry.pooled for entry in entries if entry.pooled is not None]
    hidden = torch.cat([entry.hidden for entry in entries])
    return replace(entries[0], hidden=hidden, pooled=torch.cat(pooled) if pooled else None)


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Turn images (n, height, width, 3) into unscaled latents; the mean, so no chance is involved.

    Sides are cropped to a multiple of 8, the middle stays.
    """
    for axis in (1, 2):
        extra = pixels.shape[axis] % VAE_FACTOR
        pixels = pixels.narrow(axis, extra // 2, pixels.shape[axis] - extra)
    if not pixels.numel():
        raise BadWorkflow(f"An image smaller than {VAE_FACTOR}x{VAE_FACTOR} cannot be encoded.")
    latents: Tensor = vae.encode(pixels.movedim(-1, 1) * 2 - 1).latent_dist.mode()
    return latents


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Turn unscaled latents into images in 0..1, (n, height, width, 3)."""
    channels = vae.config.latent_channels
    if latents.shape[1] != channels:
        raise BadWorkflow(
            f"The latent has {latents.shape[1]} channels, but the VAE decodes {channels}: "
            "it comes from another kind of model."
        )
    pixels: Tensor = ((vae.decode(latents).sample + 1) / 2).clamp(0, 1).movedim(1, -1)
    return pixels
