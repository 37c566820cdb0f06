"""Train one stage of the zoo: python -m flowdesign.zoo.worker SEED FOLDER STAGE (see `schedule`)."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import torch
from filelock import FileLock

from flowdesign.zoo.stages import Place, train_stage


def main(seed: str, work: str, name: str) -> None:
    """Train the stage on one thread, with a line of its metrics now and then."""
    _end_with_parent()
    torch.set_num_threads(1)
    place = Place(Path(work), int(seed))
    # A worker that outlived its parent for a moment must be gone before the next one writes.
    with FileLock(f"{place.folder(name)}.lock"):
        for step in train_stage(name, place):
            sys.stdout.write(f"{step.index + 1}/{step.total} {dict(step.metrics)}\n")
            sys.stdout.flush()


def _end_with_parent() -> None:
    """End this process soon after its parent, even when that one was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
