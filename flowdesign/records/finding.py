"""The reading half of the store: one record, a page, a stream, and figures over many."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace

from flowdesign.catalog import suggest
from flowdesign.records import figures, reading
from flowdesign.records.connection import Readers
from flowdesign.records.filters import (
    COMPONENT_KINDS,
    ComponentKind,
    ComponentScore,
    Filter,
    Histogram,
    ImageRow,
    Options,
    Order,
    Page,
    PromptCount,
    Summary,
)
from flowdesign.records.paging import Key, Search, count, images_after
from flowdesign.records.record import RecordsError, StoredRecord, UnknownRecord
from flowdesign.records.schema import COMBINED_ID
from flowdesign.records.splits import SPLITS

MOST = 1000  # records of a page
STREAMED = 500  # records, keys or images that one statement reads


class Finder:
    """Looks records up. All methods may be called from any thread."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def has(self, keys: Collection[str], *, failed: bool = True) -> set[str]:
        """Which of these `record_key`s are stored, also as deleted; `failed`: also as failures."""
        only = "" if failed else " AND failure = ''"
        wanted, found = [bytes.fromhex(key) for key in keys], set[str]()
        with self._readers.lend() as connection:
            for start in range(0, len(wanted), STREAMED):
                some = wanted[start : start + STREAMED]
                marks = ", ".join("?" * len(some))
                sql = f"SELECT key FROM records WHERE key IN ({marks}){only}"
                found |= {key.hex() for (key,) in connection.execute(sql, some)}
        return found

    def images_by_key(self, keys: Collection[str]) -> dict[str, str]:
        """The image (sha256 or "") of each of these `record_key`s that is stored."""
        found: dict[str, str] = {}
        with self._readers.lend() as connection:
            for key in keys:
                row = connection.execute(
                    "SELECT image FROM records WHERE key = ?", (bytes.fromhex(key),)
                ).fetchone()
                if row is not None:
                    found[key] = row[0].hex() if row[0] else ""
        return found

    def by_key(self, keys: Collection[str]) -> dict[str, StoredRecord]:
        """The records of those of these `record_key`s that are stored, also deleted ones."""
        wanted, found = [bytes.fromhex(key) for key in keys], dict[str, StoredRecord]()
        with self._readers.lend() as connection:
            for start in range(0, len(wanted), STREAMED):
                some = wanted[start : start + STREAMED]
                marks = ", ".join("?" * len(some))
                sql = f"SELECT key, id FROM records WHERE key IN ({marks})"
                ids = {key.hex(): number for key, number in connection.execute(sql, some)}
                records = {one.id: one for one in reading.records_of(connection, ids.values())}
                found |= {key: records[number] for key, number in ids.items()}
        return found

    def get(self, record: int) -> StoredRecord:
        """One record, deleted or not. Raises UnknownRecord."""
        with self._readers.lend() as connection:
            found = reading.records_of(connection, [record])
        if not found:
            raise UnknownRecord(f"There is no record {record}.")
        return found[0]

    def visible_image(self, record: int) -> str:
        """The sha256 of a record's image; "" when it has none, is deleted or is not stored."""
        with self._readers.lend() as connection:
            row = connection.execute(
                "SELECT image FROM records WHERE id = ? AND deletion IS NULL", (record,)
            ).fetchone()
        return row[0].hex() if row and row[0] else ""

    def find(
        self,
        wanted: Filter | None = None,
        after: str | None = None,
        limit: int = 50,
        order: Order = "newest",
    ) -> Page:
        """One page of the records that match. `after` is the `next` of the page before.

        "best" and "worst" are by the filter's scorer, else by the weighted score; records without
        that score are left out of the rows.
        """
        place = _place(after)
        limit = min(max(limit, 1), MOST)
        with self._readers.lend() as connection:
            search = Search(connection, wanted or Filter(), order)
            keys = search.page(place, limit + 1)
            shown = keys[:limit]
            rows = reading.records_of(connection, [number for _, number in shown])
            total, exact = search.total()
        following = json.dumps(shown[-1]) if len(keys) > limit else None
        return Page(tuple(rows), following, total, exact)

    def ids(self, wanted: Filter | None = None) -> Iterator[int]:
        """Yield the ids of all records that match, oldest first, in constant memory."""
        for window in self._windows(wanted or Filter()):
            yield from window

    def stream(self, wanted: Filter | None = None) -> Iterator[StoredRecord]:
        """Yield all records that match, oldest first, in constant memory."""
        for window in self._windows(wanted or Filter()):
            for start in range(0, len(window), STREAMED):
                with self._readers.lend() as connection:
                    found = reading.records_of(connection, window[start : start + STREAMED])
                yield from found

    def _windows(self, wanted: Filter) -> Iterator[list[int]]:
        with self._readers.lend() as connection:
            yield from Search(connection, wanted, "oldest").all()

    def images_of(self, wanted: Filter | None = None) -> Iterator[str]:
        """Yield the sha256 of each image of the records that match, once, in constant memory."""
        last = ""
        while True:
            with self._readers.lend() as connection:
                page = images_after(connection, wanted or Filter(), last, STREAMED)
            if not page:
                return
            yield from page
            last = page[-1]

    def count(self) -> int:
        """How many records there are, deleted ones too."""
        with self._readers.lend() as connection:
            row = connection.execute("SELECT COALESCE(SUM(records), 0) FROM facets").fetchone()
        return int(row[0])

    def count_splits(self, wanted: Filter | None = None) -> dict[str, int]:
        """How many matching records each split has; splits without any are left out."""
        asked = wanted or Filter()
        with self._readers.lend() as connection:
            splits = [split for split in SPLITS if asked.split in (None, split)]
            counts = {s: count(connection, replace(asked, split=s)) for s in splits}
        return {split: number for split, number in counts.items() if number}

    def options(self) -> Options:
        """What a filter can choose among, with the number of records of each value."""
        with self._readers.lend() as connection:
            return reading.options(connection)

    def histogram(self, scorer: str, wanted: Filter | None = None, bins: int = 30) -> Histogram:
        """How the raw scores of a scorer (or "combined") are spread over the matching records."""
        with self._readers.lend() as connection:
            return figures.histogram(connection, scorer, wanted or Filter(), bins)

    def summary(self, scorer: str, wanted: Filter | None = None) -> Summary:
        """Number, mean, standard deviation and extremes of a scorer over the matching records."""
        with self._readers.lend() as connection:
            return figures.summary(connection, scorer, wanted or Filter())

    def by_component(
        self, kind: ComponentKind, scorer: str, wanted: Filter | None = None
    ) -> list[ComponentScore]:
        """Which checkpoint, LoRA, sampler, ... helps on which category of prompts."""
        if kind not in COMPONENT_KINDS:
            raise RecordsError(f"Unknown component '{kind}'. {suggest(kind, COMPONENT_KINDS)}")
        with self._readers.lend() as connection:
            return figures.by_component(connection, kind, scorer, wanted or Filter())

    def prompts(self, least: int = 2) -> list[PromptCount]:
        """The prompts with at least so many images that can be shown, those with most first."""
        with self._readers.lend() as connection:
            rows = connection.execute(
                "SELECT p.text, COUNT(*) AS images FROM records r JOIN prompts p ON p.id = r.prompt"
                " WHERE r.facet IN (SELECT id FROM facets WHERE has_image = 1 AND deleted = 0)"
                " GROUP BY r.prompt HAVING images >= ? ORDER BY images DESC, p.id",
                (least,),
            ).fetchall()
        return [PromptCount(text, images) for text, images in rows]

    def images_for(self, prompt: str, most: int) -> list[ImageRow]:
        """The newest images of a prompt that can be shown, at most so many."""
        with self._readers.lend() as connection:
            rows = connection.execute(
                "SELECT r.id, r.image, r.workflow, s.value FROM records r"
                " LEFT JOIN scores s ON s.record = r.id AND s.scorer = ?"
                " WHERE r.prompt = (SELECT id FROM prompts WHERE text = ?)"
                " AND r.facet IN (SELECT id FROM facets WHERE has_image = 1 AND deleted = 0)"
                " ORDER BY r.id DESC LIMIT ?",
                (COMBINED_ID, prompt, most),
            ).fetchall()
        return [ImageRow(number, sha.hex(), *rest) for number, sha, *rest in rows]


def _place(after: str | None) -> Key | None:
    """Read a page's `next`. Raises RecordsError for a text that is none."""
    if after is None:
        return None
    try:
        value, number = json.loads(after)
        return float(value), int(number)
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:
        raise RecordsError("This is not the end of a page; begin again without it.") from fault
