"""Node types that load a model in parts and take sampling apart; SDXL's texts with sizes.

They are imported, validated, rendered and exported, but are no part of the language: none has bins.
"""

from __future__ import annotations

from dataclasses import replace

from flowdesign.catalog import SAMPLERS, SCHEDULERS, UNSPOKEN_SAMPLERS, UNSPOKEN_SCHEDULERS
from flowdesign.nodes.declaration import (
    NodeType,
    combo,
    file,
    real,
    seed,
    side,
    socket,
    switch,
    text,
    whole,
)

FP8 = ("fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
_DEVICE = replace(combo("device", ("default", "cpu"), "Where it runs."), required=False)
_CFG = real("cfg", 8.0, 0.0, 100.0, "How strongly the prompt is followed.", step=0.1)
_TEXTS = (
    socket("positive", "CONDITIONING", "What the image should show."),
    socket("negative", "CONDITIONING", "What it should not show."),
)
_CUSTOM = (
    socket("sampler", "SAMPLER", "How each step removes noise."),
    socket("sigmas", "SIGMAS", "The noise levels to visit."),
    socket("latent_image", "LATENT", "The latent to start from."),
)


def _clip(number: str = "") -> tuple[str, str, str]:
    return f"clip_name{number}", "text_encoders", "A text encoder."


_LOADERS = (
    NodeType(
        "UNETLoader",
        (
            file("unet_name", "diffusion_models", "The diffusion model."),
            combo("weight_dtype", ("default", *FP8), "In which type its weights are kept."),
        ),
        ("MODEL",),
        "advanced/loaders",
        "Load a diffusion model that stands alone in its file.",
    ),
    NodeType(
        "CLIPLoader",
        (
            file(*_clip()),
            combo("type", ("stable_diffusion", "sd3"), "The kind of model that it is for."),
            _DEVICE,
        ),
        ("CLIP",),
        "advanced/loaders",
        "Load one text encoder.",
    ),
    NodeType(
        "DualCLIPLoader",
        (
            file(*_clip("1")),
            file(*_clip("2")),
            combo("type", ("sdxl", "sd3", "flux"), "The kind of model that they are for."),
            _DEVICE,
        ),
        ("CLIP",),
        "advanced/loaders",
        "Load two text encoders.",
    ),
    NodeType(
        "TripleCLIPLoader",
        tuple(file(*_clip(number)) for number in "123"),
        ("CLIP",),
        "advanced/loaders",
        "Load the three text encoders of Stable Diffusion 3.",
    ),
    NodeType(
        "LoraLoaderModelOnly",
        (
            socket("model", "MODEL"),
            file("lora_name", "loras", "The LoRA."),
            real("strength_model", 1.0, -100.0, 100.0, "Its weight in the diffusion model."),
        ),
        ("MODEL",),
        "loaders",
        "Adapt a diffusion model with a LoRA, and no text encoder.",
    ),
)

_MODELS = (
    NodeType(
        "ModelSamplingSD3",
        (
            socket("model", "MODEL"),
            real("shift", 3.0, 0.0, 100.0, "The more, the more steps where there is much noise."),
        ),
        ("MODEL",),
        "advanced/model",
        "Shift the noise levels of Stable Diffusion 3.",
    ),
    NodeType(
        "ModelSamplingFlux",
        (
            socket("model", "MODEL"),
            real("max_shift", 1.15, 0.0, 100.0, "The shift at 1024x1024."),
            real("base_shift", 0.5, 0.0, 100.0, "The shift at 256x256."),
            side("width", 16, 8, 1024),
            side("height", 16, 8, 1024),
        ),
        ("MODEL",),
        "advanced/model",
        "Shift the noise levels of FLUX.1 by the size of the image.",
    ),
)

_CONDITIONING = (
    NodeType(
        "CLIPTextEncodeSDXL",
        (
            socket("clip", "CLIP"),
            side("width", 0, 1, 1024),
            side("height", 0, 1, 1024),
            replace(side("crop_w", 0, 1, 0), tooltip="Pixels cut off at the left."),
            replace(side("crop_h", 0, 1, 0), tooltip="Pixels cut off above."),
            side("target_width", 0, 1, 1024),
            side("target_height", 0, 1, 1024),
            text("text_g", "The text for the larger encoder."),
            text("text_l", "The text for the smaller encoder."),
        ),
        ("CONDITIONING",),
        "advanced/conditioning",
        "Encode a text for each of SDXL's encoders, with the sizes that it is told.",
    ),
    NodeType(
        "CLIPTextEncodeSDXLRefiner",
        (
            real("ascore", 6.0, 0.0, 1000.0, "How much people should like the picture."),
            side("width", 0, 1, 1024),
            side("height", 0, 1, 1024),
            text("text", "The text."),
            socket("clip", "CLIP"),
        ),
        ("CONDITIONING",),
        "advanced/conditioning",
        "Encode a text for SDXL's refiner, with the size and score that it is told.",
    ),
    NodeType(
        "FluxGuidance",
        (
            socket("conditioning", "CONDITIONING"),
            real(
                "guidance", 3.5, 0.0, 100.0, "How strongly FLUX.1 dev follows the text.", step=0.1
            ),
        ),
        ("CONDITIONING",),
        "advanced/conditioning/flux",
        "Tell FLUX.1 dev how strongly to follow a text; it knows guidance without a negative text.",
    ),
)

_SAMPLING = (
    NodeType(
        "EmptySD3LatentImage",
        (
            side("width", 16, 16, 1024),
            side("height", 16, 16, 1024),
            whole("batch_size", 1, 1, 4096, "How many images at once."),
        ),
        ("LATENT",),
        "latent/sd3",
        "An empty latent with 16 channels: the size of the image.",
    ),
    NodeType(
        "BasicScheduler",
        (
            socket("model", "MODEL"),
            combo(
                "scheduler",
                (*SCHEDULERS, *UNSPOKEN_SCHEDULERS),
                "How noise is spread over the steps.",
            ),
            whole("steps", 20, 1, 10000, "How many times noise is removed."),
            real("denoise", 1.0, 0.0, 1.0, "How much of the start is replaced: 1 is everything."),
        ),
        ("SIGMAS",),
        "sampling/custom_sampling/schedulers",
        "The noise levels of a schedule.",
    ),
    NodeType(
        "KSamplerSelect",
        (combo("sampler_name", (*SAMPLERS, *UNSPOKEN_SAMPLERS), "How each step removes noise."),),
        ("SAMPLER",),
        "sampling/custom_sampling/samplers",
        "Choose a sampler.",
    ),
    NodeType(
        "RandomNoise",
        (seed("noise_seed"),),
        ("NOISE",),
        "sampling/custom_sampling/noise",
        "Noise of a seed.",
    ),
    NodeType(
        "DisableNoise",
        (),
        ("NOISE",),
        "sampling/custom_sampling/noise",
        "No noise: the latent already has it.",
    ),
    NodeType(
        "BasicGuider",
        (socket("model", "MODEL"), socket("conditioning", "CONDITIONING")),
        ("GUIDER",),
        "sampling/custom_sampling/guiders",
        "Follow one text.",
    ),
    NodeType(
        "CFGGuider",
        (socket("model", "MODEL"), *_TEXTS, _CFG),
        ("GUIDER",),
        "sampling/custom_sampling/guiders",
        "Follow a positive text, away from a negative one.",
    ),
    NodeType(
        "SamplerCustomAdvanced",
        (socket("noise", "NOISE"), socket("guider", "GUIDER"), *_CUSTOM),
        ("LATENT", "LATENT"),
        "sampling/custom_sampling",
        "Denoise a latent with a sampler, levels, noise and a guider of its own.",
    ),
    NodeType(
        "SamplerCustom",
        (
            socket("model", "MODEL"),
            switch("add_noise", True, "Whether to add noise first."),
            seed("noise_seed"),
            _CFG,
            *_TEXTS,
            *_CUSTOM,
        ),
        ("LATENT", "LATENT"),
        "sampling/custom_sampling",
        "Denoise a latent with a sampler and levels of its own.",
    ),
)

NODE_TYPES: tuple[NodeType, ...] = (*_LOADERS, *_MODELS, *_CONDITIONING, *_SAMPLING)
