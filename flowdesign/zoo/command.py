"""What `python -m flowdesign zoo` does: train, measure, or print the stored figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path

from flowdesign import runs
from flowdesign.catalog import ROOT
from flowdesign.config import Step, ZooConfig
from flowdesign.zoo.measure import FIGURES, measure
from flowdesign.zoo.report import summary
from flowdesign.zoo.schedule import python_command, train_stages, wanted
from flowdesign.zoo.sheets import write_sheets
from flowdesign.zoo.stages import STAGES, Place


def command(config: ZooConfig, flags: argparse.Namespace) -> int:
    """Carry out the command; returns the exit code."""
    if flags.report:
        if not FIGURES.exists():
            _say(
                f"No figures are stored in {FIGURES}. Measure them: python -m flowdesign zoo --measure"
            )
            return 1
        figures = json.loads(FIGURES.read_text(encoding="utf-8"))
        _say(json.dumps(figures, indent=2) if flags.json else summary(figures))
        return 0
    folder = ROOT / "checkpoints" / config.run
    if flags.measure:
        for step in measure(folder, config.workers):
            _say(f"{step.index + 1}/{step.total}")
        write_sheets()
        return 0
    names = [name.strip() for name in config.stages.split(",") if name.strip()]
    wanted({s.name: s.needs for s in STAGES}, names)  # a wrong name is told before a run exists
    runs.prepare(folder, config)
    status = runs.execute(
        folder, partial(_train, config, names), lambda s: _say(f"{s.index + 1}/{s.total}")
    )
    return 0 if status.state in ("finished", "stopped") else 1


def _train(config: ZooConfig, names: list[str], folder: Path) -> Generator[Step, None, None]:
    place = Place(folder, ROOT / "checkpoints" / "miniature", config.seed)
    yield from train_stages(
        {s.name: s.needs for s in STAGES}, names, folder, config.workers,
        [*python_command("flowdesign.zoo.worker"), str(config.seed), str(folder)],
        {s.name: s.part(place) for s in STAGES},
    )  # fmt: skip


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
