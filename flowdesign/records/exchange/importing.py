"""From files to the store. What is there already stays, so an import can be repeated at will."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flowdesign.records.exchange.bundle import Bundle, Table, opened
from flowdesign.records.exchange.columns import (
    RATING,
    RECORD,
    VOTE,
    Row,
    rating_of,
    record_of,
    vote_of,
)
from flowdesign.records.exchange.formats import FORMATS, PICTURE
from flowdesign.records.images import sha_of
from flowdesign.records.record import (
    BadRecord,
    ExchangeError,
    Rating,
    Record,
    Vote,
    check_rating,
    check_record,
    check_vote,
)
from flowdesign.records.store import Store

BATCH, BATCH_BYTES = 500, 64 * 2**20  # records, and bytes of images, that are stored at once
Progress = Callable[["Imported"], None]


@dataclass
class Imported:
    """What an import has read so far. `new` records were not stored before, the others were."""

    records: int = 0
    new: int = 0
    images: int = 0
    votes: int = 0
    ratings: int = 0
    skipped: int = 0  # votes and ratings on records that the files do not hold


def import_records(
    store: Store, path: Path, source: str = "", on_batch: Progress = lambda so_far: None
) -> Imported:
    """Import a folder, a zip file or one table (JSONL, CSV, Parquet).

    `source` is given to records that name none. Raises ExchangeError, which names file and row; what
    was read before that row is stored, and importing the mended file goes on from there.
    """
    done = Imported()
    with opened(path) as bundle, closing(_Ids()) as ids:
        for table in bundle.tables:
            if table.kind == "records":
                _import_records(store, bundle, table, source, ids, done, on_batch)
            elif table.kind == "votes":
                _import_votes(store, table, ids, done)
            else:
                _import_ratings(store, table, ids, done)
            on_batch(done)
    return done


class _Ids:
    """From the ids of the files to those of this store; on disk, so that its size does not matter."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("CREATE TABLE ids (old INTEGER PRIMARY KEY, new INTEGER)")

    def put(self, pairs: list[tuple[int, int]]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?)", pairs)
        self._connection.execute("COMMIT")

    def get(self, old: int | None) -> int | None:
        row = self._connection.execute("SELECT new FROM ids WHERE old = ?", (old,)).fetchone()
        return None if row is None else int(row[0])

    def close(self) -> None:
        self._connection.close()


def _import_records(
    store: Store,
    bundle: Bundle,
    table: Table,
    source: str,
    ids: _Ids,
    done: Imported,
    on_batch: Progress,
) -> None:
    for rows, records, images in _batches(bundle, table, source):
        before = store.count()
        new = store.add(records, images)
        done.new += store.count() - before
        done.records += len(records)
        done.images += len(images)
        pairs = zip((row.get("id") for row in rows), new, strict=True)
        ids.put([(old, number) for old, number in pairs if old is not None])
        on_batch(done)


def _batches(
    bundle: Bundle, table: Table, source: str
) -> Iterator[tuple[list[Row], list[Record], dict[str, bytes]]]:
    rows: list[Row] = []
    records: list[Record] = []
    images: dict[str, bytes] = {}
    for number, row in FORMATS[table.format].read(table.path, RECORD):
        with _at(table, number):
            record = record_of({"source": source, **row})
            check_record(record)
            if record.image and record.image not in images:
                picture = row.get(PICTURE) or bundle.image(record.image)
                if picture is not None:
                    images[record.image] = _checked(picture, record.image)
        rows.append({"id": row.get("id")})
        records.append(record)
        if len(records) >= BATCH or sum(map(len, images.values())) >= BATCH_BYTES:
            yield rows, records, images
            rows, records, images = [], [], {}
    if records:
        yield rows, records, images


def _checked(picture: bytes, sha: str) -> bytes:
    if sha_of(picture) != sha:
        raise BadRecord(f"The image {sha[:12]}... has other bytes than its name says.")
    return picture


def _import_votes(store: Store, table: Table, ids: _Ids, done: Imported) -> None:
    """Store the votes in their order, so that a repeat finds the vote that it repeats."""
    waiting: list[tuple[int | None, Vote]] = []
    with closing(_Ids()) as votes:

        def flush() -> None:
            new = store.vote_all([vote for _, vote in waiting])
            votes.put([(o, n) for (o, _), n in zip(waiting, new, strict=True) if o is not None])
            done.votes += len(new)
            waiting.clear()

        for number, row in FORMATS[table.format].read(table.path, VOTE):
            left, right = ids.get(row.get("left")), ids.get(row.get("right"))
            if left is None or right is None:
                done.skipped += 1
                continue
            repeated = row.get("repeat_of")
            if len(waiting) >= BATCH or repeated in [old for old, _ in waiting if old is not None]:
                flush()
            known = {"left": left, "right": right, "repeat_of": votes.get(repeated)}
            with _at(table, number):
                vote = vote_of(row, known)
                check_vote(vote)
            waiting.append((row.get("id"), vote))
        flush()


def _import_ratings(store: Store, table: Table, ids: _Ids, done: Imported) -> None:
    waiting: list[Rating] = []
    for number, row in FORMATS[table.format].read(table.path, RATING):
        record = ids.get(row.get("record"))
        if record is None:
            done.skipped += 1
            continue
        with _at(table, number):
            rating = rating_of(row, record)
            check_rating(rating)
        waiting.append(rating)
        if len(waiting) >= BATCH:
            done.ratings += len(store.rate_all(waiting))
            waiting.clear()
    done.ratings += len(store.rate_all(waiting))


@contextmanager
def _at(table: Table, number: int) -> Iterator[None]:
    """Say in which line of which file something is wrong."""
    try:
        yield
    except BadRecord as fault:
        raise ExchangeError(f"{table.path.name}, line {number}: {fault}") from fault
