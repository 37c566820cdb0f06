"""The shipped records: packed, read back, taken in once; and what is in assets/, when it is there."""

from __future__ import annotations

import gzip
import json
import math
import random
import threading
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from collect_toys import ToyRecipe, small, tiny_catalogue, use_models
from shipped import needs_models
from toys import every_model

from flowdesign import runs
from flowdesign.__main__ import main
from flowdesign.catalog import ROOT, installed, known_assets
from flowdesign.collect import collect
from flowdesign.collect.again import TOLERANCE, compare
from flowdesign.config import CollectConfig, ScoreConfig, build
from flowdesign.provenance import ModelHashes
from flowdesign.records import Filter, Record, Store, StoredRecord, split_of_prompt
from flowdesign.records.splits import split_of_workflow
from flowdesign.shipped import (
    FILES,
    GRID,
    MORE,
    PACKED,
    ShippedError,
    import_once,
    pack,
    read_head,
    unpack,
    unpack_all,
)
from flowdesign.shipped.card import card_of, noise_ceiling
from flowdesign.shipped.first import MARK
from flowdesign.standards import read_reference
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence, sentence_text

LANGUAGE = Automaton(VOCABULARY, known_assets())
LIMIT = 20_000_000  # bytes


def workflows(count: int) -> list[tuple[str, dict[str, dict[str, object]]]]:
    rng, found = random.Random(4), []
    for _ in range(count):
        tokens = random_sentence(LANGUAGE, rng)
        workflow = decode(tokens).workflow
        assert workflow is not None
        found.append((sentence_text(tokens), workflow))
    return found


def some_records(count: int = 30) -> list[Record]:
    from flowdesign.provenance import assets_of

    rng, said = random.Random(5), workflows(5)
    found = []
    for number in range(count):
        sentence, workflow = said[number % 5]
        failed = number % 7 == 3
        found.append(
            Record(
                prompt=f'a "red" star {number % 3}, naïve',
                workflow=workflow,
                seed=rng.randrange(2**32) if number else 2**64 - 1,
                sentence=sentence,
                scores={}
                if failed
                else {"scene_soft": rng.random(), "sharpness": 1 / (number + 1)},
                source="collect:x",
                assets={name: f"hash of {name}" for _, name in assets_of(workflow)},
                renderer="here 1",
                fidelity="" if failed else "approximate",
                seconds=round(rng.random(), 3),
                failure="it broke" if failed else "",
                created=f"2026-01-01T00:00:{number % 60:02}.000Z",
            )
        )
    return found


def plain(record: Record) -> Record:
    """A record without what packing does not keep."""
    return replace(record, source="shipped", created="", id=None)


def by_key(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda one: (one.sentence, one.prompt, one.seed))


# --- packing -------------------------------------------------------------------------------------


def test_what_is_packed_is_unpacked_without_loss(tmp_path: Path) -> None:
    records, path = some_records(), tmp_path / "packed.jsonl.gz"
    head = pack(records, {"run": "x"}, path)
    assert (head.records, head.prompts, head.workflows) == (30, 3, 5)
    assert head == read_head(path)
    found = list(unpack(path))
    assert [plain(one) for one in found] == [plain(one) for one in by_key(records)]
    assert {one.created for one in found} == {"2026-01-01T00:00:29.000Z"}


def test_the_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    records = some_records()
    files = []
    for name, given in (("a", records), ("b", records[::-1])):
        pack(given, {}, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_what_does_not_belong_together_is_not_packed(tmp_path: Path) -> None:
    records = some_records()
    for other, words in (
        (replace(records[0], renderer="there 2"), "several renderers"),
        (replace(records[0], assets=dict.fromkeys(records[0].assets, "x")), "different files"),
        (replace(records[0], sentence=""), "cannot say"),
    ):
        with pytest.raises(ShippedError, match=words):
            pack([*records, other], {}, tmp_path / "packed")
    with pytest.raises(ShippedError, match="no records"):
        pack([], {}, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("text", [None, b"no json", b"[1]", b"{}"])
def test_another_file_is_told(tmp_path: Path, text: bytes | None) -> None:
    data = b"no gzip" if text is None else gzip.compress(text)
    (tmp_path / "packed").write_bytes(data)
    with pytest.raises(ShippedError, match="packed"):
        read_head(tmp_path / "packed")


# --- the first start -----------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "packed.jsonl.gz"
    pack(some_records(), {"run": "x"}, path)
    return path


def stored(store: Store) -> list[StoredRecord]:
    return list(store.stream(Filter()))


def test_an_empty_store_takes_the_records_in_once(tmp_path: Path, packed: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        assert import_once(store, packed) == 30
        assert len(stored(store)) == 30
        assert {one.source for one in stored(store)} == {"shipped"}
        assert import_once(store, packed) == 0
        store.delete([one.id for one in stored(store) if one.id], "me")
        store.purge()
        assert import_once(store, packed) == 0
        assert stored(store) == []


def test_what_is_taken_in_has_a_combined_score_unless_somebody_weighs_otherwise(
    tmp_path: Path, packed: Path
) -> None:
    with Store.open(tmp_path / "data") as store:
        import_once(store, packed)
        assert store.weights() == build(ScoreConfig, {}).weights
        whole = [one for one in stored(store) if {"scene_soft", "sharpness"} <= set(one.scores)]
        assert whole and all(one.combined is not None for one in whole)
    with Store.open(tmp_path / "own") as store:
        store.reweigh({"sharpness": 2.0}, read_reference())
        import_once(store, packed)
        assert store.weights() == {"sharpness": 2.0}


def test_a_store_with_records_of_its_own_is_left_alone(tmp_path: Path, packed: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        store.add([Record("mine", {})])
        assert import_once(store, packed) == 0
        assert len(stored(store)) == 1


def test_without_a_packed_file_nothing_happens(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        assert import_once(store, tmp_path / "none") == 0
    assert not (tmp_path / "data" / MARK).exists()


def test_an_import_that_was_interrupted_goes_on(tmp_path: Path, packed: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        store.add(list(unpack(packed))[:7])
        (tmp_path / "data" / MARK).write_text(json.dumps({"state": "begun"}))
        import_once(store, packed)
        assert len(stored(store)) == 30


def test_two_that_start_at_once_import_once(tmp_path: Path, packed: Path) -> None:
    counts: list[int] = []

    def start() -> None:
        with Store.open(tmp_path / "data") as store:
            counts.append(import_once(store, packed))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 0, 30]


# --- the card ------------------------------------------------------------------------------------


def test_the_noise_ceiling_is_icc_1() -> None:
    # Worked by hand: means 2, 6, 4; MSB = 2 * 4 = 8, MSW = (2 + 2 + 0) / 3 = 4 / 3.
    groups = [[1.0, 3.0], [5.0, 7.0], [4.0, 4.0]]
    assert noise_ceiling(groups) == pytest.approx((8 - 4 / 3) / (8 + 4 / 3))
    assert noise_ceiling([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]]) == 1.0
    assert math.isnan(noise_ceiling([[1.0], [2.0]]))
    rng = random.Random(0)
    noisy = [
        [mean + rng.gauss(0, 1) for _ in range(4)]
        for mean in (rng.gauss(0, 1) for _ in range(4000))
    ]
    assert noise_ceiling(noisy) == pytest.approx(0.5, abs=0.03)


def test_the_commands_make_a_card_load_and_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowdesign.catalog.MODELS", every_model(tmp_path / "models"))
    monkeypatch.setattr("flowdesign.shipped.command.ROOT", tmp_path)
    config = small("mine", tmp_path / "records")
    folder = tmp_path / "checkpoints" / "mine"
    runs.prepare(folder, config)
    runs.execute(folder, lambda place: collect(config, place, ToyRecipe()))
    file = tmp_path / "packed.jsonl.gz"
    assert main(["shipped", "make", "--run", "mine", "--file", str(file)]) == 0
    assert "Packed 42 records of 12 prompts and 6 workflows" in capsys.readouterr().out
    card = (tmp_path / "packed.md").read_text()
    assert card.startswith("---\npretty_name: ") and "license: apache-2.0" in card
    assert "--run mine" in card and "--repeated 0.25" in card and "| scene_soft | 42 |" in card
    assert "6 of 24 pairs" in card
    assert str(tmp_path) not in card + gzip.decompress(file.read_bytes()).decode()
    assert main(["shipped", "load", "--file", str(file), "--data", str(tmp_path / "new")]) == 0
    with Store.open(tmp_path / "new") as store:
        assert len(stored(store)) == 42
    assert main(["shipped", "make", "--run", "none", "--file", str(file)]) == 2
    assert "no run none" in capsys.readouterr().err


def test_records_are_rendered_again_to_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(tiny_catalogue(tmp_path), monkeypatch)
    config = small("real", tmp_path / "records", n=4, repeated=0.5, workers=1, prompt_count=4)
    folder = tmp_path / "real"
    runs.prepare(folder, config)
    runs.execute(folder, lambda place: collect(config, place))
    with Store.open(tmp_path / "records") as store:
        pack(store.stream(Filter()), config.model_dump(), tmp_path / "packed")
    found = compare(tmp_path / "packed", 5, 0, installed())
    assert set(found) == set(config.all_scorers)
    for row in found.values():
        assert row["records"] == 5 and row["same"] >= 4
    rows = gzip.decompress((tmp_path / "packed").read_bytes()).decode().splitlines()
    changed = [json.loads(row) for row in rows[3:]]
    for row in changed:
        row[5] = [None if value is None else value + 1 for value in row[5]]
    text = "\n".join([*rows[:3], *map(json.dumps, changed)]) + "\n"
    (tmp_path / "packed").write_bytes(gzip.compress(text.encode()))
    assert all(row["same"] == 0 for row in compare(tmp_path / "packed", 5, 0, installed()).values())


# --- what is shipped -----------------------------------------------------------------------------

SHIPPED = [path for path in FILES if path.exists()]
needs_records = pytest.mark.skipif(
    not PACKED.exists(), reason=f"{PACKED.relative_to(ROOT)} is not made yet: see its command"
)


@pytest.fixture(scope="module")
def shipped_records() -> list[Record]:
    return list(unpack(PACKED))


@needs_records
def test_the_shipped_records_are_as_many_as_promised(shipped_records: list[Record]) -> None:
    assert PACKED.stat().st_size < LIMIT
    head = read_head(PACKED)
    scored = [one for one in shipped_records if one.scores]
    assert len(scored) >= 20_000
    assert len({one.prompt for one in scored}) >= 400
    assert len({one.sentence for one in scored}) >= 3_000
    keys = {(one.prompt, one.sentence, one.seed) for one in shipped_records}
    assert len(keys) == len(shipped_records) == head.records


@needs_records
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_has_its_card(path: Path) -> None:
    card = path.with_name(path.name.partition(".")[0] + ".md")
    assert card.read_text(encoding="utf-8") == card_of(path)
    assert f"--run {read_head(path).config['run']}" in card.read_text(encoding="utf-8")


@needs_records
def test_no_image_is_shipped_twice() -> None:
    keys = Counter((one.prompt, one.sentence, one.seed) for one in unpack_all())
    assert max(keys.values()) == 1


@pytest.mark.parametrize("path", MORE, ids=lambda path: path.name)
def test_what_is_added_to_learn_from_is_of_the_training_split(path: Path) -> None:
    added = list(unpack(path))
    assert len({(one.prompt, one.sentence) for one in added}) >= 500
    assert {split_of_prompt(one.prompt) for one in added} == {"train"}
    assert {split_of_workflow(one.workflow) for one in added} == {"train"}


@pytest.mark.skipif(not GRID.exists(), reason=f"{GRID.name} is not made yet")
def test_the_grid_is_dense_and_of_the_test_split() -> None:
    """Every prompt meets the same 64 workflows with the same number of seeds."""
    grid = list(unpack(GRID))
    prompts, sentences = {one.prompt for one in grid}, {one.sentence for one in grid}
    assert len(prompts) >= 32 and len(sentences) >= 64
    seeds = Counter((one.prompt, one.sentence) for one in grid)
    assert len(seeds) == len(prompts) * len(sentences) and set(seeds.values()) == {2}
    assert {split_of_prompt(prompt) for prompt in prompts} == {"test"}
    assert {split_of_workflow(one.workflow) for one in grid} == {"test"}


@needs_records
def test_the_shipped_records_can_be_learned_from(shipped_records: list[Record]) -> None:
    """Many workflows for each prompt, several prompts for each workflow, all splits, seeds repeated."""
    of_prompt, of_workflow = defaultdict(set), defaultdict(set)
    seeds: Counter[tuple[str, str]] = Counter()
    for one in shipped_records:
        of_prompt[one.prompt].add(one.sentence)
        of_workflow[one.sentence].add(one.prompt)
        seeds[one.prompt, one.sentence] += 1
    assert min(map(len, of_prompt.values())) >= 20
    assert sorted(map(len, of_workflow.values()))[len(of_workflow) // 2] >= 3
    assert sum(count >= 4 for count in seeds.values()) >= 2000
    shares = Counter(split_of_prompt(prompt) for prompt in of_prompt)
    assert min(shares.values()) >= 20 and len(shares) == 3
    for name in read_head(PACKED).scorers:
        values = [one.scores[name] for one in shipped_records if name in one.scores]
        assert len(set(values)) > 1


@needs_records
def test_the_shipped_records_are_taken_in(tmp_path: Path, shipped_records: list[Record]) -> None:
    with Store.open(tmp_path) as store:
        count = sum(read_head(path).records for path in SHIPPED)
        assert import_once(store) == count >= len(shipped_records)
        assert store.find(limit=1).total == count


@needs_records
@needs_models
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_records_are_of_the_shipped_models_and_render_again(path: Path) -> None:
    models, head = installed([ROOT / "checkpoints" / "miniature"]), read_head(path)
    hashes = ModelHashes(models)
    kinds = ("checkpoints", "loras", "vae", "upscale_models")
    mine = {name: hashes.hash(kind, name) for kind in kinds for name in models.names(kind)}
    assert head.assets == {name: mine[name] for name in head.assets}
    count = 12 if path == PACKED else 6
    found = compare(path, count, 1, models)
    for name, row in found.items():
        assert row["same"] >= count - 2, f"{name} within {TOLERANCE}: {row}"


def test_the_card_says_which_policy_said_the_workflows(packed: Path) -> None:
    config = CollectConfig(run="x", policy="mine", redrawn="lora")  # type: ignore[call-arg]
    pack(some_records(), config.model_dump(), packed)
    card = card_of(packed)
    assert "what the policy `mine`, as it was then, says" in card and "with lora drawn anew" in card
    assert "random walks" not in card


def test_the_card_says_what_was_searched_for(packed: Path) -> None:
    config = CollectConfig(run="x", searched="reward", sweeps=2, heat=0.1)  # type: ignore[call-arg]
    pack(some_records(), config.model_dump(), packed)
    card = card_of(packed)
    assert "Workflows are random walks through the grammar, changed to" in card
    assert "`reward`, as it was then" in card and "2 sweeps at temperature 0.1" in card
    assert "each tried on" not in card


def test_the_card_names_a_command_that_exists(packed: Path) -> None:
    config = CollectConfig(run="x", n=9, images=False)  # type: ignore[call-arg]
    pack(some_records(), config.model_dump(), packed)
    lines = card_of(packed).splitlines()
    command = next(line for line in lines if line.startswith("python -m flowdesign collect "))
    assert command.split()[4:] == ["--run", "x", "--no-images", "--n", "9"]
