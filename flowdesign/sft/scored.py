"""Workflows with their scores, to learn to say one that scores high: ComfyGen-FT's way (arXiv 2410.01731,
section 3.3), a baseline for GRPO.

A prompt is told with the level that a recorded workflow reached for it, and the policy learns to say that
workflow; later it is asked for the highest level. A run keeps the pairs that it began with.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowdesign.config import RewardConfig, ScoreConfig, build, load
from flowdesign.records import DATA, Record, RecordsError, Store, is_store
from flowdesign.records.splits import split_of_prompt, split_of_workflow
from flowdesign.reward.data import SHIPPED
from flowdesign.runs import folder_of, replace_text
from flowdesign.shipped.packed import unpack_all
from flowdesign.standards import combine, read_reference
from flowdesign.tokens import Automaton, UnknownToken, parse_sentence, sentence_text, workflow_of

KEPT = "scored.jsonl"  # in the run's folder
USUAL: Mapping[str, float] = build(ScoreConfig, {}).weights
BEST = 10  # levels are tenths of the pairs, from 1


@dataclass(frozen=True)
class Scored:
    """A workflow that was rendered for a prompt, and the level of its mean score among all pairs."""

    prompt: str
    sentence: tuple[int, ...]
    level: int


def told(prompt: str, level: int) -> str:
    """How a policy is told the level that it shall reach."""
    return f"score {level} of {BEST}: {prompt}"


def was_told(folder: Path) -> bool:
    """Whether the policy of a run learned with scores."""
    path = folder / "config.json"
    return path.exists() and bool(json.loads(path.read_text("utf-8")).get("scored"))


def scored_of(folder: Path, records: str, language: Automaton, reward: str = "") -> list[Scored]:
    """The pairs of a run: those kept in its folder, else those among the records now, which it keeps.

    Scores are weighted as for the ensemble `reward` (run or folder), so that a baseline of GRPO learns from what
    GRPO does. Raises RecordsError where there are too few to tell levels.
    """
    path = folder / KEPT
    if path.exists():
        kept = map(json.loads, path.read_text("utf-8").splitlines())
        return [
            Scored(one["prompt"], parse_sentence(one["sentence"]), one["level"]) for one in kept
        ]
    found = levelled(recorded(records), language, _weights(reward))
    lines = [
        json.dumps({"prompt": o.prompt, "sentence": sentence_text(o.sentence), "level": o.level})
        for o in found
    ]
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, "\n".join(lines) + "\n")
    return found


def levelled(
    records: Iterable[Record], language: Automaton, weights: Mapping[str, float] = USUAL
) -> list[Scored]:
    """The pairs of training prompts and training workflows with the level of their mean combined score.

    Raises RecordsError for fewer than BEST of them.
    """
    reference = read_reference()
    values: dict[tuple[str, str], list[float]] = {}
    for one in records:
        score = combine(one.scores, weights, reference)
        if score is not None and math.isfinite(score) and not one.failure and one.sentence:
            values.setdefault((one.prompt, one.sentence), []).append(score)
    parsed = [
        (key, training_tokens(key[1], language), float(np.mean(row))) for key, row in values.items()
    ]
    kept = [
        (prompt, tokens, mean)
        for (prompt, _), tokens, mean in parsed
        if tokens is not None and split_of_prompt(prompt) == "train"
    ]
    if len(kept) < BEST:
        raise RecordsError(
            f"Of the records {len(kept)} are scored workflows for training prompts that the vocabulary can "
            f"say, and at least {BEST} are needed: collect some, or name others with --records (shipped)."
        )
    edges = np.quantile([mean for *_, mean in kept], np.arange(1, BEST) / BEST)
    return [
        Scored(prompt, tokens, 1 + int(np.searchsorted(edges, mean, side="right")))
        for prompt, tokens, mean in kept
    ]


def drawn(
    pool: Sequence[Scored], count: int, rng: random.Random
) -> list[tuple[str, tuple[int, ...]]]:
    """Some of the pairs, as a policy learns them: prompts told with their level, and sentences."""
    chosen = [rng.choice(pool) for _ in range(count)]
    return [(told(one.prompt, one.level), one.sentence) for one in chosen]


def training_tokens(sentence: str, language: Automaton) -> tuple[int, ...] | None:
    """The tokens of a sentence of the training split that can be said here, None for any other."""
    try:
        tokens = parse_sentence(sentence)
        workflow = workflow_of(sentence)
    except UnknownToken:
        return None
    if workflow is None or not language.accepts(tokens):
        return None
    return tokens if split_of_workflow(workflow) == "train" else None


def _weights(reward: str) -> Mapping[str, float]:
    """The weights by which an ensemble learned, the usual ones where there is none."""
    path = folder_of(reward) / "config.json"
    return load(RewardConfig, path).weights if reward and path.exists() else USUAL


def recorded(records: str) -> list[Record]:
    """The records in a folder; the shipped ones, or those in the usual one for an empty name. Raises RecordsError."""
    if records == SHIPPED:
        return list(unpack_all())
    place = Path(records) if records else DATA
    if not is_store(place):
        raise RecordsError(
            f"There are no records in {place}: name others with --records (shipped)."
        )
    with closing(Store.open(place)) as store:
        return list(store.stream())
