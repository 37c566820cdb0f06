"""What the nodes of custom sampling do, and those that load and set up models in parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

from flowdesign.render import conditioning, sampling
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.levels import FlowLevels
from flowdesign.render.operation import Context, Inputs, Operation, Outputs, each
from flowdesign.render.samplers import sampler
from flowdesign.render.sigmas import denoising_levels
from flowdesign.render.values import (
    Clip,
    Conditioning,
    Guider,
    Latent,
    LoraUse,
    Model,
    Noise,
    SamplerName,
    Sigmas,
    Sizes,
)
from flowdesign.workflow import VAE_FACTOR

FLOW_CHANNELS = 16
_PATCH = (2 * VAE_FACTOR) ** 2  # pixels of what FLUX.1 sees as one place
_FEWEST, _MOST = 256, 4096  # places at which ModelSamplingFlux has base_shift and max_shift
_SINGLE = MappingProxyType({"clip_l": "sd1", "clip_h": "sd2", "clip_g": "sdxl"})


# --- loaders --------------------------------------------------------------------------------------


def _diffusion_model(context: Context, inputs: Inputs) -> Outputs:
    return (Model(inputs["unet_name"], kind="diffusion_models"),)


def _one_text_encoder(context: Context, inputs: Inputs) -> Outputs:
    name, family = inputs["clip_name"], inputs["type"]
    if family == "stable_diffusion":
        role = context.library.text_encoder(name).role
        if role not in _SINGLE:
            raise BadWorkflow(
                f"'{name}' is {role}, which no Stable Diffusion 1, 2 or XL reads alone."
            )
        family = _SINGLE[role]
    return (Clip("", files=(name,), family=family),)


def _text_encoders(context: Context, inputs: Inputs) -> Outputs:
    """TripleCLIPLoader has no type: it is for SD 3."""
    names = [str(inputs[n]) for n in ("clip_name1", "clip_name2", "clip_name3") if n in inputs]
    roles = [context.library.text_encoder(name).role for name in names]
    if len(set(roles)) < len(roles):
        raise BadWorkflow(
            f"{' and '.join(names)} are {' and '.join(roles)}: one of each is needed."
        )
    return (Clip("", files=tuple(names), family=inputs.get("type", "sd3")),)


def _lora_on_model(context: Context, inputs: Inputs) -> Outputs:
    use = LoraUse(inputs["lora_name"], float(inputs["strength_model"]))
    return (replace(inputs["model"], loras=(*inputs["model"].loras, use)),)


# --- noise levels ---------------------------------------------------------------------------------


def _shift_sd3(context: Context, inputs: Inputs) -> Outputs:
    model = _of_family(context, inputs["model"], "sd3", "ModelSamplingSD3")
    return (replace(model, levels=FlowLevels(float(inputs["shift"]))),)


def _shift_flux(context: Context, inputs: Inputs) -> Outputs:
    """The larger the image, the more of the steps are spent where there is much noise."""
    model = _of_family(context, inputs["model"], "flux", "ModelSamplingFlux")
    least, most = float(inputs["base_shift"]), float(inputs["max_shift"])
    places = int(inputs["width"]) * int(inputs["height"]) / _PATCH
    shift = least + (most - least) * (places - _FEWEST) / (_MOST - _FEWEST)
    return (replace(model, levels=FlowLevels(math.exp(shift), count=10_000, scale=1.0)),)


def _of_family(context: Context, model: Model, family: str, node: str) -> Model:
    found = context.library.checkpoint(model.checkpoint, model.kind)
    if found.family != family:
        raise BadWorkflow(
            f"{node} is for models of the family {family}; '{found.name}' is {found.family}."
        )
    return model


def _scheduler(context: Context, inputs: Inputs) -> Outputs:
    model: Model = inputs["model"]
    levels = sampling.levels_of(model, context.library.checkpoint(model.checkpoint, model.kind))
    steps, denoise = int(inputs["steps"]), float(inputs["denoise"])
    # ComfyUI cuts here also at denoise 1: ddim_uniform may have more levels than it is asked for.
    found = denoising_levels(inputs["scheduler"], levels, steps, denoise)
    return (Sigmas(found[-(steps + 1) :]),)


# --- texts ----------------------------------------------------------------------------------------


def _flux_guidance(context: Context, inputs: Inputs) -> Outputs:
    guidance = float(inputs["guidance"])
    entries = (replace(entry, guidance=guidance) for entry in inputs["conditioning"].entries)
    return (Conditioning(tuple(entries)),)


def _encode_xl(context: Context, inputs: Inputs) -> Outputs:
    clip: Clip = inputs["clip"]
    texts = {"clip_l": inputs["text_l"], "clip_g": inputs["text_g"]}
    names = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
    sizes = Sizes(*(float(inputs[name]) for name in names))
    entry = conditioning.encode(context.library, clip, texts)
    return (Conditioning((replace(entry, sizes=sizes),)),)


def _encode_refiner(context: Context, inputs: Inputs) -> Outputs:
    clip: Clip = inputs["clip"]
    entry = conditioning.encode(context.library, clip, {"": inputs["text"]})
    sizes = Sizes(float(inputs["width"]), float(inputs["height"]), score=float(inputs["ascore"]))
    return (Conditioning((replace(entry, sizes=sizes),)),)


# --- sampling -------------------------------------------------------------------------------------


def _empty_latent(context: Context, inputs: Inputs) -> Outputs:
    sides = (int(inputs[name]) // VAE_FACTOR for name in ("height", "width"))
    shape = (int(inputs["batch_size"]), FLOW_CHANNELS, *sides)
    return (Latent(torch.zeros(shape, device=context.device)),)


def _sampler_name(context: Context, inputs: Inputs) -> Outputs:
    return (SamplerName(inputs["sampler_name"]),)


def _noise(context: Context, inputs: Inputs) -> Outputs:
    return (Noise(int(inputs["noise_seed"])),)


def _no_noise(context: Context, inputs: Inputs) -> Outputs:
    return (Noise(0, added=False),)


def _guider(context: Context, inputs: Inputs) -> Outputs:
    return (Guider(inputs["model"], inputs["conditioning"], None, 1.0),)


def _cfg_guider(context: Context, inputs: Inputs) -> Outputs:
    texts = inputs["positive"], inputs["negative"]
    return (Guider(inputs["model"], *texts, float(inputs["cfg"])),)


def _sample_advanced(context: Context, inputs: Inputs) -> Outputs:
    work = sampling.Work(inputs["guider"], inputs["noise"], inputs["latent_image"].samples)
    return _sampled(context, inputs, work)


def _sample_custom(context: Context, inputs: Inputs) -> Outputs:
    guider = Guider(inputs["model"], inputs["positive"], inputs["negative"], float(inputs["cfg"]))
    noise = Noise(int(inputs["noise_seed"]), bool(inputs["add_noise"]))
    return _sampled(context, inputs, sampling.Work(guider, noise, inputs["latent_image"].samples))


def _sampled(context: Context, inputs: Inputs, work: sampling.Work) -> Outputs:
    chosen, sigmas = sampler(inputs["sampler"].name), inputs["sigmas"].values
    (found,) = sampling.sample(context.library, context.check, [work], chosen, sigmas)
    return found


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "UNETLoader": each(_diffusion_model),
        "CLIPLoader": each(_one_text_encoder),
        "DualCLIPLoader": each(_text_encoders),
        "TripleCLIPLoader": each(_text_encoders),
        "LoraLoaderModelOnly": each(_lora_on_model),
        "ModelSamplingSD3": each(_shift_sd3),
        "ModelSamplingFlux": each(_shift_flux),
        "CLIPTextEncodeSDXL": each(_encode_xl),
        "CLIPTextEncodeSDXLRefiner": each(_encode_refiner),
        "FluxGuidance": each(_flux_guidance),
        "EmptySD3LatentImage": each(_empty_latent),
        "BasicScheduler": each(_scheduler),
        "KSamplerSelect": each(_sampler_name),
        "RandomNoise": each(_noise),
        "DisableNoise": each(_no_noise),
        "BasicGuider": each(_guider),
        "CFGGuider": each(_cfg_guider),
        "SamplerCustomAdvanced": each(_sample_advanced),
        "SamplerCustom": each(_sample_custom),
    }
)
