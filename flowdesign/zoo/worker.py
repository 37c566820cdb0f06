"""Train one stage of the zoo: python -m flowdesign.zoo.worker SEED FOLDER STAGE (see `schedule`)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from flowdesign.catalog import ROOT
from flowdesign.zoo.stages import STAGES, Place


def main(seed: str, folder: str, name: str) -> None:
    """Train the stage on one thread, with a line of its metrics now and then."""
    torch.set_num_threads(1)
    place = Place(Path(folder), ROOT / "checkpoints" / "miniature", int(seed))
    stage = next(s for s in STAGES if s.name == name)
    for step in stage.train(place):
        sys.stdout.write(f"{step.index}/{step.total} {dict(step.metrics)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
