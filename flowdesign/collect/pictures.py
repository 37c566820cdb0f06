"""Render what an ensemble that learned from shipped records misses most: those have no images."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowdesign.catalog import ROOT, Installed, installed
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
    figures = read_figures(folder)
    if figures is None:
        raise ShippedError(f"There is no report in {folder}: python -m flowdesign reward --measure")
    return draw_all(misses_of(figures), folder / FOLDER, installed())


def draw_all(wanted: Iterable[Mapping[str, Any]], place: Path, models: Installed) -> int:
    """Render what has no picture in a folder, each given as prompt, sentence and seed; how many there were.

    Raises ShippedError for a sentence of another vocabulary.
    """
    from flowdesign.render import Job, Renderer

    missing = [one for one in wanted if not (place / picture_name(one)).exists()]
    renderer = Renderer(models)
    for one in missing:
        workflow = decode(tuple(one["sentence"])).workflow
        if workflow is None:
            raise ShippedError(f"The report beside {place} was made with another vocabulary.")
        bound = bind(workflow, one["prompt"], one["seed"])
        image = next(iter(renderer.render([Job(bound)]))).images[0]
        save_picture(image, place, one)
    return len(missing)
