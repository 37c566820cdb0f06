"""The first start: an empty store takes in the shipped records, once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from filelock import FileLock

from flowdesign.config import ScoreConfig, build
from flowdesign.records import Store
from flowdesign.runs import replace_text
from flowdesign.shipped.packed import FILES, PACKED, unpack
from flowdesign.standards import NoStandard, read_reference

MARK = "shipped.json"  # in the store's folder: what was taken in, and whether to the end
AT_ONCE = 2000  # records in one transaction

log = logging.getLogger(__name__)


def import_once(store: Store, *paths: Path) -> int:
    """Take the packed records into a store that never had any; give how many it took in now.

    `paths` are the packed files, all of the shipped ones unless given. Does nothing where records are
    or were, so what somebody deleted stays deleted, and nothing when there is no packed file. An import
    that was interrupted goes on. Of several processes one does it, the others wait.
    """
    mark, files = store.folder / MARK, [path for path in paths or FILES if path.exists()]
    if not files or _state(mark) == "done":
        return 0
    with FileLock(store.folder / f"{MARK}.lock"):
        state = _state(mark)
        if state == "done" or (state == "" and store.find(limit=1).rows):
            return 0
        _write(mark, "begun", files)
        count = sum(load(store, path) for path in files)
        _weigh(store)
        _write(mark, "done", files)
    log.info("took in %d shipped records", count)
    return count


def _weigh(store: Store) -> None:
    """Give the records a combined score by the usual weights, if nobody has chosen others."""
    with suppress(NoStandard):
        if not store.weights():
            store.reweigh(build(ScoreConfig, {}).weights, read_reference())


def load(store: Store, path: Path = PACKED) -> int:
    """Store the records of a packed file; those that are there already stay. Give their number."""
    records, count = unpack(path), 0
    while part := list(islice(records, AT_ONCE)):
        count += len(store.add(part))
    return count


def _state(mark: Path) -> str:
    return str(json.loads(mark.read_text())["state"]) if mark.exists() else ""


def _write(mark: Path, state: str, files: Sequence[Path]) -> None:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    replace_text(mark, json.dumps({"state": state, "sha256": digests}) + "\n")
