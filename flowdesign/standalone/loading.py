"""What scripts call to load a single file as ComfyUI has them: each is copied into the scripts that use it.

diffusers' own from_single_file asks the hub for the sizes of a model; here the script tells them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import AutoTokenizer

from flowdesign.render.single_file import tensors_of, text_names, unet_names, vae_names
from flowdesign.render.tokenizers import clip_tokenizer

HUB = "openai/clip-vit-large-patch14"  # whose words every CLIP reads


def load_unet(file: str, prefix: str, settings: dict[str, Any]) -> Any:
    """Load the UNet from the tensors of a file whose names begin with the prefix."""
    return _loaded(UNet2DConditionModel, file, prefix, settings, unet_names)


def load_vae(file: str, prefix: str, settings: dict[str, Any]) -> Any:
    """Load the VAE from the tensors of a file whose names begin with the prefix."""
    return _loaded(AutoencoderKL, file, prefix, settings, vae_names)


def load_text_encoder(kind: Any, file: str, prefix: str, settings: dict[str, Any]) -> Any:
    """Load a text encoder of this class from the tensors whose names begin with the prefix."""
    module = kind(kind.config_class(**settings))
    return _filled(module, text_names(module, tensors_of(Path(file), prefix)))


def words_of(merges: str, padding: str) -> Any:
    """CLIP's tokenizer: from a file of its merges, or from the hub where there is none."""
    if Path(merges).is_file():
        return clip_tokenizer(merges, padding)
    return AutoTokenizer.from_pretrained(HUB, pad_token=padding)


def _loaded(
    kind: Any, file: str, prefix: str, settings: dict[str, Any], names: Callable[..., Any]
) -> Any:
    with torch.device("meta"):  # its weights come from the file
        module = kind.from_config(settings)
    held = tensors_of(Path(file), prefix)
    if not module.state_dict().keys() <= held.keys():  # some files have diffusers' own names
        held = names(held, dict(module.config))
    return _filled(module, held)


def _filled(module: Any, held: dict[str, Any]) -> Any:
    weights = {name: held[name].float() for name in module.state_dict()}
    module.load_state_dict(weights, assign=True)
    return module.eval()
