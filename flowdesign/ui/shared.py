"""The store of records that all tabs of this process share: one store, so one writer.

It is opened when somebody first needs it, so that the page is up at once and a visitor who only
looks at the Playground leaves no file behind.
"""

from __future__ import annotations

import threading
from pathlib import Path

from flowdesign.records import DATA, Store


class SharedStore:
    """Gives the one open `Store` of a folder; call it from any thread."""

    def __init__(self, folder: Path = DATA) -> None:
        self.folder = folder
        self._store: Store | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Store:
        """The open store. Raises what `Store.open` raises, at every call until it can be opened."""
        with self._lock:
            if self._store is None:
                self._store = Store.open(self.folder)
            return self._store

    def close(self) -> None:
        """Close the store if it was opened; the next call opens it again."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()
