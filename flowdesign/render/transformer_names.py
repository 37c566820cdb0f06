"""The names of a transformer's weights in the original code of SD 3 and FLUX.1, as LoRA files of kohya's and
ComfyUI's kind call them.

    shares("transformer_blocks_3_attn_to_k")    ("double_blocks_3_img_attn_qkv", 1), ("joint_blocks_3_...", 1)

There one weight holds what are several here, one under the other: a share is the number of a part in it. Layers
whose halves stand the other way round there have no name: the last one, and one of SD 3's last block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MLP = 3  # the share behind query, key and value in FLUX.1's single blocks; it may be of another height
_DOUBLE = {  # FLUX.1's double blocks, SD 3's joint blocks
    "attn_to_out_0": ("img_attn_proj", "x_block_attn_proj"),
    "attn_to_add_out": ("txt_attn_proj", "context_block_attn_proj"),
    "attn2_to_out_0": ("", "x_block_attn2_proj"),
    "ff_net_0_proj": ("img_mlp_0", "x_block_mlp_fc1"),
    "ff_net_2": ("img_mlp_2", "x_block_mlp_fc2"),
    "ff_context_net_0_proj": ("txt_mlp_0", "context_block_mlp_fc1"),
    "ff_context_net_2": ("txt_mlp_2", "context_block_mlp_fc2"),
    "norm1_linear": ("img_mod_lin", "x_block_adaLN_modulation_1"),
    "norm1_context_linear": ("txt_mod_lin", "context_block_adaLN_modulation_1"),
}
_JOINED = {
    ("attn_to_q", "attn_to_k", "attn_to_v"): ("img_attn_qkv", "x_block_attn_qkv"),
    ("attn_add_q_proj", "attn_add_k_proj", "attn_add_v_proj"): (
        "txt_attn_qkv",
        "context_block_attn_qkv",
    ),
    ("attn2_to_q", "attn2_to_k", "attn2_to_v"): ("", "x_block_attn2_qkv"),
}
_SINGLE = {"norm_linear": "modulation_lin", "proj_out": "linear2"}
_SINGLE_JOINED = ("attn_to_q", "attn_to_k", "attn_to_v", "proj_mlp")  # are linear1
_EMBEDDERS = {
    "timestep_embedder": ("time_in", "t_embedder"),
    "text_embedder": ("vector_in", "y_embedder"),
    "guidance_embedder": ("guidance_in", ""),
}
_OUTSIDE = {
    "x_embedder": ("img_in", ""),
    "context_embedder": ("txt_in", ""),
    "pos_embed_proj": ("", "x_embedder_proj"),
    "proj_out": ("final_layer_linear", "final_layer_linear"),
}
_BLOCK = re.compile(r"(single_)?transformer_blocks_(\d+)_(.+)")
_EMBEDDER = re.compile(r"time_text_embed_(\w+)_linear_([12])")


def turned(flats: Iterable[str]) -> str:
    """The name of the layer in SD 3's last block whose halves stand the other way round."""
    blocks = (_BLOCK.fullmatch(flat) for flat in flats)
    last = max((int(found[2]) for found in blocks if found and not found[1]), default=-1)
    return f"joint_blocks_{last}_context_block_adaLN_modulation_1"


def shares(flat: str) -> Iterator[tuple[str, int | None]]:
    """Yield the original names of a weight, with dots as underscores, and its number in each: None if it is
    all of it."""
    if found := _BLOCK.fullmatch(flat):
        single, block, rest = found.groups()
        yield from _single(block, rest) if single else _double(block, rest)
    elif found := _EMBEDDER.fullmatch(flat):
        flux, sd3 = _EMBEDDERS.get(found[1], ("", ""))
        first = found[2] == "1"
        yield from _named((flux, f"{flux}_{'in' if first else 'out'}_layer", None))
        yield from _named((sd3, f"{sd3}_mlp_{0 if first else 2}", None))
    else:
        yield from _named(*((name, name, None) for name in dict.fromkeys(_OUTSIDE.get(flat, ()))))


def _double(block: str, rest: str) -> Iterator[tuple[str, int | None]]:
    found = [(names, None) for part, names in _DOUBLE.items() if part == rest]
    joined = [(names, parts.index(rest)) for parts, names in _JOINED.items() if rest in parts]
    for (flux, sd3), share in (*found, *joined):
        yield from _named(
            (flux, f"double_blocks_{block}_{flux}", share),
            (sd3, f"joint_blocks_{block}_{sd3}", share),
        )


def _single(block: str, rest: str) -> Iterator[tuple[str, int | None]]:
    if rest in _SINGLE:
        yield f"single_blocks_{block}_{_SINGLE[rest]}", None
    elif rest in _SINGLE_JOINED:
        yield f"single_blocks_{block}_linear1", _SINGLE_JOINED.index(rest)


def _named(*among: tuple[str, str, int | None]) -> Iterator[tuple[str, int | None]]:
    """Leave out what one of the two families does not have."""
    yield from ((name, share) for known, name, share in among if known)
