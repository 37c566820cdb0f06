"""The plan of a collection: which prompt meets which workflow, with which seeds.

Made once, from the config alone, and kept as plan.jsonl in the run's folder, so that a resumed run
does what was begun.

*Random* workflows are walks through the grammar, each tried on `per_workflow` prompts. The prompts
are dealt from as many piles (of the grammar: one for each domain), shuffled anew each time one is
used up. So

* every prompt meets equally many workflows: they can be compared within a prompt;
* every workflow meets prompts of every pile: what a component does, and for which prompts, can be
  told from the prompt's own ease, and no component goes with a kind of prompt by accident;
* all pairs of a prompt share its few seeds, so that differences are not differences of noise alone,
  and the pairs that are rendered with all seeds tell how large the noise is (the noise ceiling).

A *policy* says its workflows for each prompt, some choices of which may be drawn anew (`collect.redrawing`), or changed
by a search (`collect.saying`); equal ones are taken once. Each may be tried on other prompts as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowdesign.collect.prompts import ALL
from flowdesign.config import CollectConfig, ConfigError
from flowdesign.records import Split
from flowdesign.records.splits import split_of_workflow
from flowdesign.runs import replace_text
from flowdesign.tokens import Automaton, random_sentence, sentence_text, workflow_of

PLAN, DRAWN = "plan.jsonl", "drawn.jsonl"
BLOCK = 16  # prompts that a policy speaks for at once

log = logging.getLogger(__name__)
# (prompts, how many for each, seed) -> sentences as text, for each prompt
Sayer = Callable[[Sequence[str], int, int], list[list[str]]]


@dataclass(frozen=True)
class Pair:
    """A prompt and a sentence that says a workflow, with the seeds to render them with."""

    prompt: str
    sentence: str
    seeds: tuple[int, ...]


class Stopped(Exception):
    """The run was asked to stop while its plan was being made."""


def random_pairs(config: CollectConfig, prompts: Sequence[str], language: Automaton) -> list[Pair]:
    """Plan `config.n` pairs of distinct random workflows and prompts."""
    rng = random.Random(f"collect/random/{config.seed}")
    piles = min(config.per_workflow, len(prompts))
    decks = [_deal(prompts[start::piles], rng) for start in range(piles)]
    sentences = _distinct_sentences(language, rng, config.split)
    drawn: list[tuple[str, str]] = []
    while len(drawn) < config.n:
        sentence = next(sentences)
        drawn += [(next(deck), sentence) for deck in decks]
    return with_seeds(config, drawn[: config.n], rng)


def policy_pairs(
    config: CollectConfig, prompts: Sequence[str], say: Sayer, folder: Path
) -> list[Pair]:
    """Plan pairs of prompts and what a policy says for them; goes on where it was interrupted.

    Raises Stopped between two blocks of prompts when the run's folder has a STOP file, and ConfigError when
    nothing that was said is of the split that is asked for.
    """
    path, share = folder / DRAWN, -(-config.n // len(prompts))
    said: list[list[list[str]]] = read_lines(path)  # a line for each block
    with path.open("a", encoding="utf-8") as file:
        for first in range(len(said) * BLOCK, len(prompts), BLOCK):
            if (folder / "STOP").exists():
                raise Stopped
            block = prompts[first : first + BLOCK]
            chance = seeds_of(f"say/{config.seed}", block[0], 1)[0]
            said.append(say(block, share, chance))
            file.write(json.dumps(said[-1]) + "\n")
            file.flush()
            log.info("workflows are said for %d of %d prompts", first + len(block), len(prompts))
    found = _wanted(config, prompts, [row for block in said for row in block])
    rng = random.Random(f"collect/policy/{config.seed}")
    return with_seeds(config, [*found, *_for_others(config, prompts, found, rng)], rng)


def _for_others(
    config: CollectConfig,
    prompts: Sequence[str],
    found: Sequence[tuple[str, str]],
    rng: random.Random,
) -> list[tuple[str, str]]:
    """The same workflows for `config.foils` other prompts each: what is good for one only can be told from what
    is good for all."""
    many, there = min(config.foils, len(prompts) - 1), set(found)
    drawn = (
        (other, sentence)
        for prompt, sentence in (found if many else ())
        for other in rng.sample([one for one in prompts if one != prompt], many)
    )
    return [pair for pair in dict.fromkeys(drawn) if pair not in there]


def _wanted(
    config: CollectConfig, prompts: Sequence[str], said: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    """Prompts with sentences: as many as are asked for, spread evenly, each once, of the split that is asked for.

    Raises ConfigError when none is left.
    """
    least, more = divmod(config.n, len(prompts))
    counts = [least + (index < more) for index in range(len(prompts))]
    rows = [dict.fromkeys(row[:count]) for row, count in zip(said, counts, strict=True)]
    drawn = [(prompt, one) for prompt, row in zip(prompts, rows, strict=True) for one in row]
    if len(drawn) < config.n:
        log.info("%d of %d workflows were equal to another of their prompt's",
                 config.n - len(drawn), config.n)  # fmt: skip
    if config.split == ALL:
        return drawn
    wanted = [pair for pair in drawn if _split_of(pair[1]) == config.split]
    log.info("%d of %d workflows are of the %s split", len(wanted), len(drawn), config.split)
    if not wanted:
        raise ConfigError(
            f"None of the {len(drawn)} workflows that were said is of the {config.split} split, so there is "
            "nothing to render. Start another run (--run NAME) with more workflows (--n) or with --split all."
        )
    return wanted


def with_seeds(
    config: CollectConfig, drawn: Sequence[tuple[str, str]], rng: random.Random
) -> list[Pair]:
    """Give each pair all of its prompt's seeds, or one of them."""
    repeated = set(rng.sample(range(len(drawn)), round(len(drawn) * config.repeated)))
    found = []
    for index, (prompt, sentence) in enumerate(drawn):
        seeds = seeds_of(f"render/{config.seed}", prompt, config.seeds)
        found.append(Pair(prompt, sentence, seeds if index in repeated else (rng.choice(seeds),)))
    return found


def keep_plan(folder: Path, make: Callable[[], list[Pair]]) -> list[Pair]:
    """Give the plan of a run, which is made when there is none yet."""
    path = folder / PLAN
    if not path.exists():
        lines = (json.dumps(asdict(pair)) + "\n" for pair in make())
        replace_text(path, "".join(lines))
    rows = whole_lines(path)
    return [Pair(row["prompt"], row["sentence"], tuple(row["seeds"])) for row in rows]


def _deal(prompts: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Yield prompts for ever, all of them once in every round."""
    while True:
        yield from rng.sample(prompts, len(prompts))


def _distinct_sentences(language: Automaton, rng: random.Random, split: str) -> Iterator[str]:
    """Yield random sentences, each once, for ever; of one split of the records, or of "all"."""
    seen: set[str] = set()
    while True:
        sentence = sentence_text(random_sentence(language, rng))
        if sentence not in seen and (split == ALL or _split_of(sentence) == split):
            seen.add(sentence)
            yield sentence


def _split_of(sentence: str) -> Split:
    workflow = workflow_of(sentence)
    assert workflow is not None, "every walk through the grammar is a workflow"
    return split_of_workflow(workflow)


def seeds_of(purpose: str, prompt: str, count: int) -> tuple[int, ...]:
    """Seeds of 32 bits that follow from the run's seed and the prompt alone."""
    digests = (hashlib.sha256(f"{purpose}/{i}/{prompt}".encode()).digest() for i in range(count))
    return tuple(int.from_bytes(digest[:4], "big") for digest in digests)


def whole_lines(path: Path) -> list[Any]:
    """Read the whole lines of JSON of a file; none where there is no file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def read_lines(path: Path) -> list[Any]:
    """Read whole lines of JSON; one that was cut short by a crash is taken away."""
    if path.exists():
        text = path.read_text(encoding="utf-8")
        replace_text(path, text[: text.rfind("\n") + 1])
    return whole_lines(path)
