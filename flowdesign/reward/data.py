"""From records and votes to what reward models learn from: columns of numbers. No torch.

A row is one image: a prompt, a sentence, a seed and standardised scores. Records outside the language,
failures and deleted ones have no row. Prompts and sentences are written once and rows point at them.

RewardDataError   the records cannot teach a reward model; the message says why and what to do
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowdesign.catalog import suggest
from flowdesign.config import RewardConfig, listed
from flowdesign.records import (
    COMBINED,
    DATA,
    PREDICTIONS,
    Record,
    RecordsError,
    Split,
    Store,
    Vote,
    is_store,
)
from flowdesign.records.splits import split_of_prompt, split_of_workflow
from flowdesign.shipped.packed import PACKED, unpack_all
from flowdesign.standards import Reference, Standard, combine, read_reference
from flowdesign.tokens import VOCABULARY, UnknownToken, parse_sentence

log = logging.getLogger(__name__)
SHIPPED = "shipped"  # as `--records`: the packed records in assets/
COMMON = 0.5  # share of the rows that a scorer must have judged to become a head
FEWEST_PROMPTS = 2  # of the training split, and with different scores
Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


class RewardDataError(RecordsError):
    """Records that cannot teach a reward model."""


@dataclass(frozen=True)
class Ballots:
    """Votes between two sentences of one prompt, aligned (votes,): indices into a table's lists.

    `left` and `right` are sentences; `tie` says that the rater saw no difference, else left is the
    better one.
    """

    prompt: Rows
    left: Rows
    right: Rows
    tie: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.prompt)


_NONE = np.zeros(0, np.int64)
NO_BALLOTS = Ballots(_NONE, _NONE, _NONE, np.zeros(0, np.bool_))


@dataclass(frozen=True)
class Table:
    """Scored images. `prompt`, `sentence`, `seed` (rows,) and each of `scores` (rows,) are aligned.

    Scores are in standard deviations above the mean of the reference set; a missing one is NaN, and
    "combined", the weighted sum, is never missing. `records` are the ids in the store, or -1. Seeds are
    signed: those from 2^63 on are negative here.
    """

    prompts: tuple[str, ...]
    sentences: tuple[tuple[int, ...], ...]
    prompt: Rows
    sentence: Rows
    seed: Rows
    scores: Mapping[str, Scores]
    prompt_split: tuple[Split, ...]
    sentence_split: tuple[Split, ...]
    records: Rows
    standards: Mapping[str, Standard]  # by which raw scores were standardised
    ballots: Ballots = field(default=NO_BALLOTS)

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def combined(self) -> Scores:
        """The weighted sum of each row."""
        return self.scores[COMBINED]

    @property
    def heads(self) -> tuple[str, ...]:
        """What a reward model predicts: the combined score first, then raw scorers by name."""
        return (COMBINED, *sorted(name for name in self.scores if name != COMBINED))

    def rows(self, prompt: Collection[Split], sentence: Collection[Split]) -> Rows:
        """The numbers of the rows whose prompt and whose sentence lie in these splits."""
        prompts = np.array([split in prompt for split in self.prompt_split], bool)
        sentences = np.array([split in sentence for split in self.sentence_split], bool)
        return np.flatnonzero(prompts[self.prompt] & sentences[self.sentence]).astype(np.int64)

    def texts(self, pairs: Rows) -> tuple[list[str], list[tuple[int, ...]]]:
        """Prompts and sentences of pairs (n, 2) of their numbers, as predictors take them."""
        return [self.prompts[p] for p in pairs[:, 0]], [self.sentences[s] for s in pairs[:, 1]]

    def take(self, rows: Rows) -> Table:
        """The table with these rows only; its lists stay as they are, votes are left out."""
        scores = {name: values[rows] for name, values in self.scores.items()}
        return Table(
            self.prompts, self.sentences, self.prompt[rows], self.sentence[rows], self.seed[rows],
            scores, self.prompt_split, self.sentence_split, self.records[rows], self.standards,
        )  # fmt: skip

    @property
    def training(self) -> Rows:
        """The rows that may be learned from: neither prompt nor sentence is held out."""
        return self.rows(["train"], ["train"])

    @property
    def validation(self) -> Rows:
        """The rows to choose and calibrate with: of validation prompts, never of test sentences."""
        return self.rows(["validation"], ["train", "validation"])

    @property
    def teaching(self) -> Ballots:
        """The votes that may be learned from: neither prompt nor a sentence of either side is held out."""
        votes = self.ballots
        prompts = np.array([split == "train" for split in self.prompt_split], bool)
        sentences = np.array([split == "train" for split in self.sentence_split], bool)
        kept = prompts[votes.prompt] & sentences[votes.left] & sentences[votes.right]
        return Ballots(votes.prompt[kept], votes.left[kept], votes.right[kept], votes.tie[kept])

    @cached_property
    def met(self) -> frozenset[int]:
        """The words of the sentences that may be learned from."""
        numbers = np.unique(self.sentence[self.training])
        return frozenset(token for number in numbers for token in self.sentences[number])

    @cached_property
    def digest(self) -> str:
        """The sha256 of what is learned from and chosen with: equal data give equal digests, whatever
        their order was, and whatever is there to be measured on."""
        used = self.take(np.concatenate([self.training, self.validation]))
        rows = sorted(
            (self.prompts[p], self.sentences[s], int(seed), *(repr(float(v)) for v in values))
            for p, s, seed, *values in zip(
                used.prompt, used.sentence, used.seed, *(used.scores[n] for n in self.heads),
                strict=True,
            )
        )  # fmt: skip
        digest = hashlib.sha256(repr(self.heads).encode())
        for row in [*rows, *sorted(self._votes())]:
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _votes(self) -> Iterator[tuple[object, ...]]:
        votes = self.teaching
        for p, left, right, tie in zip(
            votes.prompt, votes.left, votes.right, votes.tie, strict=True
        ):
            yield self.prompts[p], self.sentences[left], self.sentences[right], bool(tie)


def read_table(config: RewardConfig) -> Table:
    """Read what the config names. Raises RewardDataError, NoStandard, RecordsError."""
    reference = read_reference()
    if config.records == SHIPPED:
        if not PACKED.exists():
            raise RewardDataError(f"There are no shipped records in {PACKED}.")
        return make_table(unpack_all(), (), config, reference)
    folder = Path(config.records) if config.records else DATA
    if not is_store(folder):
        raise RewardDataError(
            f"There are no records in {folder}. Collect some (python -m flowdesign collect), or "
            f"learn from the shipped ones: --records {SHIPPED}"
        )
    with closing(Store.open(folder)) as store:
        return make_table(store.stream(), store.votes(), config, reference)


def make_table(
    records: Iterable[Record], votes: Iterable[Vote], config: RewardConfig, reference: Reference
) -> Table:
    """Make columns of records and votes. Raises RewardDataError when no record is left."""
    sources = set(listed(config.source))
    draft, seen = _Draft(config, reference), set[str]()
    for record in records:
        seen.add(record.source)
        if not sources or record.source in sources:
            draft.add(record)
    if unknown := sorted(sources - seen):
        raise RewardDataError(
            f"No record has the source '{unknown[0]}'. {suggest(unknown[0], seen)}"
        )
    return draft.table(votes)


def check_table(table: Table) -> None:
    """Raise RewardDataError for data that a reward model cannot learn from, with the reason."""
    training = table.take(table.training)
    count = len(np.unique(training.prompt))
    if count < FEWEST_PROMPTS:
        raise RewardDataError(
            f"The training split has {count} prompt{'s' * (count != 1)}: a reward model learns from "
            f"differences between prompts and needs at least {FEWEST_PROMPTS}. Collect more."
        )
    if not np.ptp(training.combined) > 0:
        raise RewardDataError(
            f"All {len(training)} records of the training split have the same combined score "
            f"({training.combined[0]:g}): there is nothing to learn. Check the weights of the scorers."
        )
    if len(np.unique(table.take(table.validation).combined)) < 2:
        raise RewardDataError(
            "There are no validation prompts with different scores, so nothing says when to stop. "
            "Collect more prompts (one in ten falls into the validation split)."
        )


class _Draft:
    """Rows while they are being gathered."""

    def __init__(self, config: RewardConfig, reference: Reference) -> None:
        self.config, self.reference = config, reference
        self.prompts: dict[str, int] = {}
        self.sentences: dict[str, int] = {}
        self.tokens: list[tuple[int, ...]] = []
        self.splits: list[Split] = []
        self.rows: list[tuple[int, int, int, int]] = []
        self.scores: list[Mapping[str, float]] = []
        self.combined: list[float] = []
        self.left_out = 0
        self.without = {_word(word) for word in config.left_out}

    def add(self, record: Record) -> None:
        """Take a record in, if it has a sentence, an outcome and all weighted scores."""
        total = combine(record.scores, self.config.weights, self.reference)
        sentence = None if record.failure or total is None else self._sentence(record)
        if sentence is None or total is None:
            self.left_out += 1
            return
        prompt = self.prompts.setdefault(record.prompt, len(self.prompts))
        number = -1 if record.id is None else record.id
        seed = record.seed - (record.seed >> 63 << 64)
        self.rows.append((prompt, sentence, seed, number))
        self.scores.append(record.scores)
        self.combined.append(total)

    def _sentence(self, record: Record) -> int | None:
        """The number of a record's sentence; None without one, or of words this version lacks."""
        if record.sentence not in self.sentences:
            try:
                tokens = parse_sentence(record.sentence)
            except UnknownToken:
                return None
            if not tokens:
                return None
            self.sentences[record.sentence] = len(self.tokens)
            self.tokens.append(tokens)
            held_out = self.without.intersection(tokens)
            split = split_of_workflow(record.workflow)
            self.splits.append("test" if held_out else split)
        return self.sentences[record.sentence]

    def table(self, votes: Iterable[Vote]) -> Table:
        """Make the table; the log says how many records have no place in it."""
        needed = (
            "each must be a rendered workflow of the language with scores by "
            f"{', '.join(self.config.weights)}."
        )
        if not self.rows and not self.left_out:
            raise RewardDataError(
                "There are no records to learn from. Collect some (python -m flowdesign collect), or learn "
                f"from the shipped ones: --records {SHIPPED}"
            )
        if not self.rows:
            raise RewardDataError(
                f"None of {self.left_out} records can teach a reward model: {needed}"
            )
        if self.left_out:
            many = self.left_out + len(self.rows)
            log.warning("%d of %d records teach nothing: %s", self.left_out, many, needed)
        columns = np.array(self.rows, np.int64).T
        scores = self._columns()
        standards = {n: each for n, each in self.reference.standards.items() if n in scores}
        places = {number: row for row, number in enumerate(columns[3].tolist()) if number >= 0}
        return Table(
            tuple(self.prompts), tuple(self.tokens), columns[0], columns[1], columns[2],
            scores, tuple(map(split_of_prompt, self.prompts)), tuple(self.splits),
            columns[3], standards, _ballots(votes, places, columns[0], columns[1]),
        )  # fmt: skip

    def _columns(self) -> dict[str, Scores]:
        """The combined score, and standardised raw scores that are common."""
        columns = {COMBINED: np.array(self.combined)}
        for name, standard in self.reference.standards.items():
            raw = np.array([scores.get(name, math.nan) for scores in self.scores])
            known = np.isfinite(raw)
            if name not in (self.config.held_out, *PREDICTIONS) and known.mean() >= COMMON:
                columns[name] = np.where(known, (raw - standard.mean) / standard.sd, np.nan)
        return columns


def _word(word: str) -> int:
    """The token of a word. Raises RewardDataError."""
    if word not in VOCABULARY.tokens:
        raise RewardDataError(f"Unknown word '{word}'. {suggest(word, VOCABULARY.tokens)}")
    return VOCABULARY.index(word)


def _ballots(
    votes: Iterable[Vote], places: Mapping[int, int], prompt: Rows, sentence: Rows
) -> Ballots:
    """Votes between two different sentences; those on records without a row are left out."""
    found: list[tuple[int, int, int, bool]] = []
    for vote in votes:
        sides = (vote.left, vote.right) if vote.choice != "right" else (vote.right, vote.left)
        better, worse = (places.get(side, -1) for side in sides)
        if vote.choice == "skip" or min(better, worse) < 0:
            continue
        if sentence[better] != sentence[worse]:
            tie = vote.choice == "tie"
            found.append((int(prompt[better]), int(sentence[better]), int(sentence[worse]), tie))
    if not found:
        return NO_BALLOTS
    columns = np.array(found, np.int64).T
    return Ballots(columns[0], columns[1], columns[2], columns[3].astype(bool))


def pairs_of(table: Table) -> tuple[Rows, Sequence[Rows]]:
    """The distinct (prompt, sentence) pairs (pairs, 2), and the rows of each."""
    both = np.stack([table.prompt, table.sentence], 1)
    distinct, which = np.unique(both, axis=0, return_inverse=True)
    return distinct.astype(np.int64), grouped(which.ravel().astype(np.int64), len(distinct))


def grouped(which: Rows, groups: int) -> list[Rows]:
    """The members of each of `groups` groups, none of them empty, in order."""
    if not groups:
        return []
    order = np.argsort(which, kind="stable").astype(np.int64)
    return np.split(order, np.searchsorted(which[order], np.arange(1, groups)))
