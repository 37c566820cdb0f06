"""Images that tell nothing but their pixels: what a rater may get before the vote.

A PNG from FlowDesign or ComfyUI carries its whole workflow, and its content hash leads to its record.
A blind copy has only the chunks that decide the pixels, and other bytes than the original even where
there was nothing to take away. Its size in pixels stays: it is part of what is judged.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Before the pixels: the palette, transparency, and how numbers become light. No profile: it has a name.
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB"})


class NoImage(ValueError):
    """The image of a record cannot be shown: it has gone or is no PNG."""


def blind(data: bytes) -> bytes:
    """A PNG with the same pixels and nothing else. Raises NoImage.

    The pixel data is cut into two chunks at a random place, so that no hash of the file is known.
    """
    if not data.startswith(_SIGNATURE):
        raise NoImage("The image is not a PNG.")
    chunks = list(_chunks(data))
    if not chunks or chunks[-1][0] != b"IEND":
        raise NoImage("The PNG is cut short.")
    head = b"".join(_chunk(kind, body) for kind, body in chunks if kind in _KEPT)
    pixels = b"".join(body for kind, body in chunks if kind == b"IDAT")
    cut = secrets.randbelow(len(pixels) + 1)
    halves = _chunk(b"IDAT", pixels[:cut]) + _chunk(b"IDAT", pixels[cut:])
    return _SIGNATURE + head + halves + _chunk(b"IEND", b"")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks up to IEND: type and content."""
    place = len(_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 12 + length
        if end > len(data):
            return
        yield kind, data[place + 8 : end - 4]
        if kind == b"IEND":
            return
        place = end


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
