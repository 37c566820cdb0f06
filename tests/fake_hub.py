"""A Hub that fails, forgets to answer, is slow, and says what it was sent; and stores to keep there."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from flowdesign.persistence import RemoteFault
from flowdesign.records import Filter, Rating, Record, Store, Vote, record_key, sha_of

FAULTS = ("refused", "partly", "unanswered")


class FakeHub:
    """Files by path. The next calls go wrong as `faults` says, one after the other.

    "refused": nothing is stored. "partly": one half of the files is. "unanswered": all are, and the
    caller does not hear of it.
    """

    name = "the fake Hub"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.pushes: list[list[str]] = []
        self.open = threading.Event()  # cleared: every call waits
        self.open.set()
        self.entered = threading.Event()

    def paths(self) -> list[str]:
        self._enter()
        self._fail({"refused", "partly", "unanswered"})
        return list(self.files)

    def fetch(self, paths: Sequence[str], folder: Path) -> None:
        self._enter()
        self._fail({"refused", "unanswered"})
        for number, path in enumerate(paths):
            if number == len(paths) // 2:
                self._fail({"partly"})
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(self.files[path])

    def add(self, files: Mapping[str, Path]) -> None:
        self._enter()
        self._fail({"refused"})
        self.pushes.append(list(files))
        for number, (path, file) in enumerate(files.items()):
            if number == len(files) // 2:
                self._fail({"partly"})
            data = file.read_bytes()
            assert self.files.get(path, data) == data, "a shard was changed under its name"
            self.files[path] = data
        self._fail({"unanswered"})

    def replace(self, files: Mapping[str, Path], old: Sequence[str]) -> None:
        self.add(files)
        for path in old:
            del self.files[path]

    def lines(self, table: str) -> int:
        """How many lines a table has in all shards."""
        return sum(
            data.count(b"\n") for path, data in self.files.items() if path.startswith(f"{table}/")
        )

    def _enter(self) -> None:
        self.entered.set()
        assert self.open.wait(30)

    def _fail(self, kinds: set[str]) -> None:
        if self.faults and self.faults[0] in kinds:
            raise RemoteFault(f"the fake Hub: {self.faults.pop(0)}")


def graph(number: int) -> dict[str, Any]:
    """A small workflow that differs with the number."""
    return {
        "1": {"class_type": "Anything", "inputs": {"steps": number, "words": f'"ü\n{number}'}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }


def picture(number: int) -> bytes:
    """A PNG that differs with the number."""
    file = BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 77)).save(file, "PNG")
    return file.getvalue()


def record(number: int, image: bytes | None = None, **values: Any) -> Record:
    """A record that is another one for each number; two in a row share their prompt."""
    given: dict[str, Any] = {
        "prompt": f"a red star {number // 2}",
        "workflow": graph(number),
        "seed": 2**64 - 1 - number,
        "image": sha_of(image) if image else "",
        "scores": {"sharpness": number / 7, "scene_soft": float("nan")},
        "source": "collect:test",
        "assets": {"mini": "abc"},
        "renderer": "toy 1",
        "seconds": 0.25,
        "failure": "" if image else "out of memory",
    }
    return Record(**(given | values))


def content(store: Store) -> dict[str, Any]:
    """All that a store holds, under names that are the same in every store."""
    records = [*store.stream(Filter()), *store.stream(Filter(deleted=True))]
    keys = {
        each.id: record_key(each.prompt, each.workflow, each.seed, each.assets, each.renderer)
        for each in records
    }
    votes = {vote.id: vote for vote in store.votes()}
    return {
        "records": {keys[each.id]: _plain(each, store) for each in records},
        "votes": {
            vote.token: (
                keys[vote.left], keys[vote.right], vote.choice, vote.rater, vote.milliseconds,
                vote.created, vote.mode,
                votes[vote.repeat_of].token if vote.repeat_of in votes else None,
            )
            for vote in votes.values()
        },
        "ratings": {
            rating.token: (keys[rating.record], rating.stars, rating.rater, rating.created)
            for rating in store.ratings()
        },
    }  # fmt: skip


def _plain(each: Any, store: Store) -> tuple[Any, ...]:
    path = store.image_path(each.image)
    return (
        each.prompt, each.workflow, each.seed, each.sentence, each.image, each.source,
        {name: repr(value) for name, value in each.scores.items()}, dict(each.assets),
        each.renderer, each.fidelity, each.seconds, each.failure, each.created, each.deleted,
        path and path.read_bytes(),
    )  # fmt: skip


class Visitors:
    """People who write at random: what they do depends on the seed alone."""

    def __init__(self, store: Store, seed: int, before: Visitors | None = None) -> None:
        """`before` are those of an earlier life of the app: their records and votes are known."""
        self.store, self.chance = store, random.Random(seed)
        self.made = before.made if before else 0
        self.deletions: list[str] = []
        self.tokens: list[tuple[str, str]] = before.tokens if before else []

    def act(self, times: int) -> None:
        """Do some things."""
        doing = [
            self.collect, self.collect, self.score, self.vote, self.vote, self.rate, self.undo,
            self.delete, self.undelete,
        ]  # fmt: skip
        for _ in range(times):
            self.chance.choice(doing)()

    def collect(self) -> None:
        image = picture(self.made) if self.chance.random() < 0.7 else None
        self.store.add([record(self.made, image)], {sha_of(image): image} if image else {})
        self.made += 1

    def score(self) -> None:
        if ids := self._ids():
            self.store.add_scores({self.chance.choice(ids): {"aesthetic": self.chance.random()}})

    def vote(self) -> None:
        by_prompt: dict[str, list[int]] = {}
        for each in self.store.stream(Filter()):
            by_prompt.setdefault(each.prompt, []).append(each.id or 0)
        pairs = [ids for ids in by_prompt.values() if len(ids) == 2]
        if pairs:
            left, right = self.chance.choice(pairs)
            token, rater = f"vote {self.chance.random()}", self.chance.choice("xyz")
            before = [v.id for v in self.store.votes()]
            repeated = self.chance.choice([None, *before])
            self.store.vote(Vote(left, right, "left", rater, token, 900, repeat_of=repeated))
            self.tokens.append((token, rater))

    def rate(self) -> None:
        if ids := self._ids():
            token = f"rating {self.chance.random()}"
            self.store.rate(Rating(self.chance.choice(ids), 4, "x", token))
            self.tokens.append((token, "x"))

    def undo(self) -> None:
        if self.tokens:
            self.store.undo(*self.chance.choice(self.tokens))

    def delete(self) -> None:
        if len(ids := self._ids()) > 3:
            self.deletions.append(self.store.delete(self.chance.sample(ids, 2), "x"))

    def undelete(self) -> None:
        if self.deletions:
            self.store.undelete(self.deletions.pop())

    def _ids(self) -> list[int]:
        return list(self.store.ids(Filter()))
