"""Line charts as SVG files, for Markdown. Light and dark pages show them alike: the ground is white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 40
COLOURS = ("#2458c8", "#c8502d", "#2c8a57", "#7b4fc0")
TICKS = 5


@dataclass(frozen=True)
class Line:
    """Points (x, y) in order of x, with intervals (low, high) where there are any."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()


def chart(title: str, across: str, lines: Sequence[Line]) -> str:
    """An SVG of lines with their intervals as bands."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for pair in (line.points, line.intervals) for _, y in pair]
    ys += [low for line in lines for low, _ in line.intervals]
    if not xs:
        return ""
    frame = _Frame(min(xs), max(xs), min(ys), max(ys))
    drawn = [frame.axes(across)]
    for number, line in enumerate(lines):
        drawn.append(frame.line(line, COLOURS[number % len(COLOURS)], number))
    head = f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{head}{"".join(drawn)}</svg>\n'
    )


@dataclass(frozen=True)
class _Frame:
    """From values to places."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        span = (self.right - self.left) or 1.0
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - self.left) / span, 1)

    def y(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        room = HEIGHT - TOP - BOTTOM
        return round(TOP + room * (0.95 - 0.9 * (value - self.low) / span), 1)

    def axes(self, across: str) -> str:
        bottom = HEIGHT - BOTTOM
        marks = [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(v)}" y2="{self.y(v)}" stroke="#e4e4e4"/>'
            f'<text x="{LEFT - 6}" y="{self.y(v) + 4}" text-anchor="end">{v:.3g}</text>'
            for v in _ticks(self.low, self.high)
        ]
        marks += [
            f'<text x="{self.x(v)}" y="{bottom + 16}" text-anchor="middle">{v:g}</text>'
            for v in _ticks(self.left, self.right)
        ]
        named = (
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
        )
        return "".join(marks) + named

    def line(self, line: Line, colour: str, number: int) -> str:
        places = [f"{self.x(x)},{self.y(y)}" for x, y in line.points]
        edges = [
            (self.x(x), self.y(low), self.y(high))
            for (x, _), (low, high) in zip(line.points, line.intervals, strict=False)
        ]
        band = [f"{x},{high}" for x, _, high in edges] + [f"{x},{low}" for x, low, _ in edges[::-1]]
        filled = (
            f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.15"/>' if band else ""
        )
        dots = "".join(
            f'<circle cx="{self.x(x)}" cy="{self.y(y)}" r="3" fill="{colour}"/>'
            for x, y in line.points
        )
        path = f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        key = f'<text x="{LEFT + 130 * number}" y="30" fill="{colour}">{escape(line.name)}</text>'
        return filled + path + dots + key


def _ticks(low: float, high: float) -> list[float]:
    """A few round values between two ends."""
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= TICKS)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]
