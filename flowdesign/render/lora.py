"""LoRA files: which tensor changes which weight, and by how much.

Names are matched without regard to dots and underscores, so diffusers, peft and kohya files are read
alike; kohya files for SDXL name blocks as the original code does, which `original_name` translates, and those
for SD 3 and FLUX.1, too (`transformer_names`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.transformer_names import MLP, shares, turned

_PREFIXES = (  # of names with dots replaced by underscores; longer ones first
    ("lora_unet_", "unet"),  # kohya's name for a transformer as well
    ("diffusion_model_", "unet"),  # ComfyUI's for both
    ("unet_", "unet"),
    ("lora_transformer_", "transformer"),
    ("transformer_", "transformer"),
    ("lora_te3_", "text_encoder_3"),
    ("text_encoder_3_", "text_encoder_3"),
    ("lora_te2_", "text_encoder_2"),
    ("text_encoder_2_", "text_encoder_2"),
    ("lora_te1_", "text_encoder"),
    ("lora_te_", "text_encoder"),
    ("text_encoder_", "text_encoder"),
)
_TEXT_PARTS = {"clip_g": "text_encoder_2", "t5": "text_encoder_3"}
_ROLE = re.compile(
    r"(?P<name>.+?)[._](?:"
    r"(?P<down>lora_A(?:\.\w+)?|lora_down|lora\.down|lora_linear_layer\.down)"
    r"|(?P<up>lora_B(?:\.\w+)?|lora_up|lora\.up|lora_linear_layer\.up)"
    r"|(?P<mid>lora_mid)"
    r")\.weight$"
)
_RESNET = {
    "norm1": "in_layers_0",
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "norm2": "out_layers_0",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks_0_0",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
    "add_embedding_linear_1": "label_emb_0_0",
    "add_embedding_linear_2": "label_emb_0_2",
    "conv_out": "out_2",
}


@dataclass(frozen=True)
class Pair:
    """The tensors of a LoRA file that change one weight: up @ down * scale.

    A convolution may be in three (LoCon's lora_mid): up @ mid @ down, the middle one as wide as the
    weight. `share` is the part of up that is the weight's, where several have one in the original code.
    """

    down: str
    up: str
    alpha: str  # name of its tensor, or "" when the scale is 1
    mid: str = ""
    share: int | None = None


@dataclass(frozen=True)
class Matched:
    """What a file changes, weight by weight, and the tensors that were not understood."""

    pairs: Mapping[str, Mapping[str, Pair]]  # part -> name of the weight -> pair
    unknown: tuple[str, ...]


def match(names: Iterable[str], weights: Mapping[str, Iterable[str]]) -> Matched:
    """Match the tensors of a file with the weights of a checkpoint's parts."""
    places = {part: _places(part, list(own)) for part, own in weights.items()}
    found: dict[str, dict[str, dict[str, str]]] = {part: {} for part in weights}
    parts: dict[str, int | None] = {}
    unknown = []
    for name in names:
        role, part, place = _read(name)
        part = "transformer" if part == "unet" and "unet" not in weights else part
        meant = places.get(part, {}).get(place, ()) if role else ()
        for weight, share in meant:
            found[part].setdefault(weight, {})[role] = name
            parts[name + weight] = share
        if not meant:
            unknown.append(name)
    return Matched(
        {
            part: {
                weight: Pair(
                    roles["down"], roles["up"], roles.get("alpha", ""), roles.get("mid", ""),
                    parts[roles["up"] + weight],
                )
                for weight, roles in own.items()
                if {"down", "up"} <= roles.keys()
            }
            for part, own in found.items()
        },
        tuple(unknown),
    )  # fmt: skip


def part_of(role: str, settings: Mapping[str, Any] | None = None) -> str:
    """Return the name that LoRA files have for a network or a text encoder of a role."""
    if role == "network":
        is_unet = (settings or {}).get("_class_name") == "UNet2DConditionModel"
        return "unet" if is_unet else "transformer"
    return _TEXT_PARTS.get(role, "text_encoder")


def _read(name: str) -> tuple[str, str, str]:
    """Return (role, part, place) of a tensor's name; the role is empty when it is not known."""
    found = _ROLE.match(name)
    if found:
        role = next(each for each in ("down", "up", "mid") if found[each])
        name = found["name"]
    elif name.endswith(".alpha"):
        role, name = "alpha", name.removesuffix(".alpha")
    else:
        return "", "", ""
    flat = name.replace(".", "_").replace("_processor_", "_").removesuffix("_lora")
    for prefix, part in _PREFIXES:
        if flat.startswith(prefix):
            return role, part, _normal(flat.removeprefix(prefix))
    return "", "", ""


def _normal(flat: str) -> str:
    return re.sub(r"_to_out$", "_to_out_0", flat.removeprefix("text_model_"))


def _places(part: str, weights: list[str]) -> dict[str, list[tuple[str, int | None]]]:
    """Return the weights of every name by which a file may call them, each with its share."""
    flats = {
        _normal(weight.removesuffix(".weight").replace(".", "_")): weight
        for weight in weights
        if weight.endswith(".weight")
    }
    found: dict[str, list[tuple[str, int | None]]] = {}
    layout = Layout.of(weights)
    for flat, weight in flats.items():
        if part == "unet":
            found.setdefault(original_name(flat, layout), [(weight, None)])
        for name, share in shares(flat) if part == "transformer" else ():
            found.setdefault(name, []).append((weight, share))
    found.pop(turned(flats), None)
    return found | {flat: [(weight, None)] for flat, weight in flats.items()}


_DEPTH = re.compile(r"down_blocks\.\d+\.resnets\.(\d+)\.")
_ATTENDED = re.compile(r"up_blocks\.(\d+)\.attentions\.")
_BLOCK = re.compile(
    r"(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_(.+)"
)


@dataclass(frozen=True)
class Layout:
    """What the original block numbers of a UNet depend on."""

    layers: int  # resnets of a down block; an up block has one more
    attended: frozenset[int]  # up blocks with attention

    @staticmethod
    def of(weights: Iterable[str]) -> Layout:
        """Read the layout off the names of a UNet's weights."""
        names = list(weights)
        depths = [int(m[1]) for name in names if (m := _DEPTH.match(name))]
        attended = frozenset(int(m[1]) for name in names if (m := _ATTENDED.match(name)))
        return Layout(max(depths, default=0) + 1, attended)


def original_name(flat: str, layout: Layout) -> str:
    """Return the name of a UNet module in the original (LDM, SGM) code, with underscores."""
    if flat in _OUTSIDE:
        return _OUTSIDE[flat]
    if found := re.fullmatch(r"mid_block_(resnets|attentions)_(\d+)_(.+)", flat):
        kind, index, rest = found.groups()
        if kind == "attentions":
            return f"middle_block_1_{rest}"
        return f"middle_block_{2 * int(index)}_{_RESNET.get(rest, rest)}"
    found = _BLOCK.fullmatch(flat)
    if not found:
        return flat
    side, block, kind, index, rest = found.groups()
    place = int(block) * (layout.layers + 1)
    if kind == "downsamplers":
        return f"input_blocks_{place + layout.layers + 1}_0_op"
    if kind == "upsamplers":
        return f"output_blocks_{place + layout.layers}_{1 + (int(block) in layout.attended)}_conv"
    where = f"input_blocks_{place + int(index) + 1}"
    if side == "up":
        where = f"output_blocks_{place + int(index)}"
    return f"{where}_0_{_RESNET.get(rest, rest)}" if kind == "resnets" else f"{where}_1_{rest}"


def change(pair: Pair, tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """Return what to add to a weight, in float32; raises UnsupportedModel when shapes differ."""
    down, up = tensors[pair.down].float(), tensors[pair.up].float()
    if pair.mid:  # (rank, rank, h, w) between (rank, in, 1, 1) and (out, rank, 1, 1)
        middle = tensors[pair.mid].float()
        down = torch.einsum("rshw,si->rihw", middle, down.flatten(1))
    up = up if pair.share is None else _shared(up, pair.share, len(weight))
    if up.shape[0] * down[0].numel() != weight.numel() or up[0].numel() != down.shape[0]:
        raise UnsupportedModel(
            f"The LoRA does not fit this checkpoint: '{pair.up}' would change a weight of shape "
            f"{tuple(weight.shape)} by {up.shape[0]}x{down[0].numel()}."
        )
    scale = float(tensors[pair.alpha]) / down.shape[0] if pair.alpha else 1.0
    return (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * (strength * scale)


def _shared(up: Tensor, share: int, rows: int) -> Tensor:
    """The rows of up that are a weight's; too few if it does not fit."""
    start = len(up) - rows if share == MLP else share * rows
    return up[max(start, 0) : start + rows]


def ignored_alpha(metadata: Mapping[str, str]) -> bool:
    """Whether the file's metadata asks for a scale; ComfyUI and this module only read tensors."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return False
    if not isinstance(settings, dict):
        return False
    alphas = {name: value for name, value in settings.items() if name.endswith("lora_alpha")}
    return any(v != settings.get(n.removesuffix("lora_alpha") + "r") for n, v in alphas.items())
