"""How much memory a run takes: its process and its workers together, where the system tells (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def session_memory(leader: int, proc: Path = PROC) -> int | None:
    """Bytes held by the processes of the session that `leader` leads; None when nobody can tell.

    What processes share is divided among them (PSS), so that it counts once.
    """
    sizes = [_memory(folder) for folder in _members(leader, proc)]
    return sum(sizes) or None


def _members(leader: int, proc: Path) -> Iterator[Path]:
    for folder in proc.glob("[0-9]*"):
        try:
            # "pid (name) state parent group session ...", and the name may hold anything
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if len(fields) > 3 and (fields[3] == str(leader) or folder.name == str(leader)):
            yield folder


def _memory(folder: Path) -> int:
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended, or belongs to somebody else
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
