"""Those who render: processes of this machine, or a Ray cluster (`on_ray`); both look the same.

A crew takes batches and gives their outcomes as they are finished. When a worker is lost (killed, out
of memory), its batch is made again; a batch that loses its worker every time comes back as None.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol

from flowdesign.collect.batches import Batch, Job
from flowdesign.collect.making import Make, Outcome, Recipe

TRIES = 3  # that a batch has, the first one included
AHEAD = 2  # batches that are sent for each worker, so that none waits for the next

log = logging.getLogger(__name__)
Made = tuple[Batch, list[Outcome] | None]


class Crew(Protocol):
    """Makes batches, several at once. A context: leaving it ends the workers at once."""

    def __enter__(self) -> Crew: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def make(self, batches: Iterable[Batch]) -> Iterator[Made]:
        """Yield each batch with its outcomes as it is finished; None when no worker survives it.

        What a worker raises is raised here.
        """


class LocalCrew:
    """Processes of this machine. They end with this one, however it ends."""

    def __init__(self, recipe: Recipe, workers: int) -> None:
        self._recipe = recipe
        self._workers = workers
        self._idle = True
        self._begin()

    def __enter__(self) -> LocalCrew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._idle:  # let the workers tidy up
            self._pool.shutdown(wait=True)
        self._end()

    def make(self, batches: Iterable[Batch]) -> Iterator[Made]:
        """See `Crew.make`. After a loss the batches of that moment are made one at a time.

        Whichever of them loses its worker when it is alone is the one that does it.
        """
        waiting, running = iter(batches), dict[Future[list[Outcome]], Batch]()
        suspects: deque[Batch] = deque()
        while True:
            self._send(waiting, running)
            self._idle = not running
            if self._idle:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                batch = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(batch)
                else:
                    yield batch, future.result()
            if suspects:
                suspects.extend(running.values())  # they fall with the pool
                running.clear()
                self._renew()
                yield from map(self._make_alone, suspects)
                suspects.clear()

    def _send(self, waiting: Iterator[Batch], running: dict[Future[list[Outcome]], Batch]) -> None:
        while len(running) < AHEAD * self._workers:
            batch = next(waiting, None)
            if batch is None:
                return
            running[self._submit(batch)] = batch

    def _submit(self, batch: Batch) -> Future[list[Outcome]]:
        try:
            return self._pool.submit(_work, batch.jobs)
        except BrokenProcessPool as loss:  # nothing was running, so nobody has noticed yet
            failed = Future[list[Outcome]]()
            failed.set_exception(loss)
            return failed

    def _make_alone(self, batch: Batch) -> Made:
        for _ in range(TRIES - 1):
            try:
                return batch, self._submit(batch).result()
            except BrokenProcessPool:
                log.warning("a worker was lost with batch %d", batch.number)
                self._renew()
        return batch, None

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        # Nobody ever writes: the workers end when this end is closed, by us or by our death.
        watched, self._life = context.Pipe(duplex=False)
        start = (self._recipe, watched)
        self._pool = ProcessPoolExecutor(self._workers, context, _begin, start)

    def _renew(self) -> None:
        self._end()
        self._begin()

    def _end(self) -> None:
        """End the workers in the middle of their work: what is not stored is made again."""
        self._life.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


_worker: list[Recipe | Make] = []  # of this worker process: its recipe until it is first used


def _begin(recipe: Recipe, life: Connection) -> None:
    """Get a worker process ready. Ctrl-C is for the parent, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker[:] = [recipe]
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Connection) -> None:
    """End this process in whatever it does when the other end of the pipe is closed."""
    life.poll(None)
    os._exit(1)


def _work(jobs: Sequence[Job]) -> list[Outcome]:
    """Make a batch in a worker process, which opens the recipe when it is first asked."""
    return opened(_worker)(jobs)


def opened(held: list[Recipe | Make]) -> Make:
    """Give what a recipe makes, opening it where that was not done yet.

    Here and not at the start of a process, so that what goes wrong reaches the one who asked.
    """
    (one,) = held
    if not callable(one):
        one = held[0] = one.open()
    return one
