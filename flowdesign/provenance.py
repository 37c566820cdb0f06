"""What an image was made with: the hashes of the model files that a workflow loads.

A name like "mini_flat" says little once the file behind it was trained again. Records therefore keep
a hash of each model's content, and an image is only taken for known when the hashes agree. A large file
takes seconds to read, so hashes are remembered on disk, for as long as path, size and time stay the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flowdesign.catalog import ROOT, Installed
from flowdesign.nodes import NODES
from flowdesign.workflow import Workflow

CHUNK = 2**20  # bytes read at once


Stamp = tuple[tuple[str, int, int], ...]  # path, bytes and time of every file of a model


class HashMemory:
    """Hashes by model and stamp, in one JSON file. Nothing is lost but time when it cannot be kept."""

    def __init__(self, file: Path | None = None) -> None:
        data = os.environ.get("FLOWDESIGN_DATA") or ROOT / "checkpoints" / "records"
        self.file = file or Path(data) / "hashes.json"

    def get(self, path: Path, stamp: Stamp) -> str | None:
        """Give the hash of a model that is as it was, None for another one."""
        stored = self._read().get(str(path))
        if not isinstance(stored, list) or len(stored) != 2 or stored[0] != _digest(stamp):
            return None
        return str(stored[1])

    def put(self, path: Path, stamp: Stamp, found: str) -> None:
        """Remember a hash, beside what other processes have remembered since."""
        known = {**self._read(), str(path): [_digest(stamp), found]}
        new = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(known), encoding="utf-8")
            new.replace(self.file)
        except OSError:
            with suppress(OSError):
                new.unlink()

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _digest(stamp: Stamp) -> str:
    return hashlib.sha256(json.dumps(stamp).encode()).hexdigest()


class ModelHashes:
    """Hashes of installed models; each is read once, and again only when it has changed on disk."""

    def __init__(self, models: Installed, memory: HashMemory | None = None) -> None:
        self._models = models
        self._memory = memory or HashMemory()
        self._known: dict[Path, tuple[Stamp, str]] = {}

    def of(self, workflow: Workflow) -> dict[str, str]:
        """Give name -> hash of every model that a valid workflow loads. Raises UnknownAsset."""
        return {name: self.hash(kind, name) for kind, name in sorted(set(assets_of(workflow)))}

    def hash(self, kind: str, name: str) -> str:
        """Give the sha256 of a model's content, in hex. Raises UnknownAsset.

        Of a file it is the hash of its bytes, as `sha256sum` prints it; of a diffusers folder that
        of its listing: one "<sha256>  <path>" a line, by path.
        """
        path = self._models.path(kind, name)
        stamp = tuple(_stamps(path))
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            found = self._memory.get(path, stamp)
            if found is None:
                found = _hash(path)
                self._memory.put(path, stamp, found)
            known = self._known[path] = stamp, found
        return known[1]

    def remembered(self, kind: str, name: str) -> str | None:
        """Give a model's hash if it is known without reading the model. Raises UnknownAsset."""
        path = self._models.path(kind, name)
        return self._memory.get(path, tuple(_stamps(path)))


def assets_of(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of every model file that a workflow names."""
    for node in workflow.values():
        for each in NODES[node["class_type"]].inputs:
            if each.kind:
                yield each.kind, node["inputs"][each.name]


def _files(path: Path) -> list[Path]:
    """The files of a model, hidden ones left out."""
    if path.is_file():
        return [path]
    found = (each for each in path.rglob("*") if each.is_file())
    return sorted(f for f in found if not any(p.startswith(".") for p in f.relative_to(path).parts))


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in _files(path):
        found = file.stat()
        yield str(file), found.st_size, found.st_mtime_ns


def _hash(path: Path) -> str:
    if path.is_file():
        return _hash_file(path)
    lines = (f"{_hash_file(f)}  {f.relative_to(path).as_posix()}\n" for f in _files(path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
