"""What an image was made with: the hashes of the model files that a workflow loads.

A name like "mini_flat" says little once the file behind it was trained again. Records therefore keep
a hash of each model's content, and an image is only taken for known when the hashes agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from flowdesign.catalog import Installed
from flowdesign.nodes import NODES
from flowdesign.workflow import Workflow

CHUNK = 2**20  # bytes read at once


class ModelHashes:
    """Hashes of installed models; each is read once, and again only when it has changed on disk."""

    def __init__(self, models: Installed) -> None:
        self._models = models
        self._known: dict[Path, tuple[tuple[tuple[str, int, int], ...], str]] = {}

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
            known = self._known[path] = stamp, _hash(path)
        return known[1]


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
