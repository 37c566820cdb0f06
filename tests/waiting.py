"""Waiting for what another thread or process does, however busy the machine is."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 90.0  # seconds


def until(what: Callable[[], Any]) -> Any:
    """Wait until something is so; gives it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return found
