"""A run in the foreground of a shell: it holds the machine, and Ctrl-C ends it after its step."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flowdesign import lease, runs

ADVICE = "Wait for its end with --queue, or start beside it with --beside."


def add_lease(command: argparse.ArgumentParser) -> None:
    """Add the flags that say what happens when another run holds the machine."""
    busy = command.add_mutually_exclusive_group()
    busy.add_argument(
        "--queue", action="store_true", help="when another run is at work, wait for its end"
    )
    busy.add_argument(
        "--beside",
        action="store_true",
        help="start although another run is at work; both get slower",
    )


@contextmanager
def at_work(
    folder: Path, flags: argparse.Namespace, tell: Callable[[str], object]
) -> Iterator[None]:
    """Hold the machine for the run in `folder`; Ctrl-C and a kill end it after its step.

    Raises MachineBusy, with what can be done, when another run is at work and the flags of `add_lease`
    say nothing. `tell` is told what is waited for.
    """

    def wait(busy: lease.Holder) -> None:
        tell(f"{lease.MachineBusy(busy)} Waiting for its end.")

    with _stop_on_signals(folder), ExitStack() as held:
        if not flags.beside:
            held.enter_context(_holding(folder, wait if flags.queue else None))
        yield


@contextmanager
def _holding(folder: Path, wait: Callable[[lease.Holder], object] | None) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(lease.hold(folder.parent, folder.name, wait))
        except lease.MachineBusy as busy:
            raise lease.MachineBusy(busy.holder, ADVICE) from None
        yield


@contextmanager
def _stop_on_signals(folder: Path) -> Iterator[None]:
    """Let Ctrl-C and a kill end the run after its step; a second one ends the process at once.

    So does the first one while the run is not yet under way.
    """

    def ask(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if runs.is_alive(folder):
            runs.request_stop(folder)
        else:
            signal.raise_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
