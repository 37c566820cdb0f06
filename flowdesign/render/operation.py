"""What an operation is: a function of several nodes of one class, and two ways to make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flowdesign.render.models import Library
from flowdesign.render.stacking import Key, stacked

Inputs = Mapping[str, Any]
Outputs = tuple[Any, ...]


@dataclass(frozen=True)
class Context:
    """What a node may use. `check` raises when the work was cancelled."""

    library: Library
    device: torch.device
    batch: int
    check: Callable[[], None]


Operation = Callable[[Context, Sequence[Inputs]], list[Outputs]]
Single = Callable[[Context, Inputs], Outputs]


def each(single: Single) -> Operation:
    """Make an operation of a function for one node."""

    def operation(context: Context, items: Sequence[Inputs]) -> list[Outputs]:
        found = []
        for item in items:
            context.check()
            found.append(single(context, item))
        return found

    return operation


def together(
    key: Callable[[Inputs], Key], run: Callable[[Context, Sequence[Inputs]], list[Outputs]]
) -> Operation:
    """Make an operation that runs alike nodes together, `context.batch` at a time."""

    def operation(context: Context, items: Sequence[Inputs]) -> list[Outputs]:
        def run_group(group: Sequence[Inputs]) -> list[Outputs]:
            context.check()
            return run(context, group)

        return stacked(items, key, run_group, context.batch)

    return operation
