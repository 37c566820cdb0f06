"""The three file formats: each writes rows as they come and reads them back one by one.

A missing value has no entry in the row. JSON has no NaN: there it is null, and a missing score is
left out; infinities are the texts "inf" and "-inf".
"""

from __future__ import annotations

import csv
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from flowdesign.records.exchange.columns import SCORE, Columns, Row, typed
from flowdesign.records.record import BadRecord, ExchangeError

MAX_LINE = 16 * 2**20  # characters of one line or field
PICTURE = "picture"  # the Parquet column with an image's bytes
GROUP_ROWS, GROUP_BYTES = 2000, 16 * 2**20  # what is held before it is written
_HUGGING_FACE = {"text": "string", "whole": "int64", "seed": "uint64", "real": "float64"}


class Writer(ABC):
    """Writes one table."""

    @abstractmethod
    def write(self, row: Row, picture: bytes | None = None) -> None:
        """Write one row; `picture` is the image's bytes, where the format holds images."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


class Format(ABC):
    """One file format."""

    holds_images = False

    @abstractmethod
    def write(self, path: Path, columns: Columns) -> Writer:
        """Begin a table."""

    @abstractmethod
    def read(self, path: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
        """Yield (number of the row, row). Raises ExchangeError, which names file and row."""


class JsonLines(Format):
    """One JSON object a line."""

    def write(self, path: Path, columns: Columns) -> Writer:
        return _JsonWriter(path.open("w", encoding="utf-8", newline="\n"))

    def read(self, path: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
        with _told(path), path.open(encoding="utf-8-sig", newline="\n") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                with _at(path, number):
                    if len(line) >= MAX_LINE:
                        raise BadRecord(f"The line is longer than {MAX_LINE:,} characters.")
                    if line.strip():
                        row = _typed(_object(line), columns)
                if line.strip():
                    yield number, row


class _JsonWriter(Writer):
    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: Row, picture: bytes | None = None) -> None:
        plain = {name: _plain(value) for name, value in row.items()}
        self._file.write(json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


class Csv(Format):
    """Comma-separated, UTF-8, with a header; an empty field is a missing value or an empty text."""

    def write(self, path: Path, columns: Columns) -> Writer:
        return _CsvWriter(path.open("w", encoding="utf-8", newline=""), columns)

    def read(self, path: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
        before = csv.field_size_limit(MAX_LINE)
        try:
            with _told(path), path.open(encoding="utf-8-sig", newline="") as file:
                for number, fields in enumerate(csv.DictReader(file, strict=True), start=2):
                    with _at(path, number):
                        given = _fields(fields, columns)
                        row = _typed(given, columns)
                    yield number, row
        finally:
            csv.field_size_limit(before)


class _CsvWriter(Writer):
    def __init__(self, file: IO[str], columns: Columns) -> None:
        self._file = file
        self._writer = csv.DictWriter(file, list(columns))
        self._writer.writeheader()

    def write(self, row: Row, picture: bytes | None = None) -> None:
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


class Parquet(Format):
    """Apache Parquet through pyarrow, images inside, as the Hugging Face viewer shows them."""

    holds_images = True

    def write(self, path: Path, columns: Columns) -> Writer:
        return _ParquetWriter(path, columns)

    def read(self, path: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
        parquet = _pyarrow().parquet
        with _told(path):
            file = parquet.ParquetFile(path)
            number = 0
            for batch in file.iter_batches(batch_size=100):
                for fields in batch.to_pylist():
                    number += 1
                    with _at(path, number):
                        given = {n: v for n, v in fields.items() if v is not None}
                        picture = given.pop(PICTURE, None)
                        row = _typed(given, columns)
                        if picture and picture.get("bytes"):
                            row[PICTURE] = picture["bytes"]
                    yield number, row


class _ParquetWriter(Writer):
    def __init__(self, path: Path, columns: Columns) -> None:
        self._arrow = _pyarrow()
        self._schema = _schema(self._arrow, columns)
        self._file = self._arrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Row] = []
        self._bytes = 0

    def write(self, row: Row, picture: bytes | None = None) -> None:
        if PICTURE in self._schema.names and row.get("image"):
            row = row | {PICTURE: {"bytes": picture, "path": f"{row['image']}.png"}}
        self._rows.append(row)
        self._bytes += len(picture or b"") + len(row.get("workflow", ""))
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        table = self._arrow.Table.from_pylist(self._rows, schema=self._schema)
        self._file.write_table(table)
        self._rows, self._bytes = [], 0


FORMATS: Mapping[str, Format] = {"jsonl": JsonLines(), "csv": Csv(), "parquet": Parquet()}


def _schema(arrow: Any, columns: Columns) -> Any:
    """The table's types, for Arrow and in the words of Hugging Face's `datasets`."""
    types = {
        "text": arrow.string(), "whole": arrow.int64(), "seed": arrow.uint64(),
        "real": arrow.float64(),
    }  # fmt: skip
    fields = [(name, types[kind]) for name, kind in columns.items()]
    features: dict[str, Any] = {
        name: {"dtype": _HUGGING_FACE[kind], "_type": "Value"} for name, kind in columns.items()
    }
    if "image" in columns:
        fields.append(
            (PICTURE, arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))
        )
        features[PICTURE] = {"_type": "Image"}
    told = json.dumps({"info": {"features": features}})
    return arrow.schema(fields, metadata={"huggingface": told})


def _pyarrow() -> Any:
    """Import pyarrow, here because the command line starts without it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as fault:
        raise ExchangeError("Parquet needs pyarrow: pip install pyarrow") from fault
    return pyarrow


def _typed(given: Mapping[str, Any], columns: Columns) -> Row:
    """A row with the types of its columns; what has no column and is no score is left out."""
    row: Row = {}
    for name, value in given.items():
        kind = columns.get(name) or ("real" if name.startswith(SCORE) else None)
        if kind is None:
            continue
        if value is None:  # only JSON has it
            if not name.startswith(SCORE):
                continue
            value = math.nan
        row[name] = typed(name, kind, value)
    return row


def _fields(fields: Mapping[Any, Any], columns: Columns) -> Row:
    """The fields of a CSV line; an empty one is an empty text or nothing at all."""
    if None in fields or None in fields.values():
        raise BadRecord("It has more or fewer fields than the header.")
    return {n: v for n, v in fields.items() if v != "" or columns.get(n) == "text"}


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise BadRecord(f"This is not JSON: {fault}.") from fault
    if not isinstance(value, dict):
        raise BadRecord("This is not a JSON object.")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


@contextmanager
def _at(path: Path, number: int) -> Iterator[None]:
    """Say in which row of which file something is wrong."""
    try:
        yield
    except BadRecord as fault:
        raise ExchangeError(f"{path.name}, line {number}: {fault}") from fault


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say that a whole file cannot be read. Errors of pyarrow are ValueError or OSError."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as fault:
        raise ExchangeError(f"{path.name} cannot be read: {fault}") from fault
