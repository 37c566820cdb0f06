"""The prompts that a policy learns from, is looked at with and is measured on, where rewards count.

The records' own splits tell them apart, as for the reward ensemble: what is held out here was held out
there. Those to learn from are of the scenes' training split as well.
"""

from __future__ import annotations

import random

from flowdesign.records import Split, split_of_prompt
from flowdesign.scenes import SPLITS, random_prompt


def to_learn_from(rng: random.Random, count: int, variants: float | None = None) -> list[str]:
    """Draw prompts of both training splits; a share of them are `variants`, which want a LoRA: None is the
    scenes' usual share."""
    return [_draw(rng, "train", ("train",), variants) for _ in range(count)]


def held_out(split: Split, count: int, seed: int) -> list[str]:
    """Distinct prompts of the records' validation or test split."""
    rng = random.Random(f"grpo/{split}/{seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        found[_draw(rng, split, SPLITS)] = None
    return list(found)


def _draw(
    rng: random.Random, wanted: Split, scenes: tuple[str, ...], variants: float | None = None
) -> str:
    odd = None if variants is None else rng.random() < variants
    while True:
        prompt = random_prompt(rng, split=rng.choice(scenes), variant=odd)
        if split_of_prompt(prompt) == wanted:
            return prompt
