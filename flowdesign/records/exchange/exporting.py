"""From the store to files, record by record: memory does not grow with the store.

Only a zip file's own list of contents does, by about half a kilobyte for each image.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flowdesign.catalog import suggest
from flowdesign.records.exchange.card import Card, card_text
from flowdesign.records.exchange.columns import RATING, VOTE, Columns, Row, record_columns, row_of
from flowdesign.records.exchange.formats import FORMATS, Format, Writer
from flowdesign.records.filters import Filter
from flowdesign.records.record import ExchangeError, StoredRecord
from flowdesign.records.store import Store

Progress = Callable[["Exported"], None]
EVERY = 1000  # records between two calls of `on_batch`


@dataclass
class Exported:
    """What an export has written so far."""

    path: Path
    records: int = 0
    images: int = 0
    votes: int = 0
    ratings: int = 0
    splits: dict[str, int] = field(default_factory=dict)


def export(
    store: Store,
    path: Path,
    format_name: str = "jsonl",
    wanted: Filter | None = None,
    *,
    images: bool = True,
    hide_raters: bool = False,
    card: Card | None = None,
    on_batch: Progress = lambda so_far: None,
) -> Exported:
    """Write the records that match, with votes, ratings, images and a dataset card.

    `path` is a new folder, or a new file that ends in .zip; it appears when it is complete.
    `hide_raters` replaces the names of raters, the same name always by the same other one. Raises
    ExchangeError when `path` exists or the format is not known.
    """
    if format_name not in FORMATS:
        raise ExchangeError(f"Unknown format '{format_name}'. {suggest(format_name, FORMATS)}")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ExchangeError(f"{path} exists already; name a new folder or zip file.")
    job = _Export(store, format_name, wanted or Filter(), images, hide_raters, on_batch)
    done = Exported(path)
    with _draft(path) as folder:
        job.tables(folder, done)
        (folder / "README.md").write_text(
            card_text(store, job.wanted, done.splits, format_name, card or Card()),
            encoding="utf-8",
        )
        if path.suffix.lower() == ".zip":
            _pack(folder, path, job.pictures(done))
        else:
            for sha, file in job.pictures(done):
                (folder / "images").mkdir(exist_ok=True)
                shutil.copyfile(file, folder / "images" / f"{sha}.png")
            if path.is_dir():
                path.rmdir()
            folder.replace(path)
    return done


@dataclass(frozen=True)
class _Export:
    """What is exported, and how."""

    store: Store
    format_name: str
    wanted: Filter
    images: bool
    hide_raters: bool
    on_batch: Progress

    @property
    def format(self) -> Format:
        return FORMATS[self.format_name]

    def tables(self, folder: Path, done: Exported) -> None:
        """Write records, votes and ratings."""
        self._records(folder, done)
        hide = _Mask() if self.hide_raters else None
        votes = (_masked(asdict(v), hide) for v in self.store.votes(on=self.wanted))
        done.votes = self._ballots(folder, "votes", VOTE, votes)
        ratings = (_masked(asdict(r), hide) for r in self.store.ratings(on=self.wanted))
        done.ratings = self._ballots(folder, "ratings", RATING, ratings)

    def pictures(self, done: Exported) -> Iterator[tuple[str, Path]]:
        """Yield the images that lie beside the tables: none where the format holds them."""
        if not self.images or self.format.holds_images:
            return
        for sha in self.store.images_of(self.wanted):
            file = self.store.image_path(sha)
            if file is not None:
                done.images += 1
                yield sha, file

    def _records(self, folder: Path, done: Exported) -> None:
        (folder / "records").mkdir()
        columns = record_columns(self.store.options().raw_scorers)
        with ExitStack() as stack:
            writers: dict[str, Writer] = {}
            for record in self.store.stream(self.wanted):
                if record.split not in writers:
                    file = folder / "records" / f"{record.split}.{self.format_name}"
                    writers[record.split] = self.format.write(file, columns)
                    stack.callback(writers[record.split].close)
                picture = self._picture(record)
                writers[record.split].write(row_of(record), picture)
                done.splits[record.split] = done.splits.get(record.split, 0) + 1
                done.records += 1
                done.images += picture is not None
                if done.records % EVERY == 0:
                    self.on_batch(done)

    def _picture(self, record: StoredRecord) -> bytes | None:
        if not (self.images and self.format.holds_images):
            return None
        file = self.store.image_path(record.image)
        return None if file is None else file.read_bytes()

    def _ballots(self, folder: Path, name: str, columns: Columns, rows: Iterator[Row]) -> int:
        """Write a table that is left out when it would be empty."""
        count, writer = 0, None
        try:
            for row in rows:
                if writer is None:
                    writer = self.format.write(folder / f"{name}.{self.format_name}", columns)
                writer.write(row)
                count += 1
        finally:
            if writer is not None:
                writer.close()
        return count


class _Mask:
    """Other names for raters: the same for the same one, and no way back."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)

    def __call__(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._salt, digest_size=8).hexdigest()


def _masked(row: Row, mask: _Mask | None) -> Row:
    """A ballot without what is missing; its token may tell the rater too."""
    kept = {name: value for name, value in row.items() if value is not None}
    if mask is not None:
        kept |= {"rater": f"rater-{mask(row['rater'])}", "token": mask(row["token"])}
    return kept


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A folder beside the target that becomes it, or goes away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pack(folder: Path, path: Path, pictures: Iterator[tuple[str, Path]]) -> None:
    """Write a zip file: tables compressed, images, which are, as they are."""
    draft = folder / "packed"
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file != draft:
                archive.write(file, file.relative_to(folder).as_posix())
        for sha, file in pictures:
            archive.write(file, f"images/{sha}.png", zipfile.ZIP_STORED)
    draft.replace(path)
