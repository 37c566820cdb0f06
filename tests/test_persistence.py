"""Nothing lost, nothing doubled: whatever the Hub does, and whenever the app is restarted."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FAULTS, FakeHub, Visitors, content, picture, record
from waiting import until

from flowdesign.persistence import Keeper, RemoteFault, restoring
from flowdesign.records import Filter, Rating, Store, Vote, sha_of


@contextmanager
def life(folder: Path, hub: FakeHub) -> Iterator[tuple[Store, Keeper]]:
    """One life of the app on a disk: its store and what keeps it. It ends without a farewell."""
    with Store.open(folder) as store:
        yield store, Keeper(store, hub)


def insist(keeper: Keeper) -> None:
    """Take turns until one ends well."""
    for _ in range(50):
        try:
            return keeper.turn()
        except RemoteFault:
            continue
    raise AssertionError("the faults do not end")


def restored(folder: Path, hub: FakeHub) -> dict[str, Any]:
    """What an app on an empty disk gets back."""
    with life(folder, hub) as (store, keeper):
        keeper.turn()
        return content(store)


# --- a wiped disk


def test_everything_comes_back_on_an_empty_disk(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        images = [picture(n) for n in range(4)]
        ids = store.add([record(n, images[n]) for n in range(4)], {sha_of(i): i for i in images})
        first = store.vote(Vote(ids[0], ids[1], "tie", "x", "t1", 1200, mode="easy"))
        store.vote(Vote(ids[1], ids[0], "left", "x", "t2", 800, repeat_of=first))
        store.vote(Vote(ids[2], ids[3], "right", "y", "t3"))
        store.undo("t3", "y")
        store.rate(Rating(ids[0], 5, "x", "r1"))
        store.add_scores({ids[0]: {"aesthetic": float("inf")}})
        store.delete([ids[3]], "alice")
        keeper.turn()
        before = content(store)
    assert len(before["records"]) == 4 and set(before["votes"]) == {"t1", "t2"}
    assert restored(tmp_path / "b", hub) == before


def test_what_was_restored_is_not_pushed_again(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        Visitors(store, 5).act(60)
        keeper.turn()
        keeper.turn()
    pushes = len(hub.pushes)
    assert restored(tmp_path / "b", hub) == restored(tmp_path / "c", hub)
    assert len(hub.pushes) == pushes


def test_later_changes_of_old_records_are_kept(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        ids = store.add([record(n) for n in range(3)])
        keeper.turn()
        store.add_scores({ids[0]: {"aesthetic": 6.5}})
        token = store.delete([ids[1], ids[2]], "x")
        keeper.turn()
        store.undelete(token)
        store.delete([ids[2]], "x")
        image = picture(0)
        store.add([record(0, image)], {sha_of(image): image})  # mends the failure
        keeper.turn()
        before = content(store)
    assert restored(tmp_path / "b", hub) == before


def test_a_purged_record_comes_back_as_deleted_at_most(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        ids = store.add([record(n) for n in range(3)])
        keeper.turn()
        store.delete(ids[:2], "x")
        store.purge()
        store.add([record(1)])  # and one of them is made anew
        keeper.turn()
    with life(tmp_path / "b", hub) as (store, keeper):
        keeper.turn()
        assert {each.seed for each in store.stream(Filter())} == {2**64 - 2, 2**64 - 3}
        assert {each.seed for each in store.stream(Filter(deleted=True))} == {2**64 - 1}


def test_unchanged_things_and_weights_make_no_shard(tmp_path: Path) -> None:
    from flowdesign.standards import Reference, Standard

    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        (number,) = store.add([record(0)])
        keeper.turn()
        before = len(hub.pushes)
        store.add([record(0)])
        store.add_scores({number: {"sharpness": 0.0}})
        store.reweigh({"sharpness": 1.0}, Reference("test", {"sharpness": Standard(0.5, 2.0, 9)}))
        keeper.turn()
        assert len(hub.pushes) == before
        store.add_scores({number: {"sharpness": 0.5}})
        keeper.turn()
        assert len(hub.pushes) == before + 1


# --- a Hub that fails


@pytest.mark.parametrize("fault", FAULTS)
def test_a_push_that_fails_is_repeated(tmp_path: Path, fault: str) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        Visitors(store, 1).act(40)
        hub.faults = [fault]
        with pytest.raises(RemoteFault):
            keeper.turn()
        keeper.turn()
        before = content(store)
    assert restored(tmp_path / "b", hub) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restart_pushes_what_a_fault_has_left(tmp_path: Path, fault: str) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        Visitors(store, 2).act(40)
        hub.faults = [fault]
        with pytest.raises(RemoteFault):
            keeper.turn()
        before = content(store)
    with life(tmp_path / "a", hub) as (store, keeper):  # the same disk
        keeper.turn()
        assert content(store) == before
    assert restored(tmp_path / "b", hub) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restore_that_fails_begins_anew(tmp_path: Path, fault: str) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        Visitors(store, 3).act(80)
        keeper.turn()
        before = content(store)
    with life(tmp_path / "b", hub) as (store, keeper):
        for faults in (["refused"], [fault], [fault]):
            hub.faults = faults
            with pytest.raises(RemoteFault):
                keeper.turn()
        keeper.turn()
        assert content(store) == before


def test_many_faults_make_few_shards(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        for number in range(20):
            store.add([record(number)])
            hub.faults = ["refused"]
            with pytest.raises(RemoteFault):
                keeper.turn()
        keeper.turn()
    assert len([path for path in hub.files if path.startswith("records/")]) == 2
    assert hub.lines("records") == 20


def test_shards_that_are_there_twice_double_nothing(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        Visitors(store, 4).act(60)
        keeper.turn()
        before = content(store)
    for path, data in list(hub.files.items()):
        hub.files[path.replace("Z-", "Z-copy")] = data
    assert restored(tmp_path / "b", hub) == before


@pytest.mark.parametrize("seed", range(5))
def test_any_course_of_faults_and_restarts(tmp_path: Path, seed: int) -> None:
    """Faults at random calls, restarts on the same disk or on an empty one, which comes last."""
    hub, disk, chance = FakeHub(), 0, random.Random(seed)
    people: Visitors | None = None
    before: dict[str, Any] = {"records": {}, "votes": {}, "ratings": {}}
    for _ in range(4):
        with life(tmp_path / str(disk), hub) as (store, keeper):
            hub.faults = chance.choices(FAULTS, k=chance.randrange(4))
            insist(keeper)
            assert content(store) == before
            people = Visitors(store, chance.randrange(1000), people)
            for _ in range(3):
                hub.faults = chance.choices(FAULTS, k=chance.randrange(3))
                people.act(15)
                with suppress(RemoteFault):
                    keeper.turn()
            if chance.random() < 0.5:  # the disk is wiped after a push that ended well
                insist(keeper)
                disk += 1
            before = content(store)
    hub.faults = []
    with life(tmp_path / str(disk), hub) as (store, keeper):
        keeper.turn()
        assert content(store) == before
    assert restored(tmp_path / "last", hub) == before


# --- killed at any point


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["note_items", "settle", "note_files", "remove", "_write"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_in_mid_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    from flowdesign.persistence.ledger import Ledger
    from flowdesign.persistence.outbox import Outbox
    from flowdesign.records.changes import Changes

    owner: Any = next(c for c in (Ledger, Changes, Outbox) if hasattr(c, step))
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        Visitors(store, 6).act(50)
        before = content(store)
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, dying(getattr(owner, step), after))
            with pytest.raises(Killed):
                keeper.turn()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        assert content(store) == before
    assert restored(tmp_path / "b", hub) == before


def dying(method: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """The method, with the process killed before or after it."""

    def killed(*arguments: Any) -> Any:
        if after:
            method(*arguments)
        raise Killed

    return killed


def test_killed_in_mid_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        Visitors(store, 7).act(90)
        keeper.turn()
        before = content(store)
    monkeypatch.setattr(restoring, "GROUP", 5)
    calls = 0
    vote_all = Store.vote_all

    def killed(store: Store, votes: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return vote_all(store, votes)

    with monkeypatch.context() as patch, life(tmp_path / "b", hub) as (store, keeper):
        patch.setattr(Store, "vote_all", killed)
        with pytest.raises(Killed):
            keeper.turn()
        assert len(content(store)["records"]) > 0
    assert restored(tmp_path / "b", hub) == before


# --- while people write


def test_a_slow_hub_holds_nobody_up(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        ids = store.add([record(n) for n in range(2)])
        hub.open.clear()
        hub.entered.clear()
        pushing = threading.Thread(target=keeper.turn)
        pushing.start()
        assert hub.entered.wait(30)
        for number in range(20):  # all of this while the push hangs
            store.vote(Vote(ids[0], ids[1], "left", "x", f"t{number}"))
        assert store.count_votes() == 20
        hub.open.set()
        pushing.join(30)
        keeper.turn()
        before = content(store)
    assert len(before["votes"]) == 20
    assert restored(tmp_path / "b", hub) == before


def test_people_write_from_many_threads_while_it_pushes(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        ids = store.add([record(n) for n in range(2)])

        def vote(rater: int) -> None:
            for number in range(40):
                store.vote(Vote(ids[0], ids[1], "left", str(rater), f"{rater} {number}"))
                if number % 4 == 0:
                    store.undo(f"{rater} {number}", str(rater))

        people = [threading.Thread(target=vote, args=(n,)) for n in range(5)]
        for thread in people:
            thread.start()
        while any(thread.is_alive() for thread in people):
            keeper.turn()
        keeper.turn()
        before = content(store)
    assert len(before["votes"]) == 150
    assert restored(tmp_path / "b", hub) == before


def test_people_write_while_it_restores(tmp_path: Path) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        store.add([record(n, created="2026-11-24T12:00:00.000Z") for n in range(4)])
        keeper.turn()
    with life(tmp_path / "b", hub) as (store, keeper):
        ids = store.add([record(n, created="2026-11-24T12:00:00.000Z") for n in range(2)])  # again
        store.vote(Vote(ids[0], ids[1], "left", "x", "early"))
        store.add_scores({ids[0]: {"aesthetic": 1.0}})
        keeper.turn()
        before = content(store)
    assert len(before["records"]) == 4 and "early" in before["votes"]
    assert restored(tmp_path / "c", hub) == before


def test_two_apps_at_one_place_get_each_others_records(tmp_path: Path) -> None:
    hub = FakeHub()
    with (
        life(tmp_path / "a", hub) as (one, keeps_one),
        life(tmp_path / "b", hub) as (two, keeps_two),
    ):
        for keeper in (keeps_one, keeps_two):
            keeper.turn()  # nothing is there yet, so neither gets what the other pushes later
        for store, keeper, scorer, other in (
            (one, keeps_one, "aesthetic", 1),
            (two, keeps_two, "pickscore", 2),
        ):
            number, _ = store.add([record(0), record(other)])
            store.add_scores({number: {scorer: 1.0}})
            keeper.turn()
    for name in ("a", "b", "a"):
        with life(tmp_path / name, hub) as (store, keeper):
            keeper.turn()
            found = content(store)
        assert len(found["records"]) == 3
        both = [each for each in found["records"].values() if each[2] == 2**64 - 1]
        assert {"aesthetic", "pickscore"} <= set(both[0][6])
    assert restored(tmp_path / "c", hub) == found


# --- what others did to the shards


def test_a_damaged_shard_is_told_and_the_rest_restored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        keeper.turn()
        for number in range(3):
            store.add([record(2 * number), record(2 * number + 1)])
            keeper.turn()
        before = content(store)
    middle = sorted(path for path in hub.files if path.startswith("records/"))[1]
    whole = hub.files[middle]
    hub.files[middle] = whole[: whole.index(b"\n") + 20]  # cut in its second line
    with life(tmp_path / "b", hub) as (store, keeper):
        keeper.turn()
        assert len(content(store)["records"]) == 5
        assert "damaged" in caplog.text and Path(middle).name in caplog.text
    hub.files[middle] = whole  # mended
    assert restored(tmp_path / "b", hub) == before


def test_lines_that_make_no_sense_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        ids = store.add([record(n) for n in range(2)])
        store.vote(Vote(ids[0], ids[1], "left", "x", "good"))
        keeper.turn()
        before = content(store)
    (votes,) = (path for path in hub.files if path.startswith("votes/"))
    hub.files[votes] += (
        b'{"token": "bad", "rater": "x", "left": "00", "right": "11", "choice": "tie"}\n'
    )
    hub.files["records/20990101T000000.000000Z-evil.jsonl"] = b'{"prompt": "x"}\n'
    hub.files["records/../../evil.jsonl"] = hub.files["notes.txt"] = b"nothing of ours"
    assert restored(tmp_path / "b", hub) == before
    assert caplog.text.count("cannot be restored") == 2
    assert not list(tmp_path.rglob("evil.jsonl"))


def test_an_image_with_other_bytes_is_not_believed(tmp_path: Path) -> None:
    import io
    import zipfile

    hub, image = FakeHub(), picture(1)
    with life(tmp_path / "a", hub) as (store, keeper):
        store.add([record(0, image)], {sha_of(image): image})
        keeper.turn()
    (path,) = (path for path in hub.files if path.startswith("images/"))
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as archive:
        archive.writestr(f"{sha_of(image)}.png", picture(2))
    hub.files[path] = forged.getvalue()
    with life(tmp_path / "b", hub) as (store, keeper):
        keeper.turn()
        assert store.image_path(sha_of(image)) is None


# --- many shards


def test_many_shards_are_merged_into_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "MANY", 4)
    hub = FakeHub()
    with life(tmp_path / "a", hub) as (store, keeper):
        people = Visitors(store, 8)
        for _ in range(12):
            people.act(8)
            keeper.turn()
        before = content(store)
    shards = len(hub.files)
    kept = dict(hub.files)
    assert restored(tmp_path / "b", hub) == before
    assert len(hub.files) < shards
    for table in ("records", "votes", "ratings"):
        assert len([path for path in hub.files if path.startswith(f"{table}/")]) <= 4
    assert restored(tmp_path / "c", hub) == before  # from the merged ones alone
    assert restored(tmp_path / "a", hub) == before  # by who knew the old ones only
    hub.files |= kept  # and when removing the old ones was cut short
    assert restored(tmp_path / "d", hub) == before


# --- the thread


def test_it_pushes_on_schedule_and_once_more_at_the_end(tmp_path: Path) -> None:
    hub = FakeHub()
    with Store.open(tmp_path / "a") as store:
        keeper = Keeper(store, hub, every=0.05)
        keeper.start()
        store.add([record(0)])
        until(lambda: hub.lines("records") == 1)
        keeper.every = 3600.0
        until(lambda: keeper.state.saved > 0 and not keeper.state.waiting)
        store.add([record(1)])
        keeper.stop()
        before = content(store)
    assert restored(tmp_path / "b", hub) == before


def test_the_thread_lives_through_faults_and_tells_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowdesign.persistence.keeper.FIRST_RETRY", 0.01)
    hub = FakeHub()
    hub.faults = ["refused"] * 3
    told = []
    with Store.open(tmp_path / "a") as store:
        store.add([record(0)])
        keeper = Keeper(store, hub, every=0.05)
        keeper.start()
        until(lambda: told.append(keeper.state.fault) or hub.lines("records") == 1)  # type: ignore[func-returns-value]
        until(lambda: keeper.state.fault == "")
        keeper.stop()
    assert any("the fake Hub: refused" in fault for fault in told)


def test_a_second_app_on_the_same_disk_waits(tmp_path: Path) -> None:
    hub = FakeHub()
    with Store.open(tmp_path / "a") as store:
        first, second = Keeper(store, hub, every=0.02), Keeper(store, hub, every=0.02)
        hub.open.clear()
        hub.entered.clear()
        first.start()
        assert hub.entered.wait(30)
        second.start()
        until(lambda: "Another app" in second.state.fault)
        hub.open.set()
        until(lambda: second.state.saved > 0)
        first.stop()
        second.stop()
