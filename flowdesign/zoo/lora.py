"""The LoRAs of the family: each teaches one base checkpoint the variant of its domain."""

from __future__ import annotations

from pathlib import Path

from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

RANK = 8
# Attention and feed-forward as usual, and what carries the pooled prompt into every block.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "time_emb_proj"]
TARGETS += ["add_embedding.linear_1", "add_embedding.linear_2", "conv1", "conv2"]


def add_lora(unet: UNet2DConditionModel) -> None:
    """Freeze the model and add a fresh trainable LoRA to it."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))


def save_lora(unet: UNet2DConditionModel, path: Path) -> None:
    """Write one safetensors file with diffusers' keys; strength 1 is the trained strength."""
    layers = get_peft_model_state_dict(unet)
    save_file({f"unet.{key}": value.half().contiguous() for key, value in layers.items()}, path)
