"""Render shipped records again: the images they stand for, and whether their scores come out the same."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowdesign.catalog import Installed, installed
from flowdesign.collect.batches import Job
from flowdesign.collect.making import Maker
from flowdesign.records import Record
from flowdesign.shipped import ShippedError, unpack

TOLERANCE = 0.02  # of a score: rounding may change a pixel value by 1


def again(flags: argparse.Namespace) -> tuple[Any, str]:
    """Render some of the packed records again and compare their scores."""
    found = compare(flags.file, flags.n, flags.seed, installed())
    told = "\n".join(
        f"{name}: {row['same']} of {row['records']} scores within {TOLERANCE}, "
        f"largest difference {row['largest']:.4g}"
        for name, row in found.items()
    )
    return found, told


def compare(path: Path, count: int, seed: int, models: Installed) -> dict[str, dict[str, float]]:
    """Give for each scorer how many of `count` records have the same score, and the largest change.

    Raises ShippedError when there is nothing to compare.
    """
    scored = [record for record in unpack(path) if not record.failure]
    chosen = random.Random(seed).sample(scored, min(count, len(scored)))
    if not chosen:
        raise ShippedError(f"{path.name} has no scored records.")
    scorers = sorted(set(chosen[0].scores))
    made = render_again(chosen, scorers, models)
    return {name: _compared(name, chosen, made) for name in scorers}


def render_again(
    records: Sequence[Record], scorers: Sequence[str], models: Installed
) -> list[dict[str, float]]:
    """Give the scores of freshly rendered images. Raises OtherModels for other model files."""
    from flowdesign.render import Renderer
    from flowdesign.scorers import load_all

    maker = Maker(Renderer(models), load_all(scorers), models, images=False)
    jobs = [Job(r.prompt, r.workflow, r.sentence, r.seed, r.assets, "") for r in records]
    return [maker([job])[0].scores for job in jobs]


def _compared(
    name: str, records: Sequence[Record], made: Sequence[dict[str, float]]
) -> dict[str, float]:
    pairs = [(old.scores[name], new.get(name, float("nan"))) for old, new in zip(records, made, strict=True) if name in old.scores]  # fmt: skip
    changes = [abs(old - new) for old, new in pairs]
    return {
        "records": len(changes),
        "same": sum(change <= TOLERANCE for change in changes),
        "largest": max(changes, default=0.0),
    }
