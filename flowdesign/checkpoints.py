"""What a run that trains a policy needs to go on exactly: weights, optimiser, and how far it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowdesign.policy import Policy
from flowdesign.runs import replace_file

CHECKPOINT = "resume.safetensors"


@dataclass(frozen=True)
class Place:
    """How far a run is: steps that are done, updates of the weights (one a step unless said), and
    numbers that follow from what came before."""

    done: int = 0
    updates: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)


def optimiser_of(policy: Policy, lora_rate: float, rows_rate: float) -> torch.optim.AdamW:
    """AdamW without decay; token rows start from nothing and may move faster than LoRA.

    The rates are "peak" of its groups; who trains sets "lr" at every step.
    """
    weights = policy.trainable()
    lora = [weight for name, weight in weights.items() if name.startswith("lora.")]
    rows = [weight for name, weight in weights.items() if name.startswith("rows.")]
    groups = [{"params": lora, "peak": lora_rate}, {"params": rows, "peak": rows_rate}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)


def save(folder: Path, policy: Policy, optimiser: torch.optim.AdamW, place: Place) -> None:
    """Write the usable policy and, at once whole, what the next steps need."""
    policy.save(folder)
    tensors: dict[str, Tensor] = {}
    for name, weight in policy.trainable().items():
        tensors[f"weight/{name}"] = weight.detach()
        if state := optimiser.state[weight]:
            tensors[f"mean/{name}"] = state["exp_avg"]
            tensors[f"square/{name}"] = state["exp_avg_sq"]
    head = {
        "done": json.dumps(place.done),
        "updates": json.dumps(place.updates),
        "numbers": json.dumps(place.numbers),
    }
    replace_file(folder / CHECKPOINT, lambda draft: save_file(tensors, draft, metadata=head))


def restore(folder: Path, policy: Policy, optimiser: torch.optim.AdamW) -> Place:
    """Read what `save` wrote; a run without a checkpoint is at its start."""
    path = folder / CHECKPOINT
    if not path.exists():
        return Place()
    with safe_open(path, "pt", device=str(policy.device)) as file:
        head, names = file.metadata(), set(file.keys())
        done, updates = int(json.loads(head["done"])), json.loads(head.get("updates", "null"))
        for name, weight in policy.trainable().items():
            with torch.no_grad():
                weight.copy_(file.get_tensor(f"weight/{name}"))
            if f"mean/{name}" in names:
                optimiser.state[weight] = {
                    "step": torch.tensor(float(done if updates is None else updates)),
                    "exp_avg": file.get_tensor(f"mean/{name}"),
                    "exp_avg_sq": file.get_tensor(f"square/{name}"),
                }
    return Place(done, updates, json.loads(head.get("numbers", "{}")))
