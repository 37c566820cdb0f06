"""CLIP (arXiv 2103.00020) as transformers has it: pictures and prompts as unit vectors.

PickScore, HPS v2.1 and the generic similarity are all this model with other weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from flowdesign.scorers.networks.loading import complain, count_layers
from flowdesign.scorers.networks.pixels import Frame, crop, to_pixels
from flowdesign.scorers.scorer import ScorerError, ScorerMissing

TOKENS = 77  # a longer prompt is cut
HEAD_WIDTHS = (80, 64)  # of the picture's and the prompt's attention in ViT-H/14


class Clip:
    """A CLIP model and its tokenizer on a device."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.side = int(model.config.vision_config.image_size)

    @property
    def scale(self) -> float:
        """The learned factor of a similarity (the exponential of logit_scale)."""
        return float(self.model.logit_scale.exp())

    @torch.inference_mode()
    def pictures(self, images: Sequence[Image], frame: Frame = crop) -> Tensor:
        """Give the unit vectors (images, width) of pictures of any size."""
        pixels = to_pixels(images, self.side, frame).to(self.model.device)
        # The parts, not get_image_features: what that returns changed with transformers 5.
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return functional.normalize(self.model.visual_projection(seen), dim=-1)

    @torch.inference_mode()
    def prompts(self, prompts: Sequence[str]) -> Tensor:
        """Give the unit vectors (prompts, width); equal prompts are read once."""
        distinct = list(dict.fromkeys(prompts))
        tokens = self.tokenizer(
            distinct, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt"
        ).to(self.model.device)
        read = self.model.text_model(tokens.input_ids, tokens.attention_mask).pooler_output
        vectors = functional.normalize(self.model.text_projection(read), dim=-1)
        return vectors[[distinct.index(prompt) for prompt in prompts]]

    def similarities(
        self, prompts: Sequence[str], images: Sequence[Image], frame: Frame = crop
    ) -> Tensor:
        """Give the cosine (images,) between each picture and its prompt."""
        return (self.pictures(images, frame) * self.prompts(prompts)).sum(-1)


def load_clip(place: str, words: str, device: str) -> Clip:
    """Load a model from a folder or repository, its tokenizer from `words`.

    Raises ScorerMissing when either is not there, ScorerError when the weights are not all there.
    """
    try:
        tokenizer = CLIPTokenizer.from_pretrained(words)
        model, told = CLIPModel.from_pretrained(
            place, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except OSError as fault:
        raise ScorerMissing(f"{place} or {words} cannot be read: {fault}") from fault
    except (SafetensorError, RuntimeError) as fault:  # damaged, or of another shape
        raise ScorerError(f"{place} does not hold a CLIP model's weights: {fault}") from fault
    complain(f"CLIP in {place}", set(told["missing_keys"]))
    return Clip(model.eval().requires_grad_(False).to(device), tokenizer)


# --- from open_clip ------------------------------------------------------------------------------

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_SINGLE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWERS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an open_clip CLIP's weights to transformers' names; what is unknown keeps its name.

    Query, key and value are one matrix there and three here; projections stand the other way round.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name in _SINGLE:
            renamed[_SINGLE[name]] = value
        elif name in _TURNED:
            renamed[_TURNED[name]] = value.T.contiguous()
        else:
            renamed |= _block_weights(name, value)
    return renamed


def _block_weights(name: str, value: Tensor) -> dict[str, Tensor]:
    """Rename one weight of a transformer block."""
    tower = next((prefix for prefix in _TOWERS if name.startswith(prefix)), None)
    if tower is None:
        return {name: value}
    number, _, part = name.removeprefix(tower).partition(".")
    place = f"{_TOWERS[tower]}{number}."
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        names = (f"{place}self_attn.{letter}_proj.{kind}" for letter in "qkv")
        return {new: one.clone() for new, one in zip(names, value.chunk(3), strict=True)}
    module, _, kind = part.rpartition(".")
    return {f"{place}{_BLOCK[module]}.{kind}": value} if module in _BLOCK else {name: value}


def config_of(weights: Mapping[str, Tensor], heads: tuple[int, int] = HEAD_WIDTHS) -> CLIPConfig:
    """Read a model's sizes from open_clip's weights; KeyError when they are not CLIP's.

    `heads` are the widths of a head of attention, which weights do not tell: picture, prompt.
    """
    patches, words = weights["visual.conv1.weight"], weights["token_embedding.weight"]
    places = weights["visual.positional_embedding"].shape[0] - 1
    vision = _tower(weights, "visual.transformer.resblocks.", patches.shape[0], heads[0])
    text = _tower(weights, "transformer.resblocks.", words.shape[1], heads[1])
    width = weights["text_projection"].shape[1]
    patch = patches.shape[-1]
    vision |= {"patch_size": patch, "image_size": patch * round(places**0.5)}
    text |= {"vocab_size": words.shape[0], "bos_token_id": words.shape[0] - 2}
    text |= {"eos_token_id": words.shape[0] - 1, "pad_token_id": 0}  # the end is the last word
    text |= {"max_position_embeddings": weights["positional_embedding"].shape[0]}
    return CLIPConfig(
        vision_config=vision | {"projection_dim": width},
        text_config=text | {"projection_dim": width},
        projection_dim=width,
    )


def _tower(
    weights: Mapping[str, Tensor], prefix: str, width: int, head: int
) -> dict[str, int | str]:
    return {
        "hidden_size": width,
        "intermediate_size": weights[f"{prefix}0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": count_layers(weights, prefix),
        "num_attention_heads": width // head,
        "hidden_act": "gelu",
    }
