"""The real client of the Hub against a small server that answers as the Hub does; and the variables."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec
from urllib.parse import unquote, urlsplit

import pytest
from fake_hub import content, picture, record
from huggingface_hub import HfApi

from flowdesign.persistence import (
    Bucket,
    DatasetRepository,
    Keeper,
    PersistenceError,
    RemoteFault,
    open_keeper,
)
from flowdesign.persistence.hub import remote_of
from flowdesign.records import Store, Vote, sha_of

REPOSITORY = "alice/records"
TREE = f"/api/datasets/{REPOSITORY}"


class Hub:
    """A dataset repository in memory. `refuse` is the status of the next commits."""

    def __init__(self) -> None:
        self.made: dict[str, Any] | None = None
        self.files: dict[str, bytes] = {}
        self.commits = 0
        self.refuse: list[int] = []
        self.tokens: set[str | None] = set()

    @property
    def sha(self) -> str:
        return f"{self.commits:040x}"

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            known, self.made = self.made, self.made or json.loads(body)
            found = {"url": f"https://huggingface.co/datasets/{REPOSITORY}"}
            return (409, found | {"error": "exists"}) if known else (200, found)
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == f"{TREE}/preupload/main":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if path == f"{TREE}/commit/main":
            return self._commit([json.loads(line) for line in body.splitlines() if line])
        return 404, {"error": path}

    def get(self, path: str) -> tuple[int, Any]:
        files = [
            {"type": "file", "path": name, "size": len(data), "oid": sha_of(data)[:40]}
            for name, data in self.files.items()
        ]
        if path.startswith(f"{TREE}/tree/"):
            return 200, files
        if path.startswith((f"{TREE}/revision/", TREE)):
            siblings = [{"rfilename": file["path"]} for file in files]
            return 200, {"id": REPOSITORY, "sha": self.sha, "siblings": siblings}
        start = f"/datasets/{REPOSITORY}/resolve/"
        if path.startswith(start):
            name = path.removeprefix(start).partition("/")[2]
            return (200, self.files[name]) if name in self.files else (404, {"error": name})
        return 404, {"error": path}

    def _commit(self, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        if self.refuse:
            return self.refuse.pop(0), {"error": "not now"}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits += 1
        found = {
            "commitUrl": f"https://huggingface.co/datasets/{REPOSITORY}/commit/{self.sha}",
            "commitOid": self.sha,
        }
        return 200, found | {"success": True}


@pytest.fixture
def hub() -> Iterator[tuple[Hub, HfApi]]:
    """The server, and a client of it."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("authorization"))
            if self.headers.get("transfer-encoding") == "chunked":
                body = self._chunks()
            else:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
            self._answer(*hub.post(urlsplit(self.path).path, body))

        def do_GET(self) -> None:
            self._answer(*hub.get(unquote(urlsplit(self.path).path)))

        do_HEAD = do_GET  # noqa: N815

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, status: int, found: Any) -> None:
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.send_header("etag", f'"{sha_of(data)[:40]}"')
            self.send_header("x-repo-commit", hub.sha)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    yield hub, HfApi(endpoint=address, token="hf_secret")
    server.shutdown()
    server.server_close()


def test_a_dataset_repository_keeps_everything(tmp_path: Path, hub: tuple[Hub, HfApi]) -> None:
    server, api = hub
    image = picture(1)
    with Store.open(tmp_path / "a") as store:
        ids = store.add([record(0, image), record(1)], {sha_of(image): image})
        store.vote(Vote(ids[0], ids[1], "tie", "x", "t"))
        Keeper(store, DatasetRepository(REPOSITORY, api)).turn()
        before = content(store)
    made = server.made or {}
    assert made["type"] == "dataset"
    assert made.get("visibility") == "private" or made.get("private") is True
    kinds = sorted({path.split("/")[0] for path in server.files})
    assert kinds == ["README.md", "images", "records", "votes"]
    assert server.commits == 2  # the card, then all files of the push at once
    assert server.tokens == {"Bearer hf_secret"}
    with Store.open(tmp_path / "b") as store:
        Keeper(store, DatasetRepository(REPOSITORY, api)).turn()
        assert content(store) == before
    assert server.commits == 2  # it was there, with its card


def test_a_refused_commit_is_a_fault_and_is_repeated(
    tmp_path: Path, hub: tuple[Hub, HfApi]
) -> None:
    server, api = hub
    remote = DatasetRepository(REPOSITORY, api)
    (tmp_path / "x.jsonl").write_text("{}\n")
    remote.paths()
    server.refuse = [403]
    with pytest.raises(RemoteFault, match=r"alice/records cannot be used.*HF_TOKEN"):
        remote.add({"records/x.jsonl": tmp_path / "x.jsonl"})
    assert "records/x.jsonl" not in server.files
    remote.add({"records/x.jsonl": tmp_path / "x.jsonl"})
    remote.replace({"records/y.jsonl": tmp_path / "x.jsonl"}, ["records/x.jsonl"])
    assert [path for path in remote.paths() if path != "README.md"] == ["records/y.jsonl"]
    with pytest.raises(RemoteFault, match=r"did not give 1 files, first records/x\.jsonl"):
        remote.fetch(["records/x.jsonl"], tmp_path / "inbox")


def test_a_hub_that_cannot_be_reached_is_a_fault() -> None:
    remote = DatasetRepository(REPOSITORY, HfApi(endpoint="http://127.0.0.1:9", token="hf_secret"))
    with pytest.raises(RemoteFault, match="the dataset alice/records cannot be used"):
        remote.paths()


def test_a_bucket_gets_votes_after_their_records(tmp_path: Path) -> None:
    """Calls are checked against the signatures of the installed client."""
    api = create_autospec(HfApi, instance=True)
    remote = Bucket("alice/bucket", api)
    files = {f"{kind}/s.jsonl": tmp_path / kind for kind in ("votes", "ratings", "records")}
    remote.add(files | {"images/s.zip": tmp_path / "zip"})
    remote.add({"votes/t.jsonl": tmp_path / "votes"})
    api.create_bucket.assert_called_once_with("alice/bucket", private=True, exist_ok=True)
    sent = [call.kwargs["add"] for call in api.batch_bucket_files.call_args_list]
    names = [[path for _, path in some] for some in sent]
    assert names == [
        ["images/s.zip"], ["records/s.jsonl"], ["votes/s.jsonl"], ["ratings/s.jsonl"],
        ["votes/t.jsonl"],
    ]  # fmt: skip
    api.batch_bucket_files.side_effect = [None, OSError("gone")]
    with pytest.raises(RemoteFault, match="the bucket alice/bucket cannot be used: gone"):
        remote.replace({"votes/u.jsonl": tmp_path / "votes"}, ["votes/s.jsonl"])


def test_a_bucket_gives_its_files(tmp_path: Path) -> None:
    from huggingface_hub import BucketFile
    from huggingface_hub._buckets import BucketFolder

    api = create_autospec(HfApi, instance=True)
    api.list_bucket_tree.return_value = [
        BucketFolder(type="directory", path="votes", uploadedAt=None),
        BucketFile(type="file", path="votes/s.jsonl", size=3, xetHash="x"),
    ]
    remote = Bucket("alice/bucket", api)
    assert remote.paths() == ["votes/s.jsonl"]

    def give(bucket: str, files: list[tuple[str, Path]], **options: Any) -> None:
        for name, path in files:
            path.write_text(name)

    api.download_bucket_files.side_effect = give
    remote.fetch(["votes/s.jsonl"], tmp_path)
    assert (tmp_path / "votes/s.jsonl").read_text() == "votes/s.jsonl"


# --- the variables


def test_the_name_says_what_it_is() -> None:
    for name in ("alice/records", "datasets/alice/records", "hf://datasets/alice/records/"):
        assert remote_of(name, None).name == "the dataset alice/records"
    for name in ("buckets/alice/b", "hf://buckets/alice/b"):
        assert remote_of(name, None).name == "the bucket alice/b"


@pytest.mark.parametrize("name", ["records", "a/b/c", "../x", "a/..", "https://huggingface.co/a/b"])
def test_what_is_no_place_is_told(name: str) -> None:
    with pytest.raises(PersistenceError, match="USER/NAME"):
        remote_of(name, None)


def test_without_a_place_nothing_is_opened() -> None:
    def never() -> Store:
        raise AssertionError("the store was opened")

    assert open_keeper(never, {}) is None


def test_the_schedule_is_in_minutes(tmp_path: Path) -> None:
    place = {"FLOWDESIGN_DATASET": "alice/records"}
    with Store.open(tmp_path) as store:
        keeper = open_keeper(lambda: store, place | {"FLOWDESIGN_PUSH_MINUTES": "2.5"})
        assert keeper is not None and keeper.every == 150
        for minutes in ("0", "-1", "often", "nan", "9999999"):
            with pytest.raises(PersistenceError, match="FLOWDESIGN_PUSH_MINUTES"):
                open_keeper(lambda: store, place | {"FLOWDESIGN_PUSH_MINUTES": minutes})
