"""Random models of a few thousand weights, written as ordinary files: nothing they draw has a meaning.

<folder>/checkpoints/tiny_sd15    one CLIP text encoder, eps-prediction, 4 latent channels
<folder>/checkpoints/tiny_sdxl    two text encoders, pooled text and sizes beside the timestep
<folder>/checkpoints/tiny_mini    the miniature's layout: the second encoder only, v-prediction,
                                  the project's own codec with 16 channels, any tokenizer
<folder>/vae/tiny_vae             another codec for tiny_mini
<folder>/vae/tiny_kl              an AutoencoderKL with as many channels
<folder>/loras/tiny_lora          for tiny_sd15: UNet and text encoder
<folder>/loras/mini_lora          for tiny_mini: UNet only, with convolutions and embeddings
<folder>/upscale_models/tiny_2x   an upscaler that spandrel detects
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact as SRVGGNetCompact
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
)

from flowdesign.render.codec import PatchCodec

START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH = 32
WORDS = list("abcdefgh") + ["red", "blue", "star", "circle", "on", "white", "two", ",", "."]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
MINI_LORA = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "time_emb_proj"]
MINI_LORA += ["add_embedding.linear_1", "add_embedding.linear_2", "conv1", "conv2"]


def write_tiny_models(folder: Path) -> Path:
    """Write every model of this file's list; takes about two seconds."""
    torch.manual_seed(0)
    for kind in ("checkpoints", "loras", "vae", "upscale_models"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    _write_sd15(folder)
    _write_sdxl(folder)
    _write_miniature(folder)
    upscaler = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2, act_type="prelu")
    save_file(upscaler.state_dict(), folder / "upscale_models" / "tiny_2x.safetensors")
    return folder


def _write_sd15(folder: Path) -> None:
    tokenizer = letter_tokenizer(folder / "letters")
    unet = UNet2DConditionModel(**unet_config(4, layers=1, attention_head_dim=2))
    text = CLIPTextModel(clip_config(len(tokenizer), tokenizer))
    StableDiffusionPipeline(
        vae=tiny_vae(4, 0.18215),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**BETAS, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "checkpoints" / "tiny_sd15")
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    parts = {"unet_lora_layers": lora_weights(unet, layers)}
    parts["text_encoder_lora_layers"] = lora_weights(
        text, ["q_proj", "k_proj", "v_proj", "out_proj"]
    )
    StableDiffusionPipeline.save_lora_weights(
        folder / "loras", weight_name="tiny_lora.safetensors", **parts
    )


def _write_sdxl(folder: Path) -> None:
    tokenizer = letter_tokenizer(folder / "letters")
    StableDiffusionXLPipeline(
        vae=tiny_vae(4, 0.13025),
        text_encoder=CLIPTextModel(clip_config(len(tokenizer), tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(len(tokenizer), tokenizer)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(**unet_config(4, layers=1) | added_config(2 * WIDTH)),
        scheduler=EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    ).save_pretrained(folder / "checkpoints" / "tiny_sdxl")


def _write_miniature(folder: Path) -> None:
    tokenizer = word_tokenizer()
    unet = UNet2DConditionModel(**unet_config(16, layers=1) | added_config(WIDTH))
    StableDiffusionXLPipeline(
        vae=tiny_codec().half(),
        text_encoder=None,
        text_encoder_2=CLIPTextModelWithProjection(clip_config(len(tokenizer), tokenizer)).half(),
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=unet.half(),
        scheduler=EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
        add_watermarker=False,
    ).save_pretrained(folder / "checkpoints" / "tiny_mini")
    tiny_codec(correction=0.2).half().save_pretrained(folder / "vae" / "tiny_vae")
    tiny_vae(16, 0.8).half().save_pretrained(folder / "vae" / "tiny_kl")
    StableDiffusionXLPipeline.save_lora_weights(
        folder / "loras",
        weight_name="mini_lora.safetensors",
        unet_lora_layers=lora_weights(unet, MINI_LORA),
    )


def unet_config(channels: int, layers: int, attention_head_dim: Any = (1, 2)) -> dict[str, Any]:
    return {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": layers,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": attention_head_dim,
        "norm_num_groups": 8,
    }


def added_config(cross_attention_dim: int) -> dict[str, Any]:
    """What SDXL's layout adds: pooled text (WIDTH) and six sizes of eight features each."""
    return {
        "cross_attention_dim": cross_attention_dim,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": WIDTH + 6 * 8,
    }


def tiny_vae(channels: int, scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        scaling_factor=scaling_factor,
        force_upcast=False,
    )


def tiny_codec(correction: float = 0.05) -> PatchCodec:
    """The miniature's codec, its components fitted to random pictures, its correction random."""
    codec = PatchCodec(latent_channels=16, width=8, fine_width=8)
    coarse = torch.rand((64, 3, 4, 4), generator=torch.Generator().manual_seed(1)) * 2 - 1
    codec.fit_components(functional.interpolate(coarse, size=(32, 32), mode="bicubic"))
    torch.nn.init.normal_(codec.leave.weight, std=correction)
    return codec


def clip_config(words: int, tokenizer: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def letter_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's own tokenizer with single letters for words: no download, no merges."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(vocabulary), str(folder / "merges.txt"), model_max_length=77)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per known word, as the miniature models have it."""
    vocabulary = {word: i for i, word in enumerate(["<|unk|>", *WORDS, START, END])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token="<|unk|>",
        model_max_length=77,
    )


def lora_weights(model: Any, targets: list[str]) -> dict[str, torch.Tensor]:
    """The weights of an adapter for a model, which changes something; the model stays as it is."""
    config = LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    adapted = inject_adapter_in_model(config, deepcopy(model), adapter_name="new")
    weights = get_peft_model_state_dict(adapted, adapter_name="new")
    return {name: value.detach().clone().float() * 0.3 for name, value in weights.items()}
