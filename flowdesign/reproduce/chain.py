"""One stage after the other, each by the command that a person would type; what is finished stays.

A stage is a run (flowdesign.runs) and goes on where it was. The seconds that each took, over all lives of
the reproduction, are in stages.json.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flowdesign import runs
from flowdesign.catalog import ROOT, installed
from flowdesign.config import to_flags
from flowdesign.reproduce.presets import PRESETS, Stage, zoo

CHECKPOINTS = ROOT / "checkpoints"
TIMES = "stages.json"
Tell = Callable[[str], object]


class StageStopped(RuntimeError):
    """A stage did not come to its end; the message says how to go on."""


def stages_of(preset: str, name: str) -> list[Stage]:
    """The stages of a preset, with the zoo first where there are no models."""
    first = [] if installed().names("checkpoints") else [zoo(name)]
    return first + PRESETS[preset](name)


def command_of(stage: Stage) -> str:
    """The command that makes a stage, as it is typed."""
    return " ".join(["python -m flowdesign", stage.kind, *map(_quoted, to_flags(stage.config))])


def before_of(stage: Stage) -> str:
    """The command to do before a stage, as it is typed; empty for none."""
    return " ".join(["python -m flowdesign", *stage.before]) if stage.before else ""


def do(preset: str, name: str, tell: Tell) -> Path:
    """Do what is left of a reproduction; its folder.

    Raises StageStopped, and runs.RunConflict before any work where a run of this name has other options.
    """
    folder = CHECKPOINTS / name
    stages = stages_of(preset, name)
    for stage in stages:
        if (CHECKPOINTS / stage.config.run / "config.json").exists():
            runs.prepare(CHECKPOINTS / stage.config.run, stage.config)
    folder.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages, 1):
        if is_done(stage):
            tell(f"[{number}/{len(stages)}] {stage.config.run} is there")
            continue
        tell(f"[{number}/{len(stages)}] {stage.about}\n    {command_of(stage)}")
        _run(stage, folder)
    return folder


def is_done(stage: Stage) -> bool:
    """Whether a stage's run has come to its end."""
    status = runs.read_status(CHECKPOINTS / stage.config.run)
    return status is not None and status.state == "finished"


def seconds_of(folder: Path) -> dict[str, float]:
    """How long each stage took, by its run's name."""
    path = folder / TIMES
    found: dict[str, float] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _run(stage: Stage, folder: Path) -> None:
    began = time.monotonic()
    try:
        status = _start(stage.before) if stage.before else 0
        status = status or _start([stage.kind, *to_flags(stage.config)])
    finally:
        taken = seconds_of(folder)
        taken[stage.config.run] = round(
            taken.get(stage.config.run, 0.0) + time.monotonic() - began, 3
        )
        runs.replace_text(folder / TIMES, json.dumps(taken, indent=2) + "\n")
    if status or not is_done(stage):
        raise StageStopped(
            f"{stage.config.run} did not come to its end. The same command goes on where it was."
        )


def _start(words: Sequence[str]) -> int:
    """Do a command in a process of its own; its exit status.

    Ctrl-C, which reaches that process too, and a kill, which is passed on to it, let it end its step first.
    """
    process = subprocess.Popen([sys.executable, "-m", "flowdesign", *words], cwd=ROOT)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    kill = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, kill)


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word or not word else word
