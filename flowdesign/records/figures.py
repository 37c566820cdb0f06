"""Figures over many records: how scores are spread, and which component of a workflow helps.

The scores of all records are read off their index; those of some records in the order of the
records, side by side, since looking each one up in the order of its score costs ten times as much.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable
from typing import Any

from flowdesign.records.filters import ComponentKind, ComponentScore, Filter, Histogram, Summary
from flowdesign.records.paging import count, others, plan, scorer_number

_HIGHEST = 1.7976931348623157e308  # what is beyond is infinite
_FINITE = f"s.value BETWEEN -{_HIGHEST} AND {_HIGHEST}"
_ALL = f"FROM scores s WHERE s.scorer = :shown AND {_FINITE}"
_SOME = (
    f"FROM records r CROSS JOIN scores s ON s.record = r.id AND s.scorer = :shown WHERE {_FINITE}"
)
_OF_FACETS = (
    "FROM records r INDEXED BY records_by_facet CROSS JOIN scores s ON s.record = r.id AND"
    f" s.scorer = :shown WHERE {_FINITE} AND r.facet IN (SELECT value FROM json_each(:left_out))"
)
MUCH = 4  # times as many records as are left out: then taking those off costs less
Sums = tuple[int, float, float]  # number, sum, sum of squares, of scores less a common offset


def histogram(connection: sqlite3.Connection, scorer: str, wanted: Filter, bins: int) -> Histogram:
    """Count the matching records' scores in bins of equal width between the extremes.

    Where all but a few records match, as without those that were deleted, the few are counted and
    taken off; the extremes are then those of all.
    """
    chosen = plan(connection, wanted)
    values = chosen.values | {"shown": scorer_number(connection, scorer)}
    where = "".join(f" AND {condition}" for condition in chosen.conditions.values())
    left_out, few = others(connection, chosen)
    nearly_all = set(chosen.conditions) <= {"facets"} and few * MUCH <= chosen.facets
    low, high = _extremes(connection, "" if nearly_all else _SOME + where, values)
    total = count(connection, wanted)
    if chosen.is_empty or low is None or high is None:
        return Histogram((), (), total)
    width = (high - low) / bins or 1.0
    edges = tuple(low + width * number for number in range(bins + 1))
    values |= {"least": low, "width": width, "last": bins - 1, "left_out": json.dumps(left_out)}
    if nearly_all:
        counts = _from_index(connection, edges, values)
        counts = [
            n - m for n, m in zip(counts, _binned(connection, _OF_FACETS, values), strict=True)
        ]
    else:
        counts = _binned(connection, _SOME + where, values)
    return Histogram(edges, tuple(counts), total - sum(counts))


def _extremes(
    connection: sqlite3.Connection, matching: str, values: dict[str, Any]
) -> tuple[float | None, float | None]:
    """The lowest and the highest score; of all scores, each is a single look at the index."""
    if matching:
        sql = f"SELECT MIN(s.value), MAX(s.value) {matching}"
    else:
        sql = f"SELECT (SELECT MIN(s.value) {_ALL}), (SELECT MAX(s.value) {_ALL})"
    low, high = connection.execute(sql, values).fetchone()
    return low, high


def _from_index(
    connection: sqlite3.Connection, edges: tuple[float, ...], values: dict[str, Any]
) -> list[int]:
    """How many of all scores lie in each bin; the last one holds its upper edge too."""
    ends = [*edges[1:-1], math.inf]
    sql = "SELECT COUNT(*) FROM scores s WHERE s.scorer = ? AND s.value >= ? AND s.value < ?"
    return [
        int(connection.execute(sql, (values["shown"], start, end)).fetchone()[0])
        for start, end in zip(edges[:-1], ends, strict=True)
    ]


def _binned(connection: sqlite3.Connection, matching: str, values: dict[str, Any]) -> list[int]:
    bin_of = "MAX(0, MIN(CAST((s.value - :least) / :width AS INTEGER), :last))"
    rows = connection.execute(f"SELECT {bin_of} AS bin, COUNT(*) {matching} GROUP BY bin", values)
    found = {int(number): int(n) for number, n in rows}
    return [found.get(number, 0) for number in range(values["last"] + 1)]


def summary(connection: sqlite3.Connection, scorer: str, wanted: Filter) -> Summary:
    """Number, mean, standard deviation and extremes of the matching records' finite scores."""
    chosen = plan(connection, wanted)
    where = "".join(f" AND {condition}" for condition in chosen.conditions.values())
    matching = _SOME + where if where else _ALL
    values = chosen.values | {"shown": scorer_number(connection, scorer)}
    n, mean, low, high = connection.execute(
        f"SELECT COUNT(*), AVG(s.value), MIN(s.value), MAX(s.value) {matching}", values
    ).fetchone()
    if chosen.is_empty or not n:
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    (squares,) = connection.execute(
        f"SELECT SUM((s.value - :mean) * (s.value - :mean)) {matching}", values | {"mean": mean}
    ).fetchone()
    return Summary(n, mean, math.sqrt(squares / (n - 1)) if n > 1 else math.nan, low, high)


def by_component(
    connection: sqlite3.Connection, kind: ComponentKind, scorer: str, wanted: Filter
) -> list[ComponentScore]:
    """Mean, standard error and number of scores for each value of a component and each category.

    A workflow with two LoRAs counts for both. Sums are taken about the mean of all scores, so that
    large ones with a small spread keep their digits.
    """
    chosen = plan(connection, wanted)
    where = "".join(f" AND {condition}" for condition in chosen.conditions.values())
    values = chosen.values | {"shown": scorer_number(connection, scorer), "kind": kind}
    (offset,) = connection.execute(f"SELECT AVG(s.value) {_ALL}", values).fetchone()
    if chosen.is_empty or offset is None:
        return []
    rows = connection.execute(
        "SELECT c.value, f.category, SUM(g.n), SUM(g.total), SUM(g.squares) FROM ("
        " SELECT r.workflow AS workflow, r.facet AS facet, COUNT(*) AS n,"
        " SUM(s.value - :offset) AS total,"
        f" SUM((s.value - :offset) * (s.value - :offset)) AS squares {_SOME}{where}"
        " GROUP BY r.workflow, r.facet) g"
        " JOIN facets f ON f.id = g.facet"
        " JOIN components c ON c.workflow = g.workflow AND c.kind = :kind"
        " GROUP BY c.value, f.category",
        values | {"offset": offset},
    ).fetchall()
    return _told([(str(v), str(c), (int(n), t, q)) for v, c, n, t, q in rows], offset)


def _told(rows: Iterable[tuple[str, str, Sums]], offset: float) -> list[ComponentScore]:
    """Every value's categories, and all of them together, the most frequent value first."""
    parts: dict[str, dict[str | None, Sums]] = {}
    for value, category, sums in rows:
        of_value = parts.setdefault(value, {None: (0, 0.0, 0.0)})
        of_value[category] = sums
        n, total, squares = of_value[None]
        of_value[None] = (n + sums[0], total + sums[1], squares + sums[2])
    ordered = sorted(parts.items(), key=lambda item: (-item[1][None][0], item[0]))
    return [
        _score(value, category, sums, offset)
        for value, of_value in ordered
        for category, sums in of_value.items()
    ]


def _score(value: str, category: str | None, sums: Sums, offset: float) -> ComponentScore:
    n, total, squares = sums
    mean = total / n
    # Rounding may leave a hair below nought where all scores are equal.
    variance = max(0.0, (squares - n * mean * mean) / (n - 1)) if n > 1 else math.nan
    return ComponentScore(value, category, offset + mean, math.sqrt(variance / n), n)
