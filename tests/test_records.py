"""The store: what goes in comes out, once; in which split it is; and what the score of it all is."""

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import language_toys as toys
import pytest
from record_toys import (
    FOREIGN,
    PROMPTS,
    WORKFLOWS,
    awkward,
    check_sound,
    key_of,
    numbers,
    png,
    shuffled_scores,
    simple,
)

from flowdesign import scenes
from flowdesign.records import (
    BadRecord,
    Filter,
    Record,
    Store,
    record_key,
    sha_of,
    split_of_both,
    split_of_prompt,
)
from flowdesign.records.identity import parts_of, workflow_text
from flowdesign.records.splits import split_of_workflow
from flowdesign.standards import NoStandard, Reference, Standard, combine

TESTS = Path(__file__).parent
REFERENCE = Reference(
    "toys", {"exact": Standard(0.4, 0.2, 9), "sharp": Standard(3.0, 2.0, 9)}
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


def told_apart(scores: Mapping[str, float]) -> dict[str, str]:
    """Scores in a form in which NaN equals itself (SQLite has no negative nought)."""
    return {name: repr(value + 0.0) for name, value in scores.items()}


# --- records -------------------------------------------------------------------------------------


def test_records_come_back_as_they_went_in(store: Store) -> None:
    records, images = awkward()
    ids = store.add(records, images)
    for number, record in zip(ids, records, strict=True):
        found = store.get(number)
        for name in vars(record):
            if name not in ("id", "scores"):
                assert getattr(found, name) == getattr(record, name), name
        assert json.dumps(found.workflow) == json.dumps(record.workflow)
        assert told_apart(found.scores) == told_apart(record.scores)
    for sha, data in images.items():
        path = store.image_path(sha)
        assert path is not None and path.read_bytes() == data
        assert path.parent.name == sha[:2] and path.name == f"{sha}.png"
    assert store.image_path("") is None and store.image_path("0" * 64) is None
    check_sound(store)


def test_the_same_record_is_stored_once_and_its_scores_are_merged(store: Store) -> None:
    first = simple(1, scores={"exact": 0.5, "sharp": 1.0})
    copied = json.loads(json.dumps(first.workflow))
    renamed = {f"x{node}": each for node, each in copied.items()}
    for each in renamed.values():
        each["inputs"] = {
            n: [f"x{v[0]}", v[1]] if isinstance(v, list) else v for n, v in each["inputs"].items()
        }
    (number,) = store.add([first])
    again = replace(first, workflow=renamed, scores={"sharp": 2.0, "new": math.nan}, source="other")
    assert store.add([again, simple(2)]) == [number, number + 1]
    found = store.get(number)
    assert found.scores["exact"] == 0.5 and found.scores["sharp"] == 2.0
    assert math.isnan(found.scores["new"])
    assert found.source == "collect:toy" and found.workflow == first.workflow
    store.add_scores({number: {"exact": 0.75}})
    assert store.get(number).scores["exact"] == 0.75
    assert store.count() == 2


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue star"}, {"workflow": WORKFLOWS[5]}, {"seed": 77},
        {"assets": {"mini_flat": "c" * 64}}, {"renderer": "toy 2"},
    ],
)  # fmt: skip
def test_what_makes_another_image_is_another_record(store: Store, change: dict[str, Any]) -> None:
    one, other = simple(1), simple(1, **change)
    assert len(set(store.add([one, other]))) == 2
    assert store.has([key_of(one), key_of(other), "00" * 32]) == {key_of(one), key_of(other)}


def test_an_image_mends_a_record_that_failed(store: Store) -> None:
    sha = sha_of(png())
    failed = simple(1, failure="no memory", scores={})
    (number,) = store.add([failed])
    assert store.find(Filter(failed=True)).total == 1
    assert store.has([key_of(failed)]) and not store.has([key_of(failed)], failed=False)
    store.add([simple(1, image=sha, fidelity="exact", seconds=2.0)], {sha: png()})
    found = store.get(number)
    assert (found.failure, found.image, found.seconds) == ("", sha, 2.0)
    assert store.find(Filter(failed=True)).total == 0
    assert store.find(Filter(has_image=True)).total == 1
    store.add([simple(1, failure="later trouble")])
    assert store.get(number).failure == "" and store.get(number).image == sha
    (other,) = store.add([simple(2, failure="no memory")])
    store.add([simple(2, sentence="<end>")])  # a success whose image was not kept
    assert (store.get(other).failure, store.get(other).sentence) == ("", "<end>")
    check_sound(store)


def test_an_image_that_is_not_here_is_not_offered(store: Store) -> None:
    sha = sha_of(png())
    (number,) = store.add([simple(1, image=sha)])
    assert store.get(number).image == sha
    assert store.find(Filter(has_image=True)).total == 0
    store.add([simple(1, image=sha)], {sha: png()})
    assert numbers(store.find(Filter(has_image=True)).rows) == [number]


@pytest.mark.parametrize(
    ("record", "images", "word"),
    [
        (simple(1, seed=-1), {}, "seed"), (simple(1, seed=2**64), {}, "seed"),
        (simple(1, prompt="\ud800"), {}, "surrogate"), (simple(1, image="../x"), {}, "sha256"),
        (simple(1, scores={"combined": 1.0}), {}, "combined"), (simple(1, scores={"": 1.0}), {}, "name"),
        (simple(1, workflow={"1": {"class_type": "A", "inputs": {"a": math.nan}}}), {}, "JSON"),
        (simple(1, workflow={"1": object()}), {}, "JSON"), (simple(1, seconds=math.nan), {}, "seconds"),
        (simple(1, image="a" * 64), {"a" * 64: png()}, "other bytes"),
        (simple(1, image=sha_of(b"GIF")), {sha_of(b"GIF"): b"GIF"}, "not a PNG"),
        (simple(1), {"../../evil": png()}, "not the sha256"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_whole(
    store: Store, record: Record, images: dict[str, bytes], word: str
) -> None:
    with pytest.raises(BadRecord, match=word):
        store.add([simple(5), record], images)
    assert store.count() == 0


@pytest.mark.parametrize("workflow", [{}, {"1": 3}, {"1": {"class_type": 4}}, FOREIGN, {"a": []}])
def test_any_graph_whatever_can_be_kept(store: Store, workflow: dict[str, Any]) -> None:
    (number,) = store.add([simple(1, workflow=workflow)])
    assert store.get(number).workflow == workflow


def test_components_of_a_foreign_graph_are_found(store: Store) -> None:
    (number,) = store.add([simple(1, workflow=FOREIGN)])
    found = store.get(number)
    assert (found.checkpoint, found.sampler) == ("ö/ümlaut.safetensors", "dpm++")
    reseeded = json.loads(json.dumps(FOREIGN).replace('"seed": 5', '"seed": 6'))
    (other,) = store.add([simple(1, workflow=reseeded)])
    assert other != number  # it makes another image
    assert store.get(other).workflow_split == found.workflow_split


def test_a_seed_of_a_later_pass_makes_another_image_of_the_same_workflow(store: Store) -> None:
    later = toys.txt2img()["sampler"]["inputs"] | {"latent_image": ["sampler", 0], "denoise": 0.5}
    more = toys.node("KSampler", **later)
    plain = toys.txt2img(image__samples=["more", 0]) | {"more": more}
    moved = json.loads(json.dumps(plain))
    moved["more"]["inputs"]["seed"] = 4234  # how far it is from the usual one
    first, other, again = store.add([simple(1, workflow=w) for w in (plain, moved, plain)])
    assert first == again != other
    assert store.get(other).workflow == moved
    assert split_of_workflow(moved) == split_of_workflow(plain)
    parts = [parts_of(workflow_text(each)) for each in (plain, moved)]
    assert parts[0].hash == parts[1].hash == parts[0].identity != parts[1].identity


# --- splits --------------------------------------------------------------------------------------


def test_splits_follow_from_the_hash_and_have_their_shares() -> None:
    prompts = [f"a prompt with number {number}" for number in range(20_000)]
    splits = [split_of_prompt(prompt) for prompt in prompts]
    shares = {name: splits.count(name) / len(splits) for name in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.01)
    for variant in (
        "A prompt WITH number 5",
        "  a prompt\twith number 5\n",
        "a prompt with number ５",
    ):
        assert split_of_prompt(variant) == split_of_prompt("a prompt with number 5")
    # Known values: another version may never move a prompt.
    assert [
        split_of_prompt(prompt) for prompt in ("a red star", "a blue fish", "x")
    ] == KNOWN_SPLITS


KNOWN_SPLITS = ["train", "test", "validation"]


def test_held_out_prompts_are_those_the_image_models_never_saw() -> None:
    rng = random.Random(0)
    prompts = [scenes.random_prompt(rng, split=s) for s in ("train", "test") for _ in range(300)]
    for prompt in prompts:
        if split_of_prompt(prompt) != "train":
            assert scenes.split_of(prompt) == "test"


def test_a_record_is_in_the_stricter_split_of_its_parts() -> None:
    assert split_of_both("train", "train") == "train"
    assert split_of_both("train", "validation") == "validation"
    assert split_of_both("validation", "train") == "validation"
    for other in ("train", "validation", "test"):
        assert split_of_both("test", other) == split_of_both(other, "test") == "test"  # type: ignore[arg-type]


def test_no_prompt_and_no_workflow_leaks_between_splits(store: Store) -> None:
    rng = random.Random(1)
    store.add(
        [
            simple(
                n, prompt=f"{rng.choice(PROMPTS)} {rng.randrange(80)}", workflow=rng.choice(many)
            )
            for many in [[json.loads(json.dumps(w)) for w in _variants()]]
            for n in range(1500)
        ]
    )
    train, validation, test = (
        list(store.stream(Filter(split=split))) for split in ("train", "validation", "test")
    )
    assert len(train) + len(validation) + len(test) == store.count()
    assert min(len(train), len(validation), len(test)) > 50
    for part, stricter in ((train, validation + test), (validation, test)):
        held = {"validation", "test"} if part is train else {"test"}
        prompts = {" ".join(r.prompt.lower().split()) for r in stricter if r.prompt_split in held}
        graphs = {json.dumps(r.workflow) for r in stricter if r.workflow_split in held}
        assert not prompts & {" ".join(r.prompt.lower().split()) for r in part}
        assert not graphs & {json.dumps(r.workflow) for r in part}


def _variants() -> Iterator[dict[str, Any]]:
    for steps in range(1, 11):
        for workflow in WORKFLOWS[:6]:
            changed = json.loads(json.dumps(workflow))
            for node in changed.values():
                if "steps" in node["inputs"]:
                    node["inputs"]["steps"] = steps
            yield changed


# --- the weighted score --------------------------------------------------------------------------


def test_the_weighted_score_is_that_of_the_standards(store: Store) -> None:
    weights = {"exact": 2.0, "sharp": -0.5, "idle": 0.0}
    rows = shuffled_scores(300)
    ids = store.add([simple(n, scores=row) for n, row in enumerate(rows[:200])])
    assert all(record.combined is None for record in store.stream())
    store.reweigh(weights, REFERENCE)
    ids += store.add([simple(200 + n, scores=row) for n, row in enumerate(rows[200:])])
    store.add_scores({ids[0]: {"exact": 0.25, "sharp": 1.0}})
    rows[0] = {"exact": 0.25, "sharp": 1.0}

    def check(weighed: dict[str, float]) -> None:
        for number, row in zip(ids, rows, strict=True):
            expected, found = combine(row, weighed, REFERENCE), store.get(number).combined
            assert found == pytest.approx(expected) if expected is not None else found is None

    check(weights)
    assert store.options().scorers == ("exact", "sharp", "combined")
    best = [record.combined for record in store.find(order="best", limit=300).rows]
    assert best == sorted((x for x in best if x is not None), reverse=True) and len(best) > 200
    store.reweigh({"sharp": 1.0}, REFERENCE)
    check({"sharp": 1.0})
    store.reweigh({}, REFERENCE)
    assert all(record.combined is None for record in store.stream())
    with pytest.raises(NoStandard, match="nothing like it"):
        store.reweigh({"nothing like it": 1.0}, REFERENCE)


def test_the_folder_comes_from_the_environment(tmp_path: Path) -> None:
    code = "from flowdesign.records import DATA; print(DATA)"
    environment = os.environ | {"FLOWDESIGN_DATA": str(tmp_path / "elsewhere")}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True,
        cwd=TESTS.parent,
    )  # fmt: skip
    assert shown.stdout.strip() == str(tmp_path / "elsewhere")


def test_importing_records_loads_nothing_heavy() -> None:
    code = (
        "import sys, flowdesign.records.command\n"
        "heavy = ('torch', 'gradio', 'pyarrow', 'pandas', 'numpy', 'PIL', 'transformers')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TESTS.parent
    )
    assert shown.stdout.strip() == "[]"


def test_a_key_depends_on_no_order() -> None:
    one = record_key("p", WORKFLOWS[0], 1, {"a": "1", "b": "2"}, "r")
    assert one == record_key("p", WORKFLOWS[0], 1, {"b": "2", "a": "1"}, "r")
    assert len(one) == 64
