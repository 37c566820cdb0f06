"""What a benchmark gives, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Value = str | int | float
Say = Callable[[str], None]


class UnknownBenchmark(ValueError):
    """No benchmark has this name; the message suggests one."""


@dataclass(frozen=True)
class Measured:
    """Rows of a table with the same keys, which name the units, and what to know about them."""

    rows: Sequence[Mapping[str, Value]]
    notes: Sequence[str] = ()


def as_text(measured: Measured) -> str:
    """The rows as a table for a terminal, and the notes below."""
    if not measured.rows:
        return "\n".join(measured.notes)
    names = list(measured.rows[0])
    lines = [names, *([_cell(row[name]) for name in names] for row in measured.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    shown = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*shown, *measured.notes])


def _cell(value: Value) -> str:
    return f"{value:,.3g}" if isinstance(value, float) and value < 100 else _whole(value)


def _whole(value: Value) -> str:
    return value if isinstance(value, str) else f"{round(value):,}"
