"""The writing statements, each inside the writer's transaction."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowdesign.nodes import MAX_SEED
from flowdesign.records.identity import Parts, key_of, parts_of, workflow_text
from flowdesign.records.record import BadRecord, Record, UnknownRecord, now
from flowdesign.records.schema import COMBINED_ID
from flowdesign.records.splits import normalised, split_of_prompt
from flowdesign.scenes import parse

FACETS = (
    "source", "prompt_split", "workflow_split", "category", "checkpoint", "sampler",
    "has_image", "failed", "deleted",
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A record with all that is worked out before the transaction begins."""

    record: Record
    parts: Parts
    key: bytes
    assets: str


def prepare(record: Record) -> Prepared:
    """Work out a record's identity; the slow part of storing it, in the caller's thread."""
    parts = parts_of(workflow_text(record.workflow))
    key = key_of(record.prompt, parts.identity, record.seed, record.assets, record.renderer)
    assets = json.dumps(dict(record.assets), separators=(",", ":"))
    return Prepared(record, parts, bytes.fromhex(key), assets)


class Adder:
    """Stores records within one transaction; what it looked up once it does not look up again."""

    def __init__(self, connection: sqlite3.Connection, has_file: Callable[[str], bool]) -> None:
        self._connection = connection
        self._has_file = has_file
        self._ids: dict[tuple[Any, ...], int] = {}
        self._stored = now()
        self._weighs = has_weights(connection)

    def add(self, ready: Prepared) -> int:
        """Store a record, or add what is new in it to the one with the same key; give its id."""
        found = self._connection.execute(
            "SELECT id, failure, image, facet FROM records WHERE key = ?", (ready.key,)
        ).fetchone()
        if found is None:
            record = self._insert(ready)
        else:
            record = int(found[0])
            self._merge(ready.record, found)
        if ready.record.scores:
            put_scores(self._connection, record, ready.record.scores, self._scorer)
            if self._weighs:
                combine(self._connection, record)
        return record

    def _insert(self, ready: Prepared) -> int:
        record = ready.record
        cursor = self._connection.execute(
            "INSERT INTO records (key, prompt, workflow, facet, seed, image, sentence, assets,"
            " renderer, fidelity, seconds, failure, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ready.key, self._prompt(record.prompt), self._workflow(ready.parts),
                self._facet(ready), signed(record.seed),
                bytes.fromhex(record.image) or None, self._text(record.sentence),
                self._text(ready.assets), self._text(record.renderer),
                self._text(record.fidelity), record.seconds, record.failure,
                record.created or self._stored,
            ),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def _merge(self, record: Record, found: tuple[Any, ...]) -> None:
        """A success mends a record that failed or has no image; an image that is there stays."""
        stored, failure, image, facet = found
        if record.sentence:
            self._connection.execute(
                "UPDATE records SET sentence = ? WHERE id = ? AND sentence = ?",
                (self._text(record.sentence), stored, self._text("")),
            )
        if not record.failure and (failure or (record.image and image is None)):
            image, failure = bytes.fromhex(record.image) or image, ""
            self._connection.execute(
                "UPDATE records SET image = ?, failure = '', fidelity = ?, seconds = ? WHERE id = ?",
                (image, self._text(record.fidelity), record.seconds, stored),
            )
        has_image = image is not None and self._has_file(image.hex())
        change = {"has_image": int(has_image), "failed": int(bool(failure))}
        new = twin(self._connection, facet, change)
        if new != facet:
            self._connection.execute("UPDATE records SET facet = ? WHERE id = ?", (new, stored))

    def _facet(self, ready: Prepared) -> int:
        record, parts = ready.record, ready.parts
        _, split, category = self._prompt_row(record.prompt)
        has_image = bool(record.image) and self._has_file(record.image)
        values = (
            record.source, split, parts.split, category, parts.checkpoint, parts.sampler,
            int(has_image), int(bool(record.failure)), 0,
        )  # fmt: skip
        key = ("facet", *values)
        if key not in self._ids:
            self._ids[key] = facet_id(self._connection, values)
        return self._ids[key]

    def _prompt(self, text: str) -> int:
        return int(self._prompt_row(text)[0])

    def _prompt_row(self, text: str) -> tuple[int, str, str]:
        """Give id, split and category of a prompt, which is stored when it is new."""
        row = self._connection.execute(
            "SELECT id, split, category FROM prompts WHERE text = ?", (text,)
        ).fetchone()
        if row is not None:
            return int(row[0]), str(row[1]), str(row[2])
        split, scene = split_of_prompt(text), parse(text)
        category = scene.category if scene else ""
        cursor = self._connection.execute(
            "INSERT INTO prompts (text, normalised, split, category) VALUES (?, ?, ?, ?)",
            (text, normalised(text), split, category),
        )
        return int(cursor.lastrowid or 0), split, category

    def _workflow(self, parts: Parts) -> int:
        key = ("workflow", parts.text)
        if key not in self._ids:
            self._ids[key] = self._find_workflow(parts)
        return self._ids[key]

    def _find_workflow(self, parts: Parts) -> int:
        found = self._connection.execute(
            "SELECT id FROM workflows WHERE graph = ?", (parts.text,)
        ).fetchone()
        if found:
            return int(found[0])
        cursor = self._connection.execute(
            "INSERT INTO workflows (graph, hash, split, checkpoint, sampler)"
            " VALUES (?, ?, ?, ?, ?)",
            (parts.text, parts.hash, parts.split, parts.checkpoint, parts.sampler),
        )
        self._connection.executemany(
            "INSERT INTO components VALUES (?, ?, ?)",
            [(cursor.lastrowid, kind, value) for kind, value in parts.components],
        )
        return int(cursor.lastrowid or 0)

    def _text(self, text: str) -> int:
        key = ("text", text)
        if key not in self._ids:
            self._ids[key] = _interned(self._connection, "texts", "text", text)
        return self._ids[key]

    def _scorer(self, name: str) -> int:
        key = ("scorer", name)
        if key not in self._ids:
            self._ids[key] = scorer_id(self._connection, name)
        return self._ids[key]


def scorer_id(connection: sqlite3.Connection, name: str) -> int:
    """Give the number of a scorer, which gets one when it is new."""
    return _interned(connection, "scorers", "name", name)


def put_scores(
    connection: sqlite3.Connection,
    record: int,
    scores: Mapping[str, float],
    number: Callable[[str], int],
) -> None:
    """Store raw scores over older ones of the same scorers."""
    connection.executemany(
        "INSERT INTO scores VALUES (?, ?, ?)"
        " ON CONFLICT (record, scorer) DO UPDATE SET value = excluded.value",
        [(record, number(name), _known(value)) for name, value in scores.items()],
    )


def has_weights(connection: sqlite3.Connection) -> bool:
    """Whether `Store.reweigh` has set weights, so that `combine` has something to do."""
    return connection.execute("SELECT 1 FROM weights").fetchone() is not None


def combine(connection: sqlite3.Connection, record: int | None = None) -> None:
    """Set the weighted sum of one record, or of all.

    The same rule as `standards.combine`: none where a weighted score is missing or not finite.
    """
    only = "" if record is None else " AND s.record = :record"
    connection.execute(
        f"DELETE FROM scores AS s WHERE s.scorer = :combined{only}",
        {"combined": COMBINED_ID, "record": record},
    )
    connection.execute(
        "INSERT INTO scores (record, scorer, value)"
        " SELECT s.record, :combined, SUM(w.weight * (s.value - w.mean) / w.sd)"
        " FROM weights w JOIN scores s ON s.scorer = w.scorer"
        f" WHERE abs(s.value) < 9e999{only}"
        " GROUP BY s.record HAVING COUNT(*) = (SELECT COUNT(*) FROM weights)",
        {"combined": COMBINED_ID, "record": record},
    )


def facet_id(connection: sqlite3.Connection, values: tuple[Any, ...]) -> int:
    """Give the facet of these values (in the order of FACETS), which is made when it is new."""
    where = " AND ".join(f"{name} = ?" for name in FACETS)
    found = connection.execute(f"SELECT id FROM facets WHERE {where}", values).fetchone()
    if found:
        return int(found[0])
    marks = ", ".join("?" * len(FACETS))
    cursor = connection.execute(
        f"INSERT INTO facets ({', '.join(FACETS)}) VALUES ({marks})", values
    )
    return int(cursor.lastrowid or 0)


def twin(connection: sqlite3.Connection, facet: int, change: Mapping[str, int]) -> int:
    """Give the facet that differs from another one in these values."""
    row = connection.execute(
        f"SELECT {', '.join(FACETS)} FROM facets WHERE id = ?", (facet,)
    ).fetchone()
    values = {**dict(zip(FACETS, row, strict=True)), **change}
    return facet_id(connection, tuple(values[name] for name in FACETS))


def mark_deleted(connection: sqlite3.Connection, ids: Iterable[int], who: str, token: str) -> int:
    """Take records out of sight, under a token that brings them back; give how many there were."""
    cursor = connection.execute(
        "INSERT INTO deletions (token, who, created) VALUES (?, ?, ?)", (token, who, now())
    )
    return _move(connection, json.dumps(sorted(set(ids))), 1, cursor.lastrowid)


def bring_back(connection: sqlite3.Connection, token: str) -> int:
    """Undo a deletion; give how many records came back. Raises UnknownRecord for no such token."""
    row = connection.execute("SELECT id FROM deletions WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise UnknownRecord("This deletion cannot be undone: it is not known, or was made final.")
    ids = connection.execute("SELECT id FROM records WHERE deletion = ?", row).fetchall()
    return _move(connection, json.dumps([number for (number,) in ids]), 0, None)


def _move(connection: sqlite3.Connection, ids: str, deleted: int, deletion: int | None) -> int:
    """Move records (ids as JSON) that are on the other side to the twins of their facets."""
    rows = connection.execute(
        "SELECT r.id, r.facet FROM json_each(?) c CROSS JOIN records r ON r.id = c.value"
        " JOIN facets f ON f.id = r.facet WHERE f.deleted <> ?",
        (ids, deleted),
    ).fetchall()
    change = {"deleted": deleted}
    twins = {facet: twin(connection, facet, change) for facet in {facet for _, facet in rows}}
    connection.executemany(
        "UPDATE records SET facet = ?, deletion = ? WHERE id = ?",
        [(twins[facet], deletion, record) for record, facet in rows],
    )
    return len(rows)


def erase(connection: sqlite3.Connection, most: int) -> tuple[int, list[str]]:
    """Remove up to `most` deleted records for good; give their number and the images nobody needs.

    Prompts and workflows that no other record has go too: what was removed is not found again.
    """
    rows = connection.execute(
        "SELECT id, image, prompt, workflow FROM records WHERE deletion IS NOT NULL LIMIT ?",
        (most,),
    ).fetchall()
    _remove(connection, "records", {row[0] for row in rows}, "")
    _remove(connection, "prompts", {row[2] for row in rows}, "prompt")
    _remove(connection, "workflows", {row[3] for row in rows}, "workflow")
    images = {row[1] for row in rows if row[1] is not None}
    left = "SELECT 1 FROM records WHERE image = ?"
    orphans = [i.hex() for i in images if connection.execute(left, (i,)).fetchone() is None]
    connection.execute(
        "DELETE FROM deletions WHERE id NOT IN"
        " (SELECT deletion FROM records WHERE deletion IS NOT NULL)"
    )
    return len(rows), orphans


def _remove(connection: sqlite3.Connection, table: str, ids: set[int], column: str) -> None:
    """Remove rows, with `column` only those that no record refers to in this column."""
    unless = (
        f" AND NOT EXISTS (SELECT 1 FROM records r WHERE r.{column} = {table}.id)" if column else ""
    )
    connection.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?)){unless}",
        (json.dumps(sorted(ids)),),
    )


def signed(seed: int) -> int:
    """A seed of 64 bits as SQLite's signed number; `unsigned` is the inverse."""
    return seed if seed < 2**63 else seed - 2**64


def unsigned(number: int) -> int:
    """The seed that `signed` stored."""
    return number & MAX_SEED


def check_known(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Raise UnknownRecord when one of the ids is not stored."""
    for number in ids:
        if connection.execute("SELECT 1 FROM records WHERE id = ?", (number,)).fetchone() is None:
            raise UnknownRecord(f"There is no record {number}.")


def check_one_prompt(connection: sqlite3.Connection, left: int, right: int) -> None:
    """Raise BadRecord when two records have different prompts: such a choice would mean nothing."""
    prompts = connection.execute(
        "SELECT DISTINCT prompt FROM records WHERE id IN (?, ?)", (left, right)
    ).fetchall()
    if len(prompts) > 1:
        raise BadRecord(f"Records {left} and {right} have different prompts.")


def _known(value: float) -> float | None:
    """SQLite has no NaN; NULL stands for it, a missing row for a missing score."""
    return None if math.isnan(value) else float(value)


def _interned(connection: sqlite3.Connection, table: str, column: str, text: str) -> int:
    found = connection.execute(f"SELECT id FROM {table} WHERE {column} = ?", (text,)).fetchone()
    if found:
        return int(found[0])
    cursor = connection.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (text,))
    return int(cursor.lastrowid or 0)
