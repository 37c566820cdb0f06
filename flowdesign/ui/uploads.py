"""What people upload to the Data tab: PNG files, tables of records, and zip files of either.

A zip file comes from anywhere, so nothing of it is believed: its size once unpacked, its number of
files and their names are checked before anything is unpacked, and a name never becomes a path.
"""

from __future__ import annotations

import os
import tempfile
import time
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flowdesign.comfy import MAX_FILE
from flowdesign.records import exchange

MAX_ENTRIES = 200_000
MAX_UNPACKED = 8 * 2**30  # bytes of all files of a zip together
MAX_RATIO = 200  # times that tables may shrink; a bomb shrinks a thousandfold
SMALL = 64 * 2**20  # bytes that may be unpacked whatever the ratio
MAX_NAME = 60  # characters of an import's name
TABLES = tuple(f".{name}" for name in exchange.FORMATS)
TYPES = (".png", ".zip", *TABLES)


class BadUpload(ValueError):
    """A file that is not imported; the message says why."""


@dataclass
class Uploads:
    """What was uploaded, by how it is imported."""

    images: list[Path] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)  # zip files of PNG files
    tables: list[Path] = field(default_factory=list)  # single tables, and zip files of an export


def sort(files: Sequence[Path]) -> Uploads:
    """Tell the uploads apart by name and content. Raises BadUpload for one that is none of them."""
    found = Uploads()
    for file in files:
        end = file.suffix.lower()
        if end == ".png":
            found.images.append(file)
        elif end in TABLES:
            found.tables.append(file)
        elif end == ".zip":
            (found.tables if _check_archive(file) else found.archives).append(file)
        else:
            raise BadUpload(f"{file.name} is none of {', '.join(TYPES)}.")
    return found


def pictures(archive: Path) -> Iterator[Path]:
    """Unpack the PNG files of a zip one by one; each is gone when the next is asked for.

    Files that are larger than any image may be are left to the importer to refuse, cut short.
    """
    with (
        _told(archive),
        zipfile.ZipFile(archive) as packed,
        tempfile.TemporaryDirectory() as folder,
    ):
        for number, info in enumerate(packed.infolist()):
            if info.is_dir() or not info.filename.lower().endswith(".png") or _is_junk(info):
                continue
            path = Path(folder) / f"{number}.png"
            with packed.open(info) as file:
                path.write_bytes(file.read(MAX_FILE + 1))
            with suppress(ValueError, OverflowError, OSError):  # a date that no calendar has
                made = time.mktime((*info.date_time, 0, 0, -1))
                os.utime(path, (made, made))
            yield path
            path.unlink()


def count_pictures(archive: Path) -> int:
    """How many PNG files `pictures` will give."""
    with _told(archive), zipfile.ZipFile(archive) as packed:
        return sum(one.filename.lower().endswith(".png") for one in packed.infolist())


def clean_name(text: object) -> str:
    """An import's name as typed, on one line and not too long."""
    kept = (c for c in str(text or "") if unicodedata.category(c)[0] != "C")
    return "".join(kept).strip()[:MAX_NAME]


def _check_archive(archive: Path) -> bool:
    """Whether a zip file holds an export; else it holds images. Raises BadUpload."""
    with _told(archive), zipfile.ZipFile(archive) as packed:
        entries = packed.infolist()
    if len(entries) > MAX_ENTRIES:
        raise BadUpload(f"{archive.name} has more than {MAX_ENTRIES:,} files.")
    if any(_escapes(one.filename) for one in entries):
        raise BadUpload(f"{archive.name} names files outside its own folder; it is not opened.")
    size = sum(one.file_size for one in entries)
    packed_size = archive.stat().st_size
    if size > MAX_UNPACKED or (size > SMALL and size > MAX_RATIO * packed_size):
        raise BadUpload(
            f"{archive.name} would grow from {packed_size / 1e6:,.1f} to {size / 1e6:,.0f} MB; "
            "it is not opened."
        )
    names = [PurePosixPath(one.filename) for one in entries]
    if any(name.suffix.lower() in TABLES for name in names):
        return True
    if not any(name.suffix.lower() == ".png" for name in names):
        raise BadUpload(f"{archive.name} holds neither PNG files nor an export of records.")
    return False


def _escapes(name: str) -> bool:
    """Whether a name in a zip file leads out of it, in the manner of any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else False


def _is_junk(info: zipfile.ZipInfo) -> bool:
    """What macOS puts beside each file."""
    return "__MACOSX" in info.filename or PurePosixPath(info.filename).name.startswith("._")


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    """Turn what a damaged, encrypted or strange zip file raises into BadUpload."""
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as fault:
        raise BadUpload(f"{archive.name} is not a zip file that can be read: {fault}") from fault
