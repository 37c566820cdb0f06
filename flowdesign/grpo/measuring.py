"""What a policy that GRPO has improved is worth, on prompts that nothing was chosen with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flowdesign.grpo.rollout import earn
from flowdesign.grpo.yardsticks import SAMPLED, yardsticks
from flowdesign.heldout import Prompts
from flowdesign.policy import Policy, fingerprint
from flowdesign.reward.bound import Bound
from flowdesign.runs import measured_now, write_figures
from flowdesign.sampling import roll

EACH = 8  # samples for each test prompt
MANY = 500  # prompts with one sample, where so many samples are asked for
ALONE, FOR_ONE = 4, 64  # prompts with many samples
SEED = 1  # of prompts and samples; training and its looks have others


def write_measured(
    policy: Policy, sft: Policy, bound: Bound, folder: Path, judged: int, source: Prompts
) -> None:
    """Measure the policy in `folder` on so many test prompts and keep the figures beside it."""
    figures = measure(policy, sft, bound, judged, source)
    write_figures(folder, figures | {"weights": fingerprint(folder)})


def measure(
    policy: Policy, sft: Policy, bound: Bound, judged: int, source: Prompts
) -> dict[str, Any]:
    """Rewards against the yardsticks, with a 95 % interval over prompts, and how much it varies."""
    import torch

    prompts = source.held_out("test", judged, SEED)
    known = yardsticks(bound.afresh(), sft, prompts, SEED)
    groups = roll(policy, prompts, EACH, SEED)
    means = earn(bound, prompts, groups, foils=0).own.mean(1)
    half = 1.96 * float(means.std()) / len(means) ** 0.5
    reward = float(means.mean())
    return {
        "prompts": len(prompts),
        "sampled": SAMPLED,
        "reward": {
            "policy": reward, "low": reward - half, "high": reward + half,
            "sft": known.sft, "fixed": known.fixed, "best": known.best,
        },
        "reached": known.reached(reward),
        "distinct": distinct(policy, source, min(MANY, judged * EACH)),
        **measured_now(torch=torch.__version__),
    }  # fmt: skip


def distinct(policy: Policy, source: Prompts, prompts: int) -> dict[str, float]:
    """The share of distinct workflows in one sample for each of so many prompts, and the mean number of
    distinct ones in FOR_ONE samples for one prompt."""
    asked = source.held_out("test", prompts, SEED)
    many = [group[0] for group in roll(policy, asked, 1, SEED)]
    few = source.held_out("test", ALONE, SEED)
    alone = [len(set(group)) for group in roll(policy, few, FOR_ONE, SEED)]
    return {
        "samples": len(many),
        "many": len(set(many)) / len(many),
        "one": float(np.mean(alone)),
    }
