"""Small pictures for the Data tab: made when first asked for, kept on disk, sent small.

A thumbnail is named by the content hash of its image, so it never changes and a browser may keep it
for good. The cache is a folder beside the images; deleting it costs nothing but time.
"""

from __future__ import annotations

import os
import threading
from io import BytesIO
from pathlib import Path

from PIL import Image

SIDE = 256  # pixels, the longer one: twice what a tile shows, for sharp displays
QUALITY = 80  # of the WebP; a miniature picture takes about 1 kB, a photograph about 8
MAX_PIXELS = 64_000_000  # a larger image is not decoded: it could claim gigabytes
AT_ONCE = 2  # images decoded at the same time; each can take MAX_PIXELS * 4 bytes

_DECODING = threading.Semaphore(AT_ONCE)


class Unreadable(ValueError):
    """The file is not an image that can be shown; the message says why."""


def thumbnail(image: Path, cache: Path) -> Path:
    """Give the small picture of `image`, a file named by its content hash; make it if need be.

    Raises FileNotFoundError when the image is gone, Unreadable when it is no image.
    """
    path = cache / image.stem[:2] / f"{image.stem}.webp"
    if not path.exists():
        _write(_shrink(image), path)
    return path


def _shrink(image: Path) -> bytes:
    with _DECODING:
        try:
            with Image.open(image) as full:
                if full.width * full.height > MAX_PIXELS:
                    raise Unreadable(f"The image has {full.width}x{full.height} pixels.")
                small = full.convert("RGBA" if "A" in full.getbands() else "RGB")
        except FileNotFoundError:
            raise
        # What Pillow raises for broken files: OSError, SyntaxError, ValueError, a bomb's own error.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
            raise Unreadable(f"The image cannot be read: {fault}") from fault
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = BytesIO()
    small.save(data, "WEBP", quality=QUALITY, method=4)
    return data.getvalue()


def _write(data: bytes, path: Path) -> None:
    """Write in one step: two visitors may ask for the same picture at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    draft.write_bytes(data)
    draft.replace(path)
