"""ImageReward (Xu et al., arXiv 2304.05977): BLIP reads the prompt while it looks at the picture.

A ViT-L/16 encodes the picture; a BERT encodes the prompt, and after its self-attention each layer
attends to the picture. The first token goes through the head; the reward is standardised with the
mean and deviation that the authors published. BLIP: Li et al., arXiv 2201.12086.

Modules carry the names of the published file, so that its weights load as they are. Sizes are read
from the weights; a head of attention is 64 wide in both encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdesign.scorers.networks.head import Head
from flowdesign.scorers.networks.loading import count_layers, fill

MEAN = 0.16717362830052426
DEVIATION = 1.0333394966054072
HEAD_WIDTH = 64
TOKENS = 35  # a prompt is cut or padded to this length
UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


class ImageRewardNetwork(nn.Module):
    """Pixels and tokens to a reward of about -2 to 2."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.blip = nn.Module()
        self.blip.visual_encoder = Vision(
            sizes["vision"], sizes["vision_layers"], sizes["patch"], sizes["places"]
        )
        self.blip.text_encoder = Text(
            sizes["text"], sizes["text_layers"], sizes["vision"], sizes["words"], sizes["positions"]
        )
        self.mlp = Head(sizes["text"])
        self.side = sizes["patch"] * round((sizes["places"] - 1) ** 0.5)

    def forward(self, pixels: Tensor, tokens: Tensor, there: Tensor) -> Tensor:
        """Reward (batch,) for pixels (batch, 3, side, side) and tokens (batch, time).

        `there` (batch, time) is 0 where a token is padding and 1 where it counts.
        """
        picture = self.blip.visual_encoder(pixels)
        text: Tensor = self.blip.text_encoder(tokens, there, picture)
        reward: Tensor = self.mlp(text[:, 0])
        return (reward - MEAN) / DEVIATION


def build(weights: Mapping[str, Tensor]) -> ImageRewardNetwork:
    """Make the network that these weights belong to and load them.

    Raises ScorerError when a weight is absent, left over or of another shape.
    """
    used = {name: one for name, one in weights.items() if not name.startswith(UNUSED)}
    return fill(lambda: ImageRewardNetwork(sizes_of(used)), used, "ImageReward")


def sizes_of(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Read the sizes of the network from its weights; KeyError when they are not ImageReward's."""
    patches = weights["blip.visual_encoder.patch_embed.proj.weight"]
    words = weights["blip.text_encoder.embeddings.word_embeddings.weight"]
    return {
        "vision": patches.shape[0],
        "patch": patches.shape[-1],
        "places": weights["blip.visual_encoder.pos_embed"].shape[1],
        "vision_layers": count_layers(weights, "blip.visual_encoder.blocks."),
        "words": words.shape[0],
        "text": words.shape[1],
        "positions": weights["blip.text_encoder.embeddings.position_embeddings.weight"].shape[0],
        "text_layers": count_layers(weights, "blip.text_encoder.encoder.layer."),
    }


# --- the picture ---------------------------------------------------------------------------------


class Vision(nn.Module):
    """A vision transformer that gives every place of the picture, the class token first."""

    def __init__(self, width: int, layers: int, patch: int, places: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, places, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.blocks = nn.ModuleList(VisionBlock(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (batch, 3, side, side) to (batch, places, width)."""
        patches = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], 1)
        hidden = hidden + self.pos_embed
        for block in self.blocks:
            hidden = block(hidden)
        normed: Tensor = self.norm(hidden)
        return normed


class VisionBlock(nn.Module):
    """Attention and a network of two layers, each behind a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (batch, places, width) to the same shape."""
        query, key, value = self.attn.qkv(self.norm1(hidden)).chunk(3, -1)
        hidden = hidden + self.attn.proj(attend(query, key, value))
        inner = functional.gelu(self.mlp.fc1(self.norm2(hidden)))
        out: Tensor = hidden + self.mlp.fc2(inner)
        return out


# --- the prompt ----------------------------------------------------------------------------------


class Text(nn.Module):
    """BERT whose layers also attend to the picture."""

    def __init__(self, width: int, layers: int, other: int, words: int, positions: int) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(words, width)
        self.embeddings.position_embeddings = nn.Embedding(positions, width)
        self.embeddings.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(TextLayer(width, other) for _ in range(layers))

    def forward(self, tokens: Tensor, there: Tensor, picture: Tensor) -> Tensor:
        """Map tokens (batch, time) to (batch, time, width)."""
        places = self.embeddings.position_embeddings.weight[: tokens.shape[1]]
        hidden = self.embeddings.LayerNorm(self.embeddings.word_embeddings(tokens) + places)
        mask = there.bool()[:, None, None, :]  # (batch, head, from, to)
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask, picture)
        done: Tensor = hidden
        return done


class TextLayer(nn.Module):
    """Attention among the words, then from the words to the picture, then two linear layers."""

    def __init__(self, width: int, other: int) -> None:
        super().__init__()
        self.attention = TextAttention(width, width)
        self.crossattention = TextAttention(width, other)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(width, 4 * width)
        self.output = Residual(4 * width, width)

    def forward(self, hidden: Tensor, mask: Tensor, picture: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape; every place of the picture may be seen."""
        hidden = self.attention(hidden, hidden, mask)
        hidden = self.crossattention(hidden, picture, None)
        inner = functional.gelu(self.intermediate.dense(hidden))
        out: Tensor = self.output(inner, hidden)
        return out


class TextAttention(nn.Module):
    """Attention to what another sequence of `other` features says, added and normed."""

    def __init__(self, width: int, other: int) -> None:
        super().__init__()
        parts: Any = nn.Module()
        parts.query = nn.Linear(width, width)
        parts.key, parts.value = nn.Linear(other, width), nn.Linear(other, width)
        self.add_module("self", parts)  # a name that no attribute may have
        self.output = Residual(width, width)

    def forward(self, hidden: Tensor, seen: Tensor, mask: Tensor | None) -> Tensor:
        """Map hidden (batch, time, width) with seen (batch, places, other) to hidden's shape."""
        parts: Any = self.get_submodule("self")
        found = attend(parts.query(hidden), parts.key(seen), parts.value(seen), mask)
        out: Tensor = self.output(found, hidden)
        return out


class Residual(nn.Module):
    """A linear layer, added to what was there, then normed."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.dense = nn.Linear(before, after)
        self.LayerNorm = nn.LayerNorm(after, eps=1e-12)

    def forward(self, inner: Tensor, hidden: Tensor) -> Tensor:
        """Map inner (..., before) and hidden (..., after) to hidden's shape."""
        out: Tensor = self.LayerNorm(self.dense(inner) + hidden)
        return out


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, heads of HEAD_WIDTH; (batch, time, width) in and out."""
    query, key, value = (
        part.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for part in (query, key, value)
    )
    found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return found.transpose(1, 2).flatten(2)
