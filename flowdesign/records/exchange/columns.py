"""The columns of the exchanged tables, and the way from a record to a row and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from flowdesign.nodes import MAX_SEED
from flowdesign.records.record import (
    CHOICES,
    STARS,
    BadRecord,
    Rating,
    Record,
    StoredRecord,
    Vote,
)

Kind = Literal["text", "whole", "seed", "real"]
Row = dict[str, Any]
Columns = Mapping[str, Kind]
SCORE = "score."  # before a scorer's name: score.pickscore

RECORD: Columns = {
    "id": "whole",
    "prompt": "text",
    "workflow": "text",  # JSON
    "seed": "seed",
    "sentence": "text",
    "image": "text",  # sha256 of the PNG
    "source": "text",
    "assets": "text",  # JSON
    "renderer": "text",
    "fidelity": "text",
    "seconds": "real",
    "failure": "text",
    "created": "text",
}
DERIVED: Columns = {  # for readers; an import works them out again
    "prompt_split": "text",
    "workflow_split": "text",
    "category": "text",
    "checkpoint": "text",
    "sampler": "text",
}
VOTE: Columns = {
    "id": "whole",
    "left": "whole",
    "right": "whole",
    "choice": "text",
    "rater": "text",
    "token": "text",
    "milliseconds": "whole",
    "created": "text",
    "repeat_of": "whole",
    "mode": "text",
}
RATING: Columns = {
    "id": "whole",
    "record": "whole",
    "stars": "whole",
    "rater": "text",
    "token": "text",
    "milliseconds": "whole",
    "created": "text",
}


def record_columns(scorers: Iterable[str]) -> Columns:
    """All columns of a table of records with these scorers."""
    return {**RECORD, **DERIVED, **{SCORE + name: "real" for name in scorers}}


def row_of(record: StoredRecord) -> Row:
    """A record as a flat row; a missing score has no entry, one that is not a number is NaN."""
    row: Row = {name: getattr(record, name) for name in (*RECORD, *DERIVED)}
    row["workflow"] = json.dumps(record.workflow, separators=(",", ":"))
    row["assets"] = json.dumps(dict(record.assets), separators=(",", ":"))
    return row | {SCORE + name: value for name, value in record.scores.items()}


def record_of(row: Row) -> Record:
    """The record of a row; only prompt and workflow must be there. Raises BadRecord."""
    missing = [name for name in ("prompt", "workflow") if row.get(name) is None]
    if missing:
        raise BadRecord(f"It has no {' and no '.join(missing)}.")
    given = {name: row[name] for name in RECORD if row.get(name) is not None and name != "id"}
    given["workflow"] = _json(given["workflow"], "workflow")
    given["assets"] = _json(given.get("assets") or {}, "assets")
    if not all(isinstance(value, str) for value in given["assets"].values()):
        raise BadRecord("'assets' holds what is not a text.")
    scores = {
        name.removeprefix(SCORE): value
        for name, value in row.items()
        if name.startswith(SCORE) and value is not None
    }
    return Record(**given, scores=scores)


def vote_of(row: Row, known: Mapping[str, int | None]) -> Vote:
    """The vote of a row; `known` holds left, right and repeat_of in the ids of this store."""
    if row.get("choice") not in CHOICES:
        raise BadRecord(f"'choice' is not one of {', '.join(CHOICES)}.")
    given = {n: row[n] for n in VOTE if row.get(n) is not None and n != "id"}
    return Vote(**{**given, **known})


def rating_of(row: Row, record: int) -> Rating:
    """The rating of a row, for a record of this store."""
    if row.get("stars") not in STARS:
        raise BadRecord(f"'stars' is not from {STARS[0]} to {STARS[-1]}.")
    given = {n: row[n] for n in RATING if row.get(n) is not None and n != "id"}
    return Rating(**{**given, "record": record})


def typed(name: str, kind: Kind, value: Any) -> Any:
    """A value as its column has it. Raises BadRecord; numbers may come as texts, as CSV has them."""
    if kind == "text":
        # A file made by hand may hold the workflow itself where ours hold its JSON.
        if isinstance(value, dict) and name in ("workflow", "assets"):
            return json.dumps(value)
        if not isinstance(value, str):
            raise BadRecord(f"'{name}' is not a text.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadRecord(f"'{name}' is not a number.")
    try:
        number = float(value) if kind == "real" else int(value)
    except (ValueError, OverflowError):
        raise BadRecord(f"'{name}' is not a number: {str(value)[:40]!r}.") from None
    if kind != "real" and (number != value and not isinstance(value, str)):
        raise BadRecord(f"'{name}' is not a whole number: {value!r}.")
    if kind == "seed" and not 0 <= number <= MAX_SEED:
        raise BadRecord(f"'{name}' is not from 0 to {MAX_SEED}: {number}.")
    if kind == "whole" and not -(2**63) <= number < 2**63:
        raise BadRecord(f"'{name}' is too large: {number}.")
    return number


def _json(value: Any, name: str) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as fault:
        raise BadRecord(f"'{name}' is not JSON: {fault}.") from fault
    if not isinstance(found, dict):
        raise BadRecord(f"'{name}' is not a JSON object.")
    return found
