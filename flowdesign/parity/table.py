"""The measured errors as a Markdown table, as the README has it."""

from __future__ import annotations

from collections.abc import Sequence

from flowdesign.parity.measuring import Parity, Row

NONE = "none"


def as_markdown(parity: Parity) -> str:
    """A line for each sampler, a column for each schedule; the first line is that of the levels."""
    schedules = list(parity.levels)
    heads = ["sampler", "reference", *schedules, "diffusers"]
    levels = ["*levels alone*", "formulas", *map(_shown, parity.levels.values()), ""]
    lines = [heads, ["---"] * len(heads), levels, *(_line(row, schedules) for row in parity.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(row: Row, schedules: Sequence[str]) -> list[str]:
    seen = NONE
    if row.witness_error is not None:
        seen = f"{_shown(row.witness_error)} {row.witness.removesuffix('Scheduler')}"
    return [row.sampler, row.source, *(_shown(row.errors[name]) for name in schedules), seen]


def _shown(error: float) -> str:
    """Two digits and a short exponent, as 4.3e-7."""
    return f"{error:.1e}".replace("e-0", "e-").replace("e+00", "")
