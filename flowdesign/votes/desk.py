"""The desk: hands out questions to raters and takes their answers, for one store.

    deal -> tickets -> answer -> stored durably -> learnt -> the next question

A page holds two tickets, one before the rater's eyes and one that is loaded already. An answer counts
once by its ticket, whatever tab sends it and however often, and is on disk before anybody hears of it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from flowdesign.records import Choice, Filter, Rating, Store, StoredRecord, UnknownRecord, Vote, now
from flowdesign.votes.blind import NoImage, blind
from flowdesign.votes.book import Book, Standing
from flowdesign.votes.choosing import Chooser
from flowdesign.votes.pool import Pool, read_pool
from flowdesign.votes.rating import RatingChooser
from flowdesign.votes.tickets import Kind, Question, Slip, Ticket, Tickets, UnknownTicket

ANSWERS: dict[Kind, tuple[str, ...]] = {
    "pair": ("left", "right", "tie", "skip"),
    "rating": ("1", "2", "3", "4", "5", "skip"),
}
LONGEST = 24 * 3600 * 1000  # milliseconds that an answer can have taken
STALE = 60.0  # seconds after which the desk looks for new images
STALE_EMPTY = 2.0  # the same while there is nothing to ask


class BadAnswer(ValueError):
    """An answer that cannot be taken; the message says what is allowed."""


class Gone(RuntimeError):
    """An image of the question was deleted meanwhile; nothing was stored."""


@dataclass(frozen=True)
class Answered:
    """A stored answer. `again` says that the ticket had it already: nothing was stored now."""

    ticket: Ticket
    answer: str
    again: bool


class Desk:
    """Deals questions and takes answers; safe for threads. `chance` decides pairs and sides."""

    def __init__(
        self,
        store: Store,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.tickets = Tickets(store.folder / "tickets.jsonl", clock)
        self.pool = Pool({}, 0)
        self._clock = clock
        self._lock = threading.Lock()  # guards the choosers and the book
        self._loading = threading.Lock()
        self._loaded_at = 0.0
        chance = chance or random.SystemRandom()
        self._pairs, self._ratings = Chooser(chance), RatingChooser(chance)
        self._book = Book()
        self._read_answers()
        self.refresh()

    # --- questions

    def deal(
        self, rater: str, kind: Kind, held: Sequence[str] = (), count: int = 2
    ) -> list[Ticket]:
        """Open tickets for a rater: all that a page still holds, then others up to `count`.

        Others are new ones, and once nothing is left to ask what was handed out before and never
        answered, as when its page was closed. There are fewer when little is left, none at the end.
        """
        self._look_for_more()
        kept = dict.fromkeys(held)
        slips = [slip for token in kept if (slip := self._still_open(token, rater, kind))]
        tickets = [slip.ticket for slip in slips]
        while len(tickets) < count:
            ticket = self._issue(rater, kind) or self._left_open(rater, kind, tickets)
            if ticket is None:
                break
            tickets.append(ticket)
        return tickets

    def image(self, token: str, side: int) -> bytes:
        """The blind copy of a ticket's image (0 is left). Raises UnknownTicket, NoImage.

        Whoever has the token may see it: a token cannot be guessed.
        """
        path = self._image_of(_record_on(self.tickets.peek(token), side))
        if path is None:
            raise NoImage("The image has gone.")
        return blind(path.read_bytes())

    def answered_record(self, token: str, side: int) -> StoredRecord:
        """The record of a ticket's image, once the answer is stored and unless it was a skip.

        Raises UnknownTicket, also while there is no answer; NoImage; UnknownRecord.
        """
        slip = self.tickets.peek(token)
        if slip.answer in ("", "skip"):
            raise UnknownTicket("This question has no answer yet.")
        return self.store.get(_record_on(slip, side))

    # --- answers

    def answer(self, rater: str, token: str, choice: str, milliseconds: int) -> Answered:
        """Store an answer, once for each ticket. It is on disk when this returns.

        Raises UnknownTicket, BadAnswer, Gone; whatever else the store raises, nothing was stored.
        """
        slip = self.tickets.find(token, rater)
        _check(slip.ticket, choice, milliseconds)
        with slip.lock:
            if slip.undone:
                raise BadAnswer("This answer was taken back. Here is the next question.")
            if slip.answer:
                return Answered(slip.ticket, slip.answer, again=True)
            try:
                stored = self._store(slip.ticket, choice, milliseconds)
            except UnknownRecord as fault:
                self._bury(slip)
                raise Gone("An image was deleted meanwhile. Nothing was stored.") from fault
            self.tickets.close(slip, choice)
            self._learn(stored, slip.ticket)
        return Answered(slip.ticket, choice, again=False)

    def undo(self, rater: str, token: str) -> Ticket:
        """Take back an answer and ask the same question again, with the same sides.

        The new ticket's mode is "again": the rater may have seen the workflows meanwhile. Raises
        UnknownTicket, BadAnswer when there is nothing to take back.
        """
        slip = self.tickets.find(token, rater)
        ticket = slip.ticket
        with slip.lock:
            if not slip.answer or slip.undone:
                raise BadAnswer("There is nothing to take back.")
            if stored := self._stored(ticket):
                self.store.undo(token, rater)
                self._unlearn(stored)
            self.tickets.void(slip)
        return self.tickets.issue(replace(ticket.question, mode="again")).ticket

    # --- figures and images

    def standing(self, rater: str) -> Standing:
        """The figures for one rater's page."""
        with self._lock:
            return self._book.standing(rater)

    def refresh(self) -> None:
        """Read anew which images there are. Answers are taken meanwhile."""
        with self._loading:
            with self._lock:
                voted = self._book.voted()
            pool = read_pool(self.store, voted)
            with self._lock:
                self._pairs.load(pool.groups(), self._book.votes.values())
                self._ratings.load(pool.prompts(), self._book.ratings.values())
                self.pool = pool
            self._loaded_at = self._clock()

    def _look_for_more(self) -> None:
        """Read the images anew when their number has changed, now and then.

        While there is nothing to ask the caller waits for it; otherwise a thread does it.
        """
        age = self._clock() - self._loaded_at
        if age < (STALE if self.pool.pairs else STALE_EMPTY) or self._loading.locked():
            return
        self._loaded_at = self._clock()
        if self.store.find(Filter(has_image=True), limit=1).total == self.pool.stored:
            return
        if self.pool.pairs:
            threading.Thread(target=self.refresh, name="reading images", daemon=True).start()
        else:
            self.refresh()

    # --- inside

    def _read_answers(self) -> None:
        """All that was answered before this process began."""
        answered: dict[str, str] = {}
        for vote in self.store.votes():
            self._book.add_vote(vote)
            answered[vote.token] = vote.choice
        for rating in self.store.ratings():
            self._book.add_rating(rating)
            answered[rating.token] = str(rating.stars)
        self.tickets.close_all(answered)

    def _still_open(self, token: str, rater: str, kind: Kind) -> Slip | None:
        try:
            slip = self.tickets.find(token, rater)
        except UnknownTicket:
            return None
        return None if slip.answer or slip.ticket.question.kind != kind else slip

    def _issue(self, rater: str, kind: Kind) -> Ticket | None:
        """A new ticket; None when nothing is left to ask. Choosing and issuing are one act."""
        with self._lock:
            while (found := self._choose(rater, kind)) is not None:
                gone = [one for one in found.records if self._image_of(one) is None]
                if not gone:
                    return self.tickets.issue(found).ticket
                for record in gone:
                    self._drop(record)
        return None

    def _left_open(self, rater: str, kind: Kind, besides: Sequence[Ticket]) -> Ticket | None:
        """The oldest question that a rater has not answered and whose images are still there."""
        for ticket in self.tickets.open_to(rater):
            asked = ticket.question
            if (
                asked.kind == kind
                and ticket not in besides
                and all(map(self._image_of, asked.records))
            ):
                return ticket
        return None

    def _choose(self, rater: str, kind: Kind) -> Question | None:
        if kind == "pair":
            mine, busy = self.tickets.open_pairs(rater), self.tickets.open_pairs()
            found = self._pairs.choose(rater, mine, busy)
            if found is None:
                return None
            both = (found.left, found.right)
            return Question(rater, kind, found.prompt, both, found.mode, found.repeat_of)
        record = self._ratings.choose(rater, self.tickets.open_images(rater))
        if record is None:
            return None
        return Question(rater, kind, self._ratings.prompts[record], (record,), "rating")

    def _image_of(self, record: int) -> Path | None:
        """The file of a record's image; None when one of them has gone, or is deleted."""
        return self.store.image_path(self.store.visible_image(record))

    def _drop(self, record: int) -> None:
        self._pairs.drop(record)
        self._ratings.drop(record)

    def _store(self, ticket: Ticket, choice: str, milliseconds: int) -> Vote | Rating | None:
        """Store an answer and give what is stored; None for a rating that was skipped."""
        asked, token, when = ticket.question, ticket.token, now()
        if asked.kind == "pair":
            left, right = asked.records
            vote = Vote(
                left, right, cast(Choice, choice), asked.rater, token, milliseconds, when,
                repeat_of=asked.repeat_of, mode=asked.mode,
            )  # fmt: skip
            return replace(vote, id=self.store.vote(vote))
        if choice == "skip":
            return None
        rating = Rating(asked.records[0], int(choice), asked.rater, token, milliseconds, when)
        return replace(rating, id=self.store.rate(rating))

    def _stored(self, ticket: Ticket) -> Vote | Rating | None:
        """The answer on a ticket, as the book has it; a skipped rating is not in it."""
        with self._lock:
            return self._book.of_token(ticket.token)

    def _learn(self, stored: Vote | Rating | None, ticket: Ticket) -> None:
        with self._lock:
            if isinstance(stored, Vote):
                self._book.add_vote(stored)
                self._pairs.add(stored)
            elif stored is not None:
                self._book.add_rating(stored)
                self._ratings.add(stored)
            else:
                self._ratings.skip(ticket.question.rater, ticket.question.records[0])

    def _unlearn(self, stored: Vote | Rating) -> None:
        with self._lock:
            if isinstance(stored, Vote):
                self._book.remove_vote(stored)
                self._pairs.remove(stored)
            else:
                self._book.remove_rating(stored)
                self._ratings.remove(stored)

    def _bury(self, slip: Slip) -> None:
        """Ask no more about images that have gone."""
        self.tickets.close(slip, "gone")
        with self._lock:
            for record in slip.ticket.question.records:
                self._drop(record)


def _record_on(slip: Slip, side: int) -> int:
    records = slip.ticket.question.records
    if side not in range(len(records)):
        raise NoImage("This question has no such image.")
    return records[side]


def _check(ticket: Ticket, choice: object, milliseconds: object) -> None:
    """Raise BadAnswer for what a page would not send."""
    allowed = ANSWERS[ticket.question.kind]
    if choice not in allowed:
        raise BadAnswer(f"The answer is one of {', '.join(allowed)}, not {str(choice)[:40]!r}.")
    whole = isinstance(milliseconds, int) and not isinstance(milliseconds, bool)
    if not (whole and 0 <= cast(int, milliseconds) <= LONGEST):
        raise BadAnswer(
            f"The time is a whole number of milliseconds from 0 to {LONGEST:,}, not "
            f"{str(milliseconds)[:40]!r}."
        )
