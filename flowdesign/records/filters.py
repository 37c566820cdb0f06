"""What to look for, and what is found: one page at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from flowdesign.records.record import COMBINED, StoredRecord
from flowdesign.records.splits import Split

Order = Literal["newest", "oldest", "best", "worst"]
ORDERS: tuple[Order, ...] = get_args(Order)
ComponentKind = Literal[
    "checkpoint", "lora", "sampler", "scheduler", "steps", "cfg", "passes", "upscaler"
]
COMPONENT_KINDS: tuple[ComponentKind, ...] = get_args(ComponentKind)


@dataclass(frozen=True)
class Filter:
    """Which records; what is None (or "" in `text`) does not matter.

    `text`: every word of it occurs in the prompt, in any case, also inside a word. `low` and `high`
    bound the raw score of `scorer` ("combined" is the weighted one); a `scorer` without bounds asks
    for records that it scored. "" as checkpoint, sampler or category means that there is none.
    """

    text: str = ""
    prompt: str | None = None  # exactly this one
    prompt_split: Split | None = None
    workflow_split: Split | None = None
    split: Split | None = None
    source: str | None = None
    checkpoint: str | None = None
    sampler: str | None = None
    category: str | None = None
    scorer: str | None = None
    low: float | None = None
    high: float | None = None
    deleted: bool = False  # True: only what was deleted and can come back
    has_image: bool | None = None
    failed: bool | None = None
    ids: tuple[int, ...] = ()  # only these; () does not matter


@dataclass(frozen=True)
class Page:
    """Some records in order. `next` goes into `Store.find(after=...)`; None at the end.

    `total` is how many records match; when it is not exact there are at least as many.
    """

    rows: tuple[StoredRecord, ...]
    next: str | None
    total: int
    total_is_exact: bool


@dataclass(frozen=True)
class Options:
    """The values that a filter can choose among, each with its number of records (not deleted)."""

    source: dict[str, int] = field(default_factory=dict)
    checkpoint: dict[str, int] = field(default_factory=dict)
    sampler: dict[str, int] = field(default_factory=dict)
    category: dict[str, int] = field(default_factory=dict)
    split: dict[str, int] = field(default_factory=dict)
    prompt_split: dict[str, int] = field(default_factory=dict)
    workflow_split: dict[str, int] = field(default_factory=dict)
    scorers: tuple[str, ...] = ()  # "combined" last, when there are weights

    @property
    def raw_scorers(self) -> tuple[str, ...]:
        """The scorers without the weighted sum of them."""
        return tuple(name for name in self.scorers if name != COMBINED)


@dataclass(frozen=True)
class Summary:
    """The finite scores of one scorer over some records; NaN where there are none."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """How scores are spread: `counts[i]` lie from `edges[i]` to `edges[i + 1]`.

    `missing` records match but have no (finite) score.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int


@dataclass(frozen=True)
class ComponentScore:
    """The mean score of the records whose workflow has a component, within one category.

    `category` "" is of prompts outside the six categories, None all of them together; `se` is the
    standard error of the mean, NaN of a single record.
    """

    value: str
    category: str | None
    mean: float
    se: float
    n: int


@dataclass(frozen=True)
class PromptCount:
    """A prompt and how many images (not deleted) the store has for it."""

    prompt: str
    images: int


@dataclass(frozen=True)
class ImageRow:
    """A record's image, and what it takes to choose among many: nothing of the workflow is read.

    Rows with the same `workflow` number have the same workflow.
    """

    record: int
    image: str  # sha256
    workflow: int
    combined: float | None


@dataclass(frozen=True)
class Deletion:
    """What one `Store.delete` took out of sight and `Store.undelete(token)` can bring back."""

    token: str
    who: str
    created: str
    records: int
