"""Exports and imports: nothing is lost on the way, in any format, and a faulty file is told."""

import csv
import io
import json
import random
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from record_toys import (
    WORKFLOWS,
    awkward,
    content,
    fill_awkward,
    open_toy,
    png,
    shuffled_scores,
    simple,
)

from flowdesign.records import ExchangeError, Filter, Record, Store, Vote, sha_of
from flowdesign.records.exchange import FORMATS, export, import_records
from flowdesign.records.exchange.card import Card

ENDS = tuple(FORMATS)


def opened(folder: Path) -> Store:
    return Store.open(folder)


@pytest.mark.parametrize("packed", ["", ".zip"])
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_lost_on_the_way_out_and_back(tmp_path: Path, end: str, packed: str) -> None:
    target = tmp_path / f"out{packed}"
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        before = content(store)
        done = export(store, target, end)
        assert (done.records, done.votes, done.ratings) == (13, 4, 2)
    with opened(tmp_path / "b") as store:
        store.add([simple(500 + n) for n in range(5)])  # so that ids are others than before
        read = import_records(store, target)
        assert (read.records, read.new, read.votes, read.ratings, read.skipped) == (13, 13, 4, 2, 0)
        store.delete(range(1, 6), "me")
        assert content(store) == before
        again = import_records(store, target)
        assert (again.records, again.new) == (13, 0)
        assert content(store) == before
        # And out again: the same files but for ids.
        export(store, tmp_path / "second", end)
    assert len(before["records"]) == 13 and len(before["images"]) == 4
    assert before["votes"]["t3"]["repeat_of"] == "t1"


@pytest.mark.parametrize("end", ENDS)
def test_one_table_alone_can_be_imported(tmp_path: Path, end: str) -> None:
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        export(store, tmp_path / "out", end, Filter(split="train"))
        expected = {k: r for k, r in content(store)["records"].items() if _is_train(r)}
    with opened(tmp_path / "b") as store:
        import_records(store, tmp_path / "out" / "records" / f"train.{end}")
        assert content(store)["records"] == expected and expected


def _is_train(record: dict[str, Any]) -> bool:
    return record["prompt_split"] == record["workflow_split"] == "train"


@pytest.mark.parametrize("end", ENDS)
def test_splits_are_files_and_no_prompt_or_workflow_is_in_two(tmp_path: Path, end: str) -> None:
    with opened(tmp_path / "a") as store:
        store.add(
            [simple(n, prompt=f"prompt {n % 60}", workflow=WORKFLOWS[n % 12]) for n in range(600)]
        )
        done = export(store, tmp_path / "out", end)
    assert set(done.splits) == {"train", "validation", "test"} and sum(done.splits.values()) == 600
    held: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        with opened(tmp_path / split) as store:
            import_records(store, tmp_path / "out" / "records" / f"{split}.{end}")
            assert store.count_splits() == {split: done.splits[split]}
            held[split] = {r.prompt for r in store.stream() if r.prompt_split == split}
            if split == "train":
                assert {r.workflow_split for r in store.stream()} == {"train"}
    assert not held["train"] & (held["validation"] | held["test"])


def test_an_export_can_be_narrowed(tmp_path: Path) -> None:
    with open_toy(tmp_path / "a") as store:
        a, b, c = (
            record.id or 0 for record in store.find(Filter(prompt=simple(1).prompt)).rows[:3]
        )
        other = store.find(Filter(prompt=simple(2).prompt)).rows[0].id or 0
        store.vote(Vote(a, b, "left", "me", "in"))
        store.vote(Vote(a, c, "left", "me", "half"))
        store.delete([c], "me")
        chosen = Filter(text="number 1")
        done = export(store, tmp_path / "out", wanted=chosen)
        assert done.records == store.find(chosen).total and done.votes == 1
        assert export(store, tmp_path / "some", wanted=Filter(ids=(a, other))).votes == 0
        assert export(store, tmp_path / "none", wanted=Filter(source="nowhere")).records == 0
        assert "Only a part of the records" in (tmp_path / "out" / "README.md").read_text()
    with opened(tmp_path / "b") as store, pytest.raises(ExchangeError, match="holds no records"):
        import_records(store, tmp_path / "none")


@pytest.mark.parametrize("end", ENDS)
def test_images_can_be_left_out_and_come_later(tmp_path: Path, end: str) -> None:
    sha = sha_of(png())
    with opened(tmp_path / "a") as store:
        store.add([simple(1, image=sha)], {sha: png()})
        assert export(store, tmp_path / "bare", end, images=False).images == 0
        assert export(store, tmp_path / "full", end).images == 1
    assert not (tmp_path / "bare" / "images").exists()
    with opened(tmp_path / "b") as store:
        import_records(store, tmp_path / "bare")
        assert store.find(Filter(has_image=True)).total == 0
        assert store.find().rows[0].image == sha
        assert import_records(store, tmp_path / "full").images == 1
        assert store.find(Filter(has_image=True)).total == 1
        path = store.image_path(sha)
        assert path is not None and path.read_bytes() == png()


def test_the_names_of_raters_can_be_hidden(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        export(store, tmp_path / "out", hide_raters=True)
    text = (tmp_path / "out" / "votes.jsonl").read_text() + (
        tmp_path / "out" / "ratings.jsonl"
    ).read_text()
    assert "ann" not in text and "böb" not in text and "b\\u00f6b" not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert len({row["rater"] for row in rows}) == 3  # 'ann, "a"', 'böb' and 'ann'
    with opened(tmp_path / "b") as store:
        assert import_records(store, tmp_path / "out").votes == 4


def test_other_programs_can_read_the_files(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    sha = sha_of(png(3))
    with opened(tmp_path / "a") as store:
        store.add([simple(1, image=sha, prompt="日本")], {sha: png(3)})
        store.add([simple(2, prompt="日本", scores={"sharp": float("nan")})])
        for end in ENDS:
            export(store, tmp_path / end, end)
    (name,) = [path.stem for path in (tmp_path / "csv" / "records").iterdir()]
    frames = {
        "csv": pandas.read_csv(tmp_path / "csv" / "records" / f"{name}.csv"),
        "jsonl": pandas.read_json(tmp_path / "jsonl" / "records" / f"{name}.jsonl", lines=True),
        "parquet": pandas.read_parquet(tmp_path / "parquet" / "records" / f"{name}.parquet"),
    }
    for frame in frames.values():
        assert list(frame["prompt"]) == ["日本", "日本"] and list(frame["seed"]) == [1, 2]
        assert frame["score.exact"][0] == 0.1 and json.loads(frame["workflow"][0])
    picture = frames["parquet"]["picture"][0]
    assert picture["bytes"] == png(3) and picture["path"] == f"{sha}.png"
    with Image.open(io.BytesIO(picture["bytes"])) as image:
        assert image.size == (1, 1)
    schema = pytest.importorskip("pyarrow.parquet").read_schema(
        tmp_path / "parquet" / "records" / f"{name}.parquet"
    )
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["picture"] == {"_type": "Image"}
    assert set(features) == set(schema.names)
    for line in (tmp_path / "jsonl" / "records" / f"{name}.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_the_card_says_what_is_in_the_files(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        store.add([simple(n, scores=row) for n, row in enumerate(shuffled_scores(120))])
        card = Card('It\'s: a "title"\nof two lines', "About it.", "cc-by-4.0")
        done = export(store, tmp_path / "out", "parquet", card=card)
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["license"] == "cc-by-4.0" and told["size_categories"] == ["n<1K"]
    assert told["pretty_name"] == 'It\'s: a "title" of two lines'
    (config,) = told["configs"]
    for entry in config["data_files"]:
        assert (tmp_path / "out" / entry["path"]).is_file()
        assert f"| {entry['split']} | {done.splits[entry['split']]} |" in body
    assert "About it." in body and "| exact |" in body and "score.sharp" in body
    for name in Record.__dataclass_fields__:
        assert name == "scores" or f"| {name} |" in body


def test_an_export_replaces_nothing_and_appears_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_toy(tmp_path / "a") as store:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "mine.txt").write_text("mine")
        (tmp_path / "there.zip").write_text("mine")
        for name in ("there", "there.zip"):
            with pytest.raises(ExchangeError, match="exists already"):
                export(store, tmp_path / name)
        with pytest.raises(ExchangeError, match="Did you mean 'jsonl'"):
            export(store, tmp_path / "out", "json")
        monkeypatch.setattr(Store, "votes", lambda *args, **kwargs: 1 / 0)
        for name in ("out", "out.zip"):
            with pytest.raises(ZeroDivisionError):
                export(store, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "there", "there.zip"]
    assert (tmp_path / "there.zip").read_text() == "mine"


def rows(count: int) -> list[dict[str, Any]]:
    """What somebody might write by hand."""
    return [
        {"prompt": f"a star {n}", "workflow": WORKFLOWS[n % 12], "seed": n, "score.mine": n / 2}
        for n in range(count)
    ]


def test_a_file_made_by_hand_needs_no_more_than_prompt_and_workflow(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [json.dumps(row | {"unknown column": [1]}) for row in rows(3)]
    file.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    with opened(tmp_path / "a") as store:
        assert import_records(store, file, "import:mine").new == 3
        found = list(store.stream())
        assert [record.scores for record in found] == [{"mine": n / 2} for n in range(3)]
        assert {record.source for record in found} == {"import:mine"}
        assert all(record.created for record in found)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"prompt": None}, "no prompt"), ({"workflow": None}, "no workflow"), ({"prompt": 3}, "text"),
        ({"workflow": "{"}, "JSON"), ({"workflow": "[1]"}, "JSON object"), ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"), ({"seed": 1.5}, "whole"), ({"seed": "x"}, "number"),
        ({"score.mine": "high"}, "number"), ({"score.mine": [1]}, "number"),
        ({"score.combined": 1.0}, "combined"), ({"score.": 1.0}, "no name"),
        ({"image": "../../etc/passwd"}, "sha256"), ({"assets": "[]"}, "assets"),
        ({"assets": {"a": 1}}, "assets"), ({"id": 2**70}, "large"), ({"prompt": "\ud800"}, "surrogate"),
        ({"seed": 10**400}, "seed"), ({"seconds": "inf"}, "seconds"), ({"seed": True}, "number"),
    ],
)  # fmt: skip
def test_a_faulty_line_is_named_and_what_came_before_is_kept(
    tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    file = tmp_path / "mine.jsonl"
    good = rows(4)
    file.write_text("\n".join(json.dumps(row) for row in [*good[:2], good[2] | change, good[3]]))
    with opened(tmp_path / "a") as store:
        with pytest.raises(ExchangeError, match=r"mine\.jsonl, line 3: ") as told:
            import_records(store, file)
        assert word in str(told.value)
        file.write_text("\n".join(json.dumps(row) for row in good))
        assert import_records(store, file).records == 4 and store.count() == 4


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("prompt,workflow\na\n", "line 2: It has more or fewer fields"),
        ("prompt,workflow\na,b,c\n", "fields"), ('prompt,workflow\n"a,{}\n', "cannot be read"),
        ("a,b\n1,2\n", "line 2: It has no prompt"), ("prompt,workflow\na,{}\nb,{\n", "line 3"),
    ],
)  # fmt: skip
def test_a_faulty_csv_is_told(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with opened(tmp_path / "a") as store, pytest.raises(ExchangeError, match=word):
        import_records(store, tmp_path / "mine.csv")


@pytest.mark.parametrize("end", [*ENDS, "zip"])
def test_damaged_files_are_refused_and_never_a_fault(tmp_path: Path, end: str) -> None:
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        export(store, tmp_path / "good.zip")
        if end != "zip":
            export(store, tmp_path / "good", end)
    good = tmp_path / "good.zip" if end == "zip" else tmp_path / "good" / "records" / f"train.{end}"
    data, rng = good.read_bytes(), random.Random(end)
    refused = 0
    with opened(tmp_path / "b") as store:
        for _ in range(60):
            damaged = bytearray(
                data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data
            )
            for _ in range(rng.randint(1, 5) if damaged else 0):
                damaged[rng.randrange(len(damaged))] = rng.choice((0, 10, 34, 44, 123, 255, 65))
            (tmp_path / f"bad.{end}").write_bytes(bytes(damaged))
            try:
                import_records(store, tmp_path / f"bad.{end}")
            except ExchangeError as told:
                assert "\n" not in str(told)[:20]
                refused += 1
    assert refused > 5


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with opened(tmp_path / "a") as store:
        for name, word in (
            ("nowhere", "There is no file"), ("empty", "no records"), ("x.txt", "no table"),
            ("other.zip", "no records"),
        ):  # fmt: skip
            with pytest.raises(ExchangeError, match=word):
                import_records(store, tmp_path / name)


def test_an_image_with_other_bytes_is_refused(tmp_path: Path) -> None:
    sha = sha_of(png())
    with opened(tmp_path / "a") as store:
        store.add([simple(1, image=sha)], {sha: png()})
        export(store, tmp_path / "out")
    (tmp_path / "out" / "images" / f"{sha}.png").write_bytes(png(1))
    with opened(tmp_path / "b") as store, pytest.raises(ExchangeError, match="other bytes"):
        import_records(store, tmp_path / "out")


def test_a_zip_file_writes_nowhere_else(tmp_path: Path) -> None:
    line = json.dumps(rows(1)[0])
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../records/../../../evil/records/train.jsonl", line)
        archive.writestr("/abs/records/test.jsonl", line)
        archive.writestr("folder/images/../../../evil.png", png())
    with opened(tmp_path / "a") as store:
        assert import_records(store, tmp_path / "evil.zip").new == 1
    assert {path.name for path in tmp_path.iterdir()} == {"evil.zip", "a"}


def test_an_export_that_was_packed_by_hand_is_read_too(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        before = content(store)
        export(store, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for file in (tmp_path / "out").rglob("*"):
            archive.write(file, Path("my data") / file.relative_to(tmp_path / "out"))
    (tmp_path / "below").mkdir()
    (tmp_path / "out").rename(tmp_path / "below" / "out")
    for name in ("packed.zip", "below"):
        with opened(tmp_path / f"of {name}") as store:
            import_records(store, tmp_path / name)
            assert content(store) == before


def test_votes_on_records_that_are_not_in_the_files_are_counted(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        export(store, tmp_path / "out")
    (tmp_path / "out" / "records" / "train.jsonl").write_text("")
    with opened(tmp_path / "b") as store:
        read = import_records(store, tmp_path / "out")
        assert read.votes + read.skipped - read.ratings <= 6 and read.skipped > 0


def test_a_faulty_vote_is_named(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        fill_awkward(store)
        export(store, tmp_path / "out")
    file = tmp_path / "out" / "votes.jsonl"
    file.write_text(file.read_text().replace('"tie"', '"both"'))
    with (
        opened(tmp_path / "b") as store,
        pytest.raises(ExchangeError, match=r"votes\.jsonl, line 2"),
    ):
        import_records(store, tmp_path / "out")


@pytest.mark.parametrize("end", ["jsonl", "csv"])
def test_memory_does_not_grow_with_what_is_exported(tmp_path: Path, end: str) -> None:
    peaks = []
    with opened(tmp_path / "a") as store:
        for number in range(2):
            start, count = number * 10_000, (1000, 4000)[number]
            store.add([simple(start + n) for n in range(count)])
            export(store, tmp_path / f"warm {number}", end, Filter(text="number 3"))
            tracemalloc.start()
            export(store, tmp_path / f"out {number}", end)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5  # of five times as many records


def test_csv_fields_are_quoted_as_the_standard_says(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        store.add(*awkward())
        export(store, tmp_path / "out", "csv")
    for file in (tmp_path / "out" / "records").iterdir():
        with file.open(newline="", encoding="utf-8") as opened_file:
            lines = list(csv.reader(opened_file, strict=True))
        assert len({len(line) for line in lines}) == 1
