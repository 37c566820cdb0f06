"""What each open page has asked for, so that a page can stop its own work and nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flowdesign.designs import say_fault
from flowdesign.parts import Cancel
from flowdesign.studio import Designed, Event, Studio
from flowdesign.ui.keeping import Keeps

TICK = 0.5  # seconds between two looks at whether to go on


class NotLoaded(RuntimeError):
    """The models could not be loaded; the message says why."""


@dataclass(eq=False, kw_only=True)
class Ticket:
    """A page's place in the queue, and the way to stop its work."""

    stop: threading.Event = field(default_factory=threading.Event)
    taken: bool = False  # it has left the queue


@dataclass(eq=False)
class Task(Ticket):
    """One piece of work for one page: what to do, and how far it is."""

    work: Callable[[Studio, Cancel], Iterator[Event]]
    count: int
    seed: int
    keeps: Keeps = "never"
    current: Designed | None = None  # its image is being made
    done: int = 0


Asked = TypeVar("Asked", bound=Ticket)


class Tasks(Generic[Asked]):
    """At most one task for each page, by Gradio's session hash."""

    def __init__(self) -> None:
        self._tasks: dict[str, Asked] = {}
        self._lock = threading.Lock()

    def add(self, page: str, task: Asked) -> bool:
        """Remember the task for when its turn comes; False while the page's last one still runs."""
        with self._lock:
            last = self._tasks.get(page)
            if last is not None and last.taken:
                return False
            self._tasks[page] = task
            return True

    def take(self, page: str) -> Asked | None:
        """The page's task, once: None when it was cancelled or is under way already."""
        with self._lock:
            task = self._tasks.get(page)
            if task is None or task.taken:
                return None
            task.taken = True
            return task

    def end(self, page: str, task: Asked) -> None:
        """Forget a task, and stop it should it still run."""
        task.stop.set()
        with self._lock:
            if self._tasks.get(page) is task:
                del self._tasks[page]

    def stop(self, page: str) -> Asked | None:
        """Stop what this page has asked for, and give it back.

        What is under way stays the page's task until its work has said how it ended; what waits in the
        queue is forgotten.
        """
        with self._lock:
            task = self._tasks.get(page)
            if task is not None:
                task.stop.set()
                if not task.taken:
                    del self._tasks[page]
            return task

    def drop(self, page: str) -> None:
        """Stop what this page has asked for, and let it say nothing more."""
        task = self._tasks.get(page)
        if task is not None:
            self.end(page, task)

    def holds(self, page: str, task: Asked) -> bool:
        """Whether this is still what the page waits for."""
        return self._tasks.get(page) is task


def until_loaded(opening: Future[Studio], stop: threading.Event) -> Iterator[None]:
    """Yield now and then until the studio is open or `stop` is set. Raises NotLoaded."""
    while not wait([opening], TICK).done:
        yield
        if stop.is_set():
            return
    if fault := opening.exception():
        raise NotLoaded(f"The models could not be loaded: {say_fault(fault)}") from fault
