"""Train the stages of the zoo in their order, several at once, each in a process of its own.

A stage that was interrupted goes on from its own checkpoint; a finished one is skipped. The parent holds
no model, so that a crash of one stage ends the run with that stage's last words.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flowdesign.catalog import suggest
from flowdesign.config import ConfigError, Step

_POLL = 0.5  # seconds


class StageFailed(RuntimeError):
    """A stage ended with an error; the message carries the end of its log."""


def wanted(table: dict[str, tuple[str, ...]], names: Sequence[str]) -> list[str]:
    """The named stages (all if none) with what they need, in table order. Raises ConfigError."""
    for name in names:
        if name not in table:
            raise ConfigError(f"Unknown stage '{name}'. {suggest(name, table)}")
    chosen = set(names or table)
    for name in reversed(table):
        if name in chosen:
            chosen.update(table[name])
    return [name for name in table if name in chosen]


def train_stages(
    table: dict[str, tuple[str, ...]],
    names: Sequence[str],
    work: Path,
    workers: int,
    command: Sequence[str],
    is_done: dict[str, Path],
) -> Iterator[Step]:
    """Run `command + [stage]` for every stage that is not done; yield a `Step` for each that ends.

    `table` maps a stage to what it needs; `is_done` to the path that exists once it is finished.
    """
    order = wanted(table, names)
    running: dict[str, subprocess.Popen[bytes]] = {}
    ended = [name for name in order if is_done[name].exists()]
    began = time.monotonic()
    try:
        while len(ended) < len(order):
            ready = [
                n for n in order
                if n not in ended and n not in running and all(x in ended for x in table[n])
            ]  # fmt: skip
            for name in ready[: workers - len(running)]:
                running[name] = _start(name, work, command)
            time.sleep(_POLL)
            for name in [n for n, process in running.items() if process.poll() is not None]:
                _check(name, running.pop(name), work)
                ended.append(name)
                yield Step(len(ended) - 1, len(order), {"seconds": time.monotonic() - began})
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


def _start(name: str, work: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    with (work / f"{name}.log").open("ab") as log:
        return subprocess.Popen([*command, name], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _check(name: str, process: subprocess.Popen[bytes], work: Path) -> None:
    if process.returncode:
        tail = (work / f"{name}.log").read_text(errors="replace")[-1500:]
        raise StageFailed(f"Stage '{name}' ended with {process.returncode}:\n{tail}")


def python_command(module: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module]
