"""Votes and ratings count once; deletions can be undone until they are made final."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_toys import (
    check_sound,
    key_of,
    numbers,
    png,
    simple,
)

from flowdesign.records import (
    BadRecord,
    Filter,
    Rating,
    Store,
    TokenTaken,
    UnknownRecord,
    Vote,
    sha_of,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


# --- votes and ratings ---------------------------------------------------------------------------


def test_a_vote_is_stored_once_whatever_is_repeated(store: Store) -> None:
    a, b = store.add([simple(1), simple(8)])
    vote = Vote(a, b, "left", "ann", "token", 800)
    number = store.vote(vote)
    assert store.vote(vote) == number
    assert store.vote(replace(vote, choice="right")) == number  # the first one counts
    (found,) = store.votes()
    assert (found.choice, found.milliseconds, found.id) == ("left", 800, number)
    with pytest.raises(TokenTaken):
        store.vote(replace(vote, rater="bob"))
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(store.vote, [Vote(a, b, "tie", "bob", "again")] * 40))
    assert len(ids) == 1 and store.count_votes() == 2 and store.count_votes("bob") == 1


def test_an_undone_vote_stays_undone(store: Store) -> None:
    a, b = store.add([simple(1), simple(8)])
    vote = Vote(a, b, "left", "ann", "token")
    number = store.vote(vote)
    assert not store.undo("token", "bob")  # only one's own
    assert store.undo("token", "ann") and not store.undo("token", "ann")
    assert list(store.votes()) == [] and store.count_votes() == 0
    assert store.vote(vote) == number  # a reload sends it again
    assert list(store.votes()) == []
    assert not store.undo("never", "ann")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"choice": "both"}, BadRecord), ({"token": ""}, BadRecord), ({"rater": ""}, BadRecord), ({"rater": " \t"}, BadRecord),
        ({"right": 1}, BadRecord), ({"right": 3}, BadRecord), ({"left": 77}, UnknownRecord),
    ],
)  # fmt: skip
def test_votes_that_mean_nothing_are_refused(
    store: Store, change: dict[str, Any], error: type[Exception]
) -> None:
    assert store.add([simple(1), simple(8), simple(2)]) == [1, 2, 3]
    with pytest.raises(error):
        store.vote(replace(Vote(1, 2, "left", "ann", "t"), **change))
    assert store.count_votes() == 0


def test_votes_are_found_by_rater_prompt_record_and_filter(store: Store) -> None:
    a, b, c, d = store.add([simple(1), simple(8), simple(2), simple(9)])
    first = store.vote(Vote(a, b, "left", "ann", "1"))
    store.vote(Vote(c, d, "right", "ann", "2"))
    store.vote(Vote(b, a, "tie", "bob", "3", repeat_of=first, mode="repeat"))
    tokens = lambda found: [vote.token for vote in found]  # noqa: E731
    assert tokens(store.votes()) == ["1", "2", "3"]
    assert tokens(store.votes(rater="ann")) == ["1", "2"]
    assert tokens(store.votes(prompt=simple(2).prompt)) == ["2"]
    assert tokens(store.votes(after=first)) == ["2", "3"]
    assert tokens(store.votes_on(b)) == ["1", "3"]
    assert tokens(store.votes(on=Filter(prompt=simple(1).prompt))) == ["1", "3"]
    assert tokens(store.votes(on=Filter(source="elsewhere"))) == []
    assert [vote.repeat_of for vote in store.votes(rater="bob")] == [first]


def test_ratings_are_as_durable_as_votes(store: Store) -> None:
    (a,) = store.add([simple(1)])
    rating = Rating(a, 4, "ann", "r", 300)
    assert store.rate(rating) == store.rate(rating)
    assert [(r.stars, r.milliseconds) for r in store.ratings()] == [(4, 300)]
    for bad in (replace(rating, stars=0), replace(rating, stars=6), replace(rating, rater="")):
        with pytest.raises(BadRecord):
            store.rate(bad)
    with pytest.raises(TokenTaken):
        store.rate(replace(rating, rater="bob"))
    assert store.undo("r", "ann") and list(store.ratings()) == []


# --- deleting ------------------------------------------------------------------------------------


def test_a_deletion_can_be_undone(store: Store) -> None:
    ids = store.add([simple(n) for n in range(10)])
    store.vote(Vote(ids[0], ids[7], "left", "ann", "t"))
    first = store.delete(ids[:3], "me")
    second = store.delete(ids[2:5], "you")  # one of them is gone already
    assert numbers(store.find(order="oldest").rows) == ids[5:]
    assert set(numbers(store.find(Filter(deleted=True)).rows)) == set(ids[:5])
    assert store.get(ids[0]).deleted and list(store.votes()) == []
    assert store.undelete(first) == 3
    assert list(store.votes()) != []
    assert store.undelete(second) == 2 and store.find().total == 10
    assert store.undelete(second) == 0
    with pytest.raises(UnknownRecord):
        store.undelete("no such token")
    with pytest.raises(UnknownRecord):
        store.delete([ids[0], 12345], "me")
    assert store.find().total == 10
    check_sound(store)


def test_an_image_can_be_seen_until_its_record_is_deleted(store: Store) -> None:
    sha = sha_of(png(7))
    one, without = store.add([simple(1, image=sha), simple(2)], {sha: png(7)})
    assert store.visible_image(one) == sha
    token = store.delete([one], "me")
    assert store.visible_image(one) == store.visible_image(without) == store.visible_image(99) == ""
    store.undelete(token)
    assert store.visible_image(one) == sha


def test_a_deleted_record_is_not_stored_anew(store: Store) -> None:
    (number,) = store.add([simple(1)])
    store.delete([number], "me")
    assert store.has([key_of(simple(1))])
    assert store.add([simple(1)]) == [number] and store.find().total == 0


def test_purging_is_final_and_keeps_what_others_need(store: Store) -> None:
    shas = [sha_of(png(n)) for n in range(2)]
    images = {sha_of(png(n)): png(n) for n in range(2)}
    ids = store.add(
        [simple(1, image=shas[0]), simple(8, image=shas[0]), simple(2, image=shas[1])], images
    )
    store.vote(Vote(ids[0], ids[1], "left", "ann", "t"))
    token = store.delete([ids[0], ids[2]], "me")
    assert store.purge() == 2 and store.purge() == 0
    assert store.image_path(shas[0]) is not None and store.image_path(shas[1]) is None
    assert list(store.votes()) == [] and store.count() == 1
    with pytest.raises(UnknownRecord):
        store.undelete(token)
    (again,) = store.add([simple(2, image=shas[1])], images)
    assert again not in ids and store.image_path(shas[1]) is not None
    check_sound(store)


def test_what_was_purged_leaves_no_word_behind(store: Store) -> None:
    secret = simple(1, prompt="my secret garden", workflow={"1": {"class_type": "secret graph"}})
    kept = simple(2, prompt="my public garden")
    ids = store.add([secret, kept, simple(14, prompt="my public garden")])
    store.delete([ids[0], ids[2]], "me")
    assert store.purge() == 2
    assert numbers(store.find(Filter(text="garden")).rows) == [ids[1]]
    assert store.find(Filter(text="secret")).total == 0
    with closing(sqlite3.connect(store.folder / "records.sqlite3")) as connection:
        assert "secret" not in "".join(connection.iterdump())
    (again,) = store.add([secret])
    assert numbers(store.find(Filter(text="secret")).rows) == [again]
    check_sound(store)
