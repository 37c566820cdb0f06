"""What the original code calls the tensors of a diffusers folder, and such a folder as one file.

Written from the names in published files, independently of the renaming that is tested with it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet_names(held: Tensors) -> Tensors:
    """A UNet with one resnet in a down block and two in an up block, the first up block bare."""
    return {_unet_name(name): value for name, value in held.items()}


def _unet_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{kind}"
    side, *rest = module.split(".", 4)
    if side == "mid_block":
        part, index, inner = module.split(".", 3)[1:]
        place = "middle_block.1" if part == "attentions" else f"middle_block.{2 * int(index)}"
        return f"{place}.{RESNET.get(inner, inner)}.{kind}"
    block, part, index, inner = int(rest[0]), rest[1], int(rest[2]), rest[3]
    if part == "downsamplers":
        return f"input_blocks.{2 * block + 2}.0.op.{kind}"
    if part == "upsamplers":
        return f"output_blocks.{2 * block + 1}.1.conv.{kind}"
    down = side == "down_blocks"
    place = (
        f"input_blocks.{2 * block + index + 1}" if down else f"output_blocks.{2 * block + index}"
    )
    return f"{place}.{int(part == 'attentions')}.{RESNET.get(inner, inner)}.{kind}"


VAE = (
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
)


def vae_names(held: Tensors) -> Tensors:
    found = {}
    for name, value in held.items():
        for up in re.findall(r"up_blocks\.(\d)", name):
            name = name.replace(f"up_blocks.{up}.resnets", f"up.{3 - int(up)}.block")
            name = name.replace(f"up_blocks.{up}.upsamplers.0", f"up.{3 - int(up)}.upsample")
        for old, new in VAE:
            name = re.sub(old, new, name)
        is_matrix = ".attn_1." in name and value.dim() == 2
        found[name] = value[..., None, None] if is_matrix else value
    return found


def clip_names(held: Tensors) -> Tensors:
    return {
        name if name.startswith("text_projection") else f"text_model.{name.removeprefix('text_model.')}": value
        for name, value in held.items()
    }  # fmt: skip


OPEN_CLIP = (
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("encoder.layers", "transformer.resblocks"),
    ("final_layer_norm", "ln_final"),
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
)


def open_clip_names(held: Tensors) -> Tensors:
    found = {}
    for name, value in held.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif attention := re.fullmatch(r"(.+)\.self_attn\.q_proj\.(weight|bias)", name):
            block, kind = attention.groups()
            inside = f"{'text_model.' if f'text_model.{name}' in held else ''}{block}.self_attn"
            whole = torch.cat([held[f"{inside}.{x}_proj.{kind}"] for x in "qkv"])
            found[f"{_open_clip(block)}.attn.in_proj_{kind}"] = whole
        elif not re.search(r"self_attn\.[kv]_proj", name):
            found[_open_clip(name)] = value
    return found


def _open_clip(name: str) -> str:
    for new, old in OPEN_CLIP:
        name = name.replace(new, old)
    return name


SD3_BLOCK = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
SD3_JOINED = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}
SD3_OUTSIDE = {
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
FLUX_BLOCK = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
FLUX_SINGLE = {
    "norm.linear": "modulation.lin",
    "proj_out": "linear2",
    "attn.norm_q": "norm.query_norm",
    "attn.norm_k": "norm.key_norm",
}
FLUX_JOINED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
FLUX_SINGLE_JOINED = {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")}
FLUX_OUTSIDE = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}


def sd3_names(held: Tensors) -> Tensors:
    found = dict(_outside(held, SD3_OUTSIDE))
    found["pos_embed"] = held["pos_embed.pos_embed"]
    found |= _blocks(held, "transformer_blocks", "joint_blocks", SD3_BLOCK, SD3_JOINED)
    last = max(int(name.split(".")[1]) for name in found if name.startswith("joint_blocks"))
    final = f"joint_blocks.{last}.context_block.adaLN_modulation.1"  # its halves are swapped too
    for kind in ("weight", "bias"):
        found[f"{final}.{kind}"] = torch.cat(found[f"{final}.{kind}"].chunk(2)[::-1])
    return found


def flux_names(held: Tensors) -> Tensors:
    found = dict(_outside(held, FLUX_OUTSIDE))
    found |= _blocks(held, "transformer_blocks", "double_blocks", FLUX_BLOCK, FLUX_JOINED)
    found |= _blocks(
        held, "single_transformer_blocks", "single_blocks", FLUX_SINGLE, FLUX_SINGLE_JOINED
    )
    norms = (".query_norm.weight", ".key_norm.weight")
    return {n.replace("weight", "scale") if n.endswith(norms) else n: v for n, v in found.items()}


def _outside(held: Tensors, names: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
    for new, old in names.items():
        for kind in ("weight", "bias"):
            value = held[f"{new}.{kind}"]
            swapped = old.startswith("final_layer.adaLN")
            yield f"{old}.{kind}", torch.cat(value.chunk(2)[::-1]) if swapped else value


def _blocks(
    held: Tensors, new: str, old: str, single: dict[str, str], joined: dict[str, tuple[str, ...]]
) -> Tensors:
    found = {}
    for block in {name.split(".")[1] for name in held if name.startswith(f"{new}.")}:
        for kind in ("weight", "bias"):
            for theirs, ours in single.items():
                if (name := f"{new}.{block}.{theirs}.{kind}") in held:
                    found[f"{old}.{block}.{ours}.{kind}"] = held[name]
            for ours, parts in joined.items():
                names = [f"{new}.{block}.{part}.{kind}" for part in parts]
                if names[0] in held:
                    found[f"{old}.{block}.{ours}.{kind}"] = torch.cat([held[n] for n in names])
    return found


def t5_names(held: Tensors) -> Tensors:
    return {name: value for name, value in held.items() if "embed_tokens" not in name}


Rename = Callable[[Tensors], Tensors]
LAYOUTS: dict[str, dict[str, tuple[str, Rename]]] = {
    "tiny_sd15": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("cond_stage_model.transformer.", clip_names),
    },
    "tiny_sd2": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("cond_stage_model.model.", open_clip_names),
    },
    "tiny_sdxl": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("conditioner.embedders.0.transformer.", clip_names),
        "text_encoder_2": ("conditioner.embedders.1.model.", open_clip_names),
    },
    "tiny_refiner": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder_2": ("conditioner.embedders.0.model.", open_clip_names),
    },
    "tiny_sd3": {
        "transformer": ("model.diffusion_model.", sd3_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("text_encoders.clip_l.transformer.", clip_names),
        "text_encoder_2": ("text_encoders.clip_g.transformer.", clip_names),
        "text_encoder_3": ("text_encoders.t5xxl.transformer.", t5_names),
    },
    "tiny_flux": {
        "transformer": ("model.diffusion_model.", flux_names),
        "vae": ("vae.", vae_names),
        "text_encoder": ("text_encoders.clip_l.transformer.", clip_names),
        "text_encoder_2": ("text_encoders.t5xxl.transformer.", t5_names),
    },
}  # fmt: skip


def single_file(folder: Path, name: str, to: Path) -> None:
    """Write a diffusers folder as one file with the original names, and its configuration beside it."""
    source, whole = folder / "checkpoints" / name, {}
    for part, (prefix, rename) in LAYOUTS[name].items():
        whole |= {f"{prefix}{n}": v for n, v in rename(weights(source / part)).items()}
    to.mkdir(parents=True, exist_ok=True)
    save_file({n: v.contiguous().clone() for n, v in whole.items()}, to / f"{name}.safetensors")
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(source, to / f"{name}.config", ignore=ignored)


def weights(folder: Path) -> Tensors:
    return {n: v for file in folder.glob("*.safetensors") for n, v in load_file(file).items()}
