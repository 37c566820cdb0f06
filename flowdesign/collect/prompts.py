"""The prompts of a collection: a file with one a line, or the grammar of the miniature world."""

from __future__ import annotations

import random
from pathlib import Path

from flowdesign.config import ConfigError
from flowdesign.heldout import GRAMMAR, prompts_of_file
from flowdesign.records import split_of_prompt
from flowdesign.scenes import CATEGORIES, DOMAINS, TEST_SHARE, random_prompt

ALL = "all"
TRIES = 1000  # draws of the grammar without a new prompt until it counts as used up


def read_prompts(
    source: str, count: int, seed: int, split: str = ALL, variants: float | None = None
) -> list[str]:
    """Give the distinct prompts of a file, in its order, or `count` of the grammar; of one split.

    Raises ConfigError when there are none, or when the grammar has not so many.
    """
    if source == GRAMMAR:
        return grammar_prompts(count, seed, split, variants)
    found = [
        prompt
        for prompt in prompts_of_file(Path(source))
        if split in (ALL, split_of_prompt(prompt))
    ]
    if not found:
        raise ConfigError(f"split: {source} has no prompt of the {split} split")
    return found


def grammar_prompts(
    count: int, seed: int, wanted: str = ALL, variants: float | None = None
) -> list[str]:
    """Draw distinct prompts; domains take turns, and within them the six categories.

    Held-out prompts come as often as they exist: the records' own splits tell them apart later, or
    `wanted` names the only one. `variants` is the share that only a LoRA can draw; a crowd is one by
    its count, whatever the turn. Raises ConfigError.
    """
    rng = random.Random(f"collect/prompts/{seed}")
    found: dict[str, None] = {}
    failed = 0
    while len(found) < count and failed < TRIES:
        domain = DOMAINS[len(found) % len(DOMAINS)]
        category = CATEGORIES[len(found) // len(DOMAINS) % len(CATEGORIES)]
        split = "test" if rng.random() < TEST_SHARE else "train"
        odd = None if variants is None else rng.random() < variants
        if odd and domain.backdrop is None:
            category = "counting"
        prompt = random_prompt(rng, domain, split, category, odd)
        if prompt in found or wanted not in (ALL, split_of_prompt(prompt)):
            failed += 1
        else:
            failed = 0
            found[prompt] = None
    if len(found) < count:
        raise ConfigError(
            f"prompt_count: the grammar gave no new prompt after {len(found)} (given: {count})"
        )
    return list(found)
