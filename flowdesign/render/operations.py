"""What every node does, in one table: OPERATIONS maps a class to a function.

Those of custom sampling and of models in parts are in `parts`. A function gets a context and the inputs of several nodes of its class, one dict per node, and returns
their outputs in the same order. Most take them one by one; sampling and coding may stack those that
are alike, up to `context.batch` images. One by one is the default, and then every image has the same
bytes whatever runs beside it; stacked, rounding may differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from flowdesign.render import conditioning, parts, resize, sampling
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.operation import Context, Inputs, Operation, Outputs, each, together
from flowdesign.render.stacking import Key
from flowdesign.render.values import (
    Area,
    Clip,
    Conditioning,
    FreeU,
    Guider,
    Image,
    Latent,
    LoraUse,
    Model,
    Noise,
    Saved,
    UpscaleModel,
    Vae,
)
from flowdesign.workflow import LEAST_LATENT_SIDE, VAE_FACTOR, asked_size

EMPTY_CHANNELS = 4  # of an empty latent, before a model says how many it has


# --- loaders and patches: descriptions only -------------------------------------------------------


def _checkpoint(context: Context, inputs: Inputs) -> Outputs:
    name = inputs["ckpt_name"]
    return Model(name), Clip(name), Vae("checkpoints", name)


def _vae(context: Context, inputs: Inputs) -> Outputs:
    return (Vae("vae", inputs["vae_name"]),)


def _lora(context: Context, inputs: Inputs) -> Outputs:
    model, clip, name = inputs["model"], inputs["clip"], inputs["lora_name"]
    on_model = LoraUse(name, float(inputs["strength_model"]))
    on_clip = LoraUse(name, float(inputs["strength_clip"]))
    return (
        replace(model, loras=(*model.loras, on_model)),
        replace(clip, loras=(*clip.loras, on_clip)),
    )


def _upscale_model(context: Context, inputs: Inputs) -> Outputs:
    return (UpscaleModel(inputs["model_name"]),)


def _clip_skip(context: Context, inputs: Inputs) -> Outputs:
    return (replace(inputs["clip"], skip=int(inputs["stop_at_clip_layer"])),)


def _free_u(context: Context, inputs: Inputs) -> Outputs:
    patch = FreeU(*(float(inputs[name]) for name in ("b1", "b2", "s1", "s2")))
    return (replace(inputs["model"], freeu=(*inputs["model"].freeu, patch)),)


def _perturbed(context: Context, inputs: Inputs) -> Outputs:
    model = inputs["model"]
    return (replace(model, perturbed=model.perturbed + float(inputs["scale"])),)


def _rescale(context: Context, inputs: Inputs) -> Outputs:
    return (replace(inputs["model"], rescale=float(inputs["multiplier"])),)


# --- texts ---------------------------------------------------------------------------------------


def _encode_text(context: Context, inputs: Inputs) -> Outputs:
    clip: Clip = inputs["clip"]
    entry = conditioning.encode(context.library, clip, {"": inputs["text"]})
    return (Conditioning((entry,)),)


def _concat(context: Context, inputs: Inputs) -> Outputs:
    following = inputs["conditioning_from"].entries[0].hidden
    entries = []
    for entry in inputs["conditioning_to"].entries:
        _check_kind("ConditioningConcat joins", entry.hidden, following)
        entries.append(replace(entry, hidden=torch.cat([entry.hidden, following], dim=1)))
    return (Conditioning(tuple(entries)),)


def _check_kind(what: str, first: Tensor, second: Tensor) -> None:
    if first.shape[-1] != second.shape[-1]:
        raise BadWorkflow(f"{what} texts of two different kinds of model.")


def _average(context: Context, inputs: Inputs) -> Outputs:
    share = float(inputs["conditioning_to_strength"])
    other = inputs["conditioning_from"].entries[0]
    entries = []
    for entry in inputs["conditioning_to"].entries:
        _check_kind("ConditioningAverage mixes", entry.hidden, other.hidden)
        missing = entry.hidden.shape[1] - other.hidden.shape[1]
        # A longer text loses its end (the padding is negative then), a shorter one gets zeros.
        fitted = functional.pad(other.hidden, (0, 0, 0, missing))
        pooled = entry.pooled
        if pooled is not None and other.pooled is not None:
            pooled = share * pooled + (1 - share) * other.pooled
        hidden = share * entry.hidden + (1 - share) * fitted
        entries.append(replace(entry, hidden=hidden, pooled=pooled))
    return (Conditioning(tuple(entries)),)


def _combine(context: Context, inputs: Inputs) -> Outputs:
    entries = inputs["conditioning_1"].entries + inputs["conditioning_2"].entries
    return (Conditioning(entries),)


def _zero_out(context: Context, inputs: Inputs) -> Outputs:
    entries = (
        replace(
            entry,
            hidden=torch.zeros_like(entry.hidden),
            pooled=None if entry.pooled is None else torch.zeros_like(entry.pooled),
        )
        for entry in inputs["conditioning"].entries
    )
    return (Conditioning(tuple(entries)),)


def _set(inputs: Inputs, **changes: Any) -> Outputs:
    entries = inputs["conditioning"].entries
    return (Conditioning(tuple(replace(entry, **changes) for entry in entries)),)


def _set_area(context: Context, inputs: Inputs) -> Outputs:
    height, width, y, x = (int(inputs[n]) // VAE_FACTOR for n in ("height", "width", "y", "x"))
    return _set(inputs, area=Area(height, width, y, x), strength=float(inputs["strength"]))


def _set_area_by_shares(context: Context, inputs: Inputs) -> Outputs:
    height, width, y, x = (float(inputs[name]) for name in ("height", "width", "y", "x"))
    area = Area(height, width, y, x, shares=True)
    return _set(inputs, area=area, strength=float(inputs["strength"]))


def _set_strength(context: Context, inputs: Inputs) -> Outputs:
    return _set(inputs, strength=float(inputs["strength"]))


def _set_range(context: Context, inputs: Inputs) -> Outputs:
    return _set(inputs, start=float(inputs["start"]), end=float(inputs["end"]))


# --- latents -------------------------------------------------------------------------------------


def _empty_latent(context: Context, inputs: Inputs) -> Outputs:
    height, width = (int(inputs[name]) // VAE_FACTOR for name in ("height", "width"))
    shape = (int(inputs["batch_size"]), EMPTY_CHANNELS, height, width)
    return (Latent(torch.zeros(shape, device=context.device)),)


def _scale_latent(context: Context, inputs: Inputs) -> Outputs:
    samples = inputs["samples"].samples
    height, width = (round(side * float(inputs["scale_by"])) for side in samples.shape[-2:])
    return (Latent(resize.resize(samples, width, height, inputs["upscale_method"])),)


def _resize_latent(context: Context, inputs: Inputs) -> Outputs:
    samples = inputs["samples"].samples
    old_height, old_width = samples.shape[-2:]
    size = asked_size(inputs, old_width, old_height, LEAST_LATENT_SIDE)
    if size is None:
        return (inputs["samples"],)
    width, height = (side // VAE_FACTOR for side in size)
    method, crop = inputs["upscale_method"], inputs["crop"]
    return (Latent(resize.resize(samples, width, height, method, crop)),)


def _encode_key(inputs: Inputs) -> Key:
    return inputs["vae"], tuple(inputs["pixels"].pixels.shape)


def _encode_image(context: Context, items: Sequence[Inputs]) -> list[Outputs]:
    pixels = torch.cat([item["pixels"].pixels for item in items])
    latents = sampling.encode(context.library.vae(items[0]["vae"]), pixels)
    return [(Latent(part),) for part in latents.chunk(len(items))]


def _decode_key(inputs: Inputs) -> Key:
    return inputs["vae"], tuple(inputs["samples"].samples.shape)


def _decode_latent(context: Context, items: Sequence[Inputs]) -> list[Outputs]:
    samples = torch.cat([item["samples"].samples for item in items])
    pixels = sampling.decode(context.library.vae(items[0]["vae"]), samples)
    return [(Image(part),) for part in pixels.chunk(len(items))]


# --- sampling ------------------------------------------------------------------------------------


def _sample_key(inputs: Inputs) -> Key:
    """Return everything but seed and texts; of those, the shapes and what else they say."""
    fixed = [(n, v) for n, v in inputs.items() if isinstance(v, str | int | float)]
    free = ("seed", "noise_seed")
    texts = [
        (*entry.hidden.shape, *entry.besides)
        for name in ("positive", "negative")
        for entry in inputs[name].entries
    ]
    widgets = tuple(pair for pair in sorted(fixed) if pair[0] not in free)
    return inputs["model"], widgets, tuple(inputs["latent_image"].samples.shape), tuple(texts)


def _ksampler(context: Context, items: Sequence[Inputs]) -> list[Outputs]:
    return _run(context, items, sampling.Plan.simple(items[0]), "seed")


def _ksampler_advanced(context: Context, items: Sequence[Inputs]) -> list[Outputs]:
    return _run(context, items, sampling.Plan.advanced(items[0]), "noise_seed")


def _run(
    context: Context, items: Sequence[Inputs], plan: sampling.Plan, seed: str
) -> list[Outputs]:
    model: Model = items[0]["model"]
    levels = sampling.levels_of(model, context.library.checkpoint(model.checkpoint, model.kind))
    works = [
        sampling.Work(
            Guider(model, item["positive"], item["negative"], float(item["cfg"])),
            Noise(int(item[seed]), plan.adds_noise),
            item["latent_image"].samples,
        )
        for item in items
    ]
    done = sampling.sample(context.library, context.check, works, plan.sampler, plan.sigmas(levels))
    return [(latent,) for latent, _ in done]


# --- images --------------------------------------------------------------------------------------


def _upscale_image(context: Context, inputs: Inputs) -> Outputs:
    model = context.library.upscaler(inputs["upscale_model"])

    def upscale(part: Tensor) -> Tensor:
        context.check()
        made: Tensor = model(part)
        return made

    images = inputs["image"].pixels.movedim(-1, 1)
    done = [resize.tiled(image.unsqueeze(0), model.scale, upscale) for image in images]
    return (Image(torch.cat(done).movedim(1, -1).clamp(0, 1)),)


def _scale_image(context: Context, inputs: Inputs) -> Outputs:
    samples = inputs["image"].pixels.movedim(-1, 1)
    height, width = (round(side * float(inputs["scale_by"])) for side in samples.shape[-2:])
    return (Image(resize.resize(samples, width, height, inputs["upscale_method"]).movedim(1, -1)),)


def _resize_image(context: Context, inputs: Inputs) -> Outputs:
    samples = inputs["image"].pixels.movedim(-1, 1)
    old_height, old_width = samples.shape[-2:]
    size = asked_size(inputs, old_width, old_height, 1)
    if size is None:
        return (inputs["image"],)
    method, crop = inputs["upscale_method"], inputs["crop"]
    return (Image(resize.resize(samples, *size, method, crop).movedim(1, -1)),)


def _save(context: Context, inputs: Inputs) -> Outputs:
    return (Saved(inputs["images"].pixels, keep=True),)


def _preview(context: Context, inputs: Inputs) -> Outputs:
    return (Saved(inputs["images"].pixels, keep=False),)


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "CheckpointLoaderSimple": each(_checkpoint),
        "VAELoader": each(_vae),
        "LoraLoader": each(_lora),
        "UpscaleModelLoader": each(_upscale_model),
        "CLIPSetLastLayer": each(_clip_skip),
        "CLIPTextEncode": each(_encode_text),
        "ConditioningConcat": each(_concat),
        "ConditioningCombine": each(_combine),
        "ConditioningZeroOut": each(_zero_out),
        "ConditioningAverage": each(_average),
        "ConditioningSetArea": each(_set_area),
        "ConditioningSetAreaPercentage": each(_set_area_by_shares),
        "ConditioningSetAreaStrength": each(_set_strength),
        "ConditioningSetTimestepRange": each(_set_range),
        "EmptyLatentImage": each(_empty_latent),
        "LatentUpscaleBy": each(_scale_latent),
        "LatentUpscale": each(_resize_latent),
        "VAEDecode": together(_decode_key, _decode_latent),
        "VAEEncode": together(_encode_key, _encode_image),
        "KSampler": together(_sample_key, _ksampler),
        "KSamplerAdvanced": together(_sample_key, _ksampler_advanced),
        "FreeU_V2": each(_free_u),
        "PerturbedAttentionGuidance": each(_perturbed),
        "RescaleCFG": each(_rescale),
        "ImageUpscaleWithModel": each(_upscale_image),
        "ImageScaleBy": each(_scale_image),
        "ImageScale": each(_resize_image),
        "SaveImage": each(_save),
        "PreviewImage": each(_preview),
        **parts.OPERATIONS,
    }
)
