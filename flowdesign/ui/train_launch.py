"""Starting, stopping and queueing runs: the page starts processes and never trains itself.

A run is `python -m flowdesign KIND` in a session of its own, so it outlives the page and the app. It gets
the machine's lease from here (`flowdesign.lease`). A thread, one per app, gives the machine to the next
run in the queue, and notes how much memory the run at work takes and how it ended.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flowdesign import lease, runs
from flowdesign.catalog import ROOT
from flowdesign.config import RunConfig, save, to_flags
from flowdesign.ui.train_kinds import Kind
from flowdesign.ui.train_memory import session_memory
from flowdesign.ui.train_runs import OUTPUT, Launch, Run, RunBook, TrainError, write_launch

EVERY = 2.0  # seconds between two looks of the thread
PROGRAM = (sys.executable, "-m", "flowdesign")

log = logging.getLogger(__name__)


class Busy(TrainError):
    """The machine is taken; the run can wait for it."""


class Launcher:
    """Starts, queues and stops the runs of a book. `program` is what the kind and its flags follow."""

    def __init__(self, book: RunBook, program: Sequence[str] = PROGRAM) -> None:
        self.book, self.program = book, tuple(program)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watcher: threading.Thread | None = None

    # --- starting

    def start(self, kind: Kind, config: RunConfig, who: str = "") -> None:
        """Begin a new run. Raises Busy while another holds the machine or waits, TrainError."""
        self._check_new(config.run)
        taken = self._take(config.run)
        try:
            self._create(kind, config, who)
            self._spawn(self.book.get(config.run), taken, who)
        finally:
            taken.close()

    def enqueue(self, kind: Kind, config: RunConfig, who: str = "") -> int:
        """Put a new run at the end of the queue; gives its place, from 1. Raises TrainError."""
        self._check_new(config.run)
        self._create(kind, config, who)
        return lease.enqueue(self.book.root, config.run, who)

    def resume(self, name: str, who: str = "") -> None:
        """Let a run go on where it ended. Raises Busy, TrainError."""
        run = self._resumable(name)
        taken = self._take(name)
        try:
            self._spawn(run, taken, who)
        finally:
            taken.close()

    def enqueue_again(self, name: str, who: str = "") -> int:
        """Let a run go on when the machine is free; gives its place in the queue."""
        return lease.enqueue(self.book.root, self._resumable(name).name, who)

    # --- ending

    def stop(self, name: str) -> None:
        """End a run after the step it is in, or take it out of the queue. Raises TrainError."""
        run = self.book.get(name)
        if lease.withdraw(self.book.root, name) or run.state == "stopping":
            return
        if run.state == "starting":
            self._signal(run, signal.SIGTERM)  # it would not see a STOP that is older than itself
            if run.launch is not None:  # so that this does not look like a failed start
                write_launch(run.folder, replace(run.launch, started=0.0))
        elif run.state == "running":
            runs.request_stop(run.folder)
        else:
            raise TrainError(f"'{name}' is not at work: it {_has(run)}.")

    def end_now(self, name: str) -> None:
        """End the process at once; the run can go on from its last checkpoint. Raises TrainError."""
        run = self.book.get(name)
        if run.state not in ("starting", "running", "stopping"):
            raise TrainError(f"'{name}' is not at work: it {_has(run)}.")
        self._signal(run, signal.SIGKILL)

    # --- the thread

    def watch(self) -> None:
        """Start the thread that serves the queue; once for an app."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="runs", daemon=True)
            self._watcher.start()

    def look(self) -> None:
        """What the thread does every few seconds: note ends and memory, start the next run."""
        self._note_ends()
        self._note_memory()
        lease.start_next(self.book.root, self._start_queued)

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except (runs.RunError, TrainError, OSError):
                log.exception("the queue could not be served")
            time.sleep(EVERY)

    def _start_queued(self, ticket: lease.Ticket, taken: lease.Lease) -> None:
        try:
            run = self.book.get(ticket.run)
        except TrainError:
            log.warning("the queued run '%s' is gone", ticket.run)
            return
        try:
            self._spawn(run, taken, ticket.who)
        except TrainError as fault:
            failed = replace(run.launch or Launch(""), started=time.time(), fault=str(fault))
            write_launch(run.folder, failed)

    def _note_ends(self) -> None:
        for name, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[name]
            with suppress(TrainError):  # deleted or renamed meanwhile
                run = self.book.get(name)
                if run.launch is not None:
                    write_launch(run.folder, replace(run.launch, code=code))

    def _note_memory(self) -> None:
        held = lease.holder(self.book.root)
        memory = session_memory(held.pid) if held else None
        if held is None or memory is None:
            return
        with suppress(TrainError):
            run = self.book.get(held.run)
            if run.launch is not None and memory > 1.01 * run.launch.memory:
                write_launch(run.folder, replace(run.launch, memory=memory))

    # --- parts

    def _check_new(self, name: str) -> None:
        if (self.book.root / name).exists():
            raise TrainError(
                f"There is a folder '{name}' already. Choose another name, or resume that run."
            )

    def _take(self, name: str) -> lease.Lease:
        line = [ticket.run for ticket in lease.waiting(self.book.root)]
        if line:
            raise Busy(f"{_listed(line)} first in the queue.")
        try:
            return lease.take(self.book.root, name)
        except lease.MachineBusy as busy:
            raise Busy(str(busy)) from busy

    def _create(self, kind: Kind, config: RunConfig, who: str) -> None:
        """Make the folder, with what the run is; of two who want the same name one gets it."""
        folder = self.book.root / config.run
        try:
            folder.mkdir(parents=True)
            save(config, folder / "config.json")
            write_launch(folder, Launch(kind.name, who))
        except FileExistsError:
            self._check_new(config.run)
        except OSError as fault:
            raise TrainError(f"The run's folder cannot be made: {fault}") from fault

    def _resumable(self, name: str) -> Run:
        run = self.book.get(name)
        if run.shipped:
            raise TrainError(f"'{name}' came with FlowDesign. Start a run of your own.")
        if not run.resumable:
            raise TrainError(f"'{name}' cannot be resumed: it {_has(run)}.")
        return run

    def _spawn(self, run: Run, taken: lease.Lease, who: str) -> None:
        """Start the process, which inherits the lease. Raises TrainError."""
        if run.kind is None:
            raise TrainError(f"'{run.name}' is of no kind that this page knows.")
        command = [*self.program, run.kind.name, *to_flags(self.book.config(run))]
        memory = run.launch.memory if run.launch else 0
        launch = Launch(run.kind.name, who, time.time(), platform.node(), memory)
        (run.folder / "STOP").unlink(missing_ok=True)
        write_launch(run.folder, launch)
        try:
            process = _process(command, run.folder / OUTPUT, taken)
        except OSError as fault:
            raise TrainError(f"The process could not be started: {fault}") from fault
        taken.name(process.pid)
        self._processes[run.name] = process

    def _signal(self, run: Run, number: signal.Signals) -> None:
        """Send a signal to the run's process, and to its workers where it leads a session."""
        status = runs.read_status(run.folder) if runs.is_alive(run.folder) else None
        held = lease.holder(self.book.root)
        pid = status.pid if status else held.pid if held and held.run == run.name else 0
        if pid <= 0:
            return
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)


def _process(command: Sequence[str], output: Path, taken: lease.Lease) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **taken.hand_over(), "PYTHONUNBUFFERED": "1"}
    with output.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(taken.descriptor,),
        )


def _listed(line: Sequence[str]) -> str:
    return f"'{line[0]}' is" if len(line) == 1 else f"{len(line)} runs are"


def _has(run: Run) -> str:
    return {"queued": "waits", "crashed": "crashed", "failed": "failed"}.get(
        run.state, f"is {run.state}" if run.open else f"has {run.state}"
    )
