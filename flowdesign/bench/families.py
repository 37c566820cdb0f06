"""How much time and memory an image of each family takes, at its real size in bfloat16.

The weights are random, in one file under the shipped configuration: loading, texts, sampling and
decoding are the real ones, and what is drawn means nothing. Without a GPU, or when quick, the networks
have the real structure and few weights, and memory is that of the process.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdesign.bench.hardware import GIB, device_name, forget_peak, peak
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.bench.weights import random_weight
from flowdesign.workflow import Workflow

if TYPE_CHECKING:
    import torch

NAME = "random"
SIDES = {"sd1": 512, "sd2": 768}  # pixels; 1024 for the others
STEPS, FEW_STEPS, SMALL_SIDE = 20, 2, 64
_SMALL: Mapping[str, Mapping[str, Any]] = {  # by class, in place of the real sizes
    "UNet2DConditionModel": {
        "attention_head_dim": 2,
        "transformer_layers_per_block": 1,
        "layers_per_block": 1,
    },
    "SD3Transformer2DModel": {
        "num_layers": 1,
        "num_attention_heads": 2,
        "caption_projection_dim": 128,
        "dual_attention_layers": [],
    },
    "FluxTransformer2DModel": {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2},
    "AutoencoderKL": {"block_out_channels": [32] * 4, "layers_per_block": 1},
    "T5EncoderModel": {"num_layers": 1, "d_ff": 64, "num_heads": 2, "vocab_size": 64},
    "CLIPTextModel": {"num_hidden_layers": 2},
    "CLIPTextModelWithProjection": {"num_hidden_layers": 2},
}
_QUICK = ("sd1", "flux_schnell")


def measure(quick: bool, say: Say) -> Measured:
    """Render one image of each layout that is shipped."""
    import torch

    from flowdesign.render.layouts import LAYOUTS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = quick or device == "cpu"
    rows = []
    for layout in _QUICK if quick else tuple(LAYOUTS)[::-1]:
        with tempfile.TemporaryDirectory() as folder:
            write_random(layout, Path(folder), small)
            rows.append(_rendered(layout, Path(folder), device, small))
        say(f"{layout}: {rows[-1]['seconds']} s")
    what = "networks of the real structure with few weights" if small else "networks of real size"
    return Measured(rows, (f"{what}, random, on {device_name(device)}",))


def write_random(layout: str, folder: Path, small: bool) -> None:
    """Write a checkpoint of random weights as one file, with its configuration beside it."""
    from safetensors.torch import save_file

    from flowdesign.render.checkpoint import described
    from flowdesign.render.files import CONFIGS
    from flowdesign.render.layouts import PREFIXES
    from flowdesign.render.single_file import empty

    configs = folder / "checkpoints" / f"{NAME}.config"
    shutil.copytree(CONFIGS / layout, configs)
    for path in configs.glob("*/config.json") if small else ():
        path.write_text(json.dumps(_shrunk(json.loads(path.read_text()))))
    whole: dict[str, torch.Tensor] = {}
    for part in described(configs):
        if part.role == "t5":
            _write_tokenizer(
                part.config.with_name(part.config.name.replace("text_encoder", "tokenizer"))
            )
        for name, value in empty(part).state_dict().items():
            whole[PREFIXES[part.role][-1] + name] = random_weight(name, value.shape)
    save_file(whole, folder / "checkpoints" / f"{NAME}.safetensors")


def _shrunk(settings: dict[str, Any]) -> dict[str, Any]:
    kind = settings.get("_class_name") or settings["architectures"][0]
    found = settings | dict(_SMALL[kind])
    if kind == "UNet2DConditionModel":
        found["block_out_channels"] = [
            32 * 2 ** min(at, 2) for at, _ in enumerate(settings["block_out_channels"])
        ]
    return found


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer that takes every word for an unknown one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def _rendered(layout: str, folder: Path, device: str, small: bool) -> dict[str, Value]:
    import torch

    from flowdesign.catalog import installed
    from flowdesign.render import Job, Refused, Renderer

    side = SMALL_SIDE if small else SIDES.get(layout, 1024)
    steps = FEW_STEPS if small else STEPS
    renderer = Renderer(installed([folder]), device, torch.bfloat16)
    forget_peak(device)
    (picture,) = renderer.render([Job(_workflow(side, steps))])
    if not picture.images:
        raise Refused(picture.fidelity.reasons)
    return {
        "layout": layout,
        "pixels": f"{side}x{side}",
        "steps": steps,
        "seconds": round(picture.seconds, 1),
        "peak GiB": round(peak(device) / GIB, 1),
    }


def _workflow(side: int, steps: int) -> Workflow:
    text = {"clip": ["1", 1]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": NAME}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red star"} | text},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"} | text},
        "4": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": side, "height": side, "batch_size": 1},
        },
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0],
                "latent_image": ["4", 0], "seed": 1, "steps": steps, "cfg": 4.0,
                "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }  # fmt: skip
