"""How long a run will take and how much memory, said before it starts: measured, stated, or unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from flowdesign.config import RunConfig, build
from flowdesign.ui.train_kinds import Kind, Rows, Stated
from flowdesign.ui.train_runs import Launch

RECENT = 30  # steps that the pace of a run at work is taken from
Former = Sequence[tuple[RunConfig, Rows, Launch | None]]


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes, None where nobody knows, and where each figure comes from."""

    seconds: float | None = None
    memory: float | None = None
    source: str = ""
    memory_source: str = ""


def estimate(kind: Kind, config: RunConfig, former: Former) -> Estimate:
    """What to expect of a run, from former runs here (newest first) or else from what is stated."""
    alike = [one for one in former if _is_alike(kind, one[0], config)]
    memory, memory_source = _memory(kind, config, alike)
    size = kind.cost.size(config)
    if size is None:
        return Estimate(None, memory, "how much work this is shows when it starts", memory_source)
    for past, rows, _ in alike:
        pace = kind.cost.pace(past, rows)
        if pace is not None:
            return Estimate(pace * size, memory, f"from run '{past.run}' here", memory_source)
    if stated := _stated(kind, config):
        return Estimate(stated.seconds * size, memory, stated.source, memory_source)
    return Estimate(None, memory, "no such run has been made here", memory_source)


def seconds_left(rows: Rows, step: int, total: int) -> float | None:
    """How long a run at work still takes, at the pace of its last steps."""
    times = [float(row["time"]) for row in rows[-RECENT:] if "time" in row]
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    return median(gaps) * (total - step) if len(gaps) >= 2 and total > step else None


def _memory(kind: Kind, config: RunConfig, alike: Former) -> tuple[float | None, str]:
    for past, _, launch in alike:
        if launch is not None and launch.memory:
            return launch.memory, f"the most that run '{past.run}' took here"
    stated = _stated(kind, config)
    return (stated.memory, stated.source) if stated and stated.memory else (None, "")


def _is_alike(kind: Kind, one: RunConfig, other: RunConfig) -> bool:
    cost = kind.cost
    same = all(getattr(one, name) == getattr(other, name) for name in cost.same)
    return same and cost.model(one) == cost.model(other)


def _stated(kind: Kind, config: RunConfig) -> Stated | None:
    """What was measured elsewhere with the options of a config."""
    usual = build(kind.config, {})
    for one in kind.cost.stated:
        if _is_alike(kind, config, usual.model_copy(update=dict(one.options))):
            return one
    return None
