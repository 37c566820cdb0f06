"""Toy parts for tests: a language model of 0.1 million weights with a tokenizer that knows letters."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from flowdesign.catalog import ASSETS


def write_tiny_base(folder: Path) -> Path:
    """Write a random Llama of two layers as an ordinary transformers folder."""
    torch.manual_seed(0)
    letters = ["<pad>", "<unk>", *"abcdefghijklmnopqrstuvwxyz0123456789:.,"]
    words = models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<pad>", pad_token="<pad>"
    )
    wrapped.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
    )
    LlamaModel(config).save_pretrained(folder)
    return folder


NO_TENSORS = (2).to_bytes(8, "little") + b"{}"  # a whole safetensors file
OTHERWISE = (4).to_bytes(8, "little") + b"{  }"  # and another one, of other bytes


def every_model(folder: Path) -> Path:
    """Make a models folder where every model of the catalog seems to be; no file has a tensor."""
    for asset in ASSETS:
        path = folder / asset.kind / f"{asset.name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(NO_TENSORS)
    return folder
