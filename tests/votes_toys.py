"""A store with small pictures to vote on, and raters who know what they like."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from studio_toys import disc

from flowdesign.catalog import known_assets
from flowdesign.records import Record, Store, sha_of
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence

SECRET = "the workflow is hidden in here"


def toy_png(number: int) -> bytes:
    """A picture that differs with the number and tells of its workflow in its metadata."""
    info = PngInfo()
    info.add_text("prompt", f"{SECRET} {number}")
    info.add_itxt("workflow", SECRET)
    data = BytesIO()
    disc(number).save(data, "PNG", pnginfo=info)
    return data.getvalue()


def toy_workflows(count: int, seed: int = 0) -> list[dict[str, dict[str, object]]]:
    """Different valid workflows."""
    import random

    grammar, chance, found = Automaton(VOCABULARY, known_assets()), random.Random(seed), {}
    while len(found) < count:
        workflow = decode(tuple(random_sentence(grammar, chance))).workflow
        found[str(workflow)] = workflow
    return list(found.values())


def fill(
    store: Store, prompts: Sequence[str], images: int = 4, scores: bool = False
) -> dict[str, list[int]]:
    """Add pictures of different workflows for each prompt; record ids by prompt."""
    workflows = toy_workflows(images)
    found = {}
    for number, prompt in enumerate(prompts):
        pngs = [toy_png(number * images + i) for i in range(images)]
        records = [
            Record(prompt, workflow, seed=number, image=sha_of(png), source="collect:toys",
                   scores={"sharpness": float(i)} if scores else {})
            for i, (workflow, png) in enumerate(zip(workflows, pngs, strict=True))
        ]  # fmt: skip
        found[prompt] = store.add(records, {sha_of(png): png for png in pngs})
    return found


def open_filled(
    folder: Path, prompts: int = 6, images: int = 4
) -> tuple[Store, dict[str, list[int]]]:
    """A store with pictures for some prompts."""
    store = Store.open(folder)
    return store, fill(store, [f"a red star number {n}" for n in range(prompts)], images)


def opened(data: bytes) -> Image.Image:
    """The picture in some bytes, loaded."""
    image = Image.open(BytesIO(data))
    image.load()
    return image
