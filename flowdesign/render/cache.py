"""Results by all that they depend on, bounded in bytes; the least recently used go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from flowdesign.render.values import size_in_bytes

DEFAULT_BYTES = 256 * 2**20


class Cache:
    """At most `limit` bytes of results; one that is larger than that is not kept. Thread-safe."""

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> Any | None:
        """Return a result, or None; being asked for makes it recent."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a result, dropping others to stay within the limit."""
        size = size_in_bytes(value)
        with self._lock:
            if key in self._held or size > self.limit:
                return
            self._held[key] = value, size
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self.bytes = 0
