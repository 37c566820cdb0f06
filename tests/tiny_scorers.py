"""Random weights under the published names of the learned scorers, small or (on meta) full size.

Shapes are written down from the authors' public code, not read from flowdesign.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_models import letter_tokenizer
from torch import Tensor
from transformers import BertTokenizer

Shapes = dict[str, tuple[int, ...]]
HEAD = (1024, 128, 64, 16, 1)
# layers of picture and prompt, widths, patch, places, words, positions, shared width
SMALL_CLIP = (2, 2, 160, 128, 7, 17, 190, 77, 48)
SMALL_REWARD = (2, 2, 128, 64, 8, 17, 60, 40)
FULL_CLIP = (32, 24, 1280, 1024, 14, 257, 49408, 77, 1024)  # open_clip's ViT-H-14
FULL_REWARD = (24, 12, 1024, 768, 16, 197, 30524, 512)  # BLIP large at 224 pixels
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "circle", "star", "and", "##s"]


def with_bias(name: str, out: int, into: int) -> Shapes:
    return {name + ".weight": (out, into), name + ".bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {name + ".weight": (width,), name + ".bias": (width,)}


def clip_shapes(sizes: tuple[int, ...]) -> Shapes:
    """open_clip's CLIP (open_clip/model.py, open_clip/transformer.py)."""
    deep, long, seen, read, patch, places, words, positions, shared = sizes
    return (
        {
            "visual.class_embedding": (seen,),
            "visual.positional_embedding": (places, seen),
            "visual.proj": (seen, shared),
            "visual.conv1.weight": (seen, 3, patch, patch),
            "token_embedding.weight": (words, read),
            "positional_embedding": (positions, read),
            "text_projection": (read, shared),
            "logit_scale": (),
        }
        | norm("visual.ln_pre", seen)
        | norm("visual.ln_post", seen)
        | norm("ln_final", read)
        | clip_blocks("visual.transformer.resblocks.", deep, seen)
        | clip_blocks("transformer.resblocks.", long, read)
    )


def clip_blocks(prefix: str, count: int, width: int) -> Shapes:
    shapes: Shapes = {}
    for at in (f"{prefix}{number}." for number in range(count)):
        shapes |= norm(at + "ln_1", width) | norm(at + "ln_2", width)
        shapes |= {at + "attn.in_proj_weight": (3 * width, width)}
        shapes |= {at + "attn.in_proj_bias": (3 * width,)}
        shapes |= with_bias(at + "attn.out_proj", width, width)
        shapes |= with_bias(at + "mlp.c_fc", 4 * width, width)
        shapes |= with_bias(at + "mlp.c_proj", width, 4 * width)
    return shapes


def reward_shapes(sizes: tuple[int, ...]) -> Shapes:
    """ImageReward.pt (ImageReward/ImageReward.py, models/BLIP), with what scoring does not use."""
    deep, long, seen, read, patch, places, words, positions = sizes
    vision, text = "blip.visual_encoder.", "blip.text_encoder."
    return (
        {
            vision + "cls_token": (1, 1, seen),
            vision + "pos_embed": (1, places, seen),
            vision + "patch_embed.proj.weight": (seen, 3, patch, patch),
            vision + "patch_embed.proj.bias": (seen,),
            text + "embeddings.word_embeddings.weight": (words, read),
            text + "embeddings.position_embeddings.weight": (positions, read),
            text + "embeddings.position_ids": (1, positions),
        }
        | norm(vision + "norm", seen)
        | norm(text + "embeddings.LayerNorm", read)
        | {k: v for n in range(deep) for k, v in vision_block(f"{vision}blocks.{n}.", seen).items()}
        | {k: v for n in range(long) for k, v in text_layer(f"{text}encoder.layer.{n}.", read, seen).items()}
        | with_bias("blip.vision_proj", 256, seen)
        | with_bias("blip.text_proj", 256, read)
        | head_shapes("mlp.layers.", read)
    )  # fmt: skip


def vision_block(at: str, width: int) -> Shapes:
    return (
        norm(at + "norm1", width)
        | norm(at + "norm2", width)
        | with_bias(at + "attn.qkv", 3 * width, width)
        | with_bias(at + "attn.proj", width, width)
        | with_bias(at + "mlp.fc1", 4 * width, width)
        | with_bias(at + "mlp.fc2", width, 4 * width)
    )


def text_layer(at: str, width: int, other: int) -> Shapes:
    shapes: Shapes = {}
    for name, into in (("attention.", width), ("crossattention.", other)):
        shapes |= with_bias(at + name + "self.query", width, width)
        shapes |= with_bias(at + name + "self.key", width, into)
        shapes |= with_bias(at + name + "self.value", width, into)
        shapes |= with_bias(at + name + "output.dense", width, width)
        shapes |= norm(at + name + "output.LayerNorm", width)
    shapes |= with_bias(at + "intermediate.dense", 4 * width, width)
    return (
        shapes
        | with_bias(at + "output.dense", width, 4 * width)
        | norm(at + "output.LayerNorm", width)
    )


def head_shapes(at: str, width: int) -> Shapes:
    shapes: Shapes = {}
    for index, before, after in zip((0, 2, 4, 6, 7), (width, *HEAD), HEAD, strict=False):
        shapes |= with_bias(f"{at}{index}", after, before)
    return shapes


def random_weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep signals of size about 1; norms near 1."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return torch.tensor(rng.normal(0, spread, shape), dtype=torch.float32)

    found = {name: draw(shape) for name, shape in shapes.items()}
    for name in found:
        if name.endswith((".ln_1.weight", ".ln_2.weight", "ln_pre.weight", "norm1.weight")):
            found[name] += 1
    if "logit_scale" in found:
        found["logit_scale"] = torch.tensor(3.0)
    return found


def meta_weights(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of any size without memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def plain(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {name: one.double().numpy() for name, one in weights.items()}


def write_bert_tokenizer(folder: Path) -> BertTokenizer:
    """BERT's tokenizer with a dozen words, as vocab.txt beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return BertTokenizer.from_pretrained(folder)


def write_clip_tokenizer(folder: Path) -> Any:
    tokenizer = letter_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
