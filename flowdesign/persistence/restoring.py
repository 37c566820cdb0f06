"""From shards back to the store: every shard that this store has not seen, oldest first."""

from __future__ import annotations

import itertools
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flowdesign.persistence.hub import KINDS, Remote, RemoteFault
from flowdesign.persistence.ledger import Item, Ledger, digest_of
from flowdesign.persistence.outbox import COLUMNS, TABLES, Outbox
from flowdesign.records import ExchangeError, Rating, RecordsError, Store, Vote
from flowdesign.records.changes import Changes, ItemKind
from flowdesign.records.exchange.columns import Row, rating_of, record_of, vote_of
from flowdesign.records.exchange.formats import FORMATS

log = logging.getLogger(__name__)
T = TypeVar("T")

GROUP = 100  # items that are stored in one transaction
FETCHED = 500  # files that are asked for at once
MANY = 300  # files of a kind at the remote, above which they are merged
WHO = "restored"  # who deleted what comes back as deleted


@dataclass
class Restored:
    """What a restore has read."""

    files: int = 0
    items: int = 0
    skipped: int = 0  # lines that could not be stored; the log says why


@dataclass
class _Ends:
    """How things end, by all shards together: what is deleted or undone in the last line about it."""

    deleted: set[str] = field(default_factory=set)  # keys
    undone: dict[str, str] = field(default_factory=dict)  # token -> rater


class Restorer:
    """Reads shards into one store."""

    def __init__(self, store: Store, changes: Changes, ledger: Ledger, outbox: Outbox) -> None:
        self._store, self._changes, self._ledger, self._outbox = store, changes, ledger, outbox
        self._images: dict[str, Path] = {}
        self._ends = _Ends()
        self._later: list[Row] = []
        self._done = Restored()

    def restore(self, remote: Remote) -> Restored:
        """Read all shards that are not known here, then merge them should they be many.

        Local state wins where it is newer: what was deleted here stays deleted. Stopped half-way, it
        begins anew at the next start, which changes nothing twice. Raises RemoteFault.
        """
        paths = [path for path in remote.paths() if _is_shard(path)]
        self._outbox.follow(Path(path).stem for path in paths)
        mine = {path for shard in self._outbox.waiting() for path in self._outbox.files(shard)}
        new = sorted(set(paths) - self._ledger.knows(paths) - mine)
        self._images, self._ends, self._later = {}, _Ends(), []
        self._done = Restored(files=len(new))
        with tempfile.TemporaryDirectory(dir=self._store.folder, prefix="inbox-") as inbox:
            folder = Path(inbox)
            for some in _groups(new, FETCHED):
                remote.fetch(some, folder)
            damaged = self._read(new, folder)
        self._ledger.note_files(path for path in new if path not in damaged)
        if not damaged:
            try:
                self._merge(remote, paths)
            except RemoteFault as fault:  # it can wait for the next start; pushing cannot
                log.warning("The shards were not merged: %s", fault)
        return self._done

    def _read(self, paths: Sequence[str], folder: Path) -> set[str]:
        """Store what the fetched files hold; give those that could not be read to their end."""
        for path in paths:
            if path.startswith("images/"):
                self._index(folder / path)
        damaged = set()
        for kind, table in TABLES.items():
            for path in paths:
                if path.startswith(f"{table}/") and not self._read_table(kind, folder / path):
                    damaged.add(path)
        self._end()
        return damaged

    def _index(self, archive: Path) -> None:
        try:
            with zipfile.ZipFile(archive) as opened:
                self._images |= {Path(name).stem: archive for name in opened.namelist()}
        except zipfile.BadZipFile as fault:
            log.error("%s holds no images: %s", archive.name, fault)

    def _read_table(self, kind: ItemKind, path: Path) -> bool:
        put: dict[ItemKind, Callable[[list[Row]], None]] = {
            "record": self._put_records, "vote": self._put_votes, "rating": self._put_ratings
        }  # fmt: skip
        group: list[Row] = []
        whole = True
        try:
            for _, row in FORMATS["jsonl"].read(path, COLUMNS[kind]):
                group.append(row)
                if len(group) == GROUP:
                    self._put(kind, put[kind], group)
                    group = []
        except ExchangeError as fault:
            log.error("A shard is damaged, and is read again at the next start: %s", fault)
            whole = False
        self._put(kind, put[kind], group)
        return whole

    def _put(self, kind: ItemKind, put: Callable[[list[Row]], None], rows: list[Row]) -> None:
        # Before the items themselves: a line that was just read is not to be pushed again.
        self._ledger.note_items({_item(kind, row): digest_of(row) for row in rows})
        put(rows)
        self._done.items += len(rows)

    def _put_records(self, rows: list[Row]) -> None:
        for row in rows:
            ended = self._ends.deleted.add if _ends(row) else self._ends.deleted.discard
            ended(str(row.get("key", "")))
        records = self._each(record_of, [row for row in rows if "gone" not in row])
        images = self._pictures(record.image for record in records)
        self._all_or_each(lambda some: self._store.add(some, images), records)
        self._ledger.note_items({("image", sha): b"" for sha in images})

    def _put_votes(self, rows: list[Row]) -> None:
        """Store votes; one that repeats another waits until that one is here."""
        before = self._changes.vote_ids(_repeated(row) for row in rows)
        ready = [row for row in rows if not _repeated(row) or _repeated(row) in before]
        self._later += [row for row in rows if row not in ready]
        self._store_votes(ready, before)
        self._note_undone(rows)

    def _store_votes(self, rows: list[Row], before: Mapping[str, int]) -> None:
        ids = self._changes.ids(str(row.get(side)) for row in rows for side in ("left", "right"))

        def read(row: Row) -> Vote:
            sides = {side: _known(ids, row, side) for side in ("left", "right")}
            return vote_of(row, {**sides, "repeat_of": before.get(_repeated(row))})

        self._all_or_each(self._store.vote_all, self._each(read, rows))

    def _store_later(self) -> None:
        """Store the votes that wait, each after the one it repeats, should that be anywhere."""
        while self._later:
            before = self._changes.vote_ids(_repeated(row) for row in self._later)
            ready = [row for row in self._later if _repeated(row) in before] or self._later
            self._later = [row for row in self._later if row not in ready]
            self._store_votes(ready, before)

    def _put_ratings(self, rows: list[Row]) -> None:
        ids = self._changes.ids(str(row.get("record")) for row in rows)

        def read(row: Row) -> Rating:
            return rating_of(row, _known(ids, row, "record"))

        self._all_or_each(self._store.rate_all, self._each(read, rows))
        self._note_undone(rows)

    def _note_undone(self, rows: Iterable[Row]) -> None:
        for row in rows:
            token = str(row.get("token", ""))
            if row.get("undone"):
                self._ends.undone[token] = str(row.get("rater", ""))
            else:
                self._ends.undone.pop(token, None)

    def _end(self) -> None:
        """Store what waited for others, then delete and undo what ends so."""
        self._store_later()
        ids = self._changes.ids(self._ends.deleted).values()
        if ids:
            self._store.delete(ids, WHO)
        for token, rater in self._ends.undone.items():
            self._store.undo(token, rater)

    def _pictures(self, shas: Iterable[str]) -> dict[str, bytes]:
        """The bytes of the images that were fetched."""
        found = {}
        for sha in set(shas):
            if sha in self._images:
                with zipfile.ZipFile(self._images[sha]) as archive:
                    found[sha] = archive.read(f"{sha}.png")
        return found

    def _each(self, read: Callable[[Row], T], rows: Iterable[Row]) -> list[T]:
        """Read each row; one that cannot be stored is told and left out."""
        found = []
        for row in rows:
            try:
                found.append(read(row))
            except RecordsError as fault:
                self._skip(fault)
        return found

    def _all_or_each(self, store: Callable[[list[T]], object], items: list[T]) -> None:
        """Store all at once, or when one of them cannot be stored all others."""
        try:
            store(items)
        except RecordsError:
            for item in items:
                try:
                    store([item])
                except RecordsError as fault:
                    self._skip(fault)

    def _skip(self, fault: RecordsError) -> None:
        self._done.skipped += 1
        log.warning("A saved line cannot be restored: %s", fault)

    def _merge(self, remote: Remote, paths: Iterable[str]) -> None:
        """Join the shards of a kind when they are many: a start reads them one by one.

        The joined file holds their lines in their order and has a name that comes after theirs, so
        it is harmless when the old ones are still there, or come back from another app's outbox.
        """
        tables = {table: sorted(p for p in paths if p.startswith(f"{table}/")) for table in KINDS}
        many = {t: old for t, old in tables.items() if t != "images" and len(old) > MANY}
        for table, old in many.items():
            with tempfile.TemporaryDirectory(dir=self._store.folder, prefix="inbox-") as inbox:
                folder = Path(inbox)
                for some in _groups(old, FETCHED):
                    remote.fetch(some, folder)
                path = f"{table}/{Path(old[-1]).stem}m.jsonl"
                joined = folder / "joined.jsonl"
                with joined.open("wb") as file:
                    for each in old:
                        file.write((folder / each).read_bytes())
                self._ledger.note_files([path])
                remote.replace({path: joined}, old)


def _is_shard(path: str) -> bool:
    kind, _, name = path.partition("/")
    return kind in KINDS and "/" not in name and name.endswith((".jsonl", ".zip"))


def _ends(row: Row) -> bool:
    return bool(row.get("deleted") or row.get("gone"))


def _repeated(row: Row) -> str:
    """The token of the vote that a vote repeats, or ""."""
    return str(row.get("repeat_of", ""))


def _item(kind: ItemKind, row: Row) -> Item:
    return kind, str(row.get("key" if kind == "record" else "token", ""))


def _known(ids: dict[str, int], row: Row, name: str) -> int:
    """The id of the record that a row names. Raises RecordsError when it is not stored here."""
    key = str(row.get(name))
    if key not in ids:
        raise RecordsError(f"its record {key[:12]} ({name}) is not here")
    return ids[key]


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group
