"""What a model file says about itself, read without loading a weight and without any library.

A safetensors file is the length of its header in 8 bytes, the header in JSON, and the tensors behind each
other. So a few reads tell the names and shapes of all tensors, and whether the file is whole.
Format: github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

SUFFIX = ".safetensors"  # the only weights file ever opened: a pickle can run code
SUFFIXES = (SUFFIX, ".sft")  # what ComfyUI calls such a file, in any case of letters
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
PICKLED = "a pickle, which can run code when it is opened: convert it to safetensors"
MOST_HEADER = 100 * 2**20  # bytes, as the format has it
_METADATA = "__metadata__"
_OF_PICKLES = (b"\x80", b"PK")  # how they begin: bare, and in the zip of torch.save
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
         "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}  # fmt: skip


class BrokenFile(ValueError):
    """The file is not a whole safetensors file; the message says what is wrong with it."""


@dataclass(frozen=True)
class Header:
    """The shape of every tensor by name, and the file's own words about itself."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file. Raises BrokenFile.

    Remembered until the file's size or time changes.
    """
    try:
        found = path.stat()
    except OSError as fault:
        raise BrokenFile(f"cannot be opened: {fault.strerror}") from fault
    header, fault_of_file = _read(path, found.st_size, found.st_mtime_ns)
    if header is None:
        raise BrokenFile(fault_of_file)
    return header


def fault(path: Path) -> str:
    """Why a file or the folder of a model is not loaded, as in "it ..."; an empty text if it is."""
    if path.is_dir():
        return _folder_fault(path)
    if path.suffix.lower() in PICKLES:
        return f"is {PICKLED}"
    try:
        read_header(path)
    except BrokenFile as broken:
        return str(broken)
    return ""


def _folder_fault(folder: Path) -> str:
    """Why a diffusers folder is not loaded: one of its files is broken, or a part is a pickle only."""
    for part in (folder, *sorted(each for each in folder.iterdir() if each.is_dir())):
        files = sorted(part.glob(f"*{SUFFIX}"))
        for file in files:
            if reason := fault(file):
                return f"is not whole: {file.relative_to(folder)} {reason}"
        if not files and any(each.suffix in PICKLES for each in part.iterdir()):
            return f"has a part '{part.name}' that is {PICKLED}"
    return ""


@lru_cache(maxsize=20_000)
def _read(path: Path, size: int, stamp: int) -> tuple[Header | None, str]:
    """The header, or None and why there is none; a fault is remembered as well."""
    try:
        return _parsed(_raw(path, size), size), ""
    except BrokenFile as broken:
        return None, str(broken)
    except OSError as fault_of_file:
        return None, f"cannot be read: {fault_of_file.strerror}"


def _raw(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise BrokenFile(f"is truncated: {size} bytes are no safetensors file")
        length = int.from_bytes(first, "little")
        second = file.read(1)
        # A length may begin with the bytes of a pickle, so they tell one only where no header follows.
        if (length > MOST_HEADER or second != b"{") and first.startswith(_OF_PICKLES):
            raise BrokenFile(f"is {PICKLED} (its name says {path.suffix})")
        if length > MOST_HEADER:
            raise BrokenFile(
                "is no safetensors file: it does not begin with the length of a header"
            )
        if 8 + length > size:
            raise BrokenFile(
                f"is truncated: its header alone has {length:,} bytes, the file {size:,}"
            )
        return second + file.read(length - 1) if length else b""


def _parsed(raw: bytes, size: int) -> Header:
    try:
        value: Any = json.loads(raw)
        metadata = value.pop(_METADATA, None) or {}
        shapes = {name: tuple(each["shape"]) for name, each in value.items()}
        ends = [each["data_offsets"] for each in value.values()]
        sound = all(map(_agrees, value.values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault_of_header:
        raise BrokenFile("is no safetensors file: its header cannot be read") from fault_of_header
    if not sound:
        raise BrokenFile("is damaged: shapes and places of its tensors do not agree")
    due = 8 + len(raw) + max((end for _, end in ends), default=0)
    if due != size:
        what = "is truncated" if due > size else "is damaged"
        raise BrokenFile(f"{what}: by its header it has {due:,} bytes, here are {size:,}")
    return Header(shapes, {str(name): str(text) for name, text in metadata.items()})


def _agrees(tensor: Mapping[str, Any]) -> bool:
    """Whether a tensor's place is as long as its shape and type ask for; of unknown types any is."""
    start, end = tensor["data_offsets"]
    bits = _BITS.get(tensor["dtype"])
    count = math.prod(tensor["shape"])
    return 0 <= start <= end and (bits is None or (end - start) * 8 == count * bits)
