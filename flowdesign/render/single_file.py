"""Networks from single files: tensors under the names of the original code become diffusers' modules.

UNets, SD 3 and VAEs are renamed by diffusers, FLUX.1 here: diffusers knows one width of it only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    ConfigMixin,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel

from flowdesign.render.codec import PatchCodec
from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.files import Part
from flowdesign.render.layouts import NETWORK

Tensors = dict[str, Tensor]
CLASSES: Mapping[str, Any] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            UNet2DConditionModel,
            SD3Transformer2DModel,
            FluxTransformer2DModel,
            AutoencoderKL,
            PatchCodec,
            CLIPTextModel,
            CLIPTextModelWithProjection,
            T5EncoderModel,
        )
    }
)
MOST_NAMES = 3  # in a message


def class_of(part: Part) -> Any:
    """Return the class of a part's network; raises UnsupportedModel."""
    settings = part.settings()
    name = settings.get("_class_name") or (settings.get("architectures") or ["CLIPTextModel"])[0]
    if name not in CLASSES:
        raise UnsupportedModel(
            f"The {part.role} of '{part.config.parent.name}' is a {name}; "
            f"supported: {', '.join(CLASSES)}."
        )
    return CLASSES[name]


@lru_cache(maxsize=32)
def names_in_file(part: Part) -> tuple[str, ...]:
    """Return the names that the weights of a part have once it is loaded from a single file."""
    return tuple(name for name, _ in empty(part).named_parameters())


def empty(part: Part) -> nn.Module:
    """Make the network of a part without allocating its weights."""
    kind = class_of(part)
    with init_empty_weights():
        if issubclass(kind, ConfigMixin):  # of diffusers
            module: nn.Module = kind.from_config(part.settings())
        else:
            module = kind(kind.config_class(**part.settings()))
    if not issubclass(kind, ConfigMixin):
        module.tie_weights()  # T5's words
    return module


def tensors_of(path: Path, prefix: str) -> Tensors:
    """Read the tensors of a file whose names begin with a prefix, under their names without it."""
    with safe_open(path, "pt") as file:
        return {
            name.removeprefix(prefix): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
            if name.startswith(prefix)
        }


def load_network(part: Part, dtype: torch.dtype) -> nn.Module:
    """Load a module of diffusers from a single file; raises UnsupportedModel when it does not fit."""
    module = empty(part)
    held = tensors_of(part.weights, part.prefix)
    if not module.state_dict().keys() <= held.keys():  # some files have diffusers' own names
        held = _CONVERSIONS[class_of(part)](held, dict(module.config))
    return _filled(module, held, part, dtype)


def load_text_encoder(part: Part, dtype: torch.dtype) -> nn.Module:
    """Load a text encoder of transformers from a single file; raises UnsupportedModel."""
    module = empty(part)
    held = text_names(module, tensors_of(part.weights, part.prefix))
    filled = _filled(module, held, part, dtype)
    filled.tie_weights()
    return filled


def text_names(module: Any, held: Tensors) -> Tensors:
    """Name the tensors of a text encoder as transformers does; those it has no place for are left out."""
    if any(name.startswith("transformer.resblocks.") for name in held):
        held = convert_open_clip_checkpoint(module, held, prefix="")
    bare = {name.removeprefix("text_model."): value for name, value in held.items()}
    if "shared.weight" in bare:  # T5's words, under two names
        bare["encoder.embed_tokens.weight"] = bare["shared.weight"]
    if "text_projection.weight" in module.state_dict() and "text_projection.weight" not in bare:
        bare["text_projection.weight"] = torch.eye(module.config.hidden_size)
    return {
        n: bare[n.removeprefix("text_model.")]
        for n in module.state_dict()
        if n.removeprefix("text_model.") in bare
    }


def _filled(
    module: nn.Module, held: Mapping[str, Tensor], part: Part, dtype: torch.dtype
) -> nn.Module:
    wanted = {name: value.shape for name, value in module.state_dict().items()}
    absent = sorted(wanted.keys() - held.keys())
    odd = [
        f"{n} {tuple(held[n].shape)}" for n in wanted if n in held and held[n].shape != wanted[n]
    ]
    if absent or odd:
        what = f"has no {absent[0]}" if absent else f"has {', '.join(odd[:MOST_NAMES])}"
        raise UnsupportedModel(
            f"The {part.role} in '{part.weights.name}' does not fit the configuration "
            f"'{part.config.parent.name}/{part.config.name}': it {what}."
        )
    module.load_state_dict({name: held[name].to(dtype) for name in wanted}, assign=True)
    return module


def unet_names(held: Tensors, config: dict[str, Any]) -> Tensors:
    """Name the tensors of a UNet as diffusers does."""
    found: Tensors = convert_ldm_unet_checkpoint(
        {f"{NETWORK}{name}": value for name, value in held.items()}, config
    )
    return found


def _sd3(held: Tensors, config: dict[str, Any]) -> Tensors:
    found: Tensors = convert_sd3_transformer_checkpoint_to_diffusers(held)
    return found


def vae_names(held: Tensors, config: dict[str, Any]) -> Tensors:
    """Name the tensors of a VAE as diffusers does."""
    found: Tensors = convert_ldm_vae_checkpoint(held, config)
    return found


_FLUX_OUTSIDE = (
    ("img_in.", "x_embedder."),
    ("txt_in.", "context_embedder."),
    ("time_in.in_layer.", "time_text_embed.timestep_embedder.linear_1."),
    ("time_in.out_layer.", "time_text_embed.timestep_embedder.linear_2."),
    ("vector_in.in_layer.", "time_text_embed.text_embedder.linear_1."),
    ("vector_in.out_layer.", "time_text_embed.text_embedder.linear_2."),
    ("guidance_in.in_layer.", "time_text_embed.guidance_embedder.linear_1."),
    ("guidance_in.out_layer.", "time_text_embed.guidance_embedder.linear_2."),
    ("final_layer.linear.", "proj_out."),
    ("final_layer.adaLN_modulation.1.", "norm_out.linear."),
)
_FLUX_BLOCK = MappingProxyType(
    {  # a module of a block -> diffusers', several where one matrix holds several
        "img_mod.lin": ("norm1.linear",),
        "txt_mod.lin": ("norm1_context.linear",),
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn.norm.query_norm": ("attn.norm_q",),
        "img_attn.norm.key_norm": ("attn.norm_k",),
        "txt_attn.norm.query_norm": ("attn.norm_added_q",),
        "txt_attn.norm.key_norm": ("attn.norm_added_k",),
        "img_attn.proj": ("attn.to_out.0",),
        "txt_attn.proj": ("attn.to_add_out",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
        "modulation.lin": ("norm.linear",),
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "linear2": ("proj_out",),
        "norm.query_norm": ("attn.norm_q",),
        "norm.key_norm": ("attn.norm_k",),
    }
)
_FLUX_NAME = re.compile(r"(double|single)_blocks\.(\d+)\.(.+)\.(weight|bias|scale)")


def _flux(held: Tensors, config: dict[str, Any]) -> Tensors:
    """Rename FLUX.1's tensors, and split those that hold several matrices."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return {
        new: part for name, value in held.items() for new, part in _flux_parts(name, value, width)
    }


def _flux_parts(name: str, value: Tensor, width: int) -> Iterator[tuple[str, Tensor]]:
    found = _FLUX_NAME.fullmatch(name)
    if found is None:
        if name.startswith("final_layer.adaLN"):  # shift and scale there, scale and shift here
            value = torch.cat(value.chunk(2)[::-1])
        for old, new in _FLUX_OUTSIDE:
            if name.startswith(old):
                yield new + name.removeprefix(old), value
        return
    kind, number, module, what = found.groups()
    names = _FLUX_BLOCK.get(module, ())
    block = f"{'single_' if kind == 'single' else ''}transformer_blocks.{number}"
    sizes = [width] * 3 + [len(value) - 3 * width] * (len(names) == 4)
    pieces = value.split(sizes) if len(names) > 1 else (value,)
    for new, piece in zip(names, pieces, strict=bool(names)):
        yield f"{block}.{new}.{'weight' if what == 'scale' else what}", piece


_CONVERSIONS: Mapping[Any, Callable[[Tensors, dict[str, Any]], Tensors]] = MappingProxyType(
    {
        UNet2DConditionModel: unet_names,
        SD3Transformer2DModel: _sd3,
        FluxTransformer2DModel: _flux,
        AutoencoderKL: vae_names,
    }
)
