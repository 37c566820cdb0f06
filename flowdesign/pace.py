"""How long a design and an image take here, measured while they are made. No torch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

RECENT = 48  # the latest measurements that count


@dataclass(frozen=True)
class Seconds:
    """How long work will take; at most so long where it was measured while models were loading."""

    value: float
    sure: bool


@dataclass
class Stretch:
    """Seconds of work so far, without the time between its parts."""

    seconds: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time of what is inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


@dataclass
class Pace:
    """Seconds of each saying, by the number of designs that it made, and of each image."""

    _said: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _drawn: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _first: tuple[float, float] | None = None

    def said(self, designs: int, seconds: float) -> None:
        """Note how long the policy took to say so many designs."""
        self._said.append((designs, seconds))

    def drew(self, seconds: float) -> None:
        """Note how long an image took."""
        self._drawn.append(seconds)

    def warmed(self) -> None:
        """What was noted so far was the first of its kind: it counts until there is more."""
        if self._said and self._drawn:
            self._first = self._said[-1][1], self._drawn[-1]
        self._said.clear()
        self._drawn.clear()

    def expect(self, sayings: int, designs: int, images: int) -> Seconds | None:
        """How long it takes to say `designs` designs each of `sayings` times, and to draw `images`.

        None where nothing was measured.
        """
        if self._said and self._drawn:
            said = self._of(designs)
            return Seconds(sayings * said + images * fmean(self._drawn), True)
        if self._first is None:
            return None
        said, drew = self._first
        return Seconds(sayings * designs * said + images * drew, False)

    def _of(self, designs: int) -> float:
        """Seconds of a saying, from those with the nearest number; one of more takes longer in proportion.

        That is an upper bound: designs that are said together share most of the time.
        """
        nearest = min((count for count, _ in self._said), key=lambda count: abs(count - designs))
        mean = fmean(seconds for count, seconds in self._said if count == nearest)
        return mean * max(1.0, designs / nearest)
