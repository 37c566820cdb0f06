"""What `python -m flowdesign grpo` does, for the command line: train, measure, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowdesign import runs
from flowdesign.config import ConfigError, GRPOConfig

SHIPPED = "policy_grpo"  # the run whose figures are shown unless another is named
HOW = "Train a policy: python -m flowdesign grpo"  # to get figures


def faults() -> tuple[type[Exception], ...]:
    """What may go wrong that a person can put right."""
    from flowdesign.policy import PolicyError
    from flowdesign.reward.ensemble import RewardError

    return runs.NotANumber, ConfigError, PolicyError, RewardError


def train(config: GRPOConfig, folder: Path) -> runs.Steps:
    """The steps of a run."""
    from flowdesign.grpo.run import train

    return train(config, folder)


def measure(config: GRPOConfig, folder: Path) -> None:
    """Measure a policy again, against the SFT policy and the ensemble that the config names."""
    import torch

    from flowdesign.catalog import known_assets
    from flowdesign.grpo.measuring import write_measured
    from flowdesign.grpo.run import bound_of, sft_of
    from flowdesign.heldout import prompts_of
    from flowdesign.policy import Policy

    torch.set_num_threads(config.threads)
    policy = Policy.load(folder, config.dtype, config.device, known_assets())
    source = prompts_of(config.prompt_source)
    write_measured(policy, sft_of(config), bound_of(config), folder, config.judged, source)


def tell(figures: dict[str, Any]) -> str:
    """The figures in words."""
    row = figures["reward"]
    lines = [
        f"reward on {figures['prompts']} test prompts: {row['policy']:.3f} "
        f"({row['low']:.3f} to {row['high']:.3f}); SFT policy {row['sft']:.3f}, best fixed workflow "
        f"{row['fixed']:.3f}, each prompt's best of {figures['sampled']} {row['best']:.3f}",
        f"from the fixed workflow to each prompt's best: {figures['reached']:.1%} of the way",
        f"distinct: {figures['distinct']['many']:.1%} of {figures['distinct']['samples']} samples for as "
        f"many prompts; {figures['distinct']['one']:.1f} of 64 for one prompt",
        f"measured {figures['measured']}",
    ]
    return "\n".join(lines)
