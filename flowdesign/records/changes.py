"""What has changed since it was last saved elsewhere: for `flowdesign.persistence`.

Triggers mark every record, vote and rating that is written, whichever process writes it. They are made
when somebody first asks for changes, so that a store which nobody follows pays nothing; from then on
the file keeps them. An item has one mark however often it changes, and a new one when it changes again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from flowdesign.records import reading
from flowdesign.records.exchange.columns import Row, row_of
from flowdesign.records.schema import COMBINED_ID
from flowdesign.records.store import Store

ItemKind = Literal["record", "vote", "rating"]

_TABLE = """
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    item NOT NULL,
    UNIQUE (kind, item)
)
"""
_WATCHED = (  # name, event, kind, item, condition
    ("record_added", "INSERT ON records", "record", "new.id", ""),
    ("record_changed", "UPDATE ON records", "record", "new.id", ""),
    ("record_gone", "DELETE ON records", "gone", "old.key", ""),
    ("score_added", "INSERT ON scores", "record", "new.record", "new.scorer"),
    ("score_changed", "UPDATE ON scores", "record", "new.record", "new.scorer"),
    ("vote_added", "INSERT ON votes", "vote", "new.id", ""),
    ("vote_changed", "UPDATE OF undone ON votes", "vote", "new.id", ""),
    ("rating_added", "INSERT ON ratings", "rating", "new.id", ""),
    ("rating_changed", "UPDATE OF undone ON ratings", "rating", "new.id", ""),
)


@dataclass(frozen=True)
class Change:
    """Something to save. `item` is its id, of a record that was removed for good its key."""

    seq: int
    kind: ItemKind | Literal["gone"]
    item: int | bytes


@dataclass(frozen=True)
class Saved:
    """An item as it is saved: `key` names it in any store, `row` is all that is known of it.

    A row with "gone" is of a record that was removed for good, and has nothing else but its key.
    """

    kind: ItemKind
    key: str
    row: Row


class Changes:
    """The marks of one store."""

    def __init__(self, store: Store) -> None:
        """Begin to follow the store; what it holds already counts as changed."""
        self._store = store
        store._writer.run(_follow)

    def read(self, most: int) -> list[Change]:
        """The oldest marks."""
        with self._store._readers.lend() as connection:
            rows = connection.execute(
                "SELECT seq, kind, item FROM changes ORDER BY seq LIMIT ?", (most,)
            ).fetchall()
        return [Change(*row) for row in rows]

    def count(self) -> int:
        """How many items have changed."""
        with self._store._readers.lend() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM changes").fetchone()[0])

    def settle(self, changes: Iterable[Change]) -> None:
        """Forget marks; an item that changed again after it was read keeps its new one."""
        listed = json.dumps([change.seq for change in changes])
        self._store._writer.run(
            lambda connection: connection.execute(
                "DELETE FROM changes WHERE seq IN (SELECT value FROM json_each(?))", (listed,)
            )
        )

    def states(self, changes: Iterable[Change]) -> list[Saved]:
        """The changed items as they are now: records first, what is gone without a trace left out."""
        by_kind: dict[str, list[int]] = {"record": [], "vote": [], "rating": []}
        gone: list[bytes] = []
        for change in changes:
            if isinstance(change.item, bytes):
                gone.append(change.item)
            else:
                by_kind[change.kind].append(change.item)
        with self._store._readers.lend() as connection:
            return [
                *_gone(connection, gone),
                *_records(connection, by_kind["record"]),
                *_votes(connection, by_kind["vote"]),
                *_ratings(connection, by_kind["rating"]),
            ]

    def ids(self, keys: Iterable[str]) -> dict[str, int]:
        """The ids of the records with these keys, where they are stored."""
        found: dict[str, int] = {}
        with self._store._readers.lend() as connection:
            for key in set(keys):
                row = connection.execute(
                    "SELECT id FROM records WHERE key = ?", (bytes.fromhex(key),)
                ).fetchone()
                if row is not None:
                    found[key] = int(row[0])
        return found

    def vote_ids(self, tokens: Iterable[str]) -> dict[str, int]:
        """The ids of the votes with these tokens, where they are stored."""
        with self._store._readers.lend() as connection:
            rows = connection.execute(
                "SELECT token, id FROM votes WHERE token IN (SELECT value FROM json_each(?))",
                (json.dumps(sorted(set(tokens))),),
            ).fetchall()
        return dict(rows)


def _follow(connection: sqlite3.Connection) -> None:
    """Make table and triggers, and mark all there is; nothing when that was done before."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
        return
    connection.execute(_TABLE)
    for name, event, kind, item, scorer in _WATCHED:
        when = f"WHEN {scorer} <> {COMBINED_ID}" if scorer else ""
        connection.execute(
            f"CREATE TRIGGER change_{name} AFTER {event} {when} BEGIN"
            f" DELETE FROM changes WHERE kind = '{kind}' AND item = {item};"
            f" INSERT INTO changes (kind, item) VALUES ('{kind}', {item}); END"
        )
    for kind in ("record", "vote", "rating"):
        connection.execute(
            f"INSERT INTO changes (kind, item) SELECT '{kind}', id FROM {kind}s ORDER BY id"
        )


def _gone(connection: sqlite3.Connection, keys: list[bytes]) -> list[Saved]:
    """Removed records; one that was stored anew is not gone, and has a mark of its own."""
    found = "SELECT 1 FROM records WHERE key = ?"
    left = [key.hex() for key in keys if connection.execute(found, (key,)).fetchone() is None]
    return [Saved("record", key, {"key": key, "gone": 1}) for key in left]


def _records(connection: sqlite3.Connection, ids: list[int]) -> list[Saved]:
    keys = dict(
        connection.execute(
            "SELECT id, lower(hex(key)) FROM records WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(ids),),
        ).fetchall()
    )
    saved = []
    for record in reading.records_of(connection, ids):
        row = {name: value for name, value in row_of(record).items() if name != "id"}
        key = str(keys[record.id])
        saved.append(Saved("record", key, row | {"key": key, "deleted": int(record.deleted)}))
    return saved


def _votes(connection: sqlite3.Connection, ids: list[int]) -> list[Saved]:
    rows = connection.execute(
        'SELECT v.token, lower(hex(a.key)) AS "left", lower(hex(b.key)) AS "right", v.choice,'
        " v.rater, v.milliseconds, v.created, r.token AS repeat_of, v.mode,"
        " v.undone <> '' AS undone FROM votes v"
        ' JOIN records a ON a.id = v."left" JOIN records b ON b.id = v."right"'
        " LEFT JOIN votes r ON r.id = v.repeat_of"
        " WHERE v.id IN (SELECT value FROM json_each(?)) ORDER BY v.id",
        (json.dumps(ids),),
    )
    return _named("vote", rows)


def _ratings(connection: sqlite3.Connection, ids: list[int]) -> list[Saved]:
    rows = connection.execute(
        "SELECT v.token, lower(hex(a.key)) AS record, v.stars, v.rater, v.milliseconds, v.created,"
        " v.undone <> '' AS undone FROM ratings v JOIN records a ON a.id = v.record"
        " WHERE v.id IN (SELECT value FROM json_each(?)) ORDER BY v.id",
        (json.dumps(ids),),
    )
    return _named("rating", rows)


def _named(kind: ItemKind, cursor: sqlite3.Cursor) -> list[Saved]:
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return [
        Saved(kind, str(row["token"]), {n: v for n, v in row.items() if v is not None})
        for row in rows
    ]
