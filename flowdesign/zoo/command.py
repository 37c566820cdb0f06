"""What `python -m flowdesign zoo` does: train, measure, or print the stored figures.

Torch is imported only where something is trained or rendered, so that the figures print at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from flowdesign import runs
from flowdesign.catalog import ROOT
from flowdesign.config import Step, ZooConfig, listed
from flowdesign.zoo.report import FIGURES, summary
from flowdesign.zoo.schedule import Crew, python_command, run_stages, wanted

MODELS = ROOT / "checkpoints" / "miniature"


def command(config: ZooConfig, flags: argparse.Namespace) -> int:
    """Carry out the command; returns the exit code."""
    if flags.report:
        return report(flags.json)
    folder = ROOT / "checkpoints" / config.run
    return measure(folder, config) if flags.measure else train(folder, config)


def report(as_json: bool) -> int:
    """Print the stored figures; 1 when there are none."""
    if not FIGURES.exists():
        message = (
            f"No figures are stored in {FIGURES}. Measure them: python -m flowdesign zoo --measure"
        )
        _say(json.dumps({"error": message}) if as_json else message)
        return 1
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    _say(json.dumps(figures, indent=2) if as_json else summary(figures))
    return 0


def measure(folder: Path, config: ZooConfig) -> int:
    """Render and judge; write the figures and the contact sheets."""
    from flowdesign.zoo.measure import measure as measured
    from flowdesign.zoo.sheets import write_sheets

    for step in measured(folder, config.workers):
        _say(f"{step.index + 1}/{step.total}")
    write_sheets()
    return report(as_json=False)


def train(folder: Path, config: ZooConfig) -> int:
    """Train the stages that are not done, as a run, and publish what is."""
    from flowdesign.zoo.stages import STAGES

    names = listed(config.stages)
    order = wanted({s.name: s.needs for s in STAGES}, names)
    runs.prepare(folder, config)
    status = runs.execute(
        folder, partial(_steps, config, order), lambda s: _say(f"{s.index + 1}/{s.total} {dict(s.metrics)}")
    )  # fmt: skip
    return 0 if status.state in ("finished", "stopped") else 1


def _steps(config: ZooConfig, order: Sequence[str], folder: Path) -> Generator[Step, None, None]:
    from flowdesign.zoo.stages import STAGES, Place, is_done, publish

    place = Place(folder, config.seed)
    crew = Crew(
        {s.name: s.needs for s in STAGES}, list(order), folder,
        [*python_command("flowdesign.zoo.worker"), str(config.seed), str(folder)],
        [name for name in order if is_done(name, place)],
    )  # fmt: skip
    yield from run_stages(crew, config.workers, (folder / "STOP").exists)
    for path in publish(place, MODELS):
        _say(f"published {path.relative_to(ROOT)}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
