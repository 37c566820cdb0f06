"""Curves of an ablation as inline SVG with their intervals, light or dark, and as a table beneath."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from flowdesign.ablation.curves import Curve
from flowdesign.reward.bootstrap import Estimate
from flowdesign.ui.charts import number

WIDTH, HEIGHT = 600, 160  # of the drawing's own coordinates
ROOM = 0.06  # of the range, beyond the outermost values
ALONE = "One prompt with one seed gives no intervals: add prompts or seeds to see how sure the curves are."


def draw(curves: Sequence[Curve], axis: str) -> str:
    """All curves against an axis, in panels that flow with the width of the page, and their values."""
    if not curves:
        return ""
    panels = "".join(_panel(curve, axis) for curve in curves)
    sure = any(math.isfinite(point.low) for curve in curves for _, point in curve.points)
    note = "" if sure else f'<p class="fd-note">{ALONE}</p>'
    return (
        f'<div class="fd-curves">{panels}</div>{note}<details class="fd-part"><summary>'
        f"The values, with 95 % intervals</summary>{_table(curves, axis)}</details>"
    )


def _panel(curve: Curve, axis: str) -> str:
    low, high = _ends(curve)
    spots = [(_x(curve, at), at, point) for at, point in curve.points]
    ticks = "".join(f"<span>{number(one)}</span>" for one in (high, (low + high) / 2, low))
    ends = "".join(f"<span>{number(at)}</span>" for at in _marks(curve))
    said = "; ".join(f"{number(at)}: {words(point)}" for _, at, point in spots)
    name = escape(curve.name)
    return (
        f'<figure class="fd-chart fd-curve"><figcaption><b>{name}</b> {escape(curve.about)}'
        f'</figcaption><div class="fd-plot-row"><div class="fd-ticks" aria-hidden="true">{ticks}</div>'
        f'<div class="fd-plot" role="img" aria-label="{name} against {escape(axis)}: {escape(said)}">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="fd-rule" d="M0 {HEIGHT / 2}H{WIDTH}"/>{_band(spots, low, high)}'
        f"{_line(spots, low, high)}</svg>{_dots(spots, low, high)}</div></div>"
        f'<div class="fd-ends" aria-hidden="true">{ends}</div></figure>'
    )


def _marks(curve: Curve) -> list[float]:
    """The ends of the axis, once where there is one point."""
    numbers = [at for at, _ in curve.points]
    return list(dict.fromkeys([numbers[0], numbers[-1]]))


def _ends(curve: Curve) -> tuple[float, float]:
    """The lowest and the highest value that the drawing shows."""
    if curve.ends:
        return curve.ends
    known = [
        value
        for _, point in curve.points
        for value in (point.value, point.low, point.high)
        if math.isfinite(value)
    ]
    low, high = min(known, default=0.0), max(known, default=0.0)
    room = (high - low) * ROOM or 0.5
    return low - room, high + room


def _x(curve: Curve, at: float) -> float:
    first, last = curve.points[0][0], curve.points[-1][0]
    return (at - first) / (last - first) if last > first else 0.5


Spots = Sequence[tuple[float, float, Estimate]]  # share of the width, number, estimate


def _y(value: float, low: float, high: float) -> float:
    return 1 - (value - low) / (high - low)


def _line(spots: Spots, low: float, high: float) -> str:
    text = " ".join(
        f"{WIDTH * x:.1f},{HEIGHT * _y(point.value, low, high):.1f}"
        for x, _, point in spots
        if math.isfinite(point.value)
    )
    return f'<polyline class="fd-line fd-line-0" points="{text}"/>'


def _band(spots: Spots, low: float, high: float) -> str:
    """The intervals as an area; nothing where there are none."""
    known = [(x, point) for x, _, point in spots if math.isfinite(point.low)]
    if not known:
        return ""
    above = [(x, point.high) for x, point in known]
    below = [(x, point.low) for x, point in reversed(known)]
    text = " ".join(
        f"{WIDTH * x:.1f},{HEIGHT * _y(value, low, high):.1f}" for x, value in [*above, *below]
    )
    return f'<polygon class="fd-band fd-line-0" points="{text}"/>'


def _dots(spots: Spots, low: float, high: float) -> str:
    """The points, as elements that stay round in a stretched drawing, with their values as tooltips."""
    return "".join(
        f'<i class="fd-dot" style="left:{100 * x:.2f}%;top:{100 * _y(point.value, low, high):.2f}%" '
        f'title="{number(at)}: {words(point)}"></i>'
        for x, at, point in spots
        if math.isfinite(point.value)
    )


def _table(curves: Sequence[Curve], axis: str) -> str:
    numbers = sorted({at for curve in curves for at, _ in curve.points})
    head = "".join(f"<th>{escape(curve.name)}</th>" for curve in curves)
    values = [dict(curve.points) for curve in curves]
    lines = "".join(
        f"<tr><td>{number(at)}</td>"
        + "".join(f"<td>{words(points[at]) if at in points else ''}</td>" for points in values)
        + "</tr>"
        for at in numbers
    )
    return (
        f'<div class="fd-sideways"><table class="fd-figures"><thead><tr><th>{escape(axis)}</th>{head}'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def words(point: Estimate) -> str:
    """A figure with its interval: 0.81 (0.78 to 0.84)."""
    if not math.isfinite(point.value):
        return "cannot say"
    interval = f" ({number(point.low)} to {number(point.high)})" if math.isfinite(point.low) else ""
    return number(point.value) + interval
