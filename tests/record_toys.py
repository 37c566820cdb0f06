"""Records to test with: pictures, workflows, and one set that holds everything awkward."""

import json
import math
import random
import sqlite3
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from language_toys import SEED, random_workflows

from flowdesign.records import Rating, Record, Store, StoredRecord, Vote, record_key, sha_of

WORKFLOWS = random_workflows(12, seed=3)
FOREIGN: dict[str, Any] = {
    "7": {"class_type": "WeirdLoader|pysssss", "inputs": {"ckpt_name": "ö/ümlaut.safetensors"}},
    "8": {
        "class_type": "KSampler (Efficient)",
        "inputs": {"model": ["7", 0], "sampler_name": "dpm++", "steps": 20, "cfg": 6.5, "seed": 5},
        "_meta": {"title": "日本"},
    },
}
PROMPTS = (
    "a red star", "A  RED star", "=1+1, \"quoted\"; 'single'", "two lines\nand\ta tab\r\nend",
    "日本の狐 🦊 é é", "عربي\u200f ‏", "nul \0 inside", "line\u2028separator", "", " blanks ",
)  # fmt: skip


def png(number: int = 0) -> bytes:
    """A PNG of one pixel that no other number has."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    header = (1).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    pixel = zlib.compress(b"\0" + number.to_bytes(3, "big"))
    for kind, body in ((b"IHDR", header), (b"IDAT", pixel), (b"IEND", b"")):
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        parts.append(len(body).to_bytes(4, "big") + kind + body + check)
    return b"".join(parts)


def simple(number: int, **changes: Any) -> Record:
    """A plain record; every number is another one."""
    record = Record(
        prompt=f"a red star, number {number % 7}", workflow=WORKFLOWS[number % 12], seed=number,
        source="collect:toy", renderer="toy 1", scores={"exact": number / 10},
    )  # fmt: skip
    return replace(record, **changes)


def awkward() -> tuple[list[Record], dict[str, bytes]]:
    """Records with everything that a format could lose, and their images."""
    images = {sha_of(data): data for data in map(png, range(4))}
    shas = [*images, ""]
    scores: tuple[dict[str, float], ...] = (
        {}, {"exact": 0.1 + 0.2, "pick, score": math.nan}, {"exact": math.inf, "z": -math.inf},
        {"exact": -0.0, "z": 5e-324}, {"z": 1.7976931348623157e308},
    )  # fmt: skip
    records = [
        Record(
            prompt=prompt, workflow=FOREIGN if index == 3 else WORKFLOWS[index % 12],
            seed=(0, 2**64 - 1, SEED)[index % 3], sentence="<ckpt:mini_flat> <end>"[: index * 5],
            image=shas[index % 5], scores=scores[index % 5],
            source=("collect:a", "import:été", "playground")[index % 3],
            assets={"mini_flat": "ab" * 32, 'quo"te': "é"} if index % 2 else {},
            renderer="flowdesign 0.1, torch 2.8", fidelity=("exact", "approximate", "")[index % 3],
            seconds=1 / 3 * index, failure="" if index % 5 < 4 else "no memory:\n\ttraceback",
            created=f"2026-11-24T10:00:{index:02}.123Z",
        )
        for index, prompt in enumerate(PROMPTS)
    ]  # fmt: skip
    pairs = [replace(records[0], seed=n, image="", scores={"exact": n / 3}) for n in range(90, 94)]
    return records + pairs, images


def fill_awkward(store: Store) -> None:
    """Store all of it, with votes, ratings, a deleted record and an undone vote."""
    records, images = awkward()
    ids = store.add(records, images)
    pair = ids[-4:]
    first = store.vote(
        Vote(pair[0], pair[1], "left", "ann, \"a\"", "t1", 1234, "2026-11-24T11:00:00.000Z")
    )  # fmt: skip
    store.vote(Vote(pair[2], pair[0], "tie", "böb", "t2", 99))
    store.vote(
        Vote(pair[1], pair[0], "right", "ann, \"a\"", "t3", 5, repeat_of=first, mode="repeat")
    )  # fmt: skip
    store.vote(Vote(pair[0], pair[2], "skip", "böb", "t4"))
    store.vote(Vote(pair[0], pair[2], "left", "böb", "gone"))
    store.undo("gone", "böb")
    store.vote(Vote(pair[0], pair[3], "left", "böb", "of a deleted one"))
    store.rate(Rating(ids[1], 5, "böb", "r1", 700))
    store.rate(Rating(ids[2], 1, "ann", "r2"))
    store.delete(ids[-1:], "me")


def content(store: Store) -> dict[str, Any]:
    """All that a store holds in a form that can be compared: ids become keys, NaN a text."""
    found = list(store.stream())
    keys = {record.id: key_of(record) for record in found}
    votes = {vote.id: vote for vote in store.votes()}
    return {
        "records": {key_of(record): _plain(record) for record in found},
        "images": {
            record.image: path.read_bytes()
            for record in found
            if (path := store.image_path(record.image))
        },
        "votes": {
            vote.token: {
                **vars(vote), "id": 0, "left": keys[vote.left], "right": keys[vote.right],
                "repeat_of": votes[vote.repeat_of].token if vote.repeat_of else None,
            }
            for vote in votes.values()
        },
        "ratings": {
            rating.token: {**vars(rating), "id": 0, "record": keys[rating.record]}
            for rating in store.ratings()
        },
    }  # fmt: skip


def key_of(record: Record) -> str:
    """The identity of a record."""
    return record_key(
        record.prompt, record.workflow, record.seed, record.assets, record.renderer
    )  # fmt: skip


def _plain(record: StoredRecord) -> dict[str, Any]:
    # JSON keeps the order of keys, which lossless means too; in a repr, NaN equals itself.
    return {
        **vars(record), "id": 0, "workflow": json.dumps(record.workflow),
        "scores": {name: repr(value) for name, value in record.scores.items()},
        "assets": dict(record.assets),
    }  # fmt: skip


def numbers(rows: Iterable[Record]) -> list[int | None]:
    """The ids of records."""
    return [record.id for record in rows]


def shuffled_scores(count: int, seed: int = 0) -> list[dict[str, float]]:
    """Random scores of two scorers, some missing, some not a number."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        row = {"exact": rng.choice((0.0, 0.5, 1.0, rng.random())), "sharp": rng.gauss(3, 1)}
        if rng.random() < 0.2:
            row.pop(rng.choice(("exact", "sharp")))
        if rng.random() < 0.1:
            row["sharp"] = rng.choice((math.nan, math.inf))
        found.append(row)
    return found


def check_sound(store: Store) -> None:
    """The file is whole, links lead somewhere, and the facets count what there is."""
    with sqlite3.connect(store.folder / "records.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        counted = dict(connection.execute("SELECT id, records FROM facets WHERE records > 0"))
        there = dict(connection.execute("SELECT facet, COUNT(*) FROM records GROUP BY facet"))
        assert counted == there
    connection.close()


def open_toy(folder: Path, count: int = 50) -> Store:
    """A store with plain records."""
    store = Store.open(folder)
    store.add([simple(number) for number in range(count)])
    return store
