"""The desk: questions, blind images, answers that are stored once, undo, restarts."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from votes_toys import SECRET, fill, open_filled, opened, toy_png

from flowdesign.records import Record, Store, UnknownRecord, sha_of
from flowdesign.votes import BadAnswer, Desk, Gone, NoImage, Ticket, UnknownTicket, blind, fit
from flowdesign.votes.scoring import store_scores


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened_store, _ = open_filled(tmp_path, prompts=5, images=4)
    with opened_store:
        yield opened_store


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store, random.Random(0))


def one(desk: Desk, rater: str = "ann", kind: str = "pair") -> Ticket:
    (ticket,) = desk.deal(rater, kind, count=1)  # type: ignore[arg-type]
    return ticket


# --- questions


def test_a_pair_is_of_one_prompt_and_two_images(desk: Desk, store: Store) -> None:
    for ticket in desk.deal("ann", "pair", count=10):
        left, right = (store.get(record) for record in ticket.question.records)
        assert left.prompt == right.prompt == ticket.question.prompt
        assert left.image != right.image


def test_a_page_gets_back_what_it_holds(desk: Desk) -> None:
    first, second = desk.deal("ann", "pair")
    again = desk.deal("ann", "pair", [second.token, first.token])
    assert [ticket.token for ticket in again] == [second.token, first.token]
    third = desk.deal("ann", "pair", [second.token, "nonsense"])
    assert third[0] == second
    assert third[1].token not in (first.token, second.token)


def test_a_page_keeps_all_that_it_holds_also_when_that_is_more(desk: Desk) -> None:
    """An undo puts a question before the two that the page has."""
    held = [ticket.token for ticket in desk.deal("ann", "pair", count=5)]
    again = [ticket.token for ticket in desk.deal("ann", "pair", [*held, held[0]])]
    assert again == held


@pytest.mark.parametrize("kind", ["pair", "rating"])
def test_what_a_closed_page_held_is_asked_again_at_the_end(desk: Desk, kind: str) -> None:
    lost = [ticket.token for ticket in desk.deal("ann", kind)]  # type: ignore[arg-type]
    answered = []
    while (ticket := one(desk, kind=kind)).token not in lost:
        answered.append(ticket.question.records)
        desk.answer("ann", ticket.token, "skip", 5)
    questions = 5 * 6 if kind == "pair" else 5 * 4
    assert len(answered) == len(set(answered)) == questions - 2
    assert [ticket.token for ticket in desk.deal("ann", kind)] == lost  # type: ignore[arg-type]
    for token in lost:
        desk.answer("ann", token, "skip", 5)
    assert desk.deal("ann", kind) == []  # type: ignore[arg-type]


def test_what_is_left_open_is_not_asked_when_its_image_has_gone(desk: Desk, store: Store) -> None:
    first = desk.deal("ann", "rating", count=20)
    store.delete([first[0].question.records[0]], "me")
    left = desk.deal("ann", "rating", count=20)
    assert [ticket.token for ticket in left] == [ticket.token for ticket in first[1:]]


def test_tokens_of_others_are_worth_nothing(desk: Desk) -> None:
    ticket = one(desk)
    assert desk.deal("bob", "pair", [ticket.token], count=1)[0].token != ticket.token
    with pytest.raises(UnknownTicket):
        desk.answer("bob", ticket.token, "left", 5)
    with pytest.raises(UnknownTicket):
        desk.undo("bob", ticket.token)


def test_there_is_nothing_to_ask_without_pairs_and_it_begins_when_there_are(tmp_path: Path) -> None:
    now = [1000.0]
    with Store.open(tmp_path) as store:
        desk = Desk(store, random.Random(0), lambda: now[0])
        assert desk.deal("ann", "pair") == []
        fill(store, ["alone"], images=1)
        now[0] += 5
        assert desk.deal("ann", "pair") == []
        assert len(desk.deal("ann", "rating")) == 1
        fill(store, ["a pair"], images=2)
        now[0] += 5
        assert one(desk).question.prompt == "a pair"


def test_images_that_are_equal_are_no_pair(tmp_path: Path) -> None:
    png = toy_png(1)
    with Store.open(tmp_path) as store:
        same = [Record("p", {}, seed=seed, image=sha_of(png)) for seed in (1, 2)]
        store.add(same, {sha_of(png): png})
        assert Desk(store).deal("ann", "pair") == []


# --- blind images


def test_a_blind_image_has_the_pixels_and_nothing_else(desk: Desk, store: Store) -> None:
    ticket = one(desk)
    for side, record in enumerate(ticket.question.records):
        data = desk.image(ticket.token, side)
        original = (store.image_path(store.get(record).image) or Path()).read_bytes()
        assert SECRET.encode() in original
        assert opened(data).info == {}
        assert opened(data).tobytes() == opened(original).tobytes()
        assert SECRET.encode() not in data
        assert data.count(b"IDAT") == 2
        assert not any(kind in data for kind in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"))


def test_a_blind_image_has_no_known_hash_even_if_there_was_nothing_to_hide() -> None:
    plain = blind(toy_png(3))
    assert len({sha_of(blind(plain)) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", toy_png(1)[:60], toy_png(1)[:-4], b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_whole_png_is_not_shown(data: bytes) -> None:
    with pytest.raises(NoImage):
        blind(data)


def test_an_image_needs_a_token(desk: Desk) -> None:
    with pytest.raises(UnknownTicket):
        desk.image("guess", 0)
    with pytest.raises(NoImage):
        desk.image(one(desk).token, 2)


# --- answers


def test_an_answer_is_stored_as_it_was_shown(desk: Desk, store: Store) -> None:
    ticket = one(desk)
    answered = desk.answer("ann", ticket.token, "right", 1234)
    assert (answered.answer, answered.again) == ("right", False)
    (vote,) = store.votes()
    assert (vote.left, vote.right) == ticket.question.records
    assert (vote.choice, vote.rater, vote.milliseconds) == ("right", "ann", 1234)
    assert (vote.token, vote.mode) == (ticket.token, ticket.question.mode)


def test_an_answer_is_on_disk_before_anybody_hears_of_it(desk: Desk, store: Store) -> None:
    ticket = one(desk)
    desk.answer("ann", ticket.token, "left", 5)
    with Store.open(store.folder) as other:
        assert other.count_votes() == 1


def test_the_second_answer_to_a_ticket_changes_nothing(desk: Desk, store: Store) -> None:
    ticket = one(desk)
    desk.answer("ann", ticket.token, "left", 5)
    again = desk.answer("ann", ticket.token, "right", 5)
    assert (again.answer, again.again) == ("left", True)
    assert [vote.choice for vote in store.votes()] == ["left"]
    assert desk.standing("ann").votes == 1


def test_two_tabs_that_answer_at_once_store_one_vote(desk: Desk, store: Store) -> None:
    for _ in range(10):
        ticket, barrier, found = one(desk), threading.Barrier(4), []

        def answer(choice: str, ticket: Ticket, barrier: threading.Barrier, found: list) -> None:  # type: ignore[type-arg]
            barrier.wait()
            found.append(desk.answer("ann", ticket.token, choice, 5))

        choices = ("left", "right", "tie", "left")
        threads = [
            threading.Thread(target=answer, args=(c, ticket, barrier, found)) for c in choices
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(not answered.again for answered in found) == 1
        assert len({answered.answer for answered in found}) == 1
    assert store.count_votes() == desk.standing("ann").votes == 10


@pytest.mark.parametrize(
    ("choice", "time"),
    [
        ("both", 5), ("", 5), (None, 5), (["left"], 5), ("5", 5), ("left", -1), ("left", 1.5),
        ("left", True), ("left", "5"), ("left", 10**12), ("left", None),
    ],
)  # fmt: skip
def test_answers_that_no_page_sends_are_refused(
    desk: Desk, store: Store, choice: object, time: object
) -> None:
    ticket = one(desk)
    with pytest.raises(BadAnswer):
        desk.answer("ann", ticket.token, choice, time)  # type: ignore[arg-type]
    assert store.count_votes() == 0
    desk.answer("ann", ticket.token, "left", 5)  # the ticket is still good


def test_stars_are_stored_and_a_skipped_rating_is_not(desk: Desk, store: Store) -> None:
    ticket = one(desk, kind="rating")
    desk.answer("ann", ticket.token, "4", 50)
    (rating,) = store.ratings()
    assert (rating.record, rating.stars) == (ticket.question.records[0], 4)
    skipped = one(desk, kind="rating")
    desk.answer("ann", skipped.token, "skip", 50)
    assert len(list(store.ratings())) == 1
    with pytest.raises(BadAnswer):
        desk.answer("ann", one(desk, kind="rating").token, "left", 5)
    seen = set()
    while tickets := desk.deal("ann", "rating", count=1):
        seen.add(tickets[0].question.records[0])
        desk.answer("ann", tickets[0].token, "3", 5)
    assert len(seen) == 5 * 4 - 2  # one was rated, one skipped; what was left open comes last
    assert skipped.question.records[0] not in seen


def test_an_image_that_was_deleted_is_not_asked_about(desk: Desk, store: Store) -> None:
    ids = [image.record for images in desk.pool.images.values() for image in images]
    store.delete(ids[:-2], "somebody")
    kept = {ids[-2], ids[-1]}
    tickets = desk.deal("ann", "pair", count=5)
    assert [set(ticket.question.records) for ticket in tickets] == [kept]


def test_a_vote_on_an_image_that_was_deleted_for_good_is_told(desk: Desk, store: Store) -> None:
    ticket = one(desk)
    store.delete(ticket.question.records[:1], "somebody")
    store.purge()
    with pytest.raises(NoImage):
        desk.image(ticket.token, 0)
    with pytest.raises(Gone):
        desk.answer("ann", ticket.token, "left", 5)
    assert ticket.question.records[0] not in one(desk).question.records


def test_a_fault_of_the_store_leaves_the_ticket_good(
    desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = one(desk)

    def full(vote: object) -> int:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(store, "vote", full)
        with pytest.raises(OSError, match="full"):
            desk.answer("ann", ticket.token, "left", 5)
    assert desk.standing("ann").votes == 0
    assert not desk.answer("ann", ticket.token, "left", 5).again


# --- what was made how


def test_records_are_told_only_after_the_answer(desk: Desk) -> None:
    ticket = one(desk)
    with pytest.raises(UnknownTicket):
        desk.answered_record(ticket.token, 0)
    desk.answer("ann", ticket.token, "tie", 5)
    assert desk.answered_record(ticket.token, 1).id == ticket.question.records[1]
    skipped = one(desk)
    desk.answer("ann", skipped.token, "skip", 5)
    with pytest.raises(UnknownTicket):
        desk.answered_record(skipped.token, 0)


# --- undo


def test_undo_takes_the_vote_back_and_asks_the_same_with_another_token(
    desk: Desk, store: Store
) -> None:
    ticket = one(desk)
    desk.answer("ann", ticket.token, "left", 5)
    again = desk.undo("ann", ticket.token)
    assert store.count_votes() == desk.standing("ann").votes == 0
    assert again.token != ticket.token
    assert again.question.records == ticket.question.records  # the same sides
    assert again.question.mode == "again"  # no longer blind
    desk.answer("ann", again.token, "right", 5)
    assert [vote.choice for vote in store.votes()] == ["right"]


def test_what_was_taken_back_stays_so(desk: Desk, store: Store) -> None:
    ticket = one(desk)
    desk.answer("ann", ticket.token, "left", 5)
    desk.undo("ann", ticket.token)
    with pytest.raises(BadAnswer):
        desk.undo("ann", ticket.token)
    with pytest.raises(BadAnswer):
        desk.answer("ann", ticket.token, "left", 5)  # a late twin of the first answer
    assert store.count_votes() == 0


def test_nothing_is_taken_back_before_it_was_given(desk: Desk) -> None:
    with pytest.raises(BadAnswer):
        desk.undo("ann", one(desk).token)


def test_ratings_and_skips_are_taken_back_too(desk: Desk, store: Store) -> None:
    rating = one(desk, kind="rating")
    desk.answer("ann", rating.token, "2", 5)
    assert desk.undo("ann", rating.token).question.records == rating.question.records
    assert list(store.ratings()) == []
    for kind in ("rating", "pair"):
        skipped = one(desk, kind=kind)
        desk.answer("ann", skipped.token, "skip", 5)
        assert desk.undo("ann", skipped.token).question.records == skipped.question.records
    assert store.count_votes() == 0


# --- figures and restarts


def test_agreement_is_with_repeats_and_with_others(desk: Desk, store: Store) -> None:
    def vote(rater: str, count: int) -> None:
        for _ in range(count):
            ticket = one(desk, rater)
            left, right = ticket.question.records
            side = "left" if left * 7 % 11 > right * 7 % 11 else "right"  # a taste of its own
            desk.answer(rater, ticket.token, side, 5)

    vote("ann", 34)  # of 30 pairs: some have to come back
    vote("bob", 10)
    own = desk.standing("ann")
    assert own.votes == 34
    assert own.all_votes == 44
    assert own.raters == 2
    repeats = sum(v.repeat_of is not None for v in store.votes("ann"))
    assert own.own.units == repeats > 0
    assert own.own.equal == 1  # whatever the sides: they were thrown anew
    assert own.between.units > 0
    assert own.between.equal == own.between.alpha == 1


def test_after_a_restart_everything_goes_on(desk: Desk, store: Store) -> None:
    waiting, done, undone = desk.deal("ann", "pair", count=3)
    desk.answer("ann", done.token, "left", 5)
    desk.answer("ann", undone.token, "left", 5)
    desk.undo("ann", undone.token)
    with (store.folder / "tickets.jsonl").open("a") as file:
        file.write('{"token": "cut sho')
    later = Desk(store, random.Random(1))
    assert later.standing("ann") == desk.standing("ann")
    assert later.answer("ann", done.token, "right", 5).again
    with pytest.raises(UnknownTicket):
        later.answer("ann", undone.token, "left", 5)
    assert not later.answer("ann", waiting.token, "tie", 5).again
    assert sorted(vote.choice for vote in store.votes()) == ["left", "tie"]
    later.undo("ann", done.token)
    assert store.count_votes() == 1


def test_old_tickets_are_forgotten(store: Store) -> None:
    now = [1_000_000.0]
    ticket = one(Desk(store, random.Random(0), lambda: now[0]))
    now[0] += 3 * 24 * 3600
    with pytest.raises(UnknownTicket):
        Desk(store, random.Random(0), lambda: now[0]).answer("ann", ticket.token, "left", 5)


def test_a_rater_who_takes_and_never_answers_does_not_fill_the_memory(desk: Desk) -> None:
    first = one(desk)
    for _ in range(60):
        desk.deal("ann", "pair", count=1)
    assert len(desk.tickets.open_pairs("ann")) <= 40
    assert first.token  # the oldest has gone, or all pairs are out


def test_votes_become_scores_of_their_records(desk: Desk, store: Store) -> None:
    for number in range(60):
        ticket = one(desk, f"r{number % 4}")
        left, right = ticket.question.records
        desk.answer(f"r{number % 4}", ticket.token, "left" if left < right else "right", 5)
    strengths = fit(store.votes())
    assert store_scores(store, strengths) == len(strengths.items)
    for record, strength in strengths.items.items():
        assert store.get(record).scores["votes"] == pytest.approx(strength.value)
    for images in desk.pool.images.values():
        ids = sorted(image.record for image in images)
        assert strengths.items[ids[0]].value > strengths.items[ids[-1]].value
    with pytest.raises(UnknownRecord):
        store.get(10**6)


def test_the_command_tells_scores_errors_and_agreement(
    desk: Desk, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from flowdesign.__main__ import main

    folder = ["votes", "--data", str(store.folder)]
    assert main(folder) == 0
    assert "Nobody has voted" in capsys.readouterr().out
    for number in range(40):
        ticket = one(desk, f"r{number % 2}")
        desk.answer(f"r{number % 2}", ticket.token, ("left", "right", "tie")[number % 3], 5)
    assert main([*folder, "--save", "--json", "--weight", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["votes"] == 40
    assert [row["votes"] for row in found["raters"]] == [20, 20]
    rows = found["records"]
    assert rows == sorted(rows, key=lambda row: -row["value"])
    assert all(row["error"] > 0 for row in rows)
    assert sum(row["votes"] for row in rows) == 80
    assert found["saved"] == len(rows)
    assert store.get(rows[0]["record"]).scores["votes"] == pytest.approx(rows[0]["value"])
    assert main(folder) == 0
    assert "±" in capsys.readouterr().out
    assert main([*folder, "--weight", "2"]) == 2
