"""Run the stages of the zoo in their order, several at once, each in a process of its own.

A stage that was interrupted goes on from its own state; a finished one is skipped. The parent holds no
model; when it ends, for whatever reason, its workers end too (see `worker`).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowdesign.catalog import suggest
from flowdesign.config import ConfigError, Step

_POLL = 0.5  # seconds
Needs = Mapping[str, tuple[str, ...]]


class StageFailed(RuntimeError):
    """A stage ended with an error; the message carries the end of its log."""


def wanted(needs: Needs, names: Sequence[str]) -> list[str]:
    """The named stages (all if none) with what they need, in table order. Raises ConfigError."""
    for name in names:
        if name not in needs:
            raise ConfigError(f"Unknown stage '{name}'. {suggest(name, needs)}")
    chosen = set(names or needs)
    for name in reversed(list(needs)):
        if name in chosen:
            chosen.update(needs[name])
    return [name for name in needs if name in chosen]


@dataclass
class Crew:
    """The stages of one run: which are wanted, running and ended."""

    needs: Needs
    order: list[str]
    work: Path
    command: Sequence[str]
    ended: list[str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, workers: int) -> None:
        """Start what can be started: its needs have ended and a worker is free."""
        for name in self.order:
            busy = name in self.ended or name in self.running or len(self.running) >= workers
            if not busy and all(need in self.ended for need in self.needs[name]):
                with self._log(name).open("ab") as log:
                    self.running[name] = subprocess.Popen(
                        [*self.command, name], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True,  # Ctrl-C is for the parent, which ends them
                    )  # fmt: skip

    def collect(self) -> list[str]:
        """Take the stages that ended since the last call. Raises StageFailed."""
        found = [name for name, process in self.running.items() if process.poll() is not None]
        for name in found:
            if code := self.running.pop(name).returncode:
                tail = self._log(name).read_text(errors="replace")[-1500:]
                raise StageFailed(f"Stage '{name}' ended with {code}:\n{tail}")
            self.ended.append(name)
        return found

    def stop(self) -> None:
        """End every worker; each goes on from its last saved state another time."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait()

    def _log(self, name: str) -> Path:
        return self.work / f"{name.replace(' ', '_')}.log"


def run_stages(crew: Crew, workers: int, stop: Callable[[], bool]) -> Iterator[Step]:
    """Run every stage that has not ended; yield a `Step` for each that does, and when asked to stop."""
    began, total = time.monotonic(), len(crew.order)
    try:
        while len(crew.ended) < total:
            crew.start(workers)
            time.sleep(_POLL)
            seconds = {"seconds": round(time.monotonic() - began, 1)}
            before = len(crew.ended)
            for index in range(before, before + len(crew.collect())):
                yield Step(index, total, seconds)
            if stop():
                yield Step(
                    max(0, len(crew.ended) - 1), total, seconds
                )  # the run looks for STOP now
    finally:
        crew.stop()


def python_command(module: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module]
