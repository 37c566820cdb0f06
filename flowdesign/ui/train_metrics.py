"""The metrics of runs, as columns, and what was measured of their results.

Every visitor's page asks for metrics, so a file is read only once: what is appended is read on; one
that a resumed run has rewritten is read again.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowdesign import runs

FILES = 64  # runs whose metrics are remembered
MARKS = frozenset({"step", "time"})  # what a row has besides its metrics


@dataclass
class Column:
    """A metric: its values and the steps they belong to. What is no number is counted and left out."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    unusable: int = 0

    def add(self, step: int, value: object) -> None:
        """Append a value of any kind."""
        if isinstance(value, int | float) and math.isfinite(value):
            self.steps.append(step)
            self.values.append(float(value))
        else:
            self.unusable += 1


@dataclass
class _File:
    """How far a metrics.jsonl has been read, and what was in it."""

    inode: int = 0
    read: int = 0  # bytes
    rows: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, Column] = field(default_factory=dict)


class MetricsReader:
    """Gives the rows and columns of a run's metrics.jsonl; call it from any thread."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _File] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        """The recorded steps in order; a last line that is being written does not count."""
        with self._lock:
            return list(self._look(folder / "metrics.jsonl").rows)

    def columns(self, folder: Path) -> Mapping[str, Column]:
        """The metrics by name, in the order in which they came up."""
        with self._lock:
            found = self._look(folder / "metrics.jsonl").columns
            return {
                name: Column(list(one.steps), list(one.values), one.unusable)
                for name, one in found.items()
            }

    def _look(self, path: Path) -> _File:
        known = self._files.pop(path, None) or _File()
        try:
            state = path.stat()
            if state.st_ino != known.inode or state.st_size < known.read:
                known = _File(state.st_ino)
            if state.st_size > known.read:
                with path.open("rb") as file:
                    file.seek(known.read)
                    _read_on(known, file.read())
        except FileNotFoundError:
            return _File()
        self._files[path] = known
        while len(self._files) > FILES:
            self._files.popitem(last=False)
        return known


def _read_on(known: _File, data: bytes) -> None:
    """Take in whole lines; what follows the last line break is read the next time."""
    whole = data[: data.rfind(b"\n") + 1]
    known.read += len(whole)
    for row in _parsed(whole.split(b"\n")):
        known.rows.append(row)
        for name, value in row.items():
            if name not in MARKS:
                known.columns.setdefault(name, Column()).add(row["step"], value)


def _parsed(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    """The rows that can be read; a damaged line is passed over, as a picture with a gap."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def figures_of(folder: Path) -> Mapping[str, Any]:
    """What was measured of the run's result; empty when nothing was, or it cannot be read."""
    try:
        found = runs.read_figures(folder)
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
