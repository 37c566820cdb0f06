"""From the tables back to records, votes and ratings."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from flowdesign.records.filters import Options
from flowdesign.records.record import COMBINED, Rating, StoredRecord, Vote
from flowdesign.records.schema import COMBINED_ID
from flowdesign.records.writing import unsigned

_RECORD = """
SELECT r.id, p.text, w.graph, r.seed, s.text, r.image, f.source, a.text, v.text, y.text,
    r.seconds, r.failure, r.created, p.split, w.split, p.category, w.checkpoint, w.sampler,
    f.deleted
FROM records r
JOIN prompts p ON p.id = r.prompt
JOIN workflows w ON w.id = r.workflow
JOIN facets f ON f.id = r.facet
JOIN texts s ON s.id = r.sentence
JOIN texts a ON a.id = r.assets
JOIN texts v ON v.id = r.renderer
JOIN texts y ON y.id = r.fidelity
WHERE r.id IN (SELECT value FROM json_each(?))
"""
_OPTIONS = (
    "source", "checkpoint", "sampler", "category", "prompt_split", "workflow_split",
)  # fmt: skip
_SPLIT = (
    "CASE WHEN 'test' IN (prompt_split, workflow_split) THEN 'test'"
    " WHEN 'validation' IN (prompt_split, workflow_split) THEN 'validation' ELSE 'train' END"
)


def records_of(connection: sqlite3.Connection, ids: Iterable[int]) -> list[StoredRecord]:
    """The records of some ids, in their order; those that are not stored are left out."""
    wanted = list(ids)
    listed = json.dumps(wanted)
    scores = _scores(connection, listed)
    rows = connection.execute(_RECORD, (listed,))
    found = {int(row[0]): _record(row, scores.get(int(row[0]), {})) for row in rows}
    return [found[number] for number in wanted if number in found]


def options(connection: sqlite3.Connection) -> Options:
    """What a filter can choose among; from the facets alone, so at once."""
    counts = {name: _counts(connection, name) for name in _OPTIONS}
    names = connection.execute(
        "SELECT name FROM scorers WHERE id <> ? ORDER BY name", (COMBINED_ID,)
    )
    scorers = [str(name) for (name,) in names]
    if connection.execute("SELECT 1 FROM weights").fetchone():
        scorers.append(COMBINED)
    return Options(**counts, split=_counts(connection, _SPLIT), scorers=tuple(scorers))


def votes_of(
    connection: sqlite3.Connection, where: str, values: dict[str, Any], after: int, most: int
) -> list[Vote]:
    """The next votes by id that stand (not undone, neither record deleted)."""
    rows = connection.execute(
        "SELECT v.left, v.right, v.choice, v.rater, v.token, v.milliseconds, v.created,"
        " v.repeat_of, v.mode, v.id FROM votes v"
        " JOIN records a ON a.id = v.left JOIN records b ON b.id = v.right"
        " WHERE v.undone = '' AND a.deletion IS NULL AND b.deletion IS NULL AND v.id > :after"
        f"{where} ORDER BY v.id LIMIT :most",
        values | {"after": after, "most": most},
    )
    return [Vote(*row) for row in rows]


def ratings_of(
    connection: sqlite3.Connection, where: str, values: dict[str, Any], after: int, most: int
) -> list[Rating]:
    """The next ratings by id that stand."""
    rows = connection.execute(
        "SELECT v.record, v.stars, v.rater, v.token, v.milliseconds, v.created, v.id"
        " FROM ratings v JOIN records a ON a.id = v.record"
        f" WHERE v.undone = '' AND a.deletion IS NULL AND v.id > :after{where}"
        " ORDER BY v.id LIMIT :most",
        values | {"after": after, "most": most},
    )
    return [Rating(*row) for row in rows]


def paged(read: Any, size: int = 500) -> Iterator[Any]:
    """Yield what `read(after, most)` gives, page by page, until there is no more.

    No statement stays open in between, so that a slow reader keeps no old state of the file alive.
    """
    after = 0
    while page := read(after, size):
        yield from page
        after = page[-1].id


def _record(row: tuple[Any, ...], scores: dict[str, float]) -> StoredRecord:
    (
        number, prompt, graph, seed, sentence, image, source, assets, renderer, fidelity, seconds,
        failure, created, prompt_split, workflow_split, category, checkpoint, sampler, deleted,
    ) = row  # fmt: skip
    combined = scores.pop(COMBINED, None)
    return StoredRecord(
        prompt=prompt, workflow=json.loads(graph), seed=unsigned(seed), sentence=sentence,
        image=image.hex() if image else "", scores=scores, source=source,
        assets=json.loads(assets), renderer=renderer, fidelity=fidelity, seconds=seconds,
        failure=failure, created=created, id=number, prompt_split=prompt_split,
        workflow_split=workflow_split, category=category, checkpoint=checkpoint, sampler=sampler,
        combined=combined, deleted=bool(deleted),
    )  # fmt: skip


def _scores(connection: sqlite3.Connection, listed: str) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    rows = connection.execute(
        "SELECT s.record, n.name, s.value FROM scores s JOIN scorers n ON n.id = s.scorer"
        " WHERE s.record IN (SELECT value FROM json_each(?)) ORDER BY n.name",
        (listed,),
    )
    for record, name, value in rows:
        found.setdefault(record, {})[name] = math.nan if value is None else value
    return found


def _counts(connection: sqlite3.Connection, name: str) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT {name} AS value, SUM(records) AS count FROM facets WHERE deleted = 0"
        " GROUP BY value HAVING count > 0 ORDER BY count DESC, value"
    )
    return {str(value): int(count) for value, count in rows}
