"""What `python -m flowdesign evaluate` does, for the command line: compare, print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowdesign import runs
from flowdesign.config import EvaluateConfig

SHIPPED = "evaluation"  # the run whose figures are shown unless another is named
TOLD = "comfygen-ft"  # the one baseline that has to be trained first
HOW = "Compare contestants: python -m flowdesign evaluate"  # to get figures


def faults() -> tuple[type[Exception], ...]:
    """What may go wrong that a person can put right."""
    from flowdesign.lm import WeightsNotFound
    from flowdesign.policy import PolicyError
    from flowdesign.reward.ensemble import RewardError

    return PolicyError, RewardError, WeightsNotFound


def train(config: EvaluateConfig, folder: Path) -> runs.Steps:
    """The steps of a run."""
    from flowdesign.evaluate.run import evaluate

    return evaluate(config, folder)


def measure(config: EvaluateConfig, folder: Path) -> None:
    """Compute the figures again, from what the run has rendered; what is missing is made."""
    for _ in train(config, folder):
        pass


def so_far(config: EvaluateConfig, folder: Path) -> Mapping[str, Any]:
    """The figures of a run that is not finished, of the prompts that all contestants are rendered for."""
    from flowdesign.evaluate.run import so_far

    return so_far(config, folder)


def tell(figures: Mapping[str, Any]) -> str:
    """The figures in words: a line for each contestant."""
    held = figures["held_out"]
    lines = [
        f"{figures['prompts']} prompts x {figures['seeds']} images; combined score with 95 % interval; "
        f"'{held}' was held out"
    ]
    lines += [_tell_row(row, held) for row in figures["contestants"]]
    if all(row["name"] != TOLD for row in figures["contestants"]):
        lines.append(
            f"{TOLD} was not compared: no policy that was told scores was named (--conditioned)"
        )
    if figures["reached"]:
        lines.append("from the best fixed workflow (0 %) to the search by rendering (100 %):")
        lines += [f"  {name:18} {_share(found)}" for name, found in figures["reached"].items()]
    return "\n".join([*lines, f"measured {figures['measured']}"])


def _tell_row(row: Mapping[str, Any], held: str) -> str:
    score = row["scores"]["combined"]
    strict = row["scores"].get(held, {"value": float("nan")})["value"]
    return (
        f"  {row['name']:18} {score['value']:+.3f} ({score['low']:+.3f} to {score['high']:+.3f})  "
        f"{held} {strict:.3f}  distinct {row['distinct']:.0%} of {row['prompts']}  {row['about']}"
    )


def _share(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "cannot be said"
    return f"{found['value']:.0%} ({found['low']:.0%} to {found['high']:.0%})"
