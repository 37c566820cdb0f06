"""What is kept: a scored image with all it takes to make it again, votes and ratings.

RecordsError
├── BadRecord     a record, vote or rating that cannot be stored as it is
├── UnknownRecord nothing is stored under this id or token
├── TokenTaken    another rater's vote has this token
├── StoreError    the store's file cannot be used
│   └── StoreTooNew   a newer FlowDesign wrote it
└── ExchangeError a file that cannot be imported; the message names file and line
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

from flowdesign.nodes import MAX_SEED
from flowdesign.records.splits import Split, split_of_both
from flowdesign.workflow import Workflow

Choice = Literal["left", "right", "tie", "skip"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
STARS = range(1, 6)
PREDICTED = "predicted"  # the score under which is kept what a reward ensemble expects
PREDICTED_LOW, PREDICTED_HIGH = "predicted_low", "predicted_high"  # its 90 % interval
PREDICTIONS = (PREDICTED, PREDICTED_LOW, PREDICTED_HIGH)
COMBINED = "combined"  # the scorer under which `Store.reweigh` keeps the weighted sum
_SHA = re.compile(r"[0-9a-f]{64}")


class RecordsError(Exception):
    """What can go wrong with records; the message goes to a person."""


class BadRecord(RecordsError):
    """A record, vote or rating that cannot be stored; the message names every fault."""


class UnknownRecord(RecordsError):
    """Nothing is stored under this id or token."""


class TokenTaken(RecordsError):
    """The token of a vote or rating belongs to another rater."""


class StoreError(RecordsError):
    """The store's file cannot be used."""


class StoreTooNew(StoreError):
    """A newer FlowDesign wrote the store."""


class ExchangeError(RecordsError):
    """A file that cannot be imported."""


IMPORTED = "import:"  # how the source of a record begins that was made elsewhere


@dataclass(frozen=True)
class Record:
    """A prompt, a workflow and a seed, and what became of them.

    `workflow` is the unbound API form; of a file that is outside FlowDesign's nodes it is the
    graph as it was. `scores` are raw, by scorer; a scorer that could not say is NaN.
    """

    prompt: str
    workflow: Workflow
    seed: int = 0
    sentence: str = ""  # "" when the workflow is outside the language
    image: str = ""  # sha256 of the PNG's bytes, or ""
    scores: Mapping[str, float] = field(default_factory=dict)
    source: str = ""  # "collect:RUN", "playground", "import:NAME" or "shipped"
    assets: Mapping[str, str] = field(default_factory=dict)  # asset name -> hash of its file
    renderer: str = ""  # what rendered it, with versions
    fidelity: str = ""  # "exact", "approximate" or ""
    seconds: float = 0.0
    failure: str = ""  # why there is no image, or ""
    created: str = ""  # UTC, ISO 8601; "" becomes the time of storing
    id: int | None = None


@dataclass(frozen=True)
class StoredRecord(Record):
    """A record as the store gives it, with what follows from its prompt and workflow."""

    prompt_split: Split = "train"
    workflow_split: Split = "train"
    category: str = ""  # GenEval category of a prompt of the miniature world, or ""
    checkpoint: str = ""  # of the first pass
    sampler: str = ""  # of the first pass
    combined: float | None = None  # the weighted score, None when a weighted scorer is missing
    deleted: bool = False

    @property
    def split(self) -> Split:
        """The stricter of both splits: what a trainer may see is in neither other part."""
        return split_of_both(self.prompt_split, self.workflow_split)


@dataclass(frozen=True)
class Vote:
    """One rater's choice between two records of the same prompt, by the sides as shown."""

    left: int
    right: int
    choice: Choice
    rater: str
    token: str  # made before the pair is shown; a vote with the same token is the same vote
    milliseconds: int = 0
    created: str = ""
    repeat_of: int | None = None  # id of the vote on the same pair that this one repeats
    mode: str = "pair"  # how the pair was chosen, as the chooser names it
    id: int | None = None


@dataclass(frozen=True)
class Rating:
    """One rater's 1 to 5 stars for a record."""

    record: int
    stars: int
    rater: str
    token: str
    milliseconds: int = 0
    created: str = ""
    id: int | None = None


def now() -> str:
    """The time as records keep it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_sha(text: str) -> bool:
    """Whether a text is a sha256 in lower-case hex, and so safe as a file name."""
    return _SHA.fullmatch(text) is not None


def check_record(record: Record) -> None:
    """Raise BadRecord with every fault of a record."""
    faults = [
        f"{name} holds half of a surrogate pair"
        for name in ("prompt", "sentence", "source", "renderer", "fidelity", "failure", "created")
        if not _is_text(getattr(record, name))
    ]
    if not 0 <= record.seed <= MAX_SEED:
        faults.append(f"the seed is from 0 to {MAX_SEED}, not {record.seed}")
    if not math.isfinite(record.seconds):
        faults.append("seconds is not a number")
    if record.image and not is_sha(record.image):
        faults.append("image is not a sha256")
    if COMBINED in record.scores:
        faults.append(f"'{COMBINED}' is no scorer: it is the weighted sum, which the store keeps")
    if not all(record.scores) or not all(_is_text(name) for name in record.scores):
        faults.append("a scorer has no name")
    if faults:
        raise BadRecord(f"This record cannot be stored: {'; '.join(faults)}.")


def check_vote(vote: Vote) -> None:
    """Raise BadRecord with every fault of a vote."""
    faults = _faults_of_ballot(vote.token, vote.rater)
    if vote.choice not in CHOICES:
        faults.append(f"the choice is one of {', '.join(CHOICES)}, not '{vote.choice}'")
    if vote.left == vote.right:
        faults.append("both sides are the same record")
    if faults:
        raise BadRecord(f"This vote cannot be stored: {'; '.join(faults)}.")


def check_rating(rating: Rating) -> None:
    """Raise BadRecord with every fault of a rating."""
    faults = _faults_of_ballot(rating.token, rating.rater)
    if rating.stars not in STARS:
        faults.append(f"stars are from {STARS[0]} to {STARS[-1]}, not {rating.stars}")
    if faults:
        raise BadRecord(f"This rating cannot be stored: {'; '.join(faults)}.")


def _faults_of_ballot(token: str, rater: str) -> list[str]:
    return [f"it has no {n}" for n, v in (("token", token), ("rater", rater)) if not v.strip()]


def _is_text(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
