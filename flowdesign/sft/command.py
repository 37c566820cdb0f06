"""What `python -m flowdesign sft` does, for the command line: train, measure, print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowdesign import runs
from flowdesign.config import ConfigError, SFTConfig

SHIPPED = "policy_sft"  # the run whose figures are shown unless another is named
HOW = "Measure a policy: python -m flowdesign sft --measure --run NAME"  # to get figures
MEASURED = {"grammar": "under the grammar", "free": "without it"}  # figures and their names


def faults() -> tuple[type[Exception], ...]:
    """What may go wrong that a person can put right."""
    from flowdesign.policy import PolicyError
    from flowdesign.reward.ensemble import RewardError

    return runs.NotANumber, ConfigError, PolicyError, RewardError


def train(config: SFTConfig, folder: Path) -> runs.Steps:
    """The steps of a run."""
    from flowdesign.sft.training import train

    return train(config, folder)


def measure(config: SFTConfig, folder: Path) -> None:
    """Measure a policy and keep the figures beside it."""
    from flowdesign.sft.measuring import measure

    figures = measure(folder, config.threads, config.dtype, config.device)
    runs.write_figures(folder, figures)


def tell(figures: Mapping[str, Any]) -> str:
    """The figures in words."""
    lines = [_tell_validity(words, figures[key]) for key, words in MEASURED.items()]
    lines.append(f"after step {figures['step']}, measured {figures['measured']}")
    return "\n".join(lines)


def _tell_validity(words: str, row: Mapping[str, int]) -> str:
    samples, valid, distinct = row["samples"], row["valid"], row["distinct"]
    share = f"{valid / samples:.1%} valid, {distinct / samples:.1%} distinct"
    return f"{words}: {samples} sentences, {share}"
