"""Charts of the Data tab, as plain HTML that follows the style sheet, light or dark.

Bars and dots are elements placed in percent, so that words keep their size on a phone, where a
scaled drawing would shrink them. A screen reader gets a sentence or a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

MAX_ROWS = 24  # components in one panel; the others are counted
ALL = ""  # the category of a mean over all categories


@dataclass(frozen=True)
class Bin:
    """`count` scores from `low` up to `high`."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Mean:
    """The mean score of the records that use a component, in one category of prompts."""

    component: str
    category: str  # ALL for every category together
    mean: float
    error: float | None  # the standard error of the mean; None for a single record
    count: int


@dataclass(frozen=True)
class _Scale:
    """Where a score lies between the ends of an axis."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(100 * min(1.0, max(0.0, share)), 2)


def number(value: float) -> str:
    """A score as people read it: three significant digits, a true minus sign."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def rounded(value: float, step: float) -> str:
    """A figure with as many decimals as a step of this size has in two significant digits."""
    digits = 1 - math.floor(math.log10(step)) if step > 0 and math.isfinite(step) else 3
    text = f"{value:.{min(9, max(0, digits))}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.replace("-", "")


def histogram(title: str, bins: Sequence[Bin], missing: int = 0) -> str:
    """Bars over the range of a score, with the count in each bar's tooltip.

    `missing` records have no such score.
    """
    total = sum(one.count for one in bins)
    if not total:
        return f'<p class="fd-note">No scores of {escape(title)} in these records.</p>'
    highest = max(one.count for one in bins)
    bars = "".join(_bar(one, highest, total) for one in bins)
    middle = sum((one.low + one.high) / 2 * one.count for one in bins) / total
    low, high = bins[0].low, bins[-1].high
    first, centre, last, mean = (
        rounded(x, (high - low) / 10) for x in (low, (low + high) / 2, high, middle)
    )
    span = f"from {first} to {last}, about {mean} on average"
    said = f"{total:,} scores {span}" + (f"; {missing:,} have none" if missing else "")
    ends = "".join(f"<span>{text}</span>" for text in (first, centre, last))
    return (
        f'<figure class="fd-chart"><figcaption><b>{escape(title)}</b> {said}</figcaption>'
        f'<div class="fd-bars" role="img" aria-label="{escape(title)}: {said}">{bars}</div>'
        f'<div class="fd-ends" aria-hidden="true">{ends}</div></figure>'
    )


def _bar(one: Bin, highest: int, total: int) -> str:
    height = 100 * one.count / highest
    words = f"{number(one.low)} to {number(one.high)}: {one.count:,} ({one.count / total:.1%})"
    return f'<i style="height:{height:.1f}%" title="{words}"></i>'


def components(means: Iterable[Mean], what: str) -> str:
    """One panel for each category of prompts: a dot and its standard error for each component.

    `what` names the score. All panels share one axis and one order of rows, the best over all
    categories first.
    """
    rows = [one for one in means if math.isfinite(one.mean)]
    if not rows:
        return '<p class="fd-empty">No record that matches has this score and such a component.</p>'
    order = _order(rows)
    scale = _axis(rows)
    width = scale.high - scale.low
    categories = sorted({one.category for one in rows}, key=lambda name: (name != ALL, name))
    panels = "".join(
        _panel(category, [one for one in rows if one.category == category], order, scale)
        for category in categories
    )
    cut = len(order) - MAX_ROWS
    more = f'<p class="fd-note">{cut} more are not shown.</p>' if cut > 0 else ""
    return (
        f'<p class="fd-note">Mean of {escape(what)} and its standard error (the whisker); n is the '
        "number of records. A row in bold is ahead of every other by more than two standard errors "
        "of their difference. The axis is the same in every panel: "
        f"{rounded(scale.low, width)} to {rounded(scale.high, width)}.</p>"
        f'<div class="fd-panels">{panels}</div>{more}'
    )


def _order(rows: Sequence[Mean]) -> list[str]:
    """Components by their mean over all records, highest first."""
    weight: dict[str, list[float]] = {}
    for one in rows:
        if one.category != ALL:
            found = weight.setdefault(one.component, [0.0, 0.0])
            found[0] += one.mean * one.count
            found[1] += one.count
    for one in rows:  # an exact mean over all categories goes before a weighted one
        if one.category == ALL:
            weight[one.component] = [one.mean, 1.0]
    return sorted(weight, key=lambda name: (-weight[name][0] / weight[name][1], name))


def _axis(rows: Sequence[Mean]) -> _Scale:
    low = min(one.mean - (one.error or 0.0) for one in rows)
    high = max(one.mean + (one.error or 0.0) for one in rows)
    room = (high - low) * 0.04 or 0.5
    return _Scale(low - room, high + room)


def _panel(category: str, rows: Sequence[Mean], order: Sequence[str], scale: _Scale) -> str:
    by_name = {one.component: one for one in rows}
    best = clear_winner(rows)
    lines = "".join(
        _row(by_name[name], scale, name == best) for name in order[:MAX_ROWS] if name in by_name
    )
    title = category.replace("_", " ") if category != ALL else "all prompts"
    return (
        f'<section class="fd-panel"><h4>{escape(title)}</h4><table><thead class="fd-sr"><tr>'
        "<th>Component</th><th></th><th>Mean and standard error</th><th>Records</th></tr></thead>"
        f"<tbody>{lines}</tbody></table></section>"
    )


def _row(one: Mean, scale: _Scale, best: bool) -> str:
    error = one.error or 0.0
    left, right = scale.percent(one.mean - error), scale.percent(one.mean + error)
    whisker = f'<i style="left:{left}%;width:{round(right - left, 2)}%"></i>' if error else ""
    dot = f'<b style="left:{scale.percent(one.mean)}%"></b>'
    mean = rounded(one.mean, error) if error else number(one.mean)
    spread = f" ± {rounded(error, error)}" if one.error is not None else ""
    css = ' class="fd-best"' if best else ""
    name = escape(one.component)
    return (
        f'<tr{css}><th scope="row" title="{name}">{name}</th>'
        f'<td class="fd-track"><span>{whisker}{dot}</span></td>'
        f"<td>{mean}{spread}</td><td>n {one.count:,}</td></tr>"
    )


def clear_winner(rows: Sequence[Mean]) -> str | None:
    """The component ahead of every other by more than two standard errors of the difference."""
    ranked = sorted(rows, key=lambda one: -one.mean)
    if len(ranked) < 2 or ranked[0].error is None:
        return None
    first = ranked[0]

    def behind(other: Mean) -> bool:
        if other.error is None:
            return False
        return first.mean - other.mean > 2 * math.hypot(first.error or 0.0, other.error)

    return first.component if all(behind(other) for other in ranked[1:]) else None
