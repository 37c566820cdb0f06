"""Where an import comes from: a folder, a zip file, or one table with images beside it."""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from flowdesign.records.exchange.formats import FORMATS
from flowdesign.records.record import ExchangeError

TableKind = Literal["records", "votes", "ratings"]
MAX_IMAGE = 20 * 2**20  # bytes, as of a file that is dropped on the page
MAX_TABLE = 16 * 2**30  # bytes of one table once unpacked
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
_ENDS = "|".join(FORMATS)
_TABLE = re.compile(rf"(?:.*/)?(?:(records)/[^/]+|(votes|ratings))\.({_ENDS})")


@dataclass(frozen=True)
class Table:
    """One table that was found."""

    kind: TableKind
    format: str
    path: Path


class Bundle:
    """The tables of an import, records first, and its images."""

    def __init__(
        self, tables: list[Table], images: Path | None, archive: zipfile.ZipFile | None
    ) -> None:
        order = ("records", "votes", "ratings")
        self.tables = sorted(tables, key=lambda table: (order.index(table.kind), table.path))
        self._images = images
        self._archive = archive
        self._names = {
            PurePosixPath(name).name: name
            for name in (archive.namelist() if archive else ())
            if PurePosixPath(name).parent.name == "images"
        }

    def image(self, sha: str) -> bytes | None:
        """The bytes of an image, None when it is not there. Raises ExchangeError when too large."""
        name = f"{sha}.png"
        if self._archive is not None and name in self._names:
            with _readable(name), self._archive.open(self._names[name]) as file:
                return _bounded(name, file.read(MAX_IMAGE + 1))
        path = self._images / name if self._images is not None else None
        if path is None or not path.is_file():
            return None
        with path.open("rb") as file:
            return _bounded(name, file.read(MAX_IMAGE + 1))


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """Open a folder, a zip file or a single table. Raises ExchangeError when it is none of them."""
    with ExitStack() as stack:
        yield _open(path, stack)


def _open(path: Path, stack: ExitStack) -> Bundle:
    if path.is_dir():
        names = [file for file in path.rglob("*") if file.is_file()]
        tables = [t for file in names if (t := _table(file.relative_to(path).as_posix(), file))]
        return Bundle(_some(path, tables), _images_of(path), None)
    if not path.exists():
        raise ExchangeError(f"There is no file or folder {path}.")
    if path.suffix.lower() == ".zip":
        return _unpacked(path, stack)
    end = path.suffix.lower().removeprefix(".")
    if end not in FORMATS:
        known = ", ".join(FORMATS)
        raise ExchangeError(f"{path.name} is no table of records: known are {known}, zip.")
    return Bundle([Table("records", end, path)], path.parent / "images", None)


def _unpacked(path: Path, stack: ExitStack) -> Bundle:
    """The tables of a zip file, unpacked to a temporary folder; its images stay where they are."""
    with _readable(path.name):
        archive = stack.enter_context(zipfile.ZipFile(path))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowdesign-")))
        tables: list[Table] = []
        for info in archive.infolist():
            target = folder / str(len(tables)) / PurePosixPath(info.filename).name
            table = _table(info.filename, target)
            if table is None or info.is_dir():
                continue
            if info.file_size > MAX_TABLE:
                raise ExchangeError(f"{info.filename} is larger than {MAX_TABLE // 2**30} GB.")
            target.parent.mkdir()
            with archive.open(info) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
            tables.append(table)
    return Bundle(_some(path, tables), None, archive)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Tell a damaged zip file; `zipfile` has no error of its own for most kinds of damage."""
    try:
        yield
    except DAMAGED as fault:
        raise ExchangeError(f"{name} cannot be unpacked: {fault}") from fault


def _table(name: str, path: Path) -> Table | None:
    """Tell a table by its name: records/ANYTHING.jsonl, votes.csv, and so on."""
    found = _TABLE.fullmatch(name)
    if found is None:
        return None
    kind: TableKind = "records" if found[1] else "votes" if found[2] == "votes" else "ratings"
    return Table(kind, found[3], path)


def _some(path: Path, tables: list[Table]) -> list[Table]:
    if not any(table.kind == "records" for table in tables):
        raise ExchangeError(
            f"{path.name} holds no records: a file such as records/train.jsonl is looked for"
            f" (also {', '.join(end for end in FORMATS if end != 'jsonl')})."
        )
    return tables


def _images_of(path: Path) -> Path:
    """The images beside the tables, also when the tables lie in one folder below."""
    return next(iter(sorted(path.rglob("images"))), path / "images")


def _bounded(name: str, data: bytes) -> bytes:
    if len(data) > MAX_IMAGE:
        raise ExchangeError(f"The image {name} is larger than {MAX_IMAGE // 2**20} MB.")
    return data
