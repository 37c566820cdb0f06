"""The LoRAs of the family: each teaches one base checkpoint the variant of its domain."""

from __future__ import annotations

from pathlib import Path

from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

RANK = 8
# Attention and feed-forward as usual, and what carries the pooled prompt into every block.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "time_emb_proj"]
TARGETS += ["add_embedding.linear_1", "add_embedding.linear_2", "conv1", "conv2"]


def add_lora(unet: UNet2DConditionModel) -> None:
    """Freeze the model and add a fresh trainable LoRA to it."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))


def save_lora(unet: UNet2DConditionModel, path: Path) -> None:
    """Write `path` (.safetensors) with diffusers' keys; the strength 1 is the trained strength."""
    layers = {k: v.half() for k, v in get_peft_model_state_dict(unet).items()}
    StableDiffusionXLPipeline.save_lora_weights(
        path.parent, unet_lora_layers=layers, weight_name=path.name
    )
