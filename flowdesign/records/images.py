"""The images of the records: PNG files named by the sha256 of their bytes, which never change."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from flowdesign.records.record import BadRecord, is_sha

PNG = b"\x89PNG\r\n\x1a\n"


def sha_of(data: bytes) -> str:
    """The name under which an image is kept."""
    return hashlib.sha256(data).hexdigest()


class Images:
    """The folder of the images: ab/<sha>.png, where ab are the first two letters of the sha."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha: str) -> Path:
        """Where an image is, or would be. Raises BadRecord when `sha` is none."""
        if not is_sha(sha):
            raise BadRecord(f"'{sha[:70]}' is not the sha256 of an image.")
        return self.folder / sha[:2] / f"{sha}.png"

    def write(self, sha: str, data: bytes) -> None:
        """Keep an image, durably before this returns; one that is there already stays as it is.

        Raises BadRecord when the bytes are no PNG or have another hash.
        """
        path = self.path(sha)
        if path.exists():
            return
        if not data.startswith(PNG):
            raise BadRecord(f"The image {sha[:12]}... is not a PNG.")
        if sha_of(data) != sha:
            raise BadRecord(f"The image {sha[:12]}... has other bytes than its name says.")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for each writer: two processes may store the same image at once.
        draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)

    def remove(self, sha: str) -> None:
        """Forget an image; one that is not there is no fault."""
        self.path(sha).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a renaming durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
