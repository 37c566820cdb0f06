"""Train, validation and test, decided by hash, so that no leak is possible and none needs a list.

The share is taken from the same digest as `scenes.split_of` takes it: a validation or test prompt here
is one that the miniature models never saw in training.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Literal, get_args

from flowdesign.workflow import Workflow, with_seeds_by_rule, workflow_hash

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.1
_STRICT: tuple[Split, ...] = ("test", "validation")


def normalised(prompt: str) -> str:
    """The prompt without what does not change its meaning: case, blanks, forms of one letter."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def split_of_prompt(prompt: str) -> Split:
    """The split of a prompt; prompts that differ only in case and blanks share one."""
    return split_of_digest(hashlib.sha256(normalised(prompt).encode()).hexdigest())


def split_of_digest(digest: str) -> Split:
    """The split of a sha256, in hex: the lowest tenth is test, the next one validation."""
    share = int(digest[:16], 16) / 2**64
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def split_of_workflow(workflow: Workflow) -> Split:
    """The split of a valid, unbound workflow, by its canonical form.

    Two seeds of one workflow must not fall into two splits, so those of later passes do not count.
    """
    return split_of_digest(workflow_hash(with_seeds_by_rule(workflow)))


def split_of_both(prompt: Split, workflow: Split) -> Split:
    """The split of a record: test if either part is, else validation if either is, else train."""
    return next((each for each in _STRICT if each in (prompt, workflow)), "train")
