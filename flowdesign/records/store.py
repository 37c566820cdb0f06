"""The store: one folder with records.sqlite3 and images/, opened by any number of processes."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flowdesign.catalog import ROOT
from flowdesign.records import reading, writing
from flowdesign.records.ballots import store_rating, store_vote, undo
from flowdesign.records.connection import Readers, Writer, prepare
from flowdesign.records.filters import Deletion, Filter
from flowdesign.records.finding import Finder
from flowdesign.records.images import Images
from flowdesign.records.paging import on_matching
from flowdesign.records.record import (
    COMBINED,
    BadRecord,
    Rating,
    Record,
    StoreError,
    Vote,
    check_rating,
    check_record,
    check_vote,
)
from flowdesign.standards import Reference

DATA = Path(os.environ.get("FLOWDESIGN_DATA") or ROOT / "checkpoints" / "records")
FILE = "records.sqlite3"
ERASED = 1000  # records that one transaction removes for good


def is_store(folder: Path) -> bool:
    """Whether there are records in a folder; `Store.open` would begin a store."""
    return (folder / FILE).exists()


class Store(Finder):
    """Records, votes and ratings. All methods may be called from any thread.

    What a writing method returns is on disk, and stays there if the process or the machine dies in
    the next instant.
    """

    def __init__(self, folder: Path) -> None:
        """See `open`."""
        self.folder = folder
        self.images = Images(folder / "images")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(prepare(folder / FILE))
        except (OSError, sqlite3.Error) as fault:
            raise StoreError(f"The records in {folder} cannot be opened: {fault}.") from fault
        super().__init__(Readers(folder / FILE))

    @classmethod
    def open(cls, folder: Path | None = None) -> Store:
        """Open the store of a folder, by default DATA; it is made when there is none.

        Raises StoreTooNew for a store of a newer FlowDesign, StoreError for what is no store.
        """
        return cls(DATA if folder is None else Path(folder))

    def close(self) -> None:
        """Finish what waits to be written and close the file."""
        self._writer.close()
        self._readers.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- records ---------------------------------------------------------------------------------

    def add(
        self, records: Iterable[Record], images: Mapping[str, bytes] | None = None
    ) -> list[int]:
        """Store records with their images (PNG bytes by sha256); give their ids, in order.

        A record that is stored already (same prompt, workflow, seed, assets, renderer) keeps its id;
        new scores are merged into it, and an image mends one that failed or has none. One that was
        deleted stays deleted. All are stored or none. Raises BadRecord.
        """
        wanted = list(records)
        for record in wanted:
            check_record(record)
        ready = [writing.prepare(record) for record in wanted]
        given = images or {}
        for sha, data in given.items():
            self.images.write(sha, data)

        def job(connection: sqlite3.Connection) -> list[int]:
            for sha, data in given.items():
                self.images.write(sha, data)  # again: a purge may have come in between
            adder = writing.Adder(connection, lambda sha: self.images.path(sha).exists())
            return [adder.add(one) for one in ready]

        return self._writer.run(job)

    def add_scores(self, scores: Mapping[int, Mapping[str, float]]) -> None:
        """Store raw scores, by record id and scorer, over older ones. Raises UnknownRecord."""
        if any(COMBINED in row or "" in row for row in scores.values()):
            raise BadRecord(f"'{COMBINED}' is no scorer, and a scorer has a name.")

        def job(connection: sqlite3.Connection) -> None:
            writing.check_known(connection, scores)
            weighs = writing.has_weights(connection)
            for record, row in scores.items():
                writing.put_scores(
                    connection, record, row, lambda name: writing.scorer_id(connection, name)
                )
                if weighs:
                    writing.combine(connection, record)

        self._writer.run(job)

    def image_path(self, sha: str) -> Path | None:
        """The PNG file of an image, None when it is not here."""
        path = self.images.path(sha) if sha else None
        return path if path is not None and path.exists() else None

    # --- votes and ratings -----------------------------------------------------------------------

    def vote(self, vote: Vote) -> int:
        """Store a vote and give its id; the same token again gives the same id and changes nothing.

        Raises BadRecord (also for records of different prompts), UnknownRecord, TokenTaken.
        """
        check_vote(vote)
        return self._writer.run(lambda connection: store_vote(connection, vote))

    def vote_all(self, votes: Iterable[Vote]) -> list[int]:
        """Store many votes at once, as `vote` does; all of them or none."""
        wanted = list(votes)
        for vote in wanted:
            check_vote(vote)
        return self._writer.run(lambda connection: [store_vote(connection, v) for v in wanted])

    def rate_all(self, ratings: Iterable[Rating]) -> list[int]:
        """Store many ratings at once, as `rate` does; all of them or none."""
        wanted = list(ratings)
        for rating in wanted:
            check_rating(rating)
        return self._writer.run(lambda connection: [store_rating(connection, r) for r in wanted])

    def rate(self, rating: Rating) -> int:
        """Store a rating as `vote` stores a vote. Raises BadRecord, UnknownRecord, TokenTaken."""
        check_rating(rating)
        return self._writer.run(lambda connection: store_rating(connection, rating))

    def undo(self, token: str, rater: str) -> bool:
        """Take back one's own vote or rating; False when there is none, or not any more."""
        return self._writer.run(lambda connection: undo(connection, token, rater))

    def votes(
        self,
        rater: str | None = None,
        prompt: str | None = None,
        after: int = 0,
        on: Filter | None = None,
    ) -> Iterator[Vote]:
        """Yield the votes that stand, by id: of one rater, on one prompt, with an id above `after`.

        `on`: only those whose records both match. A vote on a deleted record does not stand.
        """
        where, values = self._whose(rater, prompt, on, ("v.left", "v.right"))

        def read(last: int, most: int) -> list[Vote]:
            with self._readers.lend() as connection:
                return reading.votes_of(connection, where, values, max(last, after), most)

        return reading.paged(read)

    def ratings(
        self,
        rater: str | None = None,
        prompt: str | None = None,
        after: int = 0,
        on: Filter | None = None,
    ) -> Iterator[Rating]:
        """Yield the ratings that stand, as `votes` does."""
        where, values = self._whose(rater, prompt, on, ("v.record",))

        def read(last: int, most: int) -> list[Rating]:
            with self._readers.lend() as connection:
                return reading.ratings_of(connection, where, values, max(last, after), most)

        return reading.paged(read)

    def _whose(
        self, rater: str | None, prompt: str | None, on: Filter | None, records: tuple[str, ...]
    ) -> tuple[str, dict[str, Any]]:
        """SQL that narrows votes or ratings down, and its values."""
        where, values = "", {"rater": rater, "of_prompt": prompt}
        if rater is not None:
            where += " AND v.rater = :rater"
        if prompt is not None:
            where += " AND a.prompt = (SELECT id FROM prompts WHERE text = :of_prompt)"
        if on is None:
            return where, values
        with self._readers.lend() as connection:
            narrower, more = on_matching(connection, on, records)
        return where + narrower, values | more

    def votes_on(self, record: int) -> list[Vote]:
        """The votes that stand in which a record took part, on either side."""
        where, values = " AND :record IN (v.left, v.right)", {"record": record}
        with self._readers.lend() as connection:
            return reading.votes_of(connection, where, values, 0, -1)

    def count_votes(self, rater: str | None = None) -> int:
        """How many votes were cast and not undone, by one rater or by all."""
        only = "" if rater is None else " AND rater = ?"
        with self._readers.lend() as connection:
            row = connection.execute(
                f"SELECT COUNT(*) FROM votes WHERE undone = ''{only}",
                () if rater is None else (rater,),
            ).fetchone()
        return int(row[0])

    # --- deleting and weighing -------------------------------------------------------------------

    def delete(self, ids: Iterable[int], who: str) -> str:
        """Take records out of sight; give the token that `undelete` takes. Raises UnknownRecord."""
        token, chosen = secrets.token_urlsafe(16), list(ids)

        def job(connection: sqlite3.Connection) -> None:
            writing.check_known(connection, chosen)
            writing.mark_deleted(connection, chosen, who, token)

        self._writer.run(job)
        return token

    def undelete(self, token: str) -> int:
        """Bring back what one `delete` took; give how many records. Raises UnknownRecord."""
        return self._writer.run(lambda connection: writing.bring_back(connection, token))

    def last_deletion(self) -> Deletion | None:
        """The last deletion of which something can still be brought back, None when there is none."""
        with self._readers.lend() as connection:
            row = connection.execute(
                "SELECT token, who, created,"
                " (SELECT COUNT(*) FROM records r WHERE r.deletion = d.id) FROM deletions d"
                " WHERE EXISTS (SELECT 1 FROM records r WHERE r.deletion = d.id)"
                " ORDER BY id DESC LIMIT 1"
            ).fetchone()
        return None if row is None else Deletion(*row)

    def purge(self) -> int:
        """Remove all deleted records for good, with their votes and images; give how many."""
        removed = 0
        while count := self._writer.run(self._erase):
            removed += count
        return removed

    def _erase(self, connection: sqlite3.Connection) -> int:
        count, orphans = writing.erase(connection, ERASED)
        # Under the lock of the transaction: nobody can store a record of the image meanwhile.
        for sha in orphans:
            self.images.remove(sha)
        return count

    def weights(self) -> dict[str, float]:
        """The weights that `reweigh` has set last, by scorer; empty when it never did."""
        with self._readers.lend() as connection:
            rows = connection.execute(
                "SELECT s.name, w.weight FROM weights w JOIN scorers s ON s.id = w.scorer"
            ).fetchall()
        return {str(name): float(weight) for name, weight in rows}

    def reweigh(self, weights: Mapping[str, float], reference: Reference) -> None:
        """Set the weighted score ("combined") of all records, and of those to come.

        `standards.combine` says what it is. Raises NoStandard for a scorer without a standard.
        """
        rows = [
            (name, weight, reference[name].mean, reference[name].sd)
            for name, weight in weights.items()
            if weight != 0
        ]

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM weights")
            for name, *terms in rows:
                number = writing.scorer_id(connection, name)
                connection.execute("INSERT INTO weights VALUES (?, ?, ?, ?)", (number, *terms))
            writing.combine(connection)

        self._writer.run(job)
