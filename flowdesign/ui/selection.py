"""Which records an action is for: those ticked on the page, or all that the filter leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from flowdesign.records import Filter, Store, StoredRecord, UnknownRecord

MAX_TICKED = 5000  # more are chosen by the filter
MAX_DIGITS = 18  # of a record's number, which SQLite keeps in 63 bits


class NothingChosen(ValueError):
    """The action has no records to act on; the message says what to do."""


@dataclass(frozen=True)
class Selection:
    """Either the ids, or the filter when there are none."""

    ids: tuple[int, ...]
    filter: Filter

    def count(self, store: Store) -> tuple[int, bool]:
        """How many records these are, and whether that is exact."""
        if self.ids:
            return len(self.ids), True
        page = store.find(self.filter, limit=1)
        return page.total, page.total_is_exact

    def as_filter(self) -> Filter:
        """The filter that leaves these records; ticked ones may be deleted or not."""
        return Filter(ids=self.ids, deleted=self.filter.deleted) if self.ids else self.filter

    def numbers(self, store: Store) -> Iterator[int]:
        """The ids of the records, in constant memory."""
        return iter(self.ids) if self.ids else store.ids(self.filter)

    def records(self, store: Store) -> Iterator[StoredRecord]:
        """The records themselves; one that is gone meanwhile is left out."""
        return _each(store, self.ids) if self.ids else store.stream(self.filter)


def choose(scope: object, ticked: object, filter_: Filter) -> Selection:
    """Read what the page sent. Raises NothingChosen when nothing is ticked, or too much."""
    if scope == "all":
        return Selection((), filter_)
    words = str(ticked or "")[: (MAX_DIGITS + 1) * (MAX_TICKED + 1)].split(",")
    ids = tuple(dict.fromkeys(int(w) for w in words if w.isdecimal() and len(w) <= MAX_DIGITS))
    if not ids:
        raise NothingChosen("Tick some records first, or choose all that match the filter.")
    if len(ids) > MAX_TICKED:
        raise NothingChosen(f"At most {MAX_TICKED:,} records can be ticked; use the filter.")
    return Selection(ids, filter_)


def in_groups(records: Iterator[StoredRecord], size: int) -> Iterator[list[StoredRecord]]:
    """The records, so many at a time."""
    while group := list(itertools.islice(records, size)):
        yield group


def say(count: int, exact: bool = True) -> str:
    """A number of records in words."""
    if count == 1 and exact:
        return "1 record"
    return f"{count:,} records" if exact else f"at least {count:,} records"


def _each(store: Store, ids: tuple[int, ...]) -> Iterator[StoredRecord]:
    for number in ids:
        try:
            yield store.get(number)
        except UnknownRecord:
            continue
