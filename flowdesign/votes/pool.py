"""The images that are asked about: some prompts, and some images of each.

Not all of a large store: a vote teaches about the images that are compared with many others, so votes
spread over a million images would teach nothing. Images that have votes already stay in, so that a
restart goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from flowdesign.records import Filter, ImageRow, Store
from flowdesign.votes.choosing import TRUST, Group

MOST_PROMPTS = 300
MOST_IMAGES = 12  # of a prompt: 66 pairs
LOOKED_AT = 200  # images of a prompt that the choice is made from


@dataclass(frozen=True)
class PoolImage:
    """One image of the pool; `score` is its automatic score in standard deviations, or None."""

    record: int
    score: float | None


@dataclass(frozen=True)
class Pool:
    """The images by prompt, and how many images the whole store has."""

    images: dict[str, tuple[PoolImage, ...]]
    stored: int

    @property
    def pairs(self) -> int:
        """How many pairs can be asked."""
        return sum(len(images) * (len(images) - 1) // 2 for images in self.images.values())

    def groups(self) -> Iterator[Group]:
        """The prompts with images that can be compared."""
        for prompt, images in self.images.items():
            if len(images) > 1:
                expected = np.array([TRUST * (image.score or 0.0) for image in images])
                yield Group(prompt, [image.record for image in images], expected)

    def prompts(self) -> dict[int, str]:
        """The prompt of each image."""
        return {image.record: name for name, images in self.images.items() for image in images}


def read_pool(store: Store, voted: Collection[int]) -> Pool:
    """Choose the images; the same ones every time, until the store or the votes change."""
    wanted = Filter(has_image=True)
    stored = store.find(wanted, limit=1).total
    # Prompts that can be compared first; among them an order that later prompts hardly disturb.
    known = sorted(store.prompts(least=1), key=lambda one: (one.images < 2, _mixed(one.prompt)))
    images = {one.prompt: _images(store, one.prompt, voted) for one in known[:MOST_PROMPTS]}
    return Pool({prompt: chosen for prompt, chosen in images.items() if chosen}, stored)


def _images(store: Store, prompt: str, voted: Collection[int]) -> tuple[PoolImage, ...]:
    chosen = islice(_chosen(store.images_for(prompt, LOOKED_AT), voted), MOST_IMAGES)
    return tuple(PoolImage(one.record, one.combined) for one in chosen)


def _chosen(rows: Iterable[ImageRow], voted: Collection[int]) -> Iterator[ImageRow]:
    """Images in the order of choice: voted ones, then one of each workflow, then the others.

    Of images with equal bytes only one: there would be nothing to choose.
    """
    images: set[str] = set()
    workflows: set[int] = set()
    later = []
    for row in sorted(rows, key=lambda row: (row.record not in voted, _mixed(str(row.record)))):
        if row.image in images:
            continue
        images.add(row.image)
        if row.record in voted or row.workflow not in workflows:
            yield row
        else:
            later.append(row)
        workflows.add(row.workflow)
    yield from later


def _mixed(text: str) -> bytes:
    """An order that has nothing to do with the order of storing."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
