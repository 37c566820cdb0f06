"""What `python -m flowdesign collect` says while it works. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowdesign.config import Step


def tell_step(step: Step) -> str:
    """One line of progress: images, failures, rate, cost so far and time left."""
    found = step.metrics
    words = [f"{found['images']:,.0f} of {found['of']:,.0f} images"]
    if found["failed"]:
        words.append(f"{found['failed']:,.0f} failed")
    if "left" in found:
        words.append(f"{found['rate']:.2f}/s")
    if found["cost"]:
        words.append(f"cost {found['cost']:.2f}")
    words.append(f"{tell_time(found['seconds'])} so far")
    if "left" in found:
        words.append(f"{tell_time(found['left'])} left")
    return ", ".join(words)


def tell_figures(figures: Mapping[str, Any]) -> str:
    """What a run has collected, in two lines."""
    return (
        f"{figures['images']:,} images ({figures['failed']:,} failed) of {figures['prompts']:,} prompts"
        f" and {figures['workflows']:,} workflows in {tell_time(figures['seconds'])}\n"
        f"{figures['rate']:.2f} images/s with {figures['workers']} workers: 100,000 take "
        f"{figures['hours_for_100000']:.1f} h"
    )


def tell_time(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
