"""Work that goes on in the background while the page is used: scoring again, importing, weighing.

A job belongs to the server, not to a page: a reload or a second visitor sees the same jobs. They run
one after the other, because they share the processor with whoever is rendering. Work that needs its
own process and survives a restart is a run (`flowdesign.runs`); these are minutes, not hours.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from flowdesign.access import Action

log = logging.getLogger(__name__)

KEPT = 4  # finished jobs that are still shown
MAX_WAITING = 8

State = Literal["waiting", "running", "done", "stopped", "failed"]


class TooMany(RuntimeError):
    """As many jobs wait as may; the message is for people."""


class Told(Exception):
    """A job cannot go on, for a reason that a person can put right; the message says it."""


class _Stop(Exception):
    """Raised inside the work when its job was cancelled."""


@dataclass(eq=False)
class Job:
    """One piece of work: how far it is, and what came of it in `said`."""

    number: int
    title: str
    total: int = 0  # steps; 0 while nobody knows
    done: int = 0
    state: State = "waiting"
    said: str = ""
    link: tuple[str, str] | None = None  # address and words of what it made
    action: Action | None = None  # what a person must be allowed to do to stop it
    started: float = 0.0  # time.monotonic()
    _stop: threading.Event = field(default_factory=threading.Event)

    def step(self, count: int = 1) -> None:
        """Tell that `count` more steps are done. Ends the work when the job was cancelled."""
        self.done += count
        self.ask()

    def stop(self) -> None:
        """Let the work end at its next step."""
        self._stop.set()

    def ask(self) -> bool:
        """End the work when the job was cancelled; the form that renderers and scorers ask for."""
        if self._stop.is_set():
            raise _Stop
        return False

    @property
    def open(self) -> bool:
        """Whether the job waits or runs."""
        return self.state in ("waiting", "running")

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled and has not ended yet."""
        return self.open and self._stop.is_set()

    def seconds_left(self) -> float | None:
        """How long it will take at the rate so far; None while that cannot be said."""
        if self.state != "running" or not self.done or self.total <= self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)


Work = Callable[[Job], str]  # gives what is said at the end


class Jobs:
    """The jobs of this process, oldest first."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Job, Work]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def start(self, title: str, work: Work, action: Action | None = None) -> Job:
        """Begin `work` as soon as the jobs before it have ended. Raises TooMany.

        Whoever may do `action` may stop it; anybody may without one.
        """
        with self._lock:
            if sum(job.open for job in self._jobs) >= MAX_WAITING:
                raise TooMany(f"{MAX_WAITING} jobs are waiting already. Try again in a while.")
            job = Job(next(self._numbers), title, action=action)
            ended = [one for one in self._jobs if not one.open]
            self._jobs = [one for one in self._jobs if one.open or one in ended[-KEPT + 1 :]]
            self._jobs.append(job)
            self._queue.put((job, work))
            if self._worker is None:
                # A daemon: a job must not keep the server from ending; what it wrote is durable.
                self._worker = threading.Thread(target=self._run, name="jobs", daemon=True)
                self._worker.start()
        return job

    def find(self, number: int) -> Job | None:
        """The open job of this number, None when there is none."""
        return next((job for job in self.shown() if job.number == number and job.open), None)

    def forget(self) -> None:
        """Take the ended jobs off the list."""
        with self._lock:
            self._jobs = [job for job in self._jobs if job.open]

    def shown(self) -> list[Job]:
        """All open jobs and the last ones that ended, oldest first."""
        with self._lock:
            return list(self._jobs)

    @property
    def busy(self) -> bool:
        """Whether a job waits or runs."""
        return any(job.open for job in self.shown())

    def _run(self) -> None:
        while True:
            job, work = self._queue.get()
            self._do(job, work)

    def _do(self, job: Job, work: Work) -> None:
        job.started = time.monotonic()
        state: State = "done"
        try:
            job.ask()
            job.state = "running"
            job.said = work(job)
        except _Stop:
            state = "stopped"
        except Told as reason:
            state, job.said = "failed", str(reason)
        except Exception as fault:  # of any part; the log has the traceback, the page the words
            log.exception("%s failed", job.title)
            state, job.said = "failed", str(fault) or type(fault).__name__
        job.state = state
