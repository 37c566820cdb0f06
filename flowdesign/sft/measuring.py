"""How well a policy speaks: how many of its sentences are workflows, and differ."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from flowdesign.catalog import known_assets
from flowdesign.lm import Dtype
from flowdesign.policy import Policy, fingerprint
from flowdesign.runs import measured_now, read_status
from flowdesign.sft.training import any_prompt

UNDER_GRAMMAR, FREE = 2000, 500  # how many sentences are measured
FOR_ONE_PROMPT = 25  # sentences


def measure(
    folder: Path, threads: int = 1, dtype: Dtype = "nf4", device: str = "cpu"
) -> dict[str, Any]:
    """Figures of the policy in `folder`: how many of its sentences are workflows, and differ.

    `grammar` is sampled under the automaton, `free` without it. The figures belong to the weights
    whose `fingerprint` they carry.
    """
    torch.set_num_threads(threads)
    policy = Policy.load(folder, dtype, device, known_assets())
    status = read_status(folder)
    return {
        "grammar": validity(policy, UNDER_GRAMMAR, constrained=True),
        "free": validity(policy, FREE, constrained=False),
        "weights": fingerprint(folder),
        "step": status.step if status else 0,
        **measured_now(torch=torch.__version__),
    }


def validity(policy: Policy, samples: int, constrained: bool, seed: int = 0) -> dict[str, int]:
    """Draw sentences for held-out prompts at temperature 1: {"samples", "valid", "distinct"}.

    Every prompt has a seed of its own: a policy that prefers nothing yet says the same for the same
    seed, whatever the prompt.
    """
    rng = random.Random(f"sft/measure/{seed}")
    drawn = []
    for first in range(0, samples, FOR_ONE_PROMPT):
        count = min(FOR_ONE_PROMPT, samples - first)
        prompt, chance = any_prompt(rng, "test"), rng.getrandbits(32)
        drawn += policy.sample(prompt, count, chance, constrained=constrained)
    valid = sum(sample.valid for sample in drawn)
    return {"samples": samples, "valid": valid, "distinct": len({one.tokens for one in drawn})}
