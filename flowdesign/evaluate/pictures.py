"""Pictures of the prompts where guidance wins and where it loses, beside an evaluation's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowdesign.catalog import Installed
from flowdesign.reward.pictures import picture_name, save_picture
from flowdesign.tokens import parse_sentence, workflow_of
from flowdesign.workflow import bind

FOLDER = "examples"


def shown(example: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The designs of an example, and the file of each one's picture."""
    for one in example["designs"]:
        yield one, picture_name(_pictured(example, one))


def draw(figures: Mapping[str, Any], folder: Path, models: Installed) -> int:
    """Render the examples that have no picture yet; how many there were."""
    from flowdesign.render import Job, Renderer

    place = folder / FOLDER
    missing = [
        (example, one)
        for example in figures["examples"]
        for one, name in shown(example)
        if not (place / name).exists()
    ]
    renderer = Renderer(models) if missing else None
    for example, one in missing:
        workflow = workflow_of(one["sentence"])
        assert renderer is not None and workflow is not None, "it was rendered before"
        bound = bind(workflow, example["prompt"], example["seed"])
        image = next(iter(renderer.render([Job(bound)]))).images[0]
        save_picture(image, place, _pictured(example, one))
    return len(missing)


def _pictured(example: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how a picture looks."""
    tokens = parse_sentence(one["sentence"])
    return {"prompt": example["prompt"], "sentence": tokens, "seed": example["seed"]}
