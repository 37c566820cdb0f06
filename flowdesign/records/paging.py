"""Finding records: a page, or all of them, in a time that hardly grows with the store.

Three ways to the next page, by what is asked:

- *heads*: choices among facets only. The newest record of each matching facet says which facets can
  reach into the page; nothing else is looked at. Exact and bounded, however rare the combination.
- *walk*: in the order asked, through a window of records, keeping those that match. It fills a page
  soon unless matches are rare.
- *gather*: matches are rare, so all candidates of the most selective condition are taken and sorted.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flowdesign.records.filters import ORDERS, Filter, Order
from flowdesign.records.record import COMBINED, RecordsError
from flowdesign.records.splits import normalised

WINDOW = 20_000  # records that one step of a walk looks at, at most
FIRST_WINDOW, WIDER = 500, 6  # the first step looks at few, each following one at more
FEW = 20_000  # candidates that are worth gathering, and the most that are counted
PATIENCE = 40_000  # records that a walk looks at before it gives up
SAMPLED = 5_000  # candidates that are looked at for a total where they are not few
TRIGRAM = 3  # letters of the shortest word that the index of prompts can look up

Key = tuple[float, int]  # place in an order: (score or 0, id)


@dataclass(frozen=True)
class Source:
    """Where the candidates of a condition come from: tables that give r, and what to count first.

    Of r only id, prompt and facet are asked there, which the indices hold: no record is looked up.
    """

    tables: str
    counted: str = ""  # cheaper tables with as many rows


@dataclass(frozen=True)
class Plan:
    """A filter in the store's numbers. `conditions` are SQL on record r, by their name."""

    facets: int  # how many records the matching facets hold
    conditions: dict[str, str]
    sources: dict[str, Source]
    values: dict[str, Any]
    is_empty: bool = False


def plan(connection: sqlite3.Connection, wanted: Filter) -> Plan:
    """Look a filter's names up."""
    facets, count, every = _facets(connection, wanted)
    values: dict[str, Any] = {"facets": json.dumps(facets)}
    conditions: dict[str, str] = {}
    sources: dict[str, Source] = {}
    if not every:
        conditions["facets"] = "+r.facet IN (SELECT value FROM json_each(:facets))"
        sources["facets"] = Source(
            "json_each(:facets) c CROSS JOIN records r INDEXED BY records_by_facet"
            " ON r.facet = c.value"
        )
    if wanted.prompt is not None:
        row = connection.execute("SELECT id FROM prompts WHERE text = ?", (wanted.prompt,))
        values["prompt"] = (row.fetchone() or (-1,))[0]
        conditions["prompt"] = "+r.prompt = :prompt"
        sources["prompt"] = Source(
            "(SELECT :prompt AS id) c CROSS JOIN records r ON r.prompt = c.id"
        )
    if wanted.ids:
        values["ids"] = json.dumps(wanted.ids)
        conditions["ids"] = "+r.id IN (SELECT value FROM json_each(:ids))"
        sources["ids"] = Source("json_each(:ids) c CROSS JOIN records r ON r.id = c.value")
    _plan_text(wanted.text, conditions, sources, values)
    _plan_scores(connection, wanted, conditions, sources, values)
    return Plan(count, conditions, sources, values, is_empty=not facets)


def _facets(connection: sqlite3.Connection, wanted: Filter) -> tuple[list[int], int, bool]:
    """Give the ids of the matching facets, their records, and whether no record is in any other."""
    asked = {
        "source": wanted.source, "prompt_split": wanted.prompt_split,
        "workflow_split": wanted.workflow_split, "category": wanted.category,
        "checkpoint": wanted.checkpoint, "sampler": wanted.sampler,
        "has_image": wanted.has_image, "failed": wanted.failed, "deleted": wanted.deleted,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    parts = [f"{name} = :{name}" for name in given]
    parts += {
        None: [],
        "test": ["'test' IN (prompt_split, workflow_split)"],
        "validation": [
            "'validation' IN (prompt_split, workflow_split)",
            "'test' NOT IN (prompt_split, workflow_split)",
        ],
        "train": ["prompt_split = 'train'", "workflow_split = 'train'"],
    }[wanted.split]
    rows = connection.execute(
        f"SELECT id, records FROM facets WHERE records > 0 AND {' AND '.join(parts)}", given
    ).fetchall()
    count = sum(records for _, records in rows)
    (total,) = connection.execute("SELECT COALESCE(SUM(records), 0) FROM facets").fetchone()
    return [number for number, _ in rows], count, count == total


def _plan_text(
    text: str, conditions: dict[str, str], sources: dict[str, Source], values: dict[str, Any]
) -> None:
    words = normalised(text).split()
    if not words:
        return
    values |= {f"word{index}": word for index, word in enumerate(words)}
    has_words = " AND ".join(f"instr(p.normalised, :word{i}) > 0" for i in range(len(words)))
    conditions["text"] = f"EXISTS (SELECT 1 FROM prompts p WHERE p.id = r.prompt AND {has_words})"
    long = [word for word in words if len(word) >= TRIGRAM and "\0" not in word]
    values["match"] = " AND ".join('"' + word.replace('"', '""') + '"' for word in long)
    prompts = (
        "(SELECT rowid AS id FROM prompts_found WHERE prompts_found MATCH :match)"
        if long
        else f"(SELECT id FROM prompts p WHERE {has_words})"
    )
    sources["text"] = Source(f"{prompts} c CROSS JOIN records r ON r.prompt = c.id")


def _plan_scores(
    connection: sqlite3.Connection,
    wanted: Filter,
    conditions: dict[str, str],
    sources: dict[str, Source],
    values: dict[str, Any],
) -> None:
    if wanted.scorer is None:
        return
    values["scorer"] = scorer_number(connection, wanted.scorer)
    values["low"] = -math.inf if wanted.low is None else wanted.low
    values["high"] = math.inf if wanted.high is None else wanted.high
    within = "s.scorer = :scorer AND s.value BETWEEN :low AND :high"
    conditions["scores"] = f"EXISTS (SELECT 1 FROM scores s WHERE s.record = r.id AND {within})"
    scored = f"(SELECT s.record AS id FROM scores s WHERE {within}) c"
    sources["scores"] = Source(f"{scored} CROSS JOIN records r ON r.id = c.id", counted=scored)


def scorer_number(connection: sqlite3.Connection, name: str) -> int:
    """The number of a scorer; -1, which no score has, for one that never scored here."""
    row = connection.execute("SELECT id FROM scorers WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else -1


def count(connection: sqlite3.Connection, wanted: Filter) -> int:
    """How many records match, exactly."""
    chosen = plan(connection, wanted)
    if chosen.is_empty:
        return 0
    if set(chosen.conditions) <= {"facets"}:
        return chosen.facets
    where = "".join(f" AND {condition}" for condition in chosen.conditions.values())
    sql = f"SELECT COUNT(*) FROM records r WHERE 1{where}"
    return int(connection.execute(sql, chosen.values).fetchone()[0])


def others(connection: sqlite3.Connection, chosen: Plan) -> tuple[list[int], int]:
    """The facets that do not match, and how many records they hold."""
    rows = connection.execute(
        "SELECT id, records FROM facets WHERE records > 0"
        " AND id NOT IN (SELECT value FROM json_each(:facets))",
        chosen.values,
    ).fetchall()
    return [number for number, _ in rows], sum(records for _, records in rows)


def images_after(connection: sqlite3.Connection, wanted: Filter, last: str, most: int) -> list[str]:
    """The next images of matching records, by sha256, each once."""
    chosen = plan(connection, wanted)
    where = "".join(f" AND {condition}" for condition in chosen.conditions.values())
    rows = connection.execute(
        "SELECT DISTINCT r.image FROM records r INDEXED BY records_by_image"
        f" WHERE r.image > :last{where} ORDER BY r.image LIMIT :most",
        chosen.values | {"last": bytes.fromhex(last), "most": most},
    )
    return [] if chosen.is_empty else [image.hex() for (image,) in rows]


def on_matching(
    connection: sqlite3.Connection, wanted: Filter, records: tuple[str, ...]
) -> tuple[str, dict[str, Any]]:
    """SQL that asks that all of these record ids match, and its values."""
    chosen = plan(connection, wanted)
    where = "".join(f" AND {condition}" for condition in chosen.conditions.values())
    sql = "".join(
        f" AND EXISTS (SELECT 1 FROM records r WHERE r.id = {record}{where})" for record in records
    )
    return " AND 0" if chosen.is_empty else sql, chosen.values


class Search:
    """One filter in one order, on one connection."""

    def __init__(self, connection: sqlite3.Connection, wanted: Filter, order: Order) -> None:
        """Raises RecordsError for an order that does not exist."""
        if order not in ORDERS:
            raise RecordsError(f"Unknown order '{order}'. Known: {', '.join(ORDERS)}.")
        self._connection = connection
        self._plan = plan(connection, wanted)
        self._by_score = order in ("best", "worst")
        self._falls = order in ("newest", "best")
        self._values = self._plan.values | {
            "rank": scorer_number(connection, wanted.scorer or COMBINED)
        }

    def total(self) -> tuple[int, bool]:
        """How many records match, and whether that is exact; if not there are at least as many."""
        if self._plan.is_empty:
            return 0, True
        if set(self._plan.conditions) <= {"facets"}:
            return self._plan.facets, True
        best = min(self._sizes, key=self._sizes.__getitem__)
        if set(self._plan.conditions) == {best}:
            return self._sizes[best], self._sizes[best] < FEW
        exact = self._sizes[best] < FEW
        candidates = f"SELECT r.id, r.prompt, r.facet FROM {self._plan.sources[best].tables}"
        (count,) = self._run(
            f"SELECT COUNT(*) FROM ({candidates} LIMIT {FEW if exact else SAMPLED}) r"
            f" WHERE 1{self._and(without=best)}"
        ).fetchone()
        return int(count), exact

    def page(self, after: Key | None, limit: int) -> list[Key]:
        """The places of the next matches, at most `limit`."""
        if self._plan.is_empty:
            return []
        if not self._by_score and set(self._plan.conditions) == {"facets"}:
            return self._heads(after, limit)
        if self._sizes and self._is_sparse(limit):
            return self._gather(after, limit)
        found: list[Key] = []
        last, window, seen = after, FIRST_WINDOW, 0
        while seen < PATIENCE:
            more, last = self._walk(last, limit - len(found), window)
            found += more
            if last is None or len(found) == limit:
                return found
            seen, window = seen + window, min(window * WIDER, WINDOW)
            if seen >= WINDOW and self._sizes and min(self._sizes.values()) < FEW:
                break
        return self._gather(after, limit)

    def all(self) -> Iterator[list[int]]:
        """Every match by id, window by window, in constant memory."""
        last: Key | None = None
        while not self._plan.is_empty:
            found, last = self._walk(last, WINDOW, WINDOW)
            yield [number for _, number in found]
            if last is None:
                return

    def _walk(self, after: Key | None, limit: int, window: int) -> tuple[list[Key], Key | None]:
        """Match the next window; give the matches and the window's last place, None at the end."""
        last = self._run(
            f"SELECT {self._key} FROM {self._walked} WHERE {self._beyond(after)}"
            f" ORDER BY {self._direction} LIMIT 1 OFFSET {window - 1}"
        ).fetchone()
        until = "" if last is None else f" AND {self._up_to(last)}"
        rows = self._run(
            f"SELECT {self._key} FROM {self._walked}"
            f" {'CROSS JOIN records r ON r.id = k.record' if self._by_score else ''}"
            f" WHERE {self._beyond(after)}{until}{self._and()}"
            f" ORDER BY {self._direction} LIMIT {limit}"
        )
        return [(value, number) for value, number in rows], last

    def _heads(self, after: Key | None, limit: int) -> list[Key]:
        """Merge the matching facets' records, of which only the first `limit` facets can count."""
        ends, way = ("max", "DESC") if self._falls else ("min", "ASC")
        beyond = self._beyond(after)
        facets = self._run(
            f"SELECT f.value, (SELECT {ends}(r.id) FROM records r WHERE r.facet = f.value"
            f" AND {beyond}) AS head FROM json_each(:facets) f WHERE head IS NOT NULL"
            f" ORDER BY head {way} LIMIT {limit}"
        ).fetchall()
        ids: list[int] = []
        for facet, _ in facets:
            rows = self._connection.execute(
                f"SELECT r.id FROM records r WHERE r.facet = ? AND {beyond}"
                f" ORDER BY r.id {way} LIMIT {limit}",
                (facet,),
            )
            ids += [number for (number,) in rows]
        return [(0.0, number) for number in sorted(ids, reverse=self._falls)[:limit]]

    def _gather(self, after: Key | None, limit: int) -> list[Key]:
        """Sort the candidates of the condition that has the fewest."""
        name = min(self._sizes, key=self._sizes.__getitem__)
        join = (
            " CROSS JOIN scores k ON k.record = r.id AND k.scorer = :rank AND k.value IS NOT NULL"
            if self._by_score
            else ""
        )
        rows = self._run(
            f"SELECT {self._key} FROM {self._plan.sources[name].tables}{join}"
            f" WHERE {self._beyond(after)}{self._and(without=name)}"
            f" ORDER BY {self._direction} LIMIT {limit}"
        )
        return [(value, number) for value, number in rows]

    @property
    def _key(self) -> str:
        return "k.value, k.record" if self._by_score else "0.0, r.id"

    @property
    def _walked(self) -> str:
        return "scores k" if self._by_score else "records r"

    @property
    def _direction(self) -> str:
        way = "DESC" if self._falls else "ASC"
        return f"k.value {way}, k.record {way}" if self._by_score else f"r.id {way}"

    def _beyond(self, after: Key | None) -> str:
        """SQL for what comes after a place. Keys are numbers, so they may stand in the text."""
        sign = "<" if self._falls else ">"
        if not self._by_score:
            return f"r.id {sign} {after[1]}" if after else "1"
        known = "k.scorer = :rank AND k.value IS NOT NULL"
        return f"{known} AND (k.value, k.record) {sign} {_sql(after)}" if after else known

    def _up_to(self, last: Key) -> str:
        sign = ">=" if self._falls else "<="
        if not self._by_score:
            return f"r.id {sign} {last[1]}"
        return f"(k.value, k.record) {sign} {_sql(last)}"

    def _and(self, without: str = "") -> str:
        parts = [sql for name, sql in self._plan.conditions.items() if name != without]
        return "".join(f" AND {part}" for part in parts)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: self._size(name) for name in self._plan.sources}

    def _is_sparse(self, limit: int) -> bool:
        """Whether gathering the fewest candidates costs less than walking to a page of them."""
        (records,) = self._run("SELECT SUM(records) FROM facets").fetchone()
        fewest = min(self._sizes.values())
        return fewest < FEW and bool(fewest * fewest < limit * records)

    def _size(self, name: str) -> int:
        """How many candidates a condition has, counted up to FEW."""
        if name == "facets":
            return self._plan.facets
        source = self._plan.sources[name]
        sql = f"SELECT COUNT(*) FROM (SELECT 1 FROM {source.counted or source.tables} LIMIT {FEW})"
        return int(self._run(sql).fetchone()[0])

    def _run(self, sql: str) -> sqlite3.Cursor:
        return self._connection.execute(sql, self._values)


def _sql(key: Key) -> str:
    """A place as SQL numbers; 17 digits give a double back exactly."""
    value = key[0]
    text = f"{value:.17g}" if math.isfinite(value) else ("9e999" if value > 0 else "-9e999")
    return f"({text}, {key[1]})"
