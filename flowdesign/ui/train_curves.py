"""Curves of runs as inline SVG, light or dark: one chart for each metric, a line for each run and member.

The drawing is stretched to the width it gets; words and ticks are HTML around it, so that they keep
their size on a phone. The page reads values back from the drawing for whoever points at it
(assets/train.js), so they are sent once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from flowdesign.ui.train_metrics import Column

WIDTH, HEIGHT = 600, 160  # of the drawing's own coordinates
POINTS = 240  # of a line; more cannot be told apart
COLOURS = 8  # classes fd-line-0 to fd-line-7 of the style sheet
MANY = 100.0  # ratio between ends from which the scale is logarithmic
TRAINING = "training"  # the line of a chart that has one of validation prompts as well
_COUNTED = re.compile(r"(?P<chart>.*[^\d_ ])[_ ](?P<line>\d+)")
_NAMED = re.compile(r"\D*\d+")  # "member 0"


@dataclass(frozen=True)
class Line:
    """One line of a chart: whose it is, and its points in order of steps."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    unusable: int = 0


@dataclass
class Chart:
    """The lines of one metric."""

    title: str
    lines: list[Line] = field(default_factory=list)


def place(name: str, names: Sequence[str]) -> tuple[str, str]:
    """The chart and the line that a metric belongs to; "" for a chart's only line.

    "loss/valid" is the line "valid" of the chart "loss"; of "member 0/loss", and of "loss_0" where
    there is also a "loss_1", the counted part is the line. "validation/loss" stands in the chart of "loss" where
    there is one, since both have its scale.
    """
    if "/" in name:
        before, _, after = name.rpartition("/")
        there = after in names or _NAMED.fullmatch(before)
        return (after, before) if there else (before, after)
    if any(other.endswith(f"/{name}") for other in names):
        return name, TRAINING
    counted = _COUNTED.fullmatch(name)
    if counted:
        siblings = [other for other in map(_COUNTED.fullmatch, names) if other]
        if sum(one["chart"] == counted["chart"] for one in siblings) > 1:
            return counted["chart"], counted["line"]
    return name, ""


def number(value: float) -> str:
    """A value in three significant digits, large ones in full."""
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def gather(runs: Mapping[str, Mapping[str, Column]]) -> list[Chart]:
    """The charts of some runs' metrics, by run; metrics of one name share a chart."""
    charts: dict[str, Chart] = {}
    for run, columns in runs.items():
        for name, column in columns.items():
            title, line = place(name, list(columns))
            words = [run] if len(runs) > 1 else []
            label = " ".join([*words, line]) if line else " ".join(words)
            chart = charts.setdefault(title, Chart(title))
            chart.lines.append(Line(label, column.steps, column.values, column.unusable))
    return list(charts.values())


def draw(charts: Sequence[Chart]) -> str:
    """All charts, in panels that flow with the width of the page."""
    if not charts:
        return ""
    return f'<div class="fd-curves">{"".join(draw_one(chart) for chart in charts)}</div>'


def draw_one(chart: Chart) -> str:
    """One chart: what it shows, the drawing, the ends of its axes, and a key that tells values."""
    title = escape(chart.title.replace("_", " "))
    lines = [line for line in chart.lines if line.values]
    unusable = sum(line.unusable for line in chart.lines)
    lost = f" {unusable:,} values are no numbers." if unusable else ""
    if not lines:
        return (
            f'<figure class="fd-chart fd-curve"><figcaption><b>{title}</b> nothing to draw.{lost}'
            "</figcaption></figure>"
        )
    scale = _Scale.of(lines)
    paths = "".join(_path(line, index, scale) for index, line in enumerate(lines))
    key = "".join(_key(line, index) for index, line in enumerate(lines))
    log = " (log scale)" if scale.log else ""
    ends = "".join(f"<span>{number(one)}</span>" for one in (scale.high, scale.middle, scale.low))
    return (
        f'<figure class="fd-chart fd-curve"><figcaption><b>{title}</b>{log}{lost}</figcaption>'
        f'<div class="fd-plot-row"><div class="fd-ticks" aria-hidden="true">{ends}</div>'
        f'<div class="fd-plot" tabindex="0" role="img" aria-label="{_said(title, lines)}" '
        f"{scale.attributes}>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="fd-rule" d="M0 {HEIGHT / 2}H{WIDTH}"/>{paths}</svg>'
        '<i class="fd-at" hidden></i></div></div>'
        f'<div class="fd-ends" aria-hidden="true"><span>step {scale.first + 1:,}</span>'
        f"<output></output><span>{scale.last + 1:,}</span></div>"
        f'<ul class="fd-key">{key}</ul></figure>'
    )


@dataclass(frozen=True)
class _Scale:
    """Where steps and values lie in the drawing."""

    first: int
    last: int
    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, lines: Sequence[Line]) -> _Scale:
        values = [value for line in lines for value in line.values]
        low, high = min(values), max(values)
        if low == high:
            low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
        first = min(line.steps[0] for line in lines)
        last = max(line.steps[-1] for line in lines)
        return cls(first, last, low, high, low > 0 and high / low >= MANY)

    @property
    def middle(self) -> float:
        return math.sqrt(self.low * self.high) if self.log else self.low / 2 + self.high / 2

    @property
    def attributes(self) -> str:
        kind = ' data-log="1"' if self.log else ""
        return (
            f'data-first="{self.first}" data-last="{self.last}" data-low="{self.low!r}" '
            f'data-high="{self.high!r}"{kind}'
        )

    def x(self, step: float) -> float:
        return WIDTH * (step - self.first) / ((self.last - self.first) or 1)

    def y(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = value / (high - low) - low / (high - low)
        return HEIGHT * (1 - share)


def thin(steps: Sequence[int], values: Sequence[float]) -> list[tuple[int, float]]:
    """At most about POINTS points that look the same: the lowest and highest of each stretch."""
    points = list(zip(steps, values, strict=True))
    if len(points) <= POINTS:
        return points
    size = math.ceil(2 * len(points) / POINTS)
    kept: list[tuple[int, float]] = [points[0]]
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(ends - {kept[-1]})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _path(line: Line, index: int, scale: _Scale) -> str:
    points = thin(line.steps, line.values)
    text = " ".join(f"{scale.x(step):.2f},{scale.y(value):.2f}" for step, value in points)
    css = f"fd-line fd-line-{index % COLOURS}{' fd-dashed' if index >= COLOURS else ''}"
    if len(points) == 1:  # a line of one point is not drawn
        x, y = text.split(",")
        return f'<polyline class="{css}" points="0,{y} {WIDTH},{y}" data-one="{x}"/>'
    return f'<polyline class="{css}" points="{text}"/>'


def _key(line: Line, index: int) -> str:
    css = f"fd-line-{index % COLOURS}{' fd-dashed' if index >= COLOURS else ''}"
    name = f"<span>{escape(line.label)}</span>" if line.label else ""
    last = number(line.values[-1])
    return f'<li class="{css}"><i></i>{name}<b data-last-value="{last}">{last}</b></li>'


def _said(title: str, lines: Sequence[Line]) -> str:
    """The chart in a sentence, for whoever does not see it."""
    parts = [
        f"{escape(line.label)} from {number(line.values[0])} to {number(line.values[-1])}".strip()
        for line in lines
    ]
    return f"{title}, steps {lines[0].steps[0] + 1} to {lines[0].steps[-1] + 1}: {'; '.join(parts)}"
