"""The runs under checkpoints/ as the Train tab sees them: what each is, what it does, how far it is.

Everything is read from the folders, so that a reload, a second visitor and a restarted app see the
same. The page adds to what `flowdesign.runs` describes:

    launch.json   the kind of run, who started it, when, where, and the most memory it took
    output.txt    what the process printed
    notes.txt     what people wrote about it
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from flowdesign import lease, runs
from flowdesign.catalog import ROOT, suggest
from flowdesign.config import ConfigError, RunConfig, load
from flowdesign.ui.train_kinds import KINDS, SHIPPED, Kind, Rows
from flowdesign.ui.train_metrics import MetricsReader

CHECKPOINTS = ROOT / "checkpoints"
LAUNCH, OUTPUT, NOTES = "launch.json", "output.txt", "notes.txt"
TAIL = 8192  # bytes at the end of a log that are looked at

State = Literal[
    "queued", "starting", "running", "stopping", "stopped", "finished", "failed", "crashed"
]
OPEN: frozenset[State] = frozenset({"queued", "starting", "running", "stopping"})
RESUMABLE: frozenset[State] = frozenset({"stopped", "failed", "crashed"})


class TrainError(RuntimeError):
    """What was asked of a run cannot be done; the message is for people."""


@dataclass(frozen=True)
class Launch:
    """What launch.json says; times are seconds since the epoch, `memory` is in bytes.

    `code` is how the last process ended, None while that is not known; `fault` says why none began.
    """

    kind: str
    who: str = ""
    started: float = 0.0
    machine: str = ""
    memory: int = 0
    code: int | None = None
    fault: str = ""


@dataclass(frozen=True)
class Run:
    """A run as it is now. `place` is its place in the queue, from 1; `message` says what went wrong."""

    name: str
    folder: Path
    kind: Kind | None
    state: State
    step: int = 0
    total: int = 0
    message: str = ""
    updated: float = 0.0
    place: int = 0
    shipped: bool = False
    launch: Launch | None = None

    @property
    def open(self) -> bool:
        """Whether it works or waits to."""
        return self.state in OPEN

    @property
    def resumable(self) -> bool:
        """Whether it can go on from here."""
        return self.state in RESUMABLE and self.kind is not None and not self.shipped


class RunBook:
    """The runs below `root`, of these kinds. `shipped` names those that nobody may change here."""

    def __init__(
        self,
        root: Path = CHECKPOINTS,
        kinds: Sequence[Kind] = KINDS,
        shipped: Iterable[str] = SHIPPED,
    ) -> None:
        self.root = root
        self.kinds = {kind.name: kind for kind in kinds}
        self.shipped = frozenset(shipped)
        self.metrics = MetricsReader()

    def all(self) -> list[Run]:
        """Every run: those at work first, then those that wait, then the newest."""
        return sorted(self._read_all(self._folders()), key=_order)

    def get(self, name: str) -> Run:
        """The run of this name. Raises TrainError for an unknown one."""
        folders = {folder.name: folder for folder in self._folders()}
        if name not in folders:
            raise TrainError(f"There is no run '{name}'. {suggest(name, list(folders))}")
        return self._read_all([folders[name]])[0]

    def config(self, run: Run) -> RunConfig:
        """What the run was asked for. Raises TrainError when that cannot be read."""
        if run.kind is None:
            raise TrainError(f"'{run.name}' is of no kind that this page knows.")
        try:
            config = load(run.kind.config, run.folder / "config.json")
        except (ConfigError, OSError) as fault:
            raise TrainError(f"The options of '{run.name}' cannot be read: {fault}") from fault
        return config.model_copy(update={"run": run.name})

    def options(self, folder: Path) -> dict[str, Any]:
        """The stored options as they are; none when they cannot be read."""
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def former(self, kind: Kind) -> list[tuple[RunConfig, Rows, Launch | None]]:
        """Config and metrics of the kind's runs that were at work on this machine, newest first."""
        found: list[tuple[RunConfig, Rows, Launch | None]] = []
        past = [self._read(folder, (), None) for folder in self._folders()]
        for run in sorted(past, key=_order):
            if run.kind is kind and was_here(run):
                try:
                    found.append((self.config(run), self.metrics.rows(run.folder), run.launch))
                except TrainError:
                    continue  # it tells nothing about time
        return found

    def newest(self, kind: str, preset: str) -> str | None:
        """The run of a kind that was finished last with the options of a preset."""
        wanted = next((one.values for one in self.kinds[kind].presets if one.name == preset), {})
        for run in self.all():
            if run.kind is self.kinds[kind] and run.state == "finished":
                options = self.options(run.folder)
                if all(options.get(name) == value for name, value in wanted.items()):
                    return run.name
        return None

    def lacking(self, kind: Kind, config: RunConfig) -> dict[str, str]:
        """What the config names and is not there, nor being made: a message for each option."""
        found = {}
        for name, thing in kind.needs(config).items():
            value = str(getattr(config, name))
            there = any((place / thing.file).exists() for place in (self.root / value, Path(value)))
            if not there and not any(run.open and run.name == value for run in self.all()):
                found[name] = (
                    f"There is no {thing.name} in '{value}': make one first, or name another"
                )
        return found

    def free_name(self, kind: Kind) -> str:
        """A name for the next run of this kind that no folder has."""
        number = 1
        while (self.root / f"{kind.name}-{number}").exists():
            number += 1
        return f"{kind.name}-{number}"

    def _folders(self) -> set[Path]:
        """The folders that hold runs."""
        found = [*self.root.glob("*/status.json"), *self.root.glob(f"*/{LAUNCH}")]
        return {path.parent for path in found if not path.parent.name.startswith(".")}

    def _read_all(self, folders: Iterable[Path]) -> list[Run]:
        """What these folders hold, beside the queue and the lease as they are now."""
        line = [ticket.run for ticket in lease.waiting(self.root)]
        held = lease.holder(self.root)
        return [self._read(folder, line, held) for folder in folders]

    def _read(self, folder: Path, line: Sequence[str], held: lease.Holder | None) -> Run:
        launch = read_launch(folder)
        shipped = folder.name in self.shipped
        run = Run(
            folder.name, folder, self._kind(folder, launch), "stopped",
            shipped=shipped, launch=launch, updated=launch.started if launch else 0.0,
        )  # fmt: skip
        try:
            status = runs.read_status(folder)
        except (ValueError, TypeError, OSError) as fault:
            return replace(run, state="failed", message=f"status.json cannot be read: {fault}")
        if status is not None:
            run = replace(
                run, state=status.state, step=status.step, total=status.total,
                message=status.message, updated=status.updated,
            )  # fmt: skip
        if run.state == "running":
            return replace(run, state="stopping") if (folder / "STOP").exists() else run
        if folder.name in line:
            return replace(run, state="queued", message="", place=line.index(folder.name) + 1)
        if launch and launch.started > (status.updated if status else 0.0):
            return _not_begun(run, launch, held is not None and held.run == folder.name)
        return run

    def _kind(self, folder: Path, launch: Launch | None) -> Kind | None:
        """The kind in launch.json; for a run from a shell, the one whose options fit best."""
        if launch is not None:
            return self.kinds.get(launch.kind)
        names = set(self.options(folder))
        fitting = [one for one in self.kinds.values() if names <= set(one.config.model_fields)]
        return min(fitting, key=lambda one: len(one.config.model_fields), default=None)


def _not_begun(run: Run, launch: Launch, alive: bool) -> Run:
    """A run that was started after its status was written: it begins, or it never got that far."""
    if alive:
        return replace(run, state="starting", message="")
    said = launch.fault or tail(run.folder / OUTPUT, 1)
    message = f"It ended before it was under way. {said}".strip()
    return replace(run, state="failed", message=message, updated=launch.started)


def _order(run: Run) -> tuple[int, int, float, str]:
    first = 0 if run.open and run.state != "queued" else 1 if run.state == "queued" else 2
    return first, run.place, -run.updated, run.name


def read_launch(folder: Path) -> Launch | None:
    """What launch.json says, None when there is none that can be read."""
    try:
        values = json.loads((folder / LAUNCH).read_text(encoding="utf-8"))
        known = {one.name for one in fields(Launch)}
        return Launch(**{name: value for name, value in values.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_launch(folder: Path, launch: Launch) -> None:
    """Replace launch.json."""
    runs.replace_text(folder / LAUNCH, json.dumps(asdict(launch), indent=2) + "\n")


def was_here(run: Run) -> bool:
    """Whether the run was at work on this machine, so that its times say something about it.

    A run from a shell has a lock file here, which is not shipped with what the run made.
    """
    if run.launch is not None:
        return run.launch.machine == platform.node()
    return (run.folder / "alive.lock").exists()


def tail(path: Path, lines: int) -> str:
    """The last lines of a log that may be long, "" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().split("\n")[-lines:])


def last_lines(folder: Path, lines: int) -> str:
    """The end of whichever of the run's two logs was written last."""
    logs = [path for path in (folder / OUTPUT, folder / "log.txt") if path.exists()]
    logs = [path for path in logs if path.stat().st_size]
    newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
    return tail(newest, lines) if newest else ""


def read_notes(folder: Path) -> str:
    """What people wrote about the run."""
    try:
        return (folder / NOTES).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
