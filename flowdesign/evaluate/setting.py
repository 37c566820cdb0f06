"""What contestants have at hand: the language, policies, the reward ensemble, what the records tell.

Each is loaded when it is first asked for, so an evaluation without policies needs none.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowdesign.catalog import Installed
from flowdesign.collect.plan import Pair, seeds_of
from flowdesign.collect.prompts import read_prompts
from flowdesign.config import ConfigError, EvaluateConfig, listed
from flowdesign.heldout import GRAMMAR, held_out, to_learn_from
from flowdesign.policies import Policies
from flowdesign.records import Record, Split, split_of_prompt
from flowdesign.reward.bound import Bound, open_bound
from flowdesign.reward.encoder import Encoder
from flowdesign.sampling import Speaker
from flowdesign.sft.scored import recorded, training_tokens
from flowdesign.standards import combine, read_reference
from flowdesign.tokens import VOCABULARY, Automaton

ENCODER = "all-minilm-l6-v2"  # by which prompts are alike
Values = NDArray[np.float64]
Sentence = tuple[int, ...]


@dataclass(frozen=True)
class Tabulated:
    """Mean scores (prompts, sentences) of the baselines' workflows on training prompts."""

    prompts: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    scores: Values


@dataclass
class Setting:
    """An evaluation's config and what follows from it; `table` and `chosen` are known after their stage."""

    config: EvaluateConfig
    models: Installed
    table: Tabulated | None = None
    chosen: Mapping[str, Any] | None = None  # the guidance scale (evaluate.scale)

    @cached_property
    def language(self) -> Automaton:
        """What can be said with the models that are installed."""
        return Automaton(VOCABULARY, self.models)

    @cached_property
    def bound(self) -> Bound:
        """The reward by which designs are ranked before they are rendered."""
        config = self.config
        return open_bound(config.reward, config.trust, config.device, config.threads)

    @cached_property
    def policies(self) -> Policies:
        """The policies on disk."""
        return Policies(self.models)

    @cached_property
    def encoder(self) -> Encoder:
        """By which baselines compare prompts."""
        return Encoder.load(ENCODER, self.config.device)

    @cached_property
    def records(self) -> list[Record]:
        """The records of training prompts and workflows that can be said here. Raises RecordsError."""
        found = [one for one in recorded(self.config.learned) if one.sentence]
        said = dict.fromkeys(one.sentence for one in found)
        kept = {one for one in said if training_tokens(one, self.language) is not None}
        prompts = {p for p in {one.prompt for one in found} if split_of_prompt(p) == "train"}
        return [one for one in found if one.sentence in kept and one.prompt in prompts]

    @property
    def runs(self) -> tuple[str, ...]:
        """The GRPO runs, which differ in their seed."""
        return tuple(listed(self.config.policy))

    @property
    def scale(self) -> float | None:
        """The guidance scale that was taken."""
        return self.chosen["scale"] if self.chosen else None

    @property
    def start(self) -> str:
        """The SFT policy that the GRPO runs started from. Raises ConfigError where they have none in common."""
        starts: dict[str, str] = {}
        for known in map(self.policies.known, self.runs):
            if known.start is None:
                raise ConfigError(f"policy: '{known.name}' was not improved by GRPO")
            starts.setdefault(known.start.name, known.name)
        if len(starts) > 1:
            told = ", ".join(
                f"'{run}' {'began ' * (not at)}with {start}"
                for at, (start, run) in enumerate(starts.items())
            )
            raise ConfigError(
                f"policy: {told}. Only what began alike is compared as training seeds; name others with --variants."
            )
        if not starts:
            raise ConfigError("policy: name GRPO runs, by comma")
        return next(iter(starts))

    def speaker(self, name: str, scale: float | None = None) -> Speaker:
        """A policy, with guidance at a scale. Raises request.BadRequest."""
        speaker: Speaker = self.policies.speaker(name, scale)
        return speaker

    def prompts(self, split: Split, count: int) -> list[str]:
        """Distinct prompts of a split of the records, always the same. Raises ConfigError."""
        config = self.config
        if config.prompts != GRAMMAR:
            found = read_prompts(config.prompts, count, config.seed, split)
            if len(found) < count:
                raise ConfigError(
                    f"prompts: {config.prompts} has {len(found)} prompts of the {split} split, and {count} are needed"
                )
            return found[:count]
        if split != "train":
            return held_out(split, count, seed_of(config.seed, "prompts"))
        rng, drawn = random.Random(seed_of(config.seed, "table")), dict[str, None]()
        while len(drawn) < count:
            drawn[to_learn_from(rng, 1)[0]] = None
        return list(drawn)

    def combined(self, record: Record) -> float:
        """The weighted score of a record, NaN where it has none."""
        found = combine(record.scores, self.config.weights, self.reference)
        return float("nan") if found is None else found

    @cached_property
    def reference(self) -> Any:
        """The reference set by which scores are standardised."""
        return read_reference()


def seed_of(seed: int, *purpose: object) -> int:
    """A seed of its own for each purpose."""
    text = "/".join(map(str, ("evaluate", seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def pairs_for(
    purpose: str, count: int, prompts: Sequence[str], said: Sequence[str], config: EvaluateConfig
) -> list[Pair]:
    """Prompts with their sentences, and `count` seeds for each prompt that serve one purpose only."""
    return [
        Pair(prompt, text, seeds_of(f"{purpose}/{config.seed}", prompt, count))
        for prompt, text in zip(prompts, said, strict=True)
    ]
