"""Where shards go: a dataset repository or a bucket of the Hugging Face Hub, behind one interface.

Errors: PersistenceError   the variables cannot be used
        RemoteFault        the Hub did not do what it was asked; it may be asked again
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# In this order where a push is not one transaction: a vote is never there before its records.
KINDS = ("images", "records", "votes", "ratings")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

CARD = """---
configs:
- config_name: records
  data_files: records/*.jsonl
- config_name: votes
  data_files: votes/*.jsonl
- config_name: ratings
  data_files: ratings/*.jsonl
tags:
- flowdesign
---
# Records of a FlowDesign Space

Shards that the Space restores at its start: do not rename or change them. A later line about the same
`key` (of a record) or `token` (of a vote or rating) replaces an earlier one; `images/*.zip` holds the
images as `SHA256.png`.
"""


class PersistenceError(ValueError):
    """Persistence variables that cannot be used; the message says what is allowed."""


class RemoteFault(RuntimeError):
    """The Hub could not be reached or refused; the message says which and why."""


class Remote(Protocol):
    """A place for files that never change. Every method raises RemoteFault."""

    @property
    def name(self) -> str:
        """The place in words."""

    def paths(self) -> list[str]:
        """All files, by path."""

    def fetch(self, paths: Sequence[str], folder: Path) -> None:
        """Write these files under `folder`, by path; all of them or a fault."""

    def add(self, files: Mapping[str, Path]) -> None:
        """Store local files by path. After a fault any of them may be there or not."""

    def replace(self, files: Mapping[str, Path], old: Sequence[str]) -> None:
        """Store local files, and when all of them are there remove old ones."""


class DatasetRepository:
    """A dataset repository: a push is one commit, so it is there as a whole or not at all."""

    def __init__(self, repository: str, api: HfApi) -> None:
        self.repository = repository
        self._api = api
        self._ready = False

    @property
    def name(self) -> str:
        return f"the dataset {self.repository}"

    def paths(self) -> list[str]:
        with _told(self.name):
            self._prepare()
            return self._api.list_repo_files(self.repository, repo_type="dataset")

    def fetch(self, paths: Sequence[str], folder: Path) -> None:
        with _told(self.name):
            self._api.snapshot_download(
                self.repository, repo_type="dataset", allow_patterns=list(paths), local_dir=folder
            )
        _check_fetched(self.name, paths, folder)

    def add(self, files: Mapping[str, Path]) -> None:
        self.replace(files, ())

    def replace(self, files: Mapping[str, Path], old: Sequence[str]) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with _told(self.name):
            self._prepare()
            self._api.create_commit(
                self.repository,
                [
                    *(CommitOperationAdd(path, str(file)) for path, file in files.items()),
                    *(CommitOperationDelete(path) for path in old),
                ],
                commit_message=f"FlowDesign: {len(files)} files",
                repo_type="dataset",
            )

    def _prepare(self) -> None:
        """Make the repository with its card, should there be none."""
        if self._ready:
            return
        self._api.create_repo(self.repository, repo_type="dataset", private=True, exist_ok=True)
        if "README.md" not in self._api.list_repo_files(self.repository, repo_type="dataset"):
            self._api.upload_file(
                path_or_fileobj=CARD.encode("utf-8"),
                path_in_repo="README.md",
                repo_id=self.repository,
                repo_type="dataset",
            )
        self._ready = True


class Bucket:
    """A bucket: no history and no transactions, so files go one kind after the other."""

    def __init__(self, bucket: str, api: HfApi) -> None:
        self.bucket = bucket
        self._api = api
        self._ready = False

    @property
    def name(self) -> str:
        return f"the bucket {self.bucket}"

    def paths(self) -> list[str]:
        with _told(self.name):
            self._prepare()
            found = self._api.list_bucket_tree(self.bucket, recursive=True)
            return [entry.path for entry in found if entry.type == "file"]

    def fetch(self, paths: Sequence[str], folder: Path) -> None:
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with _told(self.name):
            self._api.download_bucket_files(
                self.bucket, [(path, folder / path) for path in paths], raise_on_missing_files=True
            )
        _check_fetched(self.name, paths, folder)

    def add(self, files: Mapping[str, Path]) -> None:
        with _told(self.name):
            self._prepare()
            for kind in KINDS:
                some: list[tuple[str | Path | bytes, str]] = [
                    (file, path) for path, file in files.items() if path.startswith(f"{kind}/")
                ]
                if some:
                    self._api.batch_bucket_files(self.bucket, add=some)

    def replace(self, files: Mapping[str, Path], old: Sequence[str]) -> None:
        self.add(files)
        if old:
            with _told(self.name):
                self._api.batch_bucket_files(self.bucket, delete=list(old))

    def _prepare(self) -> None:
        if not self._ready:
            self._api.create_bucket(self.bucket, private=True, exist_ok=True)
            self._ready = True


def remote_of(name: str, token: str | None) -> Remote:
    """The place that FLOWDESIGN_DATASET names. Raises PersistenceError."""
    from huggingface_hub import HfApi

    short = name.strip().removeprefix("hf://").strip("/")
    kind, _, rest = short.partition("/")
    bare = rest if kind in ("buckets", "datasets") else short
    if not _NAME.fullmatch(bare):
        raise PersistenceError(
            f"FLOWDESIGN_DATASET is {name!r}. Write USER/NAME for a dataset repository, or "
            "buckets/USER/NAME for a bucket."
        )
    api = HfApi(token=token)
    return Bucket(bare, api) if kind == "buckets" else DatasetRepository(bare, api)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn whatever goes wrong below into RemoteFault.

    The Hub's client raises errors of two HTTP libraries, of its storage backend and its own, and
    they differ between its versions.
    """
    try:
        yield
    except Exception as fault:
        status = getattr(getattr(fault, "response", None), "status_code", None)
        refused = status in (401, 403)
        help_ = " Is the secret HF_TOKEN set, with write access?" if refused else ""
        told = str(fault).strip().splitlines() or [type(fault).__name__]
        raise RemoteFault(f"{name} cannot be used: {told[0]}{help_}") from fault


def _check_fetched(name: str, paths: Sequence[str], folder: Path) -> None:
    missing = [path for path in paths if not os.path.isfile(folder / path)]
    if missing:
        raise RemoteFault(f"{name} did not give {len(missing)} files, first {missing[0]}")
