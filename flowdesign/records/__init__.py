"""The records: SQLite for what is known of every image, PNG files by content hash beside it.

    with Store.open() as store:
        (id,) = store.add([Record("a red star", workflow, seed=3, image=sha)], {sha: png})
        page = store.find(Filter(text="star", checkpoint="mini_flat"))

Every writing call returns when its data is on disk. Several threads and processes may write at once.
"""

from flowdesign.records.filters import (
    COMPONENT_KINDS,
    ORDERS,
    ComponentKind,
    ComponentScore,
    Deletion,
    Filter,
    Histogram,
    ImageRow,
    Options,
    Order,
    Page,
    PromptCount,
    Summary,
)
from flowdesign.records.identity import record_key
from flowdesign.records.images import sha_of
from flowdesign.records.record import (
    CHOICES,
    COMBINED,
    IMPORTED,
    PREDICTED,
    PREDICTED_HIGH,
    PREDICTED_LOW,
    PREDICTIONS,
    BadRecord,
    Choice,
    ExchangeError,
    Rating,
    Record,
    RecordsError,
    StoredRecord,
    StoreError,
    StoreTooNew,
    TokenTaken,
    UnknownRecord,
    Vote,
    now,
)
from flowdesign.records.splits import (
    SPLITS,
    Split,
    normalised,
    split_of_both,
    split_of_prompt,
)
from flowdesign.records.store import DATA, Store, is_store

__all__ = [
    "is_store",
    "CHOICES",
    "COMBINED",
    "PREDICTED",
    "PREDICTED_HIGH",
    "PREDICTED_LOW",
    "PREDICTIONS",
    "COMPONENT_KINDS",
    "DATA",
    "IMPORTED",
    "ORDERS",
    "SPLITS",
    "BadRecord",
    "Choice",
    "ComponentKind",
    "ComponentScore",
    "Deletion",
    "ExchangeError",
    "Filter",
    "Histogram",
    "ImageRow",
    "Options",
    "Order",
    "Page",
    "PromptCount",
    "Rating",
    "Record",
    "RecordsError",
    "Split",
    "StoreError",
    "StoreTooNew",
    "Store",
    "StoredRecord",
    "Summary",
    "TokenTaken",
    "UnknownRecord",
    "Vote",
    "normalised",
    "now",
    "record_key",
    "sha_of",
    "split_of_both",
    "split_of_prompt",
]
