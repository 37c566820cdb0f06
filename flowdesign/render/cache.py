"""Results of nodes, by a hash of all that they depend on; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from flowdesign.render.values import size_in_bytes

DEFAULT_BYTES = 256 * 2**20


class Cache:
    """At most `limit` bytes of results; one that is larger than that is not kept."""

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Any | None:
        """Return a result, or None; being asked for makes it recent."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: str, value: Any) -> None:
        """Keep a result, dropping others to stay within the limit."""
        if key in self._held:
            return
        size = size_in_bytes(value)
        if size > self._limit:
            return
        self._held[key] = value, size
        self.bytes += size
        while self.bytes > self._limit:
            self.bytes -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self.bytes = 0
