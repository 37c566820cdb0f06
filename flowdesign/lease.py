"""One run at a time: who holds this machine, and who waits for it.

    machine.lock   held by the run at work, for as long as its process lives, so that no end is missed
    machine.json   which run that is; says nothing once the lock is free
    queue.json     the runs that wait, first come first served

Two runs on one GPU or on two cores are slower than one after the other and may end both for want of
memory. So every run takes the lease, whoever starts it: `hold` is for the process of a run itself, from
a shell; the page takes the lease with `take` and hands it to the process that it starts (`hand_over`),
so that there is no moment in which two are told that the machine is free. The lock is one of the
operating system (flock, so POSIX only): a kill frees it, and a descriptor that a child inherits keeps it.

Whoever waits is a line in queue.json and nothing else, so a queue outlives the page, the app and the
machine. `start_next` gives the machine to the first of them.

Errors: LeaseError        lease or queue cannot be used
        |- MachineBusy    another run holds the machine; the message says which
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from flowdesign.runs import RunError, replace_text

LOCK, HOLDER, QUEUE = "machine.lock", "machine.json", "queue.json"
VARIABLE = "FLOWDESIGN_LEASE"  # the descriptor that a started run inherits
PATIENCE = 2.0  # seconds; who looks whether the lock is free holds it for an instant
EVERY = 1.0  # seconds between two looks of a run that waits in a shell


class LeaseError(RunError):
    """The lease or the queue cannot be used."""


class MachineBusy(LeaseError):
    """Another run holds the machine: `holder`."""

    def __init__(self, holder: Holder, advice: str = "") -> None:
        since = time.strftime("%H:%M", time.localtime(holder.since))
        words = (
            f"Run '{holder.run}' is at work on this machine (process {holder.pid}, since {since})."
        )
        super().__init__(f"{words} {advice}".strip())
        self.holder = holder


@dataclass(frozen=True)
class Holder:
    """The run that holds the machine, its process, and since when (seconds since the epoch)."""

    run: str
    pid: int = 0
    since: float = 0.0


@dataclass(frozen=True)
class Ticket:
    """A run that waits: the name of its folder, who asked for it, and when."""

    run: str
    who: str = ""
    asked: float = 0.0


@dataclass(frozen=True)
class Lease:
    """The taken lease: the open descriptor that holds the lock."""

    root: Path
    run: str
    descriptor: int

    def hand_over(self) -> dict[str, str]:
        """The environment that tells a child of the descriptor, which it must inherit."""
        return {VARIABLE: str(self.descriptor)}

    def name(self, pid: int) -> None:
        """Write down who holds the machine now."""
        text = json.dumps(asdict(Holder(self.run, pid, time.time())))
        replace_text(self.root / HOLDER, text)

    def close(self) -> None:
        """Let go of the descriptor; the lock stays with a child that has inherited it."""
        os.close(self.descriptor)


def holder(root: Path) -> Holder | None:
    """Who holds the machine, None when nobody does."""
    if not (root / LOCK).exists():
        return None
    descriptor = _try_lock(root)
    if descriptor is None:
        return _named(root)
    os.close(descriptor)
    return None


def take(root: Path, run: str) -> Lease:
    """Take the lease for a run that this process is or starts. Raises MachineBusy."""
    root.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    while (descriptor := _try_lock(root)) is None:
        found = _named(root)
        # A lock that somebody holds only to look bears no name of a living process.
        if _lives(found.pid) or time.monotonic() > deadline:
            raise MachineBusy(found)
        time.sleep(0.02)
    lease = Lease(root, run, descriptor)
    lease.name(os.getpid())
    return lease


@contextmanager
def hold(root: Path, run: str, wait: Callable[[Holder], object] | None = None) -> Iterator[None]:
    """Hold the machine while this process works on a run.

    A lease that came from the process that started this one is kept. While another run holds the
    machine, raises MachineBusy; or, with `wait`, tells it once who does and waits until it is free.
    """
    lease = _inherited(root, run) or _patient(root, run, wait)
    try:
        yield
    finally:
        lease.close()


def waiting(root: Path) -> list[Ticket]:
    """The runs that wait, first in line first. Raises LeaseError for a damaged queue.json."""
    try:
        rows = json.loads((root / QUEUE).read_text(encoding="utf-8"))
        return [Ticket(**row) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as fault:
        raise LeaseError(f"{root / QUEUE} cannot be read ({fault}). Delete it.") from fault


def enqueue(root: Path, run: str, who: str = "") -> int:
    """Put a run at the end of the line, once; gives its place, from 1."""
    with _queue(root):
        line = waiting(root)
        names = [ticket.run for ticket in line]
        if run not in names:
            _write_queue(root, [*line, Ticket(run, who, time.time())])
        return ([*names, run]).index(run) + 1


def withdraw(root: Path, run: str) -> bool:
    """Take a run out of the line; says whether it was in it."""
    with _queue(root):
        line = waiting(root)
        rest = [ticket for ticket in line if ticket.run != run]
        if len(rest) < len(line):
            _write_queue(root, rest)
        return len(rest) < len(line)


def start_next(root: Path, start: Callable[[Ticket, Lease], None]) -> Ticket | None:
    """Give the free machine to the first in line: `start` begins the run with the lease.

    None when nobody waits or the machine is held. Any number of processes may call it at once. A run
    whose start fails leaves the line, so that it does not hold up the others.
    """
    if not waiting(root):
        return None
    with _queue(root):
        line = waiting(root)
        if not line or holder(root) is not None:
            return None
        try:
            lease = take(root, line[0].run)
        except MachineBusy:
            return None
        try:
            start(line[0], lease)
        finally:
            lease.close()
            # After the start: a run that is started twice goes on, one that is forgotten does not.
            _write_queue(root, line[1:])
    return line[0]


def _patient(root: Path, run: str, wait: Callable[[Holder], object] | None) -> Lease:
    told = False
    while True:
        try:
            return take(root, run)
        except MachineBusy as busy:
            if wait is None:
                raise
            if not told:
                wait(busy.holder)
            told = True
            time.sleep(EVERY)


def _inherited(root: Path, run: str) -> Lease | None:
    """The lease that the starting process handed over, once; None without one."""
    text = os.environ.pop(VARIABLE, "")
    if not text.isdecimal():
        return None
    descriptor = int(text)
    try:
        same = os.path.samestat(os.fstat(descriptor), os.stat(root / LOCK))
    except OSError:
        return None
    if not same:
        return None
    os.set_inheritable(descriptor, False)  # it ends with this process, not with its workers
    lease = Lease(root, run, descriptor)
    lease.name(os.getpid())
    return lease


def _try_lock(root: Path) -> int | None:
    """An open descriptor that holds the lock, None when it is held."""
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _named(root: Path) -> Holder:
    """Who machine.json names; it was written by whoever took the lock last."""
    try:
        return Holder(**json.loads((root / HOLDER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder("unknown")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return pid > 0


def _queue(root: Path) -> FileLock:
    """The lock of whoever changes queue.json."""
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / f"{QUEUE}.lock")


def _write_queue(root: Path, line: Sequence[Ticket]) -> None:
    text = json.dumps([asdict(ticket) for ticket in line], indent=2) + "\n"
    replace_text(root / QUEUE, text)
