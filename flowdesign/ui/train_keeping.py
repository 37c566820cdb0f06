"""What people do with runs that are not at work: rename, note, delete, bring back.

A deleted run goes to `.trash` beside the others, under its name and a number, and can be brought back
until the trash is emptied.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowdesign import lease, runs
from flowdesign.config import ConfigError, RunConfig, build
from flowdesign.ui.train_runs import NOTES, Run, RunBook, TrainError

TRASH = ".trash"
MAX_NOTES = 10_000  # characters
_ENTRY = re.compile(r"(?P<name>.+)@(?P<when>\d+)")


@dataclass(frozen=True)
class Trashed:
    """A deleted run: the name of its folder in the trash, its own name, when it was deleted, bytes."""

    token: str
    name: str
    when: float
    size: int


def rename(book: RunBook, name: str, wanted: str) -> None:
    """Give a run another name, which is that of its folder. Raises TrainError."""
    run = _changeable(book, name)
    try:
        build(RunConfig, {"run": wanted})
    except ConfigError:
        raise TrainError(
            "A name is made of letters, digits, dots, dashes and underscores, and begins with a "
            f"letter or digit; not {wanted!r}."
        ) from None
    target = book.root / wanted
    if target.exists():
        raise TrainError(f"There is a folder '{wanted}' already.")
    if users := builds_on(book, name):
        raise TrainError(f"{_listed(users)} on '{name}' and would not find it any more.")
    _write_options(run, {"run": wanted})
    run.folder.rename(target)


def write_notes(book: RunBook, name: str, text: str) -> None:
    """Keep what somebody wrote about a run; nothing keeps nothing. Raises TrainError."""
    run = book.get(name)
    if run.shipped:
        raise TrainError(f"'{name}' came with FlowDesign and is not changed here.")
    kept = text.strip()
    if len(kept) > MAX_NOTES:
        raise TrainError(f"Notes have at most {MAX_NOTES:,} characters, not {len(kept):,}.")
    if kept:
        runs.replace_text(run.folder / NOTES, kept + "\n")
    else:
        (run.folder / NOTES).unlink(missing_ok=True)


def delete(book: RunBook, name: str) -> str:
    """Move a run to the trash; gives the token that brings it back. Raises TrainError."""
    run = _changeable(book, name)
    trash = book.root / TRASH
    trash.mkdir(exist_ok=True)
    token = f"{name}@{time.time_ns()}"
    run.folder.rename(trash / token)
    return token


def bring_back(book: RunBook, token: str) -> str:
    """Move a run out of the trash; gives its name. Raises TrainError."""
    found = {one.token: one for one in trashed(book)}.get(token)
    if found is None:
        raise TrainError("This run is not in the trash any more.")
    target = book.root / found.name
    if target.exists():
        raise TrainError(f"There is a new run '{found.name}'. Rename it first.")
    (book.root / TRASH / token).rename(target)
    return found.name


def empty(book: RunBook) -> int:
    """Remove for good what is in the trash; gives how many runs that were."""
    found = trashed(book)
    for one in found:
        shutil.rmtree(book.root / TRASH / one.token, ignore_errors=True)
    return len(found)


def trashed(book: RunBook) -> list[Trashed]:
    """What is in the trash, deleted last first."""
    folders = [path for path in (book.root / TRASH).glob("*") if path.is_dir()]
    found = []
    for path in folders:
        if match := _ENTRY.fullmatch(path.name):
            when = int(match["when"]) / 1e9
            found.append(Trashed(path.name, match["name"], when, size_of(path)))
    return sorted(found, key=lambda one: -one.when)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; one that goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total


def builds_on(book: RunBook, name: str) -> list[str]:
    """The other runs whose options name this one: a policy it starts from, an ensemble it asks."""
    return [
        run.name
        for run in book.all()
        if run.name != name
        and any(value == name for key, value in book.options(run.folder).items() if key != "run")
    ]


def _changeable(book: RunBook, name: str) -> Run:
    run = book.get(name)
    if run.shipped:
        raise TrainError(f"'{name}' came with FlowDesign and is not changed here.")
    if run.open or any(ticket.run == name for ticket in lease.waiting(book.root)):
        raise TrainError(f"'{name}' is {run.state}: stop it first.")
    return run


def _write_options(run: Run, changes: dict[str, Any]) -> None:
    path = run.folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise TrainError(f"The options of '{run.name}' cannot be read: {fault}") from fault
    runs.replace_text(path, json.dumps(values | changes, indent=2) + "\n")


def _listed(names: list[str]) -> str:
    return f"'{names[0]}' builds" if len(names) == 1 else f"{', '.join(names)} build"
