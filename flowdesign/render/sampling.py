"""The sampling of one or more alike jobs, and the way between pixels and latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowdesign.render.areas import settled
from flowdesign.render.attention import texts_once
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.files import Checkpoint
from flowdesign.render.guidance import Denoiser
from flowdesign.render.models import Library
from flowdesign.render.noise import initial_noise
from flowdesign.render.patches import free_u
from flowdesign.render.samplers import Sampler, sampler
from flowdesign.render.sigmas import NoiseLevels, denoising_levels, noised, take
from flowdesign.render.values import Conditioning, Latent
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

    def sigmas(self, levels: NoiseLevels) -> Tensor:
        """Return the noise levels to visit; fewer than two mean that nothing is to be done."""
        full = denoising_levels(
            self.scheduler, levels, self.steps, self.denoise, self.sampler.extra_step
        )
        return take(full, self.start, self.end, self.leftover_noise)


def sample(
    library: Library,
    check: Callable[[], None],
    items: Sequence[Inputs],
    plan: Plan,
    seeds: Sequence[int],
) -> list[tuple[Latent]]:
    """Run a sampler for jobs that differ in texts, seeds and latent values only."""
    first = items[0]
    model = first["model"]
    checkpoint = library.checkpoint(model.checkpoint)
    latents = [_fit_channels(item["latent_image"].samples, checkpoint) for item in items]
    sigmas = plan.sigmas(checkpoint.levels)
    if len(sigmas) < 2:
        return [(Latent(latent),) for latent in latents]
    noise = _noise(plan, seeds, latents)
    unet = library.unet(model)
    texts = settled(
        _together([item["positive"] for item in items]),
        _together([item["negative"] for item in items]),
        *latents[0].shape[-2:],
    )
    denoiser = Denoiser(unet, checkpoint, model, *texts, float(first["cfg"]), check)
    start = torch.cat([_scaled(latent, checkpoint) for latent in latents])
    with torch.no_grad(), free_u(unet, model.freeu), texts_once(unet):
        x = noised(start, noise.to(start.device), float(sigmas[0]), checkpoint.levels)
        x = plan.sampler.run(denoiser, x, sigmas, plan.sampler.noise_for(seeds, x, sigmas))
        x = x / checkpoint.scaling + checkpoint.shift
    return [(Latent(part),) for part in x.chunk(len(items))]


def _noise(plan: Plan, seeds: Sequence[int], latents: Sequence[Tensor]) -> Tensor:
    if not plan.adds_noise:
        return torch.zeros_like(torch.cat(list(latents)), device="cpu")
    return initial_noise(seeds, latents[0].shape)


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
            f"The latent has {latent.shape[1]} channels, but '{checkpoint.folder.name}' works "
            f"on {channels}: it comes from another kind of model."
        )
    return latent.new_zeros((latent.shape[0], channels, *latent.shape[2:]))


def _together(texts: Sequence[Conditioning]) -> Conditioning:
    """Put the texts of several jobs in one, entry by entry."""
    if len(texts) == 1:
        return texts[0]
    return Conditioning(
        tuple(
            replace(
                entries[0],
                hidden=torch.cat([entry.hidden for entry in entries]),
                pooled=None
                if entries[0].pooled is None
                else torch.cat([entry.pooled for entry in entries]),
            )
            for entries in zip(*(text.entries for text in texts), strict=True)
        )
    )


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
