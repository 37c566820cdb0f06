"""Running alike things together: group by a key, cut into batches, put the results back in order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Key = Hashable
Item = TypeVar("Item")
Result = TypeVar("Result")


def stacked(
    items: Sequence[Item],
    key: Callable[[Item], Key],
    run: Callable[[Sequence[Item]], list[Result]],
    batch: int,
) -> list[Result]:
    """Return the result of every item, running at most `batch` items of equal key at once."""
    groups: dict[Key, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(key(item), []).append(place)
    found: dict[int, Result] = {}
    for places in groups.values():
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            found.update(zip(part, run([items[place] for place in part]), strict=True))
    return [found[place] for place in range(len(items))]
