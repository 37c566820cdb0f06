"""What is known to be saved: which files of the remote this store has seen, and each item's digest.

It is a file of its own beside the store. Without it nothing is lost: everything is read and pushed
once more.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Item = tuple[str, str]  # kind and key

_TABLES = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    kind TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""


class Ledger:
    """The ledger in one file; every method that changes it returns when that is on disk."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=60)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def knows(self, paths: Iterable[str]) -> set[str]:
        """Which of these files were pushed or restored from here."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT path FROM files WHERE path IN (SELECT value FROM json_each(?))",
                (json.dumps(list(paths)),),
            ).fetchall()
        return {path for (path,) in rows}

    def note_files(self, paths: Iterable[str]) -> None:
        """Remember files as pushed or restored."""
        with self._lock, self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO files VALUES (?)", [(path,) for path in paths]
            )

    def digests(self, items: Iterable[Item]) -> dict[Item, bytes]:
        """The digests under which these items are saved, where they are."""
        found: dict[Item, bytes] = {}
        with self._lock:
            for item in items:
                row = self._connection.execute(
                    "SELECT digest FROM items WHERE kind = ? AND key = ?", item
                ).fetchone()
                if row is not None:
                    found[item] = bytes(row[0])
        return found

    def note_items(self, digests: Mapping[Item, bytes]) -> None:
        """Remember items as saved under these digests."""
        with self._lock, self._connection:
            self._connection.executemany(
                "INSERT INTO items VALUES (?, ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET digest = excluded.digest",
                [(*item, digest) for item, digest in digests.items()],
            )


def digest_of(row: Mapping[str, Any]) -> bytes:
    """16 bytes that differ when anything in the row does."""
    plain = {name: _plain(value) for name, value in row.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode("utf-8")).digest()[:16]


def _plain(value: Any) -> Any:
    """NaN as one text, so that it equals itself whatever its bits."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
