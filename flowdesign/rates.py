"""How a learning rate goes over a run. No torch."""

from __future__ import annotations

import math
from typing import Protocol


class Course(Protocol):
    """What a config says of it: optimiser steps, and steps until the peak."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...


def rate(config: Course, index: int) -> float:
    """The learning rate of step `index` as a share of its peak: linear warm-up, then a cosine."""
    warm = min(1.0, (index + 1) / (config.warmup + 1))
    return warm * 0.5 * (1 + math.cos(math.pi * index / config.steps))
