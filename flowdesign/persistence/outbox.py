"""From what changed to shards: files on disk that are complete, named once and never changed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flowdesign.persistence.ledger import Item, Ledger, digest_of
from flowdesign.records.changes import Changes, ItemKind, Saved
from flowdesign.records.exchange.columns import DERIVED, RATING, RECORD, VOTE, Columns
from flowdesign.records.exchange.formats import FORMATS
from flowdesign.records.store import Store

MOST_ITEMS = 200  # of a shard; it bounds the images of one push
TABLES: Mapping[ItemKind, str] = {"record": "records", "vote": "votes", "rating": "ratings"}
COLUMNS: Mapping[ItemKind, Columns] = {
    "record": {
        **{name: kind for name, kind in RECORD.items() if name != "id"},
        **DERIVED,
        "key": "text",
        "deleted": "whole",
        "gone": "whole",
    },
    "vote": {**VOTE, "left": "text", "right": "text", "repeat_of": "text", "undone": "whole"},
    "rating": {**RATING, "record": "text", "undone": "whole"},
}  # fmt: skip
_STAMP = "%Y%m%dT%H%M%S"


class Outbox:
    """The shards that wait to be pushed: one folder each, whose name is the shard's."""

    def __init__(self, store: Store, changes: Changes, ledger: Ledger) -> None:
        self.folder = store.folder / "outbox"
        self.folder.mkdir(exist_ok=True)
        self._store, self._changes, self._ledger = store, changes, ledger
        self._writer = secrets.token_hex(3)  # so that two apps never give the same name
        self._last = datetime.min.replace(tzinfo=UTC)

    def waiting(self) -> list[Path]:
        """The complete shards, oldest first."""
        return sorted(path for path in self.folder.iterdir() if path.suffix != ".new")

    def files(self, shard: Path) -> dict[str, Path]:
        """A shard's files by the path that they have at the remote."""
        return {f"{file.stem}/{shard.name}{file.suffix}": file for file in sorted(shard.iterdir())}

    def cut(self) -> int:
        """Write what has changed as shards; give how many items. Nothing is pushed by this."""
        written = 0
        while changes := self._changes.read(MOST_ITEMS):
            written += self._cut(self._changes.states(changes))
            # The order matters: marks go when the shard is on disk. A crash in between writes the
            # same states into another shard, which changes nothing.
            self._changes.settle(changes)
        return written

    def remove(self, shard: Path) -> None:
        """Forget a shard that was pushed."""
        shutil.rmtree(shard)

    def _cut(self, states: list[Saved]) -> int:
        digests = {(saved.kind, saved.key): digest_of(saved.row) for saved in states}
        known = self._ledger.digests(digests)
        images = self._new_images(states)
        fresh = [
            saved
            for saved in states
            if known.get((saved.kind, saved.key)) != digests[saved.kind, saved.key]
            or saved.row.get("image") in images
        ]
        if not fresh:
            return 0
        self._write(fresh, images)
        self._ledger.note_items(
            {(s.kind, s.key): digests[s.kind, s.key] for s in fresh}
            | {("image", sha): b"" for sha in images}
        )
        return len(fresh)

    def _new_images(self, states: Iterable[Saved]) -> dict[str, Path]:
        """The files of the images that are not saved yet."""
        shas = {str(saved.row.get("image", "")) for saved in states} - {""}
        items: list[Item] = [("image", sha) for sha in sorted(shas)]
        known = self._ledger.digests(items)
        paths = {
            sha: self._store.image_path(sha) for kind, sha in items if (kind, sha) not in known
        }
        return {sha: path for sha, path in paths.items() if path is not None}

    def _write(self, states: list[Saved], images: Mapping[str, Path]) -> None:
        """Write a shard so that it is there as a whole or not at all."""
        shard = self.folder / self._name()
        draft = shard.with_name(shard.name + ".new")
        draft.mkdir()
        for kind, table in TABLES.items():
            rows = [saved.row for saved in states if saved.kind == kind]
            if rows:
                writer = FORMATS["jsonl"].write(draft / f"{table}.jsonl", COLUMNS[kind])
                for row in rows:
                    writer.write(row)
                writer.close()
        if images:
            with zipfile.ZipFile(draft / "images.zip", "w") as archive:
                for sha, path in images.items():
                    archive.write(path, f"{sha}.png")
        for file in draft.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        draft.rename(shard)

    def _name(self) -> str:
        """A new name; names in order of the alphabet are in order of time, whatever the clock does."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return f"{self._last:{_STAMP}}.{self._last.microsecond:06d}Z-{self._writer}"

    def follow(self, names: Iterable[str]) -> None:
        """Give only names that come after these, which other starts or apps have given."""
        for name in names:
            if stamp := re.match(r"(\d{8}T\d{6})\.(\d{6})Z-", name):
                at = datetime.strptime(stamp[1], _STAMP).replace(tzinfo=UTC)
                self._last = max(self._last, at + timedelta(microseconds=int(stamp[2])))

    def clean(self) -> None:
        """Remove drafts of a start that was cut short; what they held is still marked."""
        for draft in self.folder.glob("*.new"):
            shutil.rmtree(draft)
