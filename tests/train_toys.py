"""Toy kinds of run that take seconds, and the program that carries them out as the real one does.

`python train_toys.py ROOT toy --run NAME ...` is to these kinds what `python -m flowdesign` is to the
real ones, with its runs below ROOT.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

from waiting import until  # noqa: E402

from flowdesign import runs  # noqa: E402
from flowdesign.config import (  # noqa: E402
    RunConfig,
    RunName,
    ScoreConfig,
    Step,
    add_flags,
    from_flags,
)
from flowdesign.foreground import add_lease, at_work  # noqa: E402


class ToyConfig(RunConfig):
    """A run that counts."""

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"pause"}

    run: RunName = Field("toy", description="name of the folder under checkpoints/")
    steps: int = Field(8, ge=1, le=100_000, description="steps to count")
    pause: float = Field(0.02, ge=0, description="seconds of a step")
    shape: Literal["falls", "rises"] = Field("falls", description="how the loss goes")
    members: int = Field(2, ge=1, description="lines of the loss")
    loud: bool = Field(False, description="print more")
    fail_at: int = Field(-1, description="step that fails; -1 is none")
    base: str = Field("", description="another run to build on")


class OtherConfig(RunConfig, ScoreConfig):
    """A run with other options, weights among them."""

    run: RunName = Field("other", description="name of the folder under checkpoints/")
    steps: int = Field(3, ge=1, description="steps to count")
    pause: float = Field(0.01, ge=0, description="seconds of a step")


def kinds() -> tuple[Any, ...]:
    """The toy kinds, for a page."""
    from flowdesign.ui.train_kinds import Cost, Kind, Preset, Stated, Thing, step_seconds

    def size(config: Any) -> float:
        return float(config.steps)

    def pace(config: Any, rows: Any) -> float | None:
        return step_seconds(rows)

    toy = Kind(
        "toy", "Toy: count", "It counts, and its loss falls.", ToyConfig,
        ("steps", "pause", "shape", "loud"),
        (
            Preset("Laptop", "a few steps"),
            Preset("Long", "many steps", {"steps": 2000, "pause": 0.05}),
            Preset("Further", "on from six steps", {"steps": 9}, ("base", "toy", "Short")),
            Preset("Short", "six steps", {"steps": 6}),
        ),
        Cost(size, pace, ("members",), (Stated(2.0, 5e8, "a toy that was measured elsewhere"),)),
        report=lambda folder: f'<p id="fd-toy-report">Report of {folder.name}</p>',
        needs=lambda config: {"base": Thing("state", "state.json")} if config.base else {},
    )  # fmt: skip
    other = Kind(
        "other", "Other: count too", "It has weights.", OtherConfig, ("steps", "weights"),
        (Preset("Laptop", "a few steps"),), Cost(size, pace, ()),
    )  # fmt: skip
    return toy, other


def launcher(root: Path, shipped: tuple[str, ...] = ("shipped",)) -> Any:
    """What a page needs to start toys below `root`."""
    from flowdesign.ui.train_launch import Launcher
    from flowdesign.ui.train_runs import RunBook

    program = (sys.executable, str(Path(__file__).resolve()), str(root))
    return Launcher(RunBook(root, kinds(), shipped), program)


def count(config: Any, folder: Path) -> runs.Steps:
    """Count the steps, and keep the sum at every fifth."""
    file = folder / "state.json"
    done = json.loads(file.read_text()) if file.exists() else 0
    for index in range(done, config.steps):
        time.sleep(config.pause)
        if index == getattr(config, "fail_at", -1):
            raise ValueError("the toy broke")
        try:
            yield Step(index, config.steps, metrics(config, index))
        except GeneratorExit:
            _keep(file, index + 1)
            raise
        if (index + 1) % 5 == 0 or index + 1 == config.steps:
            _keep(file, index + 1)
    runs.write_figures(folder, {"score": {"mean": 0.75, "count": config.steps}, "done": True})


def metrics(config: Any, index: int) -> dict[str, float]:
    """What a step measures: a loss for each member, and one value alone."""
    way = -1 if getattr(config, "shape", "falls") == "falls" else 1
    members = range(getattr(config, "members", 1))
    found = {f"member {m}/loss": math.exp(way * index / 50) + 0.1 * m for m in members}
    return found | {"entropy": 3.0 + math.sin(index / 7), "rate": 1000 * 0.97**index + 0.01}


def _keep(file: Path, done: int) -> None:
    runs.replace_text(file, json.dumps(done))


def reaches(start: Any, name: str, *states: str) -> Any:
    """Wait until a run is in one of these states."""

    def look() -> Any:
        run = start.book.get(name)
        return run if run.state in states else None

    return until(look)


def toy(name: str, **values: Any) -> ToyConfig:
    return ToyConfig(run=name, **values)


def finished(root: Path, name: str, shape: str = "falls", steps: int = 6) -> Path:
    """A run that was made from a shell, in this process."""
    config = toy(name, steps=steps, pause=0.0, shape=shape)
    folder = root / name
    runs.prepare(folder, config)
    runs.execute(folder, lambda where: count(config, where))
    return folder


def main() -> int:
    """Carry out a toy as `python -m flowdesign` carries out a run."""
    top = argparse.ArgumentParser()
    top.add_argument("root", type=Path)
    commands = top.add_subparsers(required=True, dest="kind")
    models: dict[str, type[RunConfig]] = {"toy": ToyConfig, "other": OtherConfig}
    for name, model in models.items():
        command = commands.add_parser(name)
        add_flags(command, model)
        add_lease(command)
    flags = top.parse_args()
    config = from_flags(models[flags.kind], flags)
    folder = flags.root / config.run
    try:
        runs.prepare(folder, config)
        with at_work(folder, flags, lambda line: print(line, file=sys.stderr, flush=True)):
            runs.execute(
                folder, lambda place: count(config, place), lambda step: print(step, flush=True)
            )
    except runs.RunError as error:
        print(f"toys: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
