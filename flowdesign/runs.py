"""A run on disk: long work is a folder that anyone can watch, stop and resume.

    config.json     what was asked; resuming with another config is an error
    metrics.jsonl   one line per finished step
    status.json     state, step, total, message; replaced atomically
    log.txt         what happened, with tracebacks
    alive.lock      locked for the life of the process, so that a crash shows
    origin.json     digests of what the run was made from, where that can change
    STOP            asks the run to stop after the step it is in
    figures.json    how good the result is, measured when it was finished

The work itself is a generator of `Step`. Its contract makes resuming exact, even after SIGKILL:

1. It starts from the newest checkpoint in the folder; the first `Step` it yields says where.
2. It writes a checkpoint only after a `yield` has returned, when that step is on record here;
   when it is closed at a `yield` (GeneratorExit) it writes one too.

A step is then either in metrics.jsonl and in the checkpoint, or repeated from the same state;
what metrics.jsonl holds of repeated steps is dropped before they are recorded again.

Errors: RunError
        |- RunBusy      another process holds the run
        |- RunConflict  the folder holds a run with another config
"""

import hashlib
import json
import logging
import os
import platform
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from flowdesign import __version__
from flowdesign.catalog import ROOT
from flowdesign.config import ConfigT, RunConfig, Step, load, save

State = Literal["running", "stopped", "finished", "failed", "crashed"]
Steps = Generator[Step, None, None]
Work = Callable[[Path], Steps]
ORIGIN = "origin.json"
# The files of a run that has made nothing yet.
BEGUN = {"config.json", "status.json", "log.txt", "alive.lock"}
LOCK_PATIENCE = 2.0  # seconds; a reader that probes the lock holds it for an instant


class RunError(RuntimeError):
    """A run that cannot be started or continued."""


class NotANumber(ArithmeticError):
    """The loss is not a number any more: nothing that can be learned from comes after it."""


class RunBusy(RunError):
    """Another process is at work in the run's folder."""


class RunConflict(RunError):
    """The folder holds a run that was made with another config."""


@dataclass(frozen=True)
class Status:
    """What status.json says; `step` counts finished steps, times are seconds since the epoch."""

    state: State
    step: int = 0
    total: int = 0
    message: str = ""
    pid: int = 0
    started: float = 0.0
    updated: float = 0.0


def check_origin(folder: Path, digests: Mapping[str, str]) -> None:
    """Note what a run is made from, by option. Raises RunConflict where it goes on from something else."""
    path = folder / ORIGIN
    if not digests:
        return
    if not path.exists():
        replace_text(path, json.dumps(digests, indent=2) + "\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if changed := [name for name, digest in digests.items() if before.get(name) != digest]:
        raise RunConflict(
            f"What --{' and --'.join(changed)} names has changed since the run in {folder} began: put it "
            "back, or start another run (--run NAME)."
        )


def folder_of(name: str) -> Path:
    """The folder of a run under checkpoints/, or the path itself."""
    run = ROOT / "checkpoints" / name
    return run if run.is_dir() else Path(name)


def prepare(folder: Path, config: ConfigT) -> None:
    """Make the run's folder, or check that it holds the same config. Raises RunConflict.

    Incidental options may differ; config.json keeps those that the run was made with. A run that failed
    before it made anything, as with a name that nobody knows, can be begun with others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    if not path.exists() or _made_nothing(folder):
        save(config, path)
        return
    stored = load(type(config), path)
    names = [name for name in type(config).model_fields if name not in config.incidental]
    changed = [name for name in names if getattr(stored, name) != getattr(config, name)]
    if changed:
        raise RunConflict(_conflict(folder, stored, config, changed))


def _made_nothing(folder: Path) -> bool:
    status = read_status(folder)
    failed = status is not None and status.state == "failed"
    return failed and {one.name for one in folder.iterdir()} <= BEGUN


def execute(folder: Path, work: Work, on_step: Callable[[Step], None] | None = None) -> Status:
    """Run `work` to its end, a STOP file or a fault, and keep the folder's records.

    Returns the last status: finished or stopped. A fault of the work is recorded as "failed" and
    raised again. Raises RunBusy when another process holds the run.
    """
    with _alive(folder), _log(folder) as log:
        (folder / "STOP").unlink(missing_ok=True)
        recorder = _Recorder(folder)
        try:
            state = _drive(folder, work(folder), recorder, on_step)
        except BaseException as fault:
            log.error("failed\n%s", traceback.format_exc())
            recorder.write("failed", f"{type(fault).__name__}: {fault}")
            raise
        log.info("%s after step %d of %d", state, recorder.step, recorder.total)
        return recorder.write(state)


def request_stop(folder: Path) -> None:
    """Ask the run to stop after the step it is in."""
    (folder / "STOP").touch()


def is_alive(folder: Path) -> bool:
    """Say whether a process holds the run's lock."""
    path = folder / "alive.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def read_status(folder: Path) -> Status | None:
    """Read the run's status, None when there is none; "running" without a process is "crashed"."""
    try:
        values = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    status = Status(**values)
    if status.state == "running" and not is_alive(folder):
        return Status(**{**values, "state": "crashed"})
    return status


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the recorded steps in order; a last line cut short by a crash does not count."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def list_runs(root: Path) -> dict[str, Status]:
    """Find the runs under `root`, newest first, by name."""
    found = {path.parent: read_status(path.parent) for path in root.glob("*/status.json")}
    known = {folder.name: status for folder, status in found.items() if status is not None}
    return dict(sorted(known.items(), key=lambda item: -item[1].updated))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new, never a part.

    `write` is given the draft beside it ("<name>.new") and fills it.
    """
    draft = path.with_name(path.name + ".new")
    write(draft)
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def replace_text(path: Path, text: str) -> None:
    """`replace_file` with a text."""
    replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_figures(folder: Path, figures: Mapping[str, Any]) -> None:
    """Store what was measured of the run's result."""
    replace_text(folder / "figures.json", json.dumps(figures, indent=2) + "\n")


def read_figures(folder: Path) -> dict[str, Any] | None:
    """Read what `write_figures` stored, None when nothing was."""
    path = folder / "figures.json"
    if not path.exists():
        return None
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def measured_now(**libraries: str) -> dict[str, Any]:
    """When figures are measured and with what: versions of FlowDesign, of these libraries and Python."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "with": {
            "flowdesign": __version__,
            **libraries,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }


def digest_of(paths: Iterable[Path]) -> str:
    """The sha256 of files one after the other: figures name the weights that they belong to."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _drive(
    folder: Path, steps: Steps, recorder: "_Recorder", on_step: Callable[[Step], None] | None
) -> State:
    """Take steps until there are no more or STOP appears; closing lets the work save itself."""
    recorder.write("running", "starting")
    try:
        for step in steps:
            recorder.record(step)
            if on_step is not None:
                on_step(step)
            if (folder / "STOP").exists():
                steps.close()
                return "stopped"
    except KeyboardInterrupt as interrupt:
        # The step may not be on record: end the work without the checkpoint that closing writes.
        with suppress(KeyboardInterrupt):
            steps.throw(interrupt)
        return "stopped"
    return "finished"


class _Recorder:
    """Writes metrics.jsonl and status.json for one life of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = time.time()
        previous = read_status(folder)
        self.step = previous.step if previous else 0
        self.total = previous.total if previous else 0
        self.resumed = False

    def record(self, step: Step) -> None:
        """Append the step; the first one drops recorded steps that it repeats."""
        if not self.resumed:
            self._forget_from(step.index)
            self.resumed = True
        row = {"step": step.index, "time": round(time.time(), 3), **step.metrics}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.step, self.total = step.index + 1, step.total
        self.write("running")

    def write(self, state: State, message: str = "") -> Status:
        """Replace status.json."""
        status = Status(
            state, self.step, self.total, message, os.getpid(), self.started, time.time()
        )
        replace_text(self.folder / "status.json", json.dumps(asdict(status), indent=2) + "\n")
        return status

    def _forget_from(self, index: int) -> None:
        kept = [row for row in read_metrics(self.folder) if row["step"] < index]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        replace_text(self.folder / "metrics.jsonl", text)


@contextmanager
def _alive(folder: Path) -> Iterator[None]:
    """Hold the run's lock. Raises RunBusy."""
    lock = FileLock(folder / "alive.lock", timeout=LOCK_PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise RunBusy(
            f"Run '{folder.name}' is already at work. Stop it first (create {folder / 'STOP'})."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _log(folder: Path) -> Iterator[logging.Logger]:
    """Send the package's log to log.txt while the run lives."""
    logger = logging.getLogger("flowdesign")
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("started, process %d", os.getpid())
    try:
        yield logger
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _conflict(folder: Path, stored: RunConfig, asked: RunConfig, names: list[str]) -> str:
    changes = ", ".join(f"{n}: {getattr(stored, n)!r} -> {getattr(asked, n)!r}" for n in names)
    return (
        f"Run '{folder.name}' was made with other options ({changes}). Choose another --run, "
        f"repeat the options of {folder / 'config.json'}, or delete the folder."
    )
