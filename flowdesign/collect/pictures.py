"""Render what an ensemble that learned from shipped records misses most: those have no images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flowdesign.catalog import ROOT, installed
from flowdesign.reward.pictures import FOLDER, misses_of, picture_name, save_picture
from flowdesign.runs import read_figures
from flowdesign.shipped import ShippedError
from flowdesign.tokens import decode
from flowdesign.workflow import bind


def pictures(flags: argparse.Namespace) -> tuple[Any, str]:
    """Render the misses of a run's report that have no picture yet, and keep the pictures beside it."""
    folder = ROOT / "checkpoints" / flags.run
    count = draw(folder)
    return {"pictures": count}, f"{count} pictures are new in {folder / FOLDER}"


def draw(folder: Path) -> int:
    """Render what is missing; how many there were. Raises ShippedError without a report."""
    from flowdesign.render import Job, Renderer

    figures = read_figures(folder)
    if figures is None:
        raise ShippedError(f"There is no report in {folder}: python -m flowdesign reward --measure")
    place = folder / FOLDER
    missing = [one for one in misses_of(figures) if not (place / picture_name(one)).exists()]
    renderer = Renderer(installed())
    for miss in missing:
        workflow = decode(tuple(miss["sentence"])).workflow
        if workflow is None:
            raise ShippedError(f"The report in {folder} was made with another vocabulary.")
        bound = bind(workflow, miss["prompt"], miss["seed"])
        image = next(iter(renderer.render([Job(bound)]))).images[0]
        save_picture(image, place, miss)
    return len(missing)
