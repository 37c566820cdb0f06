"""How the store's file is opened, written by one thread, and read by any number.

    call -> queue -> writer thread: BEGIN; every waiting job; COMMIT (on disk) -> the calls return

Jobs that wait together share one commit, so that fifty raters cost little more than one. A job that
fails is rolled back alone. Other processes write in turn; SQLite's lock makes them wait.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from flowdesign.records.record import StoreError
from flowdesign.records.schema import migrate

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
PATIENCE = 60.0  # seconds that a process waits for another one's transaction
CACHE = -32_000  # of a connection, in KiB (negative by SQLite's rule)
BATCH = 256  # jobs that share a commit


def connect(path: Path) -> sqlite3.Connection:
    """Open the file; transactions are begun by hand. Any thread may use it, one at a time."""
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = {CACHE}")
    return connection


def prepare(path: Path) -> sqlite3.Connection:
    """Open the file for writing, with its tables up to date. Raises StoreTooNew, StoreError."""
    connection = connect(path)
    try:
        # SQLite refuses, without waiting, a change of the journal while another process opens.
        with FileLock(path.with_name(path.name + ".lock"), timeout=PATIENCE):
            migrate(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
        # FULL: in WAL mode a commit is on disk when it returns, even if the power fails.
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


class Writer:
    """The one thread of a store that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[tuple[Job[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="records-writer", daemon=True)
        self._thread.start()

    def run(self, job: Job[T]) -> T:
        """Do the job in a transaction; return its result once that is on disk, or raise its error."""
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreError("The store of records is closed.")
            self._jobs.put((job, done))
        return done.result()

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._jobs.get()]
            while len(batch) < BATCH and not self._jobs.empty():
                batch.append(self._jobs.get())
            ended = batch[-1] is None  # nothing is queued after the end
            self._commit([waiting for waiting in batch if waiting is not None])
        self._connection.close()

    def _commit(self, batch: list[tuple[Job[Any], Future[Any]]]) -> None:
        """Do a batch in one transaction; the calls hear of it only after the commit."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [_try(self._connection, job) for job, _ in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as fault:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            told = StoreError(f"The records could not be written: {fault}.")
            told.__cause__ = fault
            outcomes = [(None, told)] * len(batch)
        for (_, done), (result, error) in zip(batch, outcomes, strict=True):
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)


def _try(connection: sqlite3.Connection, job: Job[Any]) -> tuple[Any, BaseException | None]:
    """Do one job; one that fails leaves nothing behind and goes back to its caller as it is."""
    connection.execute("SAVEPOINT job")
    try:
        result = job(connection)
    except Exception as error:  # whatever it is, it belongs to the caller
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return None, error
    connection.execute("RELEASE job")
    return result, None


class Readers:
    """Connections for reading, lent to one thread at a time and used again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection that cannot write. It sees all that was committed before each statement."""
        connection = self._take()
        try:
            yield connection
        finally:
            self._give(connection)

    def close(self) -> None:
        """Close the idle ones; those that are lent are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError("The store of records is closed.")
            if self._idle:
                return self._idle.pop()
        connection = connect(self._path)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
