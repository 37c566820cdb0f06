"""What tests of runs in other processes share."""

import time
from pathlib import Path

from flowdesign import runs


def wait_for_steps(folder: Path, count: int, patience: float) -> None:
    """Wait until a run has recorded so many steps; fails the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while len(runs.read_metrics(folder)) < count:
        assert time.monotonic() < deadline, "the child did not get that far"
        time.sleep(0.005)
