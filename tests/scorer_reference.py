"""What the learned scorers compute, worked out a second time in numpy from the published names.

Plain formulas in float64: nothing of flowdesign, torch or transformers is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import erf

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def norm(w: Weights, name: str, x: Array, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * w[name + ".weight"] + w[name + ".bias"]


def linear(w: Weights, name: str, x: Array) -> Array:
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def attention(q: Array, k: Array, v: Array, heads: int, allowed: Array | None = None) -> Array:
    """Of one sequence: q (time, width), k and v (places, width), allowed (time, places)."""
    parts = []
    for head in range(heads):
        own = slice(head * q.shape[1] // heads, (head + 1) * q.shape[1] // heads)
        logits = q[:, own] @ k[:, own].T / np.sqrt(q.shape[1] / heads)
        if allowed is not None:
            logits = np.where(allowed, logits, -np.inf)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        parts.append(share / share.sum(-1, keepdims=True) @ v[:, own])
    return np.concatenate(parts, -1)


def patches(pixels: Array, kernel: Array) -> Array:
    """A convolution whose stride is its size: pixels (3, side, side) to (places, width)."""
    side, count = kernel.shape[-1], pixels.shape[-1] // kernel.shape[-1]
    cut = pixels.reshape(3, count, side, count, side).transpose(1, 3, 0, 2, 4)
    return cut.reshape(count * count, -1) @ kernel.reshape(len(kernel), -1).T


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x)


# --- open_clip's CLIP ----------------------------------------------------------------------------


def open_clip_blocks(w: Weights, prefix: str, x: Array, heads: int, causal: bool) -> Array:
    allowed = np.tri(len(x), dtype=bool) if causal else None
    number = 0
    while f"{prefix}{number}.ln_1.weight" in w:
        at = f"{prefix}{number}."
        into = norm(w, at + "ln_1", x, 1e-5)
        mixed = into @ w[at + "attn.in_proj_weight"].T + w[at + "attn.in_proj_bias"]
        q, k, v = np.split(mixed, 3, -1)
        x = x + linear(w, at + "attn.out_proj", attention(q, k, v, heads, allowed))
        inner = gelu(linear(w, at + "mlp.c_fc", norm(w, at + "ln_2", x, 1e-5)))
        x = x + linear(w, at + "mlp.c_proj", inner)
        number += 1
    return x


def open_clip_picture(w: Weights, pixels: Array, heads: int) -> Array:
    """The unit vector of pixels (3, side, side)."""
    seen = patches(pixels, w["visual.conv1.weight"])
    x = np.concatenate([w["visual.class_embedding"][None], seen]) + w["visual.positional_embedding"]
    x = norm(w, "visual.ln_pre", x, 1e-5)
    x = open_clip_blocks(w, "visual.transformer.resblocks.", x, heads, causal=False)
    return unit(norm(w, "visual.ln_post", x[0], 1e-5) @ w["visual.proj"])


def open_clip_prompt(w: Weights, tokens: list[int], heads: int) -> Array:
    """The unit vector of tokens; the vector of the last word of the vocabulary counts."""
    x = w["token_embedding.weight"][tokens] + w["positional_embedding"][: len(tokens)]
    x = open_clip_blocks(w, "transformer.resblocks.", x, heads, causal=True)
    x = norm(w, "ln_final", x, 1e-5)
    return unit(x[int(np.argmax(tokens))] @ w["text_projection"])


# --- ImageReward ---------------------------------------------------------------------------------


def image_reward(w: Weights, pixels: Array, tokens: list[int], there: list[int]) -> float:
    """The reward of pixels (3, side, side) for padded tokens; heads are 64 wide."""
    seen = blip_picture(w, "blip.visual_encoder.", pixels)
    first = blip_prompt(w, "blip.text_encoder.", tokens, there, seen)[0]
    return (head(w, "mlp.layers.", first) - 0.16717362830052426) / 1.0333394966054072


def blip_picture(w: Weights, at: str, pixels: Array) -> Array:
    bias = w[at + "patch_embed.proj.bias"]
    seen = patches(pixels, w[at + "patch_embed.proj.weight"]) + bias
    x = np.concatenate([w[at + "cls_token"][0], seen]) + w[at + "pos_embed"][0]
    number = 0
    while f"{at}blocks.{number}.norm1.weight" in w:
        block = f"{at}blocks.{number}."
        mixed = linear(w, block + "attn.qkv", norm(w, block + "norm1", x, 1e-6))
        q, k, v = np.split(mixed, 3, -1)
        x = x + linear(w, block + "attn.proj", attention(q, k, v, x.shape[1] // 64))
        inner = gelu(linear(w, block + "mlp.fc1", norm(w, block + "norm2", x, 1e-6)))
        x = x + linear(w, block + "mlp.fc2", inner)
        number += 1
    return norm(w, at + "norm", x, 1e-6)


def blip_prompt(w: Weights, at: str, tokens: list[int], there: list[int], seen: Array) -> Array:
    x = w[at + "embeddings.word_embeddings.weight"][tokens]
    x = x + w[at + "embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(w, at + "embeddings.LayerNorm", x, 1e-12)
    allowed = np.broadcast_to(np.array(there, bool), (len(tokens), len(tokens)))
    number = 0
    while f"{at}encoder.layer.{number}.output.dense.weight" in w:
        layer = f"{at}encoder.layer.{number}."
        x = bert_attention(w, layer + "attention.", x, x, allowed)
        x = bert_attention(w, layer + "crossattention.", x, seen, None)
        inner = gelu(linear(w, layer + "intermediate.dense", x))
        x = norm(w, layer + "output.LayerNorm", linear(w, layer + "output.dense", inner) + x, 1e-12)
        number += 1
    return x


def bert_attention(w: Weights, at: str, x: Array, seen: Array, allowed: Array | None) -> Array:
    q, k = linear(w, at + "self.query", x), linear(w, at + "self.key", seen)
    found = attention(q, k, linear(w, at + "self.value", seen), x.shape[1] // 64, allowed)
    return norm(w, at + "output.LayerNorm", linear(w, at + "output.dense", found) + x, 1e-12)


def head(w: Weights, at: str, x: Array) -> float:
    for index in (0, 2, 4, 6, 7):
        x = linear(w, f"{at}{index}", x)
    return float(x[0])
