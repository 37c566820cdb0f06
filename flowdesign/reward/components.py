"""What baselines read: the components of a workflow and the words of a prompt, as columns of 0 and 1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flowdesign.reward.bootstrap import Values
from flowdesign.tokens import VOCABULARY
from flowdesign.tokens.choices import Choices, Pass, Resize, choices_of
from flowdesign.tokens.vocabulary import BASE

ONCE = ("clip_skip", "vae", "freeu", "pag", "prefix", "concat", "negative", "size")
FEWEST_PROMPTS = 2  # that a word must occur in, to become a column


@lru_cache(maxsize=1 << 16)
def components_of(sentence: tuple[int, ...]) -> tuple[str, ...]:
    """The choices of a sentence as "name=value", without doubles: what the passes choose is told apart.

    A choice against is a component too, but for LoRAs, of which there are several or none.
    """
    choices = choices_of([VOCABULARY.words[token] for token in sentence])
    return tuple(dict.fromkeys(_components(choices)))


def _components(choices: Choices) -> Iterator[str]:
    yield f"checkpoint={choices.checkpoint}"
    for name, strength in choices.loras:
        yield f"lora={name}"
        yield f"lora {name}={strength:g}"
    for name in ONCE:
        yield f"{name}={getattr(choices, name)}"
    yield f"passes={len(choices.passes)}"
    for number, each in enumerate(choices.passes, 1):
        yield from _of_pass(f"pass {number} ", each)
    yield from _of_resize("end ", choices.final)


def _of_pass(place: str, each: Pass) -> Iterator[str]:
    yield f"{place}kind={each.kind}"
    yield f"{place}cfg={each.cfg:g}"
    if each.kind == "refine":
        yield f"{place}switch={each.switch:g}"
    else:
        yield f"{place}sampler={each.sampler}"
        yield f"{place}scheduler={each.scheduler}"
        yield f"{place}steps={each.steps}"
        yield f"{place}denoise={each.denoise:g}"
    if each.model != BASE:
        yield f"{place}model={each.model}"
    if each.kind in ("latent", "pixel"):
        yield from _of_resize(place, each.resize)


def _of_resize(place: str, resize: Resize) -> Iterator[str]:
    yield f"{place}upscaler={resize.upscaler or None}"
    yield f"{place}resize={resize.method or None}"
    yield f"{place}scale={resize.scale:g}"


@lru_cache(maxsize=1 << 16)
def words_of(prompt: str) -> tuple[str, ...]:
    """The distinct words of a prompt, in lower case."""
    return tuple(dict.fromkeys(re.findall(r"\w+", prompt.casefold())))


@dataclass(frozen=True)
class Columns:
    """Names that were met in training, a column each; what was not met is left out."""

    places: dict[str, int]

    @staticmethod
    def of(items: Iterable[Sequence[str]], fewest: int = 1) -> Columns:
        """A column for each name that occurs in at least `fewest` items."""
        counts = Counter(name for names in items for name in names)
        known = sorted(name for name, count in counts.items() if count >= fewest)
        return Columns({name: place for place, name in enumerate(known)})

    def __call__(self, items: Sequence[Sequence[str]]) -> Values:
        """Indicators (items, columns)."""
        table = np.zeros((len(items), len(self.places)))
        for row, names in enumerate(items):
            table[row, [self.places[name] for name in names if name in self.places]] = 1.0
        return table
