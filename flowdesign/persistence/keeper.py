"""The thread that restores at the start and pushes on a schedule; the app never waits for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from filelock import FileLock, Timeout

from flowdesign.persistence.hub import PersistenceError, Remote, RemoteFault, remote_of
from flowdesign.persistence.ledger import Ledger
from flowdesign.persistence.outbox import Outbox
from flowdesign.persistence.restoring import Restorer
from flowdesign.records import Store
from flowdesign.records.changes import Changes

log = logging.getLogger(__name__)

MINUTES = 5.0
FIRST_RETRY = 15.0  # seconds after a fault; doubled at each one up to the schedule
AT_ONCE = 20  # shards of one push
PARTING = (
    20.0  # seconds that the last push may take; a Space is killed soon after it is told to end
)


@dataclass(frozen=True)
class State:
    """How saving goes. `saved` is when the last push ended well (seconds since the epoch), or 0."""

    restored: bool = False
    saved: float = 0.0
    waiting: int = 0  # shards and unsaved changes
    fault: str = ""  # why the last turn failed, or ""


class Keeper:
    """Keeps one store at one remote. `start` it, and `stop` it at the end."""

    def __init__(self, store: Store, remote: Remote, every: float = MINUTES * 60) -> None:
        """`every` is in seconds. Nothing is read or pushed yet."""
        self.remote, self.every = remote, every
        self._store = store
        self._lock = FileLock(store.folder / "persistence.lock", timeout=0)
        self._changes = Changes(store)
        self._ledger = Ledger(store.folder / "persistence.sqlite3")
        self._outbox = Outbox(store, self._changes, self._ledger)
        self._restorer = Restorer(store, self._changes, self._ledger, self._outbox)
        self._state = State()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="persistence", daemon=True)

    @property
    def state(self) -> State:
        """How it goes, for the page."""
        return replace(self._state, waiting=self._waiting())

    def start(self) -> None:
        """Begin: restore, then push on schedule."""
        self._thread.start()

    def stop(self, patience: float = PARTING) -> None:
        """Push once more and end; give up after `patience` seconds (what waits is on disk)."""
        self._end.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            log.warning("The last push to %s was not finished.", self.remote.name)

    def turn(self) -> None:
        """Restore if that was not done, push what waits, then what has changed.

        Raises RemoteFault; what could not be pushed waits for the next turn.
        """
        self._outbox.clean()
        if not self._state.restored:
            done = self._restorer.restore(self.remote)
            self._state = replace(self._state, restored=True)
            log.info("Restored %d items of %d files.", done.items, done.files)
        self._push()  # before anything is cut, so that a long fault does not make many shards
        self._outbox.cut()
        self._push()
        self._state = State(restored=True, saved=time.time())

    def _push(self) -> None:
        """Push the outbox, oldest first; a shard leaves it when the remote has it."""
        while shards := self._outbox.waiting()[:AT_ONCE]:
            files = {path: f for shard in shards for path, f in self._outbox.files(shard).items()}
            self.remote.add(files)
            self._ledger.note_files(files)
            for shard in shards:
                self._outbox.remove(shard)

    def _waiting(self) -> int:
        return len(self._outbox.waiting()) + self._changes.count()

    def _run(self) -> None:
        """Take turns until the end, and one more then."""
        faults = 0
        while True:
            last = self._end.is_set()
            try:
                with self._lock:
                    self.turn()
                faults = 0
            except Timeout:
                self._state = replace(self._state, fault="Another app is saving these records.")
            except (
                Exception
            ) as fault:  # saving must go on later; the page and the log say what it was
                faults += 1
                self._state = replace(self._state, fault=str(fault) or type(fault).__name__)
                log.log(
                    logging.WARNING if isinstance(fault, RemoteFault) else logging.ERROR,
                    "Saving to %s failed: %s", self.remote.name, fault,
                    exc_info=not isinstance(fault, RemoteFault),
                )  # fmt: skip
            if last:
                return
            retry = min(FIRST_RETRY * 2 ** (faults - 1), self.every) if faults else self.every
            self._end.wait(retry)


def open_keeper(
    store: Callable[[], Store], environment: Mapping[str, str] | None = None
) -> Keeper | None:
    """Keep the store as the environment says; None, without opening it, when it says nothing.

    Raises PersistenceError for variables that cannot be used.
    """
    given = os.environ if environment is None else environment
    name = given.get("FLOWDESIGN_DATASET", "").strip()
    if not name:
        return None
    remote = remote_of(name, given.get("HF_TOKEN") or None)
    return Keeper(store(), remote, 60 * _minutes(given.get("FLOWDESIGN_PUSH_MINUTES", "")))


def _minutes(text: str) -> float:
    if not text.strip():
        return MINUTES
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.1 <= minutes <= 24 * 60:
        raise PersistenceError(f"FLOWDESIGN_PUSH_MINUTES is {text!r}; a number from 0.1 to 1440.")
    return minutes
