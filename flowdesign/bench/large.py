"""Seconds and memory of a training step with a policy of 8 billion parameters in 4 bits (NF4) on one GPU.

The base has the configuration of Llama 3.1 8B and random weights, written to disk once for the run: loading,
quantising, sampling and learning are the real ones, and what is said means nothing. A step of SFT and one of
GRPO each learn from 8 prompts x 8 workflows. Without a GPU, or when quick, the base has two narrow layers.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdesign.bench.hardware import GIB, device_name, forget_peak, peak
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.bench.steps import Take, grpo_step, timed
from flowdesign.bench.weights import random_weight
from flowdesign.catalog import known_assets
from flowdesign.config import GRPOConfig, SFTConfig, build

if TYPE_CHECKING:
    from flowdesign.policy import Policy

PROMPTS, GROUP, AT_ONCE, STEPS = 8, 8, 2, 3
LLAMA_8B: Mapping[str, Any] = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "rope_theta": 5e5,
}  # fmt: skip
SMALL = {
    **LLAMA_8B, "vocab_size": 49_152, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def measure(quick: bool, say: Say) -> Measured:
    """Take steps of SFT and of GRPO with the shipped reward ensemble."""
    import torch

    from flowdesign.policy import Anatomy, Policy

    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = SMALL if quick or device == "cpu" else LLAMA_8B
    with tempfile.TemporaryDirectory(prefix="flowdesign-bench-") as folder:
        count = write_random(sizes, Path(folder))
        say(f"a base of {count / 1e9:.2f} billion weights is written")
        policy = Policy.create(Anatomy(folder), "nf4", device, models=known_assets())
    ways = {"SFT": _sft(policy, device), "GRPO": _grpo(policy, device)}
    rows = [_measured(name, way, device, 1 if quick else STEPS, say) for name, way in ways.items()]
    note = (
        f"{count / 1e9:.2f} billion random weights in NF4 on {device_name(device)}, {PROMPTS} prompts x {GROUP} "
        f"workflows, gradients of {AT_ONCE} prompts at a time"
    )
    missing = () if sizes is LLAMA_8B else ("not of real size: that takes a GPU",)
    return Measured(rows, (note, *missing))


def write_random(sizes: Mapping[str, Any], folder: Path) -> int:
    """Write a Llama of random weights, a file for each layer, with the shipped base's tokenizer; its size."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    from flowdesign import lm

    config = LlamaConfig(**sizes, architectures=["LlamaModel"], dtype="bfloat16")
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(lm.resolve("smollm2-135m-instruct")).save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in LlamaModel(config).state_dict().items()}
    files: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        files[".".join(name.split(".")[:2])].append(name)
    for file, names in files.items():
        weights = {name: random_weight(name, shapes[name]) for name in names}
        save_file(weights, folder / f"{file}.safetensors", {"format": "pt"})
    places = {name: f"{file}.safetensors" for file, names in files.items() for name in names}
    index = json.dumps({"metadata": {}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    return sum(shape.numel() for shape in shapes.values())


def _sft(policy: Policy, device: str) -> Take:
    from flowdesign.checkpoints import optimiser_of
    from flowdesign.sft.training import batch, update

    config = build(
        SFTConfig, {"prompts": PROMPTS, "sentences": GROUP, "at_once": AT_ONCE, "device": device}
    )
    optimiser = optimiser_of(policy, config.lora_rate, config.rows_rate)

    def step(index: int) -> None:
        update(policy, optimiser, config, index, batch(config, index, policy.automaton))

    return step


def _grpo(sft: Policy, device: str) -> Take:
    asked = {"prompts": PROMPTS, "group": GROUP, "at_once": AT_ONCE, "foils": 1, "device": device}
    return grpo_step(build(GRPOConfig, asked), sft)


def _measured(name: str, take: Take, device: str, steps: int, say: Say) -> dict[str, Value]:
    forget_peak(device)
    times = timed(take, steps, name, say)
    return {
        "step of": name,
        "seconds": round(statistics.median(times), 2),
        "peak GiB": round(peak(device) / GIB, 1),
    }
