"""The prompts that a policy learns from, is looked at with and is measured on, where rewards count.

The records' own splits tell them apart, as for the reward ensemble: what is held out here was held out
there. Those of the miniature world's grammar to learn from are of the scenes' training split as well.
"""

from __future__ import annotations

import hashlib
import random
from functools import cache
from pathlib import Path

from flowdesign.config import ConfigError
from flowdesign.records import Split, split_of_prompt
from flowdesign.scenes import SPLITS, random_prompt

GRAMMAR = "grammar"  # the source that is no file
LEAST = 2  # prompts of a split: of fewer there is no interval


class Prompts:
    """The prompts of a source: the miniature world's grammar, or a file with one a line.

    Raises ConfigError for a file that cannot be read, or has fewer than two prompts of a split.
    """

    def __init__(self, source: str = GRAMMAR) -> None:
        self.from_grammar = source == GRAMMAR
        self._listed = {} if self.from_grammar else _sorted_into_splits(Path(source))

    @property
    def digests(self) -> dict[str, str]:
        """What a run that learns from a file follows from, beside its config."""
        if self.from_grammar:
            return {}
        return {"prompt-source": hashlib.sha256(repr(self._listed).encode()).hexdigest()}

    def to_learn_from(
        self, rng: random.Random, count: int, variants: float | None = None
    ) -> list[str]:
        """Draw prompts of the training split; a share of the grammar's are `variants`."""
        if self.from_grammar:
            return to_learn_from(rng, count, variants)
        return rng.choices(self._listed["train"], k=count)

    def held_out(self, split: Split, count: int, seed: int) -> list[str]:
        """Distinct prompts of the validation or test split: all there are, where a file has fewer."""
        if self.from_grammar:
            return held_out(split, count, seed)
        found = self._listed[split]
        return random.Random(f"heldout/{split}/{seed}").sample(found, min(count, len(found)))


@cache
def prompts_of(source: str) -> Prompts:
    """The prompts of a source, read once."""
    return Prompts(source)


def _sorted_into_splits(path: Path) -> dict[Split, list[str]]:
    found: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
    for prompt in prompts_of_file(path, "prompt_source"):
        found[split_of_prompt(prompt)].append(prompt)
    if small := [name for name, prompts in found.items() if len(prompts) < LEAST]:
        told = ", ".join(f"{len(prompts)} {name}" for name, prompts in found.items())
        raise ConfigError(
            f"prompt_source: {path} has too few prompts: {told}, and each split needs {LEAST}, {small[0]} too. "
            "A tenth of all are validation and a tenth test, by hash: give more of them"
        )
    return found


def prompts_of_file(path: Path, option: str = "prompts") -> list[str]:
    """The distinct prompts of a file that an option names, one a line, in its order. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{option}: there is no file {path}; write '{GRAMMAR}' for drawn ones"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{option}: {path} is not a text in UTF-8") from None
    except OSError as fault:
        raise ConfigError(f"{option}: {path} cannot be read: {fault.strerror}") from None
    found = list(dict.fromkeys(line.strip() for line in text.split("\n") if line.strip()))
    if not found:
        raise ConfigError(f"{option}: {path} has no line with a prompt")
    return found


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
