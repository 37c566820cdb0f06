"""Where the boxes and wires of a drawn workflow go: a small layered layout, left to right.

The usual four steps (Sugiyama, Tagawa, Toda 1981): a layer for every node, lanes for wires that cross
layers, an order within each layer that avoids crossings, and heights that keep wires straight. Units
are CSS pixels; the origin is the top left corner.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Port = tuple[str, int]  # (node id, output slot)

COLUMN_GAP = 30.0
BOX_GAP = 18.0
LANE_HEIGHT = 10.0
SWEEPS = 6


@dataclass(frozen=True)
class Size:
    """How large a box is, and how far below its top each socket sits."""

    width: float
    height: float
    inputs: Mapping[str, float]
    outputs: Sequence[float]


@dataclass(frozen=True)
class Link:
    """A wire from an output slot to a named input."""

    source: str
    slot: int
    target: str
    input: str


@dataclass(frozen=True)
class Layout:
    """Top left corner of every box, and the points that each wire passes through."""

    boxes: dict[str, tuple[float, float]]
    wires: dict[Link, list[tuple[float, float]]]
    width: float
    height: float


@dataclass(eq=False)
class _Item:
    """A box, or the lane of a wire that passes a layer on its way (then `size` is None)."""

    key: str
    layer: int
    size: Size | None = None
    top: float = 0.0
    before: list[_Joint] = field(default_factory=list)
    after: list[_Joint] = field(default_factory=list)

    @property
    def height(self) -> float:
        return self.size.height if self.size else LANE_HEIGHT

    def join(self, other: _Item, mine: float, theirs: float) -> None:
        """Wire this item to one in the next layer, at these heights below their tops."""
        self.after.append((other, mine, theirs))
        other.before.append((self, theirs, mine))


_Joint = tuple[_Item, float, float]  # the other end, and the heights below the two tops


def lay_out(sizes: Mapping[str, Size], links: Sequence[Link]) -> Layout:
    """Place boxes and route wires. A wire that closes a cycle is left out of the layering."""
    layers = _layers(list(sizes), links)
    items = {key: _Item(key, layers[key], size) for key, size in sizes.items()}
    routes = _routes(items, links)
    columns = _columns(items, routes)
    _untangle(columns)
    for sweep in range(SWEEPS):
        _straighten(columns, forwards=sweep % 2 == 1)
    return _measure(columns, routes)


def _layers(keys: Sequence[str], links: Sequence[Link]) -> dict[str, int]:
    """The longest way from a start; then loaders move right, next to what they feed."""
    layer = dict.fromkeys(keys, 0)
    for _ in keys:  # at most one more layer per round: a cycle cannot run away
        before = dict(layer)
        for link in links:
            if layer[link.source] + 1 < len(keys):
                layer[link.target] = max(layer[link.target], layer[link.source] + 1)
        if layer == before:
            break
    fed = {link.target for link in links}
    for key in keys:
        users = [layer[link.target] for link in links if link.source == key]
        if key not in fed and users:
            layer[key] = max(0, min(users) - 1)
    return layer


def _routes(items: dict[str, _Item], links: Sequence[Link]) -> dict[Link, list[_Item]]:
    """The lanes of every link. Links from one output share their lanes."""
    lanes: dict[tuple[Port, int], _Item] = {}
    routes: dict[Link, list[_Item]] = {}
    for link in sorted(links, key=lambda link: items[link.target].layer):
        source, target = items[link.source], items[link.target]
        previous, height = source, _output(source, link.slot)
        route = []
        for layer in range(source.layer + 1, target.layer):
            place = ((link.source, link.slot), layer)
            if place not in lanes:
                lanes[place] = _Item(f"{link.source}.{link.slot}@{layer}", layer)
                previous.join(lanes[place], height, LANE_HEIGHT / 2)
            previous, height = lanes[place], LANE_HEIGHT / 2
            route.append(previous)
        if target.layer > source.layer:
            previous.join(target, height, _input(target, link.input))
        routes[link] = route
    return routes


def _input(item: _Item, name: str) -> float:
    return item.size.inputs.get(name, item.height / 2) if item.size else LANE_HEIGHT / 2


def _output(item: _Item, slot: int) -> float:
    known = item.size.outputs if item.size else ()
    return known[slot] if 0 <= slot < len(known) else item.height / 2


def _columns(items: dict[str, _Item], routes: dict[Link, list[_Item]]) -> list[list[_Item]]:
    count = 1 + max((item.layer for item in items.values()), default=0)
    columns: list[list[_Item]] = [[] for _ in range(count)]
    seen: set[int] = set()
    for item in [*items.values(), *(lane for route in routes.values() for lane in route)]:
        if id(item) not in seen:
            seen.add(id(item))
            columns[item.layer].append(item)
    for column in columns:
        _stack(column)
    return columns


def _stack(column: list[_Item]) -> None:
    top = 0.0
    for item in column:
        item.top = top
        top += item.height + _gap(item)


def _gap(item: _Item) -> float:
    return BOX_GAP if item.size else LANE_HEIGHT


def _wish(item: _Item, forwards: bool) -> float:
    """Where the item's top would be if its wires on one side were straight."""
    joints = (item.before or item.after) if forwards else (item.after or item.before)
    if not joints:
        return item.top
    return sum(other.top + theirs - mine for other, mine, theirs in joints) / len(joints)


def _untangle(columns: list[list[_Item]]) -> None:
    """Sweep forwards and backwards, keep the order with the fewest crossings, then swap pairs."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(2 * SWEEPS):
        forwards = sweep % 2 == 0
        for column in columns if forwards else reversed(columns):
            column.sort(key=lambda item: _wish(item, forwards) + item.height / 2)
            _stack(column)
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column, order in zip(columns, best, strict=True):
        column[:] = order
        _stack(column)
    for _ in range(SWEEPS):
        swapped = [_swap_pairs(column) for column in columns]
        if not any(swapped):
            return


def _swap_pairs(column: list[_Item]) -> bool:
    """Swap neighbours in a column where that removes crossings.

    Only the wires of the two can begin or cease to cross, so nothing else is counted.
    """
    swapped = False
    for place in range(len(column) - 1):
        upper, lower = column[place : place + 2]
        if _gain(upper.before, lower.before) + _gain(upper.after, lower.after) > 0:
            column[place : place + 2] = lower, upper
            lower.top = upper.top
            upper.top = lower.top + lower.height + _gap(lower)
            swapped = True
    return swapped


def _gain(upper: list[_Joint], lower: list[_Joint]) -> int:
    """How many crossings go when two neighbours change places, less those that come."""
    ends = [other.top + theirs for other, _, theirs in lower]
    return sum(
        (other.top + theirs > end) - (other.top + theirs < end)
        for other, _, theirs in upper
        for end in ends
    )


def _crossings(columns: list[list[_Item]]) -> int:
    """How many pairs of wires cross between neighbouring columns."""
    return sum(_inversions(column) for column in columns)


def _inversions(column: list[_Item]) -> int:
    """The crossings right of a column: pairs of wires that end in another order than they begin."""
    ends = sorted(
        (item.top + mine, other.top + theirs)
        for item in column
        for other, mine, theirs in item.after
    )
    count, seen = 0, list[float]()
    for _, right in ends:
        count += len(seen) - bisect_right(seen, right)
        insort(seen, right)
    return count


def _straighten(columns: list[list[_Item]], forwards: bool) -> None:
    """Move every item as near to its wish as order and gaps allow (least squares)."""
    for column in columns if forwards else reversed(columns):
        offset, offsets = 0.0, []
        for item in column:
            offsets.append(offset)
            offset += item.height + _gap(item)
        wishes = [
            _wish(item, forwards) - shift for item, shift in zip(column, offsets, strict=True)
        ]
        for item, shift, base in zip(column, offsets, _rising(wishes), strict=True):
            item.top = base + shift


def _rising(values: Sequence[float]) -> list[float]:
    """The nearest sequence that never falls (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean = (mean * count + other * more) / (count + more)
            count += more
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]


def _measure(columns: list[list[_Item]], routes: dict[Link, list[_Item]]) -> Layout:
    """Turn columns into coordinates."""
    every = [item for column in columns for item in column]
    top = min((item.top for item in every), default=0.0)
    left, lefts, widths = 0.0, [], []
    for column in columns:
        widest = max((item.size.width for item in column if item.size), default=0.0)
        lefts.append(left)
        widths.append(widest)
        left += widest + COLUMN_GAP
    items = {item.key: item for item in every}
    boxes = {item.key: (lefts[item.layer], item.top - top) for item in every if item.size}
    wires = {}
    for link, lanes in routes.items():
        source, target = items[link.source], items[link.target]
        points = [(_right(source, lefts), source.top - top + _output(source, link.slot))]
        for lane in lanes:
            y = lane.top - top + LANE_HEIGHT / 2
            points += [(lefts[lane.layer], y), (lefts[lane.layer] + widths[lane.layer], y)]
        points.append((lefts[target.layer], target.top - top + _input(target, link.input)))
        wires[link] = points
    bottom = max((item.top + item.height for item in every), default=0.0)
    return Layout(boxes, wires, max(0.0, left - COLUMN_GAP), bottom - top)


def _right(item: _Item, lefts: Sequence[float]) -> float:
    return lefts[item.layer] + (item.size.width if item.size else 0.0)
