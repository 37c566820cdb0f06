"""What scripts call beside diffusers: each is copied into the scripts that use it.

Texts are (hidden, pooled): (1, tokens, width), and (1, width) or None. Latents are unscaled, (n, channels,
height / 8, width / 8); images are (n, 3, height, width) in 0..1. As in ComfyUI, chance is drawn on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pag.pag_utils import PAGMixin
from PIL import Image as Pillow
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from flowdesign.render.models import embedding_of
from flowdesign.render.resize import tiled
from flowdesign.render.text import Encoder, Special

Text = tuple[Tensor, Any]


def encode(pipe: Any, text: str, clip_skip: int | None = None) -> Text:
    """Encode a text as the stock pipeline does: up to 75 tokens, brackets weigh nothing."""
    found = pipe.encode_prompt(
        text, device=pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False,
        clip_skip=clip_skip,
    )  # fmt: skip
    return found[0], found[2] if len(found) == 4 else None


def encode_weighted(
    pipe: Any, text: str, layer: int | None = None, embeddings: Mapping[str, str] | None = None
) -> Text:
    """Encode a text as ComfyUI does: (weights:1.2), any length, `layer` -k is the k-th from the end.

    embedding:NAME stands for the vectors in the file that `embeddings` has for the name.
    """
    is_xl = getattr(pipe, "text_encoder_2", None) is not None
    layer = -2 if layer is None and is_xl else layer
    hidden, pooled = [], None
    for end in ("", "_2"):
        model = getattr(pipe, f"text_encoder{end}", None)
        if model is not None:
            tokenizer = getattr(pipe, f"tokenizer{end}")
            last, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
            length = min(model.config.max_position_embeddings, 77)
            special = Special(tokenizer.bos_token_id, last, last if pad is None else pad, length)
            role = "clip_g" if end else "clip_l"
            if not is_xl and model.config.hidden_act == "gelu":  # OpenCLIP's, as SD 2 has it
                role = "clip_h"
            known = embeddings or {}
            vectors = partial(vectors_of, known, role)
            encoder = Encoder(
                model, tokenizer, special, normed=not is_xl, vectors=vectors, known=known
            )
            states, pooled = encoder.encode(encoder.tokenize(text), layer)
            hidden.append(states)
    shortest = min(states.shape[1] for states in hidden)
    return torch.cat([states[:, :shortest] for states in hidden], -1), pooled if is_xl else None


def vectors_of(files: Mapping[str, str], role: str, name: str) -> Any:
    """The vectors of an embedding for a text encoder, None where its file has none."""
    return embedding_of(load_file(files[name]), role)


def concat(first: Text, second: Text) -> Text:
    """Put the tokens of the second text behind those of the first."""
    return torch.cat([first[0], second[0]], dim=1), first[1]


def zeros(text: Text) -> Text:
    """A text of the same shape that says nothing."""
    return torch.zeros_like(text[0]), None if text[1] is None else torch.zeros_like(text[1])


def average(first: Text, second: Text, share: float) -> Text:
    """A share of the first text and the rest of the second, cut or filled with zeros to its length."""
    fitted = functional.pad(second[0], (0, 0, 0, first[0].shape[1] - second[0].shape[1]))
    pooled = None if first[1] is None else share * first[1] + (1 - share) * second[1]
    return share * first[0] + (1 - share) * fitted, pooled


def mean(first: Text, second: Text) -> Text:
    """The mean of two texts, the shorter one repeated."""
    length = math.lcm(first[0].shape[1], second[0].shape[1])
    pair = [text[0].repeat(1, length // text[0].shape[1], 1) for text in (first, second)]
    pooled = None if first[1] is None else (first[1] + second[1]) / 2
    return (pair[0] + pair[1]) / 2, pooled


def visit(scheduler: Any, sigmas: list[float], timesteps: list[int]) -> None:
    """Make a scheduler visit these noise levels at these training steps, whatever it is asked for."""

    def set_timesteps(count: int | None = None, device: Any = None, **_: Any) -> None:
        type(scheduler).set_timesteps(scheduler, len(timesteps), device=device)
        kind = scheduler.timesteps.dtype
        scheduler.timesteps = torch.tensor(timesteps, device=device, dtype=kind)
        if hasattr(scheduler, "sigmas"):  # DDPM and LCM read theirs off the training steps
            scheduler.sigmas = torch.tensor(sigmas)

    scheduler.set_timesteps = set_timesteps
    scheduler.set_timesteps()


def denoise(
    pipe: Any,
    scheduler: Any,
    latents: Tensor,
    positive: Text,
    negative: Text,
    *,
    cfg: float,
    seed: int,
    noise: float,
    sigmas: list[float],
    timesteps: list[int],
    unit_variance: bool,
    **options: Any,
) -> Tensor:
    """Add `noise` times unit noise to latents and denoise them with a stock pipeline.

    `sigmas` and `timesteps` are what the scheduler visits. `unit_variance` says that it divides latents
    by sqrt(1 + sigma^2); the others keep the latent itself and add sigma times noise.
    """
    config = pipe.vae.config
    scaling, shift = config.scaling_factor, getattr(config, "shift_factor", None) or 0.0
    if latents.any():
        latents = (latents - shift) * scaling
    else:  # an empty latent has the channels of the model that samples it
        latents = latents.new_zeros(len(latents), pipe.unet.config.in_channels, *latents.shape[2:])
    chance = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed(seed % 2**64))
    noisy = latents + chance.to(latents) * noise
    visit(scheduler, sigmas, timesteps)
    pipe.scheduler = scheduler
    before, after = (math.sqrt(1 + sigma**2) for sigma in (sigmas[0], sigmas[-1]))
    length = math.lcm(positive[0].shape[1], negative[0].shape[1])  # repeated tokens change nothing
    texts = [text[0].repeat(1, length // text[0].shape[1], 1) for text in (positive, negative)]
    if isinstance(pipe, PAGMixin):
        options.setdefault("pag_scale", 0.0)  # the pipeline's own is 3
    if positive[1] is not None:
        options["pooled_prompt_embeds"] = positive[1]
        options["negative_pooled_prompt_embeds"] = negative[1]
    found = pipe(
        prompt_embeds=texts[0],
        negative_prompt_embeds=texts[1],
        latents=noisy / (before if unit_variance else float(scheduler.init_noise_sigma)),
        height=8 * latents.shape[2],
        width=8 * latents.shape[3],
        guidance_scale=cfg,
        num_inference_steps=len(timesteps),
        num_images_per_prompt=len(latents),
        generator=torch.Generator("cpu").manual_seed(seed % 2**64),
        output_type="latent",
        **options,
    ).images
    return (found * after if unit_variance else found) / scaling + shift


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Turn latents into images."""
    pixels: Tensor = ((vae.decode(latents).sample + 1) / 2).clamp(0, 1)
    return pixels


def encode_image(vae: Any, images: Tensor) -> Tensor:
    """Turn images into latents, without chance; sides are cropped to a multiple of 8."""
    for axis in (2, 3):
        extra = images.shape[axis] % 8
        images = images.narrow(axis, extra // 2, images.shape[axis] - extra)
    latents: Tensor = vae.encode(images * 2 - 1).latent_dist.mode()
    return latents


def by(samples: Tensor, factor: float) -> tuple[int, int]:
    """The width and height of latents or images after a resize by a factor."""
    return round(samples.shape[-1] * factor), round(samples.shape[-2] * factor)


def enlarge(model: Any, images: Tensor) -> Tensor:
    """Enlarge images with an upscale model, by tiles where a side exceeds 512 pixels."""
    done = [tiled(image.unsqueeze(0), model.scale, model) for image in images]
    return torch.cat(done).clamp(0, 1)


def save(images: Tensor, path: Path) -> list[Path]:
    """Write images as ComfyUI does, values truncated to 8 bits; several are numbered."""
    places = [path]
    if len(images) > 1:
        places = [path.with_stem(f"{path.stem}_{number}") for number in range(len(images))]
    for image, place in zip(images, places, strict=True):
        pixels = (255.0 * image.movedim(0, -1).cpu().numpy()).clip(0, 255).astype("uint8")
        Pillow.fromarray(pixels).save(place)
    return places
