"""Contact sheets of the zoo for `assets/`: every checkpoint on held-out prompts, and one wide picture."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from flowdesign.catalog import ROOT, installed
from flowdesign.render import Renderer
from flowdesign.scenes import CATEGORIES, DOMAINS, Domain, random_prompt
from flowdesign.tokens.builder import build
from flowdesign.tokens.choices import Choices, Resize
from flowdesign.zoo.workflows import plain, with_lora

ASSETS = ROOT / "assets"
_CELL, _GAP, _PAPER = 128, 6, (238, 239, 242)
_PROMPT_SEED, _SEED = 11, 5000  # of neither the training nor the measurement


def _prompts(domain: Domain, each: int, variant: bool) -> list[str]:
    """Held-out prompts, category by category (a crowd has only one)."""
    rng = random.Random(f"{_PROMPT_SEED}/{domain.style}/{variant}")
    kinds = ("counting",) * 6 if variant and domain.backdrop is None else CATEGORIES
    return [
        random_prompt(rng, domain, "test", kind, variant) for kind in kinds for _ in range(each)
    ]


def _draw(renderer: Renderer, choices: Choices, prompts: Sequence[str]) -> list[Image.Image]:
    doubled = build(replace(choices, final=Resize("mini_2x")))
    return renderer.render_many(doubled, prompts, range(_SEED, _SEED + len(prompts)))


def tile(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Lay pictures out in rows of `columns`."""
    rows = -(-len(images) // columns)
    side = _CELL + _GAP
    sheet = Image.new("RGB", (columns * side + _GAP, rows * side + _GAP), _PAPER)
    for index, image in enumerate(images):
        place = (_GAP + index % columns * side, _GAP + index // columns * side)
        sheet.paste(image.resize((_CELL, _CELL), Image.Resampling.LANCZOS), place)
    return sheet


def write_sheets() -> None:
    """Write zoo_<style>.png (four rows plain, two rows of the LoRA's variant) and zoo.png."""
    renderer = Renderer(installed())
    wide: list[list[Image.Image]] = []
    for domain in DOMAINS:
        images = _draw(renderer, plain(domain.checkpoint), _prompts(domain, 8, False))
        odd = _draw(renderer, with_lora(domain), _prompts(domain, 2, True))
        tile([*images, *odd], 12).save(ASSETS / f"zoo_{domain.style}.png", optimize=True)
        wide.append([*images[4:44:8], odd[2]])
    tile([image for row in wide for image in row], 12).save(ASSETS / "zoo.png", optimize=True)
