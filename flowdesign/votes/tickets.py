"""Tickets: what was handed out to whom. A vote is cast on a ticket, once.

The token of a ticket is random and is all that a page knows of a pair: neither records nor workflows
can be told from it. Tickets are kept in a file too, so that a page that was open while the app was
restarted can still vote; the file is only a convenience, the votes themselves are in the store.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from flowdesign.votes.agreement import Pair
from flowdesign.votes.choosing import Mode, pair_of

Kind = Literal["pair", "rating"]

FRESH = 600.0  # seconds that other raters are kept from a pair that somebody has open
KEEP = 2 * 24 * 3600.0  # seconds that a ticket is good for
MOST_OPEN = 40  # of one rater; the oldest go first
MOST = 50_000  # of all


class UnknownTicket(LookupError):
    """No such ticket is known for this rater; the message says what to do."""


@dataclass(frozen=True)
class Question:
    """A question to one rater: a pair (left, right), or one image to be rated."""

    rater: str
    kind: Kind
    prompt: str
    records: tuple[int, ...]
    mode: Mode
    repeat_of: int | None = None


@dataclass(frozen=True)
class Ticket:
    """A question that was handed out. `issued` is in seconds since the epoch."""

    token: str
    question: Question
    issued: float


@dataclass
class Slip:
    """A ticket's state: the answer, once that is stored.

    Hold `lock` from looking at the answer until it is stored: two tabs may answer at once.
    """

    ticket: Ticket
    answer: str = ""
    undone: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Tickets:
    """All tickets of the last days, by token. Safe for threads."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._slips: dict[str, Slip] = {}
        self._open: dict[str, dict[str, Slip]] = {}  # by rater, oldest first
        self._restore()

    def issue(self, question: Question) -> Slip:
        """Make a ticket and remember it."""
        ticket = Ticket(secrets.token_urlsafe(18), question, self._clock())
        with self._lock:
            slip = self._keep(ticket)
            self._note(asdict(ticket))
        return slip

    def find(self, token: str, rater: str) -> Slip:
        """A rater's ticket. Raises UnknownTicket, also for one that is somebody else's."""
        with self._lock:
            slip = self._slips.get(token)
        if slip is None or slip.ticket.question.rater != rater:
            raise UnknownTicket(
                "This question is not yours or too old. Nothing was stored; here is a new one."
            )
        return slip

    def peek(self, token: str) -> Slip:
        """A ticket, whoever has it. Raises UnknownTicket."""
        with self._lock:
            slip = self._slips.get(token)
        if slip is None:
            raise UnknownTicket("There is no such question, or it is too old.")
        return slip

    def close_all(self, answers: Mapping[str, str]) -> None:
        """Close the tickets that were answered before this process began."""
        with self._lock:
            known = [
                (self._slips[token], said)
                for token, said in answers.items()
                if token in self._slips
            ]
        for slip, said in known:
            self.close(slip, said)

    def close(self, slip: Slip, answer: str) -> None:
        """Note that a ticket has its answer, or needs none."""
        slip.answer = answer
        with self._lock:
            self._open.get(slip.ticket.question.rater, {}).pop(slip.ticket.token, None)

    def open_to(self, rater: str) -> list[Ticket]:
        """What a rater was handed out and has not answered, oldest first."""
        with self._lock:
            return [slip.ticket for slip in self._open.get(rater, {}).values()]

    def open_pairs(self, rater: str | None = None) -> set[Pair]:
        """The pairs before a rater's eyes, or those that anybody was given minutes ago."""
        with self._lock:
            whose = self._open.values() if rater is None else [self._open.get(rater, {})]
            tickets = [slip.ticket for known in whose for slip in known.values()]
        since = self._clock() - FRESH if rater is None else 0.0
        return {
            pair_of(*ticket.question.records)
            for ticket in tickets
            if ticket.question.kind == "pair" and ticket.issued >= since
        }

    def open_images(self, rater: str) -> set[int]:
        """The records that a rater was given to rate and has not answered."""
        questions = [ticket.question for ticket in self.open_to(rater)]
        return {asked.records[0] for asked in questions if asked.kind == "rating"}

    def void(self, slip: Slip) -> None:
        """Note that an answer was taken back: the ticket is good for nothing more."""
        slip.undone = True
        with self._lock:
            self._note({"void": slip.ticket.token})

    def _note(self, values: Mapping[str, object]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def _keep(self, ticket: Ticket) -> Slip:
        slip = self._slips[ticket.token] = Slip(ticket)
        mine = self._open.setdefault(ticket.question.rater, {})
        mine[ticket.token] = slip
        if len(mine) > MOST_OPEN:
            oldest = next(iter(mine))
            del mine[oldest], self._slips[oldest]
        while len(self._slips) > MOST:
            gone = self._slips.pop(next(iter(self._slips))).ticket
            self._open.get(gone.question.rater, {}).pop(gone.token, None)
        return slip

    def _restore(self) -> None:
        """Read the tickets that are still good, and write the file without the others."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        rows = [row for line in lines if (row := _read(line))]
        void = {row["void"] for row in rows if "void" in row}
        tickets = [ticket for row in rows if (ticket := _ticket(row))]
        since = self._clock() - KEEP
        good = [one for one in tickets if one.issued > since and one.token not in void][-MOST:]
        for ticket in good:
            self._keep(ticket)
        text = "".join(json.dumps(asdict(ticket)) + "\n" for ticket in good)
        draft = self.file.with_name(self.file.name + ".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.file)


def _read(line: str) -> dict[str, Any]:
    """A line's values; none of a line that a crash cut short."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _ticket(values: dict[str, Any]) -> Ticket | None:
    """The ticket in a line's values; None when they are of something else."""
    try:
        asked = values["question"]
        question = Question(**{**asked, "records": tuple(asked["records"])})
        return Ticket(values["token"], question, values["issued"])
    except (TypeError, KeyError):
        return None
