"""Square plots of the reward card, as inline SVG with words in HTML around it, light or dark.

What is predicted stands on one axis and what came of it on the other, both with the same scale, so that
the diagonal is where they agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flowdesign.ui.charts import number

SIDE = 100  # of the drawing's own coordinates
ROOM = 0.04  # of the range, beyond the outermost points


def scatter(points: Sequence[Sequence[float | None]]) -> str:
    """Predicted against true scores: rows of [predicted, true, number of images]."""
    known = [(row[0], row[1]) for row in points if row[0] is not None and row[1] is not None]
    if len(known) < 2:
        return ""
    low, high = (end(value for pair in known for value in pair) for end in (min, max))
    room = (high - low) * ROOM or 0.5
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(SIDE * (value - low) / (high - low), 1)

    dots = "".join(
        f'<circle cx="{place(x)}" cy="{round(SIDE - place(y), 1)}" r="1"/>' for x, y in known
    )
    said = f"{len(known):,} pairs of prompt and workflow; on the line the prediction is right"
    ends = (number(low), number((low + high) / 2), number(high))
    return _square("Predicted and true", said, dots, ends, "predicted score", "true score")


def calibration(curve: Sequence[Mapping[str, float | None]]) -> str:
    """How often images fall into the interval of each nominal level: rows of {nominal, actual}."""
    known = [(each["nominal"], each["actual"]) for each in curve]
    points = [(x, y) for x, y in known if x is not None and y is not None]
    if not points:
        return ""
    path = "".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f} " for x, y in points)
    dots = "".join(
        f'<circle cx="{SIDE * x:.1f}" cy="{SIDE * (1 - y):.1f}" r="1.6"><title>{x:.0%} intervals '
        f"cover {y:.1%}</title></circle>"
        for x, y in points
    )
    drawn = f'<polyline class="fd-line fd-line-0" points="{path.strip()}"/>{dots}'
    said = "; ".join(f"{x:.0%} intervals cover {y:.0%}" for x, y in points[-2:])
    return _square("Calibration", said, drawn, ("0 %", "50 %", "100 %"), "level", "covered")


def _square(
    title: str, said: str, drawn: str, ends: tuple[str, str, str], across: str, up: str
) -> str:
    """A plot with the same `ends` on both axes, and the diagonal."""
    ticks = "".join(f"<span>{end}</span>" for end in reversed(ends))
    below = "".join(f"<span>{end}</span>" for end in ends)
    return (
        f'<figure class="fd-chart fd-square"><figcaption><b>{title}</b> {escape(said)}</figcaption>'
        f'<div class="fd-plot-row"><div class="fd-ticks" aria-hidden="true">{ticks}</div>'
        f'<div class="fd-plot" role="img" aria-label="{title}: {escape(said)}">'
        f'<svg viewBox="0 0 {SIDE} {SIDE}" aria-hidden="true">'
        f'<path class="fd-rule" d="M0 {SIDE}L{SIDE} 0"/>{drawn}</svg></div></div>'
        f'<div class="fd-ends" aria-hidden="true">{below}</div>'
        f'<p class="fd-note">Across: {across}. Up: {up}.</p></figure>'
    )


def bar(value: float, largest: float) -> str:
    """A bar from the middle of a track to the right for a gain, to the left for a loss."""
    share = 0.0 if not largest or math.isnan(value) else min(1.0, abs(value) / largest)
    left = 50.0 if value >= 0 else 50.0 - 50.0 * share
    css = "fd-gain" if value >= 0 else "fd-loss"
    return f'<span><i class="{css}" style="left:{left:.1f}%;width:{50 * share:.1f}%"></i></span>'


def shown(figure: Mapping[str, Any] | None) -> str:
    """A measured figure with its interval: 0.81 (0.78 to 0.84)."""
    value, low, high = ((figure or {}).get(name) for name in ("value", "low", "high"))
    if value is None:
        return "cannot say"
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{value:.3f}{interval}".replace("-", "\N{MINUS SIGN}")
