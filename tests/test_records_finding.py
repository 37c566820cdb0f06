"""Filters, pages, streams and figures, each against the same thing done the slow and simple way."""

import itertools
import math
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record_toys import FOREIGN, WORKFLOWS, numbers, png, shuffled_scores, simple

from flowdesign.records import (
    COMPONENT_KINDS,
    ORDERS,
    Filter,
    Order,
    Page,
    RecordsError,
    Store,
    StoredRecord,
    normalised,
    paging,
    sha_of,
)
from flowdesign.records.identity import parts_of, workflow_text
from flowdesign.standards import Reference, Standard

COUNT = 400
PROMPTS = (
    "a red star, outline style", "a red star", "two Red fish on sand, striped style", "a \"quote\"",
    "three STARS", "eine Straße für Füchse", "日本の狐が好き", "100% of_it", "x", "",
    "a blue circle left of a red square", "a red heart and a pink drop", "nul\0byte",
)  # fmt: skip
ODD = [
    "red", "RED sta", "star outline", "ar", "x", "0%", "of_it", "%", "_", "straße", "STRASSE",
    "本の狐", "狐", "\"quote", "nowhere to be seen", "left of", "nul\0b", "AND", "* OR (", "  ",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a bit of everything, some of it deleted."""
    rng = random.Random(7)
    scores = shuffled_scores(COUNT)
    pictures = {sha_of(png(number)): png(number) for number in range(5)}
    with Store.open(tmp_path_factory.mktemp("finding")) as opened:
        opened.reweigh(
            {"exact": 1.0, "sharp": 1.0},
            Reference("toys", {"exact": Standard(0.5, 0.2, 9), "sharp": Standard(3, 1, 9)}),
        )
        ids = opened.add(
            [
                simple(
                    number,
                    prompt=rng.choice(PROMPTS),
                    workflow=rng.choice([*WORKFLOWS, FOREIGN]),
                    source=f"collect:{min(rng.randrange(30), 3)}",
                    scores=scores[number],
                    image=rng.choice(["", *pictures]),
                    failure=rng.choice(["", "", "", "broken"]),
                )
                for number in range(COUNT)
            ],
            pictures,
        )
        opened.delete(rng.sample(ids, 40), "me")
        yield opened


@pytest.fixture(scope="module")
def everything(store: Store) -> list[StoredRecord]:
    """All records, deleted ones too."""
    return [store.get(number) for number in range(1, COUNT + 1)]


def matches(record: StoredRecord, wanted: Filter) -> bool:
    """What a filter means, said once more."""
    exact = ("prompt", "prompt_split", "workflow_split", "split", "source", "checkpoint", "sampler",
             "category")  # fmt: skip
    asked = {name: getattr(wanted, name) for name in exact}
    text = normalised(record.prompt)
    score = record.scores.get(wanted.scorer or "", math.nan)
    if wanted.scorer == "combined":
        score = math.nan if record.combined is None else record.combined
    low = -math.inf if wanted.low is None else wanted.low
    high = math.inf if wanted.high is None else wanted.high
    return (
        all(value is None or getattr(record, name) == value for name, value in asked.items())
        and record.deleted == wanted.deleted
        and all(word in text for word in normalised(wanted.text).split())
        and wanted.has_image in (None, bool(record.image))
        and wanted.failed in (None, bool(record.failure))
        and (wanted.scorer is None or low <= score <= high)
        and (not wanted.ids or record.id in wanted.ids)
    )


def expected(records: list[StoredRecord], wanted: Filter, order: Order) -> list[int | None]:
    """The ids that a search should give, in order."""
    found = [record for record in records if matches(record, wanted)]
    if order in ("newest", "oldest"):
        return sorted(numbers(found), reverse=order == "newest")  # type: ignore[type-var]
    scorer = wanted.scorer or "combined"
    scored = [
        (record.combined if scorer == "combined" else record.scores.get(scorer), record.id)
        for record in found
    ]
    known = [(s, n) for s, n in scored if s is not None and not math.isnan(s) and n is not None]
    return [number for _, number in sorted(known, reverse=order == "best")]


def pages(store: Store, wanted: Filter, order: Order, limit: int) -> tuple[list[int | None], Page]:
    """Turn the pages to the end; give all ids, and the first page."""
    page = first = store.find(wanted, limit=limit, order=order)
    found = numbers(page.rows)
    while page.next is not None:
        assert len(page.rows) == limit
        page = store.find(wanted, page.next, limit, order)
        found += numbers(page.rows)
    return found, first


def random_filter(rng: random.Random, records: list[StoredRecord]) -> Filter:
    """Some of the conditions, with values that occur and now and then one that does not."""
    one = rng.choice(records)
    choices: dict[str, Any] = {
        "text": rng.choice(ODD), "prompt": rng.choice((one.prompt, "no such prompt")),
        "prompt_split": rng.choice(("train", "test")), "workflow_split": one.workflow_split,
        "split": rng.choice(("train", "validation", "test")), "source": one.source,
        "checkpoint": rng.choice((one.checkpoint, "none such")), "sampler": one.sampler,
        "category": one.category, "deleted": rng.random() < 0.3, "has_image": rng.random() < 0.5,
        "failed": rng.random() < 0.5, "ids": tuple(rng.sample(range(1, COUNT + 9), 60)),
    }  # fmt: skip
    kept = rng.sample(list(choices), rng.choice((0, 1, 1, 2, 2, 3)))
    asked = {name: choices[name] for name in kept}
    if rng.random() < 0.4:
        asked["scorer"] = rng.choice(("exact", "sharp", "combined", "never scored"))
        asked["low"] = rng.choice((None, 0.0, 0.5, 2.5))
        asked["high"] = rng.choice((None, 0.5, 1.0, 3.0))
    return Filter(**asked)


# The sizes at which a search changes its way, from always walking to always gathering.
@pytest.mark.parametrize(
    ("first", "window", "patience", "few"),
    [(500, 20_000, 100_000, 20_000), (3, 7, 60, 10), (1, 2, 4, 5), (2, 5, 10, 0), (50, 60, 10**6, 100)],
)  # fmt: skip
def test_pages_hold_what_matches_in_order_each_once(
    store: Store, everything: list[StoredRecord], monkeypatch: pytest.MonkeyPatch,
    first: int, window: int, patience: int, few: int,
) -> None:  # fmt: skip
    sizes = {"FIRST_WINDOW": first, "WINDOW": window, "PATIENCE": patience, "FEW": few}
    for name, value in sizes.items():
        monkeypatch.setattr(paging, name, value)
    rng = random.Random(few)
    for _ in range(70):
        wanted, order = random_filter(rng, everything), rng.choice(ORDERS)
        found, page = pages(store, wanted, order, rng.choice((1, 7, 50)) if few else 20)
        assert found == expected(everything, wanted, order), (wanted, order)
        total = len(expected(everything, wanted, "newest"))
        assert page.total == total if page.total_is_exact else page.total <= total, wanted


def test_streams_hold_what_matches_oldest_first(
    store: Store, everything: list[StoredRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    for window in (20_000, 13):
        monkeypatch.setattr(paging, "WINDOW", window)
        for _ in range(40):
            wanted = random_filter(rng, everything)
            ids = expected(everything, wanted, "oldest")
            assert list(store.ids(wanted)) == ids
            assert numbers(store.stream(wanted)) == ids
            images = {store.get(n).image for n in ids if n is not None} - {""}
            assert list(store.images_of(wanted)) == sorted(images)
            splits = [store.get(n).split for n in ids if n is not None]
            assert store.count_splits(wanted) == {s: splits.count(s) for s in set(splits)}


@pytest.mark.parametrize("text", ODD)
def test_words_are_found_anywhere_in_any_case(
    store: Store, everything: list[StoredRecord], text: str
) -> None:
    wanted = Filter(text=text)
    assert pages(store, wanted, "oldest", 50)[0] == expected(everything, wanted, "oldest")


def test_the_options_count_what_is_there(store: Store, everything: list[StoredRecord]) -> None:
    here = [record for record in everything if not record.deleted]
    options = store.options()
    for name in (
        "source", "checkpoint", "sampler", "category", "split", "prompt_split", "workflow_split",
    ):  # fmt: skip
        values = [getattr(record, name) for record in here]
        assert getattr(options, name) == {value: values.count(value) for value in set(values)}
        for value, count in getattr(options, name).items():
            assert store.find(Filter(**{name: value})).total == count
    assert options.scorers == ("exact", "sharp", "combined")
    assert options.raw_scorers == ("exact", "sharp")


def finite(records: list[StoredRecord], scorer: str) -> list[float]:
    found = [record.scores.get(scorer, math.nan) for record in records]
    return [score for score in found if math.isfinite(score)]


@pytest.mark.parametrize("much", [0, 4, 10**9])  # always the index, where it pays, never
def test_histograms_and_summaries_count_every_score(
    store: Store, everything: list[StoredRecord], monkeypatch: pytest.MonkeyPatch, much: int
) -> None:
    monkeypatch.setattr("flowdesign.records.figures.MUCH", much)
    rng = random.Random(5)
    filters = [Filter(), *(random_filter(rng, everything) for _ in range(40))]
    for wanted, scorer in itertools.product(filters, ("exact", "sharp")):
        here = [record for record in everything if matches(record, wanted)]
        scores = finite(here, scorer)
        found = store.histogram(scorer, wanted, bins=6)
        assert sum(found.counts) == len(scores)
        assert found.missing == len(here) - len(scores)
        for index, count in enumerate(found.counts):
            low, high = found.edges[index : index + 2]
            last = index == len(found.counts) - 1
            inside = [s for s in scores if low <= s and (s < high or last)]
            near = [s for s in scores if min(abs(s - low), abs(s - high)) < 1e-9]
            assert abs(count - len(inside)) <= len(near)
        told = store.summary(scorer, wanted)
        assert told.n == len(scores)
        if scores:
            assert (told.low, told.high) == (min(scores), max(scores))
            assert told.mean == pytest.approx(statistics.fmean(scores))
        if len(scores) > 1:
            assert told.sd == pytest.approx(statistics.stdev(scores))


def test_a_histogram_of_equal_scores_or_none_is_no_fault(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.histogram("exact").counts == () and store.by_component("lora", "exact") == []
        store.add([simple(n, scores={"same": 2.0}) for n in range(3)])
        store.add([simple(9, scores={"same": math.nan}), simple(10, scores={})])
        found = store.histogram("same", bins=4)
        assert sum(found.counts) == 3 and found.missing == 2
        assert store.histogram("never").missing == 5
        assert math.isnan(store.summary("never").mean)


@pytest.mark.parametrize("kind", COMPONENT_KINDS)
def test_components_are_compared_within_categories(
    store: Store, everything: list[StoredRecord], kind: Any
) -> None:
    for wanted in (Filter(), Filter(checkpoint="mini_flat"), Filter(text="red", failed=False)):
        groups: dict[tuple[str, str | None], list[float]] = {}
        for record in everything:
            for score in finite([record], "sharp") if matches(record, wanted) else []:
                for each, value in parts_of(workflow_text(record.workflow)).components:
                    if each == kind:
                        groups.setdefault((value, record.category), []).append(score)
                        groups.setdefault((value, None), []).append(score)
        found = store.by_component(kind, "sharp", wanted)
        assert {(one.value, one.category) for one in found} == set(groups)
        for one in found:
            scores = groups[one.value, one.category]
            assert one.n == len(scores)
            assert one.mean == pytest.approx(statistics.fmean(scores))
            if one.n > 1:
                assert one.se == pytest.approx(statistics.stdev(scores) / math.sqrt(one.n))
            else:
                assert math.isnan(one.se)


def test_large_scores_with_a_small_spread_keep_their_digits(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        scores = [1e9 + n / 1000 for n in range(50)]
        store.add([simple(12 * n, scores={"big": s}) for n, s in enumerate(scores)])
        (one, _) = store.by_component("passes", "big")
        assert one.se == pytest.approx(statistics.stdev(scores) / math.sqrt(50), rel=1e-6)


def test_what_cannot_be_asked_is_told(store: Store) -> None:
    with pytest.raises(RecordsError, match="Unknown order 'bets'"):
        store.find(order="bets")  # type: ignore[arg-type]
    with pytest.raises(RecordsError, match="Did you mean 'sampler'"):
        store.by_component("smapler", "exact")  # type: ignore[arg-type]
    for after in (
        "",
        "x",
        "[1]",
        "[]",
        "{}",
        '["a", 2]',
        "[null, 3]",
        "[1, 2, 3]",
        "[1, Infinity]",
        "[" * 5000,
    ):
        with pytest.raises(RecordsError, match="begin again"):
            store.find(after=after)
    assert len(store.find(limit=-5).rows) == 1 and len(store.find(limit=10**9).rows) > 100


def test_prompts_with_enough_images_are_listed(
    store: Store, everything: list[StoredRecord]
) -> None:
    shown = [r.prompt for r in everything if r.image and not r.deleted]
    counts = {prompt: shown.count(prompt) for prompt in set(shown)}
    for least in (1, 2, 25):
        found = store.prompts(least)
        assert {one.prompt: one.images for one in found} == {
            prompt: count for prompt, count in counts.items() if count >= least
        }
        assert [one.images for one in found] == sorted((o.images for o in found), reverse=True)


@pytest.mark.parametrize("most", [3, 1000])
def test_the_images_of_a_prompt_are_the_newest_that_can_be_shown(
    store: Store, everything: list[StoredRecord], most: int
) -> None:
    for prompt in (*PROMPTS, "no such prompt"):
        shown = [r for r in everything if r.prompt == prompt and r.image and not r.deleted]
        newest = sorted(shown, key=lambda record: -(record.id or 0))[:most]
        found = store.images_for(prompt, most)
        assert [(one.record, one.image, one.combined) for one in found] == [
            (record.id, record.image, record.combined) for record in newest
        ]
        pairs = itertools.combinations(zip(found, newest, strict=True), 2)
        for (row, record), (other, its) in pairs:
            assert (row.workflow == other.workflow) == (record.workflow == its.workflow)


def test_pages_stay_right_while_records_come_and_go(store: Store) -> None:
    # The last test of the file: it changes the records that the others share.
    page = store.find(limit=10)
    new = store.add([simple(5000 + n) for n in range(3)])
    following = store.find(after=page.next, limit=10)
    assert not set(numbers(page.rows)) & set(numbers(following.rows))
    store.delete(new, "me")
    assert numbers(store.find(after=page.next, limit=10).rows) == numbers(following.rows)
    assert store.purge() == 43  # these, and what the fixture deleted
