"""What a workflow is made of: every node type, declared once, as data.

Names, order, defaults and ranges of inputs are ComfyUI's (0.3.64), because its files list widget
values by position. From a declaration follow validation, the vocabulary (`bins`), import and
export, the tooltip, and the renderer's table, whose keys are the types with `rendered`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from flowdesign.catalog import SAMPLERS, SCHEDULERS

SOCKETS = ("MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "UPSCALE_MODEL")
WIDGETS = ("INT", "FLOAT", "STRING", "COMBO")
MAX_SEED = 2**64 - 1
MAX_SIDE = 16384

LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
IMAGE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")


@dataclass(frozen=True)
class Input:
    """One input of a node: a socket that takes a link, or a widget that holds a value."""

    name: str
    type: str
    tooltip: str = ""
    default: Any = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: tuple[str, ...] = ()  # of a COMBO with fixed values
    kind: str = ""  # of a COMBO that lists installed files
    bins: tuple[Any, ...] = ()  # the values the vocabulary can say
    required: bool = True
    control: bool = False  # ComfyUI's interface files hold one more value after this one

    @property
    def is_socket(self) -> bool:
        """Whether the input takes a link rather than a value."""
        return self.type in SOCKETS


@dataclass(frozen=True)
class NodeType:
    """A kind of node. A preset is a named set of widget values that the vocabulary can say."""

    class_type: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    category: str
    tooltip: str
    is_output: bool = False
    rendered: bool = True
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    def input(self, name: str) -> Input:
        """Return the input of a name; KeyError if the node has none."""
        for each in self.inputs:
            if each.name == name:
                return each
        raise KeyError(f"{self.class_type} has no input '{name}'")

    @property
    def widgets(self) -> tuple[Input, ...]:
        """The inputs that hold values, in the order of ComfyUI's `widgets_values`."""
        return tuple(each for each in self.inputs if not each.is_socket)


def _socket(name: str, socket: str, tooltip: str = "") -> Input:
    return Input(name, socket, tooltip)


def _file(name: str, kind: str, tooltip: str) -> Input:
    return Input(name, "COMBO", tooltip, kind=kind)


def _combo(name: str, options: tuple[str, ...], tooltip: str, says: tuple[str, ...] = ()) -> Input:
    return Input(name, "COMBO", tooltip, default=options[0], options=options, bins=says)


def _int(
    name: str, default: int, low: int, high: int, tooltip: str, says: tuple[int, ...] = ()
) -> Input:
    return Input(name, "INT", tooltip, default, low, high, 1, bins=says)


def _float(
    name: str,
    default: float,
    low: float,
    high: float,
    tooltip: str,
    says: tuple[float, ...] = (),
    step: float = 0.01,
) -> Input:
    return Input(name, "FLOAT", tooltip, default, low, high, step, bins=says)


def _side(name: str, low: int, step: int) -> Input:
    return Input(name, "INT", f"The {name} in pixels.", 512, low, MAX_SIDE, step)


def _seed(name: str) -> Input:
    tooltip = "Where the noise comes from: the same seed gives the same image."
    return Input(name, "INT", tooltip, 0, 0, MAX_SEED, 1, control=True)


STRENGTH = (0.4, 0.6, 0.8, 1.0, 1.2)
_STEPS = _int("steps", 20, 1, 10000, "How many times noise is removed.", (4, 6, 8, 12, 16, 20, 28))
_CFG = _float(
    "cfg",
    8.0,
    0.0,
    100.0,
    "How strongly the prompt is followed; 1 ignores the negative prompt.",
    (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0, 12.0),
    step=0.1,
)
_SAMPLER = _combo("sampler_name", SAMPLERS, "How each step removes noise.", SAMPLERS)
_SCHEDULER = _combo("scheduler", SCHEDULERS, "How noise is spread over the steps.", SCHEDULERS)
_CONDITIONED = (
    _socket("positive", "CONDITIONING", "What the image should show."),
    _socket("negative", "CONDITIONING", "What it should not show."),
    _socket("latent_image", "LATENT", "The latent to start from."),
)
_SCALES = (0.25, 0.5, 0.75, 0.8, 1.25, 1.33, 1.5, 1.6, 2.0)
_CROP = _combo("crop", ("disabled", "center"), "Whether to crop when the shape changes.")

_LOADERS = (
    NodeType(
        "CheckpointLoaderSimple",
        (_file("ckpt_name", "checkpoints", "The base model."),),
        ("MODEL", "CLIP", "VAE"),
        "loaders",
        "Load a checkpoint: the diffusion model, its text encoder and its VAE.",
    ),
    NodeType(
        "VAELoader",
        (_file("vae_name", "vae", "The VAE."),),
        ("VAE",),
        "loaders",
        "Load a VAE to use in place of the checkpoint's own.",
    ),
    NodeType(
        "LoraLoader",
        (
            _socket("model", "MODEL"),
            _socket("clip", "CLIP"),
            _file("lora_name", "loras", "The LoRA."),
            _float(
                "strength_model", 1.0, -100.0, 100.0, "Its weight in the diffusion model.", STRENGTH
            ),
            _float(
                "strength_clip", 1.0, -100.0, 100.0, "Its weight in the text encoder.", STRENGTH
            ),
        ),
        ("MODEL", "CLIP"),
        "loaders",
        "Adapt a model and its text encoder with a LoRA; several can be chained.",
    ),
    NodeType(
        "UpscaleModelLoader",
        (_file("model_name", "upscale_models", "The upscale model."),),
        ("UPSCALE_MODEL",),
        "loaders",
        "Load a model that enlarges images.",
    ),
)

_CONDITIONING = (
    NodeType(
        "CLIPSetLastLayer",
        (
            _socket("clip", "CLIP"),
            _int("stop_at_clip_layer", -1, -24, -1, "-1 is the last layer.", (-1, -2, -3)),
        ),
        ("CLIP",),
        "conditioning",
        "Read the prompt at an earlier layer of the text encoder (clip skip).",
    ),
    NodeType(
        "CLIPTextEncode",
        (Input("text", "STRING", "The text.", default=""), _socket("clip", "CLIP")),
        ("CONDITIONING",),
        "conditioning",
        "Encode a text. (word:1.2) weighs a word.",
    ),
    NodeType(
        "ConditioningConcat",
        (
            _socket("conditioning_to", "CONDITIONING"),
            _socket("conditioning_from", "CONDITIONING"),
        ),
        ("CONDITIONING",),
        "conditioning",
        "Put the tokens of one text behind those of another, each encoded on its own.",
    ),
    NodeType(
        "ConditioningCombine",
        (_socket("conditioning_1", "CONDITIONING"), _socket("conditioning_2", "CONDITIONING")),
        ("CONDITIONING",),
        "conditioning",
        "Average the predictions under two texts.",
        rendered=False,
    ),
    NodeType(
        "ConditioningZeroOut",
        (_socket("conditioning", "CONDITIONING"),),
        ("CONDITIONING",),
        "advanced/conditioning",
        "Replace a text's embedding by zeros, of the same shape.",
    ),
)

_LATENTS = (
    NodeType(
        "EmptyLatentImage",
        (
            _side("width", 16, 8),
            _side("height", 16, 8),
            _int("batch_size", 1, 1, 4096, "How many images at once."),
        ),
        ("LATENT",),
        "latent",
        "An empty latent: the size of the image.",
    ),
    NodeType(
        "LatentUpscaleBy",
        (
            _socket("samples", "LATENT"),
            _combo("upscale_method", LATENT_METHODS, "How to interpolate.", LATENT_METHODS),
            _float("scale_by", 1.5, 0.01, 8.0, "The factor.", _SCALES),
        ),
        ("LATENT",),
        "latent",
        "Resize a latent by a factor.",
    ),
    NodeType(
        "LatentUpscale",
        (
            _socket("samples", "LATENT"),
            _combo("upscale_method", LATENT_METHODS, "How to interpolate."),
            _side("width", 0, 8),
            _side("height", 0, 8),
            _CROP,
        ),
        ("LATENT",),
        "latent",
        "Resize a latent to a size; 0 keeps the shape.",
    ),
    NodeType(
        "VAEDecode",
        (_socket("samples", "LATENT"), _socket("vae", "VAE")),
        ("IMAGE",),
        "latent",
        "Turn a latent into an image.",
    ),
    NodeType(
        "VAEEncode",
        (_socket("pixels", "IMAGE"), _socket("vae", "VAE")),
        ("LATENT",),
        "latent",
        "Turn an image into a latent.",
    ),
)

_SAMPLING = (
    NodeType(
        "KSampler",
        (
            _socket("model", "MODEL"),
            _seed("seed"),
            _STEPS,
            _CFG,
            _SAMPLER,
            _SCHEDULER,
            *_CONDITIONED,
            _float(
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
            _socket("model", "MODEL"),
            _combo("add_noise", ("enable", "disable"), "Whether to add noise first."),
            _seed("noise_seed"),
            _STEPS,
            _CFG,
            _SAMPLER,
            _SCHEDULER,
            *_CONDITIONED,
            _int("start_at_step", 0, 0, 10000, "The first step to take."),
            _int("end_at_step", 10000, 0, 10000, "The step to stop at."),
            _combo(
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
            _socket("model", "MODEL"),
            _float("b1", 1.3, 0.0, 10.0, "Backbone factor of the deepest level."),
            _float("b2", 1.4, 0.0, 10.0, "Backbone factor of the next level."),
            _float("s1", 0.9, 0.0, 10.0, "Skip factor of the deepest level."),
            _float("s2", 0.2, 0.0, 10.0, "Skip factor of the next level."),
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
            _socket("model", "MODEL"),
            _float("scale", 3.0, 0.0, 100.0, "How strongly to guide.", (1.0, 2.0, 3.0)),
        ),
        ("MODEL",),
        "model_patches/unet",
        "Guide away from a prediction made with broken attention.",
    ),
    NodeType(
        "RescaleCFG",
        (
            _socket("model", "MODEL"),
            _float("multiplier", 0.7, 0.0, 1.0, "How much of the rescaled result to use."),
        ),
        ("MODEL",),
        "advanced/model",
        "Keep a high cfg from overexposing the image.",
        rendered=False,
    ),
)

_IMAGES = (
    NodeType(
        "ImageUpscaleWithModel",
        (_socket("upscale_model", "UPSCALE_MODEL"), _socket("image", "IMAGE")),
        ("IMAGE",),
        "image/upscaling",
        "Enlarge an image with an upscale model.",
    ),
    NodeType(
        "ImageScaleBy",
        (
            _socket("image", "IMAGE"),
            _combo("upscale_method", IMAGE_METHODS, "How to interpolate.", IMAGE_METHODS),
            _float("scale_by", 1.0, 0.01, 8.0, "The factor.", _SCALES),
        ),
        ("IMAGE",),
        "image/upscaling",
        "Resize an image by a factor.",
    ),
    NodeType(
        "ImageScale",
        (
            _socket("image", "IMAGE"),
            _combo("upscale_method", IMAGE_METHODS, "How to interpolate."),
            _side("width", 0, 1),
            _side("height", 0, 1),
            _CROP,
        ),
        ("IMAGE",),
        "image/upscaling",
        "Resize an image to a size; 0 keeps the shape.",
    ),
    NodeType(
        "SaveImage",
        (
            _socket("images", "IMAGE"),
            Input("filename_prefix", "STRING", "How the file's name begins.", default="ComfyUI"),
        ),
        (),
        "image",
        "An image to keep.",
        is_output=True,
    ),
    NodeType(
        "PreviewImage",
        (_socket("images", "IMAGE"),),
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
)
NODES: Mapping[str, NodeType] = MappingProxyType({each.class_type: each for each in NODE_TYPES})
