"""Every node type, with ComfyUI's names, order, defaults and ranges (0.3.64).

Those of custom sampling and of models in parts, which the vocabulary cannot say, are in `parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from flowdesign.catalog import SAMPLERS, SCHEDULERS, UNSPOKEN_SAMPLERS, UNSPOKEN_SCHEDULERS
from flowdesign.nodes import parts
from flowdesign.nodes.declaration import (
    Input,
    NodeType,
    combo,
    file,
    place,
    real,
    seed,
    side,
    socket,
    whole,
)

LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
IMAGE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
STRENGTH = (0.4, 0.6, 0.8, 1.0, 1.2)
_STEPS = whole("steps", 20, 1, 10000, "How many times noise is removed.", (4, 6, 8, 12, 16, 20, 28))
_CFG = real(
    "cfg",
    8.0,
    0.0,
    100.0,
    "How strongly the prompt is followed; 1 ignores the negative prompt.",
    (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0, 12.0),
    step=0.1,
)
_SAMPLER = combo(
    "sampler_name",
    (*SAMPLERS, *UNSPOKEN_SAMPLERS),
    "How each step removes noise.",
    SAMPLERS,
)
_SCHEDULER = combo(
    "scheduler",
    (*SCHEDULERS, *UNSPOKEN_SCHEDULERS),
    "How noise is spread over the steps.",
    SCHEDULERS,
)
_CONDITIONED = (
    socket("positive", "CONDITIONING", "What the image should show."),
    socket("negative", "CONDITIONING", "What it should not show."),
    socket("latent_image", "LATENT", "The latent to start from."),
)
_CONDITION = socket("conditioning", "CONDITIONING")
_WEIGHT = real("strength", 1.0, 0.0, 10.0, "Its weight against other texts at a place.")
_SCALES = (0.25, 0.5, 0.75, 0.8, 1.25, 1.33, 1.5, 1.6, 2.0)
_CROP = combo("crop", ("disabled", "center"), "Whether to crop when the shape changes.")

_LOADERS = (
    NodeType(
        "CheckpointLoaderSimple",
        (file("ckpt_name", "checkpoints", "The base model."),),
        ("MODEL", "CLIP", "VAE"),
        "loaders",
        "Load a checkpoint: the diffusion model, its text encoder and its VAE.",
    ),
    NodeType(
        "VAELoader",
        (file("vae_name", "vae", "The VAE."),),
        ("VAE",),
        "loaders",
        "Load a VAE to use in place of the checkpoint's own.",
    ),
    NodeType(
        "LoraLoader",
        (
            socket("model", "MODEL"),
            socket("clip", "CLIP"),
            file("lora_name", "loras", "The LoRA."),
            real(
                "strength_model", 1.0, -100.0, 100.0, "Its weight in the diffusion model.", STRENGTH
            ),
            real("strength_clip", 1.0, -100.0, 100.0, "Its weight in the text encoder.", STRENGTH),
        ),
        ("MODEL", "CLIP"),
        "loaders",
        "Adapt a model and its text encoder with a LoRA; several can be chained.",
    ),
    NodeType(
        "UpscaleModelLoader",
        (file("model_name", "upscale_models", "The upscale model."),),
        ("UPSCALE_MODEL",),
        "loaders",
        "Load a model that enlarges images.",
    ),
)

_CONDITIONING = (
    NodeType(
        "CLIPSetLastLayer",
        (
            socket("clip", "CLIP"),
            whole("stop_at_clip_layer", -1, -24, -1, "-1 is the last layer.", (-1, -2, -3)),
        ),
        ("CLIP",),
        "conditioning",
        "Read the prompt at an earlier layer of the text encoder (clip skip).",
    ),
    NodeType(
        "CLIPTextEncode",
        (Input("text", "STRING", "The text.", default=""), socket("clip", "CLIP")),
        ("CONDITIONING",),
        "conditioning",
        "Encode a text. (word:1.2) weighs a word.",
    ),
    NodeType(
        "ConditioningConcat",
        (
            socket("conditioning_to", "CONDITIONING"),
            socket("conditioning_from", "CONDITIONING"),
        ),
        ("CONDITIONING",),
        "conditioning",
        "Put the tokens of one text behind those of another, each encoded on its own.",
    ),
    NodeType(
        "ConditioningCombine",
        (socket("conditioning_1", "CONDITIONING"), socket("conditioning_2", "CONDITIONING")),
        ("CONDITIONING",),
        "conditioning",
        "Average the predictions under two texts.",
    ),
    NodeType(
        "ConditioningZeroOut",
        (socket("conditioning", "CONDITIONING"),),
        ("CONDITIONING",),
        "advanced/conditioning",
        "Replace a text's embedding by zeros, of the same shape.",
    ),
    NodeType(
        "ConditioningAverage",
        (
            socket("conditioning_to", "CONDITIONING"),
            socket("conditioning_from", "CONDITIONING"),
            real("conditioning_to_strength", 1.0, 0.0, 1.0, "The share of the first text."),
        ),
        ("CONDITIONING",),
        "conditioning",
        "Mix the embeddings of two texts.",
    ),
    NodeType(
        "ConditioningSetArea",
        (
            _CONDITION,
            *(place(name, 64) for name in ("width", "height")),
            *(place(name, 0) for name in ("x", "y")),
            _WEIGHT,
        ),
        ("CONDITIONING",),
        "conditioning",
        "Let a text count in a part of the image, in pixels.",
    ),
    NodeType(
        "ConditioningSetAreaPercentage",
        (
            _CONDITION,
            *(real(name, 1.0, 0.0, 1.0, f"Share of the {name}.") for name in ("width", "height")),
            *(real(name, 0.0, 0.0, 1.0, f"Where it starts in {name}.") for name in ("x", "y")),
            _WEIGHT,
        ),
        ("CONDITIONING",),
        "conditioning",
        "Let a text count in a part of the image, in shares of its sides.",
    ),
    NodeType(
        "ConditioningSetAreaStrength",
        (_CONDITION, _WEIGHT),
        ("CONDITIONING",),
        "conditioning",
        "Weigh a text among those that count at a place.",
    ),
    NodeType(
        "ConditioningSetTimestepRange",
        (
            _CONDITION,
            real("start", 0.0, 0.0, 1.0, "From where on it counts; 0 is pure noise.", step=0.001),
            real("end", 1.0, 0.0, 1.0, "Until where it counts; 1 is the image.", step=0.001),
        ),
        ("CONDITIONING",),
        "advanced/conditioning",
        "Let a text count for a part of the noise only.",
    ),
)

_LATENTS = (
    NodeType(
        "EmptyLatentImage",
        (
            side("width", 16, 8),
            side("height", 16, 8),
            whole("batch_size", 1, 1, 4096, "How many images at once."),
        ),
        ("LATENT",),
        "latent",
        "An empty latent: the size of the image.",
    ),
    NodeType(
        "LatentUpscaleBy",
        (
            socket("samples", "LATENT"),
            combo("upscale_method", LATENT_METHODS, "How to interpolate.", LATENT_METHODS),
            real("scale_by", 1.5, 0.01, 8.0, "The factor.", _SCALES),
        ),
        ("LATENT",),
        "latent",
        "Resize a latent by a factor.",
    ),
    NodeType(
        "LatentUpscale",
        (
            socket("samples", "LATENT"),
            combo("upscale_method", LATENT_METHODS, "How to interpolate."),
            side("width", 0, 8),
            side("height", 0, 8),
            _CROP,
        ),
        ("LATENT",),
        "latent",
        "Resize a latent to a size; 0 keeps the shape.",
    ),
    NodeType(
        "VAEDecode",
        (socket("samples", "LATENT"), socket("vae", "VAE")),
        ("IMAGE",),
        "latent",
        "Turn a latent into an image.",
    ),
    NodeType(
        "VAEEncode",
        (socket("pixels", "IMAGE"), socket("vae", "VAE")),
        ("LATENT",),
        "latent",
        "Turn an image into a latent.",
    ),
)

_SAMPLING = (
    NodeType(
        "KSampler",
        (
            socket("model", "MODEL"),
            seed("seed"),
            _STEPS,
            _CFG,
            _SAMPLER,
            _SCHEDULER,
            *_CONDITIONED,
            real(
                "denoise",
                1.0,
                0.0,
                1.0,
                "How much of the start is replaced: 1 is everything.",
                (0.3, 0.4, 0.5, 0.6, 0.7),
            ),
        ),
        ("LATENT",),
        "sampling",
        "Denoise a latent under a positive and a negative text.",
    ),
    NodeType(
        "KSamplerAdvanced",
        (
            socket("model", "MODEL"),
            combo("add_noise", ("enable", "disable"), "Whether to add noise first."),
            seed("noise_seed"),
            _STEPS,
            _CFG,
            _SAMPLER,
            _SCHEDULER,
            *_CONDITIONED,
            whole("start_at_step", 0, 0, 10000, "The first step to take."),
            whole("end_at_step", 10000, 0, 10000, "The step to stop at."),
            combo(
                "return_with_leftover_noise",
                ("disable", "enable"),
                "Whether to hand the noise that is left to the next sampler.",
            ),
        ),
        ("LATENT",),
        "sampling",
        "Take some of a schedule's steps, so that two models can share it.",
    ),
)

_PATCHES = (
    NodeType(
        "FreeU_V2",
        (
            socket("model", "MODEL"),
            real("b1", 1.3, 0.0, 10.0, "Backbone factor of the deepest level."),
            real("b2", 1.4, 0.0, 10.0, "Backbone factor of the next level."),
            real("s1", 0.9, 0.0, 10.0, "Skip factor of the deepest level."),
            real("s2", 0.2, 0.0, 10.0, "Skip factor of the next level."),
        ),
        ("MODEL",),
        "model_patches/unet",
        "Reweigh the UNet's backbone and skip connections.",
        presets=MappingProxyType(
            {
                "light": MappingProxyType({"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.6}),
                "full": MappingProxyType({"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
            }
        ),
    ),
    NodeType(
        "PerturbedAttentionGuidance",
        (
            socket("model", "MODEL"),
            real("scale", 3.0, 0.0, 100.0, "How strongly to guide.", (1.0, 2.0, 3.0)),
        ),
        ("MODEL",),
        "model_patches/unet",
        "Guide away from a prediction made with broken attention.",
    ),
    NodeType(
        "RescaleCFG",
        (
            socket("model", "MODEL"),
            real("multiplier", 0.7, 0.0, 1.0, "How much of the rescaled result to use."),
        ),
        ("MODEL",),
        "advanced/model",
        "Keep a high cfg from overexposing the image.",
    ),
)

_IMAGES = (
    NodeType(
        "ImageUpscaleWithModel",
        (socket("upscale_model", "UPSCALE_MODEL"), socket("image", "IMAGE")),
        ("IMAGE",),
        "image/upscaling",
        "Enlarge an image with an upscale model.",
    ),
    NodeType(
        "ImageScaleBy",
        (
            socket("image", "IMAGE"),
            combo("upscale_method", IMAGE_METHODS, "How to interpolate.", IMAGE_METHODS),
            real("scale_by", 1.0, 0.01, 8.0, "The factor.", _SCALES),
        ),
        ("IMAGE",),
        "image/upscaling",
        "Resize an image by a factor.",
    ),
    NodeType(
        "ImageScale",
        (
            socket("image", "IMAGE"),
            combo("upscale_method", IMAGE_METHODS, "How to interpolate."),
            side("width", 0, 1),
            side("height", 0, 1),
            _CROP,
        ),
        ("IMAGE",),
        "image/upscaling",
        "Resize an image to a size; 0 keeps the shape.",
    ),
    NodeType(
        "SaveImage",
        (
            socket("images", "IMAGE"),
            Input("filename_prefix", "STRING", "How the file's name begins.", default="ComfyUI"),
        ),
        (),
        "image",
        "An image to keep.",
        is_output=True,
    ),
    NodeType(
        "PreviewImage",
        (socket("images", "IMAGE"),),
        (),
        "image",
        "An image to look at.",
        is_output=True,
    ),
)

NODE_TYPES: tuple[NodeType, ...] = (
    *_LOADERS,
    *_CONDITIONING,
    *_LATENTS,
    *_SAMPLING,
    *_PATCHES,
    *_IMAGES,
    *parts.NODE_TYPES,
)
NODES: Mapping[str, NodeType] = MappingProxyType({each.class_type: each for each in NODE_TYPES})
