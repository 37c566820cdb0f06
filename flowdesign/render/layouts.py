"""Which model a single file holds, told from the names and shapes of its tensors.

A layout is a folder of `configs`: a diffusers pipeline without weights, written from the published
sizes of its architecture. A folder `NAME.config` beside `NAME.safetensors` takes its place, for a
model of other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.files import CONFIGS, Part, Shapes, own_configs, read_header, read_json

NETWORK = "model.diffusion_model."
PREFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {  # of a part's tensors in a file that holds a whole model; the first that is there counts
        "network": (NETWORK,),
        "vae": ("first_stage_model.", "vae."),
        "clip_l": (
            "cond_stage_model.transformer.",
            "conditioner.embedders.0.transformer.",
            "text_encoders.clip_l.transformer.",
        ),
        "clip_h": ("cond_stage_model.model.",),
        "clip_g": (
            "conditioner.embedders.1.model.",
            "conditioner.embedders.0.model.",
            "text_encoders.clip_g.transformer.",
        ),
        "t5": ("text_encoders.t5xxl.transformer.",),
    }
)
_CROSS = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_POOLED_OF_REFINER = 1280 + 5 * 256  # pooled text and five numbers, of which one is a score


def _is_sd(width: int) -> Callable[[Shapes], bool]:
    return lambda shapes: shapes.get(_CROSS, (0, 0))[1] == width


def _has(*names: str) -> Callable[[Shapes], bool]:
    return lambda shapes: all(name in shapes for name in names)


def _is_refiner(shapes: Shapes) -> bool:
    return shapes.get("label_emb.0.0.weight", (0, 0))[1] == _POOLED_OF_REFINER


_FLUX = "double_blocks.0.img_attn.norm.key_norm.scale"
_SD3 = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
LAYOUTS: Mapping[str, Callable[[Shapes], bool]] = MappingProxyType(
    {  # by the names of the network's tensors; the first that fits counts
        "flux_dev": _has(_FLUX, "guidance_in.in_layer.weight"),
        "flux_schnell": _has(_FLUX),
        "sd35_large": _has(_SD3, "joint_blocks.37.x_block.mlp.fc1.weight"),
        "sd35_medium": _has(_SD3, "joint_blocks.0.x_block.attn2.qkv.weight"),
        "sd3_medium": _has(_SD3),
        "sdxl_refiner": _is_refiner,
        "sdxl": _has("label_emb.0.0.weight"),
        "sd2": _is_sd(1024),
        "sd1": _is_sd(768),
    }
)
_TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {  # a tensor of a text encoder's own file -> role, configuration; the first that is there counts
        "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": ("t5", "sd3_medium/text_encoder_3"),
        "text_model.encoder.layers.30.mlp.fc1.weight": ("clip_g", "sdxl/text_encoder_2"),
        "text_model.encoder.layers.22.mlp.fc1.weight": ("clip_h", "sd2/text_encoder"),
        "text_model.encoder.layers.0.mlp.fc1.weight": ("clip_l", "sd1/text_encoder"),
    }
)


def prefix_of(role: str, names: Shapes) -> str | None:
    """Return how the names of a part begin in a file, None when the file does not hold it."""
    for prefix in PREFIXES[role]:
        if any(name.startswith(prefix) for name in names):
            return prefix
    return None


def layout_of(path: Path, names: Shapes) -> Path:
    """Return the folder that tells the configuration of a single file; raises UnsupportedModel."""
    own = own_configs(path, "model_index.json")
    if own is not None:
        return own
    shapes = {name.removeprefix(NETWORK): shape for name, shape in names.items()}
    takes = shapes.get("input_blocks.0.0.weight", (0, 4))[1]
    if takes != 4:
        raise UnsupportedModel(
            f"'{path.name}' takes {takes} channels: it edits images, which is not supported."
        )
    for name, fits in LAYOUTS.items():
        if fits(shapes):
            return CONFIGS / name
    raise UnsupportedModel(
        f"'{path.name}' has the tensors of no model that is known here: {', '.join(LAYOUTS)}. "
        f"A folder '{path.stem}.config' beside it, a diffusers pipeline without weights, tells another."
    )


def layout_of_settings(settings: Mapping[str, Any]) -> Path:
    """Return the layout that a network's own configuration is nearest to; raises UnsupportedModel."""
    kind = settings.get("_class_name")
    if kind == "FluxTransformer2DModel":
        return CONFIGS / ("flux_dev" if settings.get("guidance_embeds") else "flux_schnell")
    if kind == "SD3Transformer2DModel":
        return CONFIGS / "sd35_large"
    if kind != "UNet2DConditionModel":
        raise UnsupportedModel(f"A diffusion model of the kind {kind} is not supported.")
    if settings.get("addition_embed_type") == "text_time":
        return CONFIGS / "sdxl"
    return CONFIGS / ("sd2" if settings.get("cross_attention_dim") == 1024 else "sd1")


def text_encoder(path: Path) -> Part:
    """Return the part that a text encoder's own file or folder holds; raises UnsupportedModel."""
    tokenizer = own_tokenizer(path)
    own = path if path.is_dir() else own_configs(path, "config.json")
    if own is not None:
        role = text_role(read_json(own / "config.json"))
        return Part(role, path, own, tokenizer=tokenizer)
    names = read_header(path)[0]
    for name, (role, config) in _TEXTS.items():
        if name in names:
            return Part(role, path, CONFIGS / config, tokenizer=tokenizer)
    raise UnsupportedModel(
        f"'{path.name}' has the tensors of no text encoder that is known here: CLIP-L, CLIP-G, "
        f"CLIP-H or T5-XXL. A folder '{path.stem}.config' with a config.json tells another."
    )


def own_tokenizer(path: Path) -> Path | None:
    """Return the tokenizer in a text encoder's folder, or in the one beside its file."""
    own = path if path.is_dir() else own_configs(path, "tokenizer")
    return own / "tokenizer" if own and (own / "tokenizer").is_dir() else None


def text_role(settings: Mapping[str, Any]) -> str:
    """Return clip_l, clip_g or t5: OpenAI's CLIP has its own approximation of gelu, OpenCLIP has not."""
    if settings.get("model_type") == "t5" or "d_kv" in settings:
        return "t5"
    return "clip_l" if settings.get("hidden_act", "quick_gelu") == "quick_gelu" else "clip_g"


def codec_file(path: Path, names: Shapes, prefix: str = "") -> Part:
    """Return the part of an AutoencoderKL in a single file; raises UnsupportedModel."""
    own = own_configs(path, "config.json")
    if own is not None and not prefix:
        return Part("vae", path, own)
    shape = names.get(f"{prefix}decoder.conv_in.weight", ())
    if len(shape) != 4 or shape[1] not in (4, 16):
        raise UnsupportedModel(
            f"The VAE in '{path.name}' is no AutoencoderKL of 4 or 16 latent channels."
        )
    return Part("vae", path, CONFIGS / ("sd1" if shape[1] == 4 else "flux_dev") / "vae", prefix)
