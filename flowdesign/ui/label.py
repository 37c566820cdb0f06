"""The Label tab: blind pairs and ratings, answered with one key.

The page (assets/label.js) holds two questions, the one it shows and the next, whose images it has
loaded. It talks to three endpoints, which anybody's program may use as well:

    /label_deal     questions, and the figures below them
    /label_answer   store an answer, see how the images were made, and get the next question
    /label_undo     take an answer back; the same question comes again

Before the answer a question is a token, a prompt and the addresses of blind copies: neither record nor
workflow can be told from them. The reply to an answer is sent when the answer is on disk.
"""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowdesign.access import NotAllowed, Person
from flowdesign.records import RecordsError, UnknownRecord
from flowdesign.ui import cards, label_view
from flowdesign.ui.gate import Gate
from flowdesign.ui.record_view import FILES
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.style import ASSETS
from flowdesign.votes import (
    Agreement,
    Answered,
    BadAnswer,
    Desk,
    Gone,
    Kind,
    NoImage,
    Standing,
    Ticket,
    UnknownTicket,
)

Reply = dict[str, Any]
AHEAD = 2  # questions that a page holds
MOST_HELD = 40  # tokens that a page may send: each undo adds one to those that it holds
SHORTEST_SECRET = 16  # characters by which a browser is known
AT_ONCE: dict[str, Any] = {"queue": False, "api_visibility": "public"}
KEPT = {"Cache-Control": "private, max-age=86400"}  # the next pair is loaded before it is shown


class Label:
    """The tab's component, its endpoints and its images."""

    def __init__(self, records: SharedStore, gate: Gate, app: gr.Blocks) -> None:
        self.records, self.gate = records, gate
        self._desk: Desk | None = None
        self._lock = threading.Lock()
        cards.html(label_view.skeleton(), elem_id="fd-label", js_on_load=_script())
        page = gr.Textbox(visible="hidden", elem_id="fd-label-page")
        app.load(
            gate.reads(_page_of), None, page,
            queue=False, show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        gr.api(gate.reads_for(self.deal), api_name="label_deal", **AT_ONCE)
        gr.api(gate.writes("vote", self.answer), api_name="label_answer", **AT_ONCE)
        gr.api(gate.writes("vote", self.undo), api_name="label_undo", **AT_ONCE)

    def routes(self) -> list[Route]:
        """Where the blind copies are served, and after the answer the drawings of the workflows."""
        place = f"/{FILES}/label/{{token}}/{{side:int}}"
        return [Route(f"{place}.png", self.image), Route(f"{place}.html", self.drawing)]

    def desk(self) -> Desk:
        """The desk of the open store. Raises RecordsError when the store cannot be opened."""
        store = self.records()
        with self._lock:
            if self._desk is None or self._desk.store is not store:
                self._desk = Desk(store)
            return self._desk

    # --- endpoints

    def deal(self, person: Person, kind: str, browser: str, held: list[str]) -> Reply:
        """Give questions to a rater.

        Args:
            kind: "pair" or "rating".
            browser: A secret text of 16 characters or more by which this rater is known again.
            held: Tokens of questions that the page still has; those that are open come back first.

        Returns:
            `questions` (token, prompt, images), `standing` (figures), and `notice`, which says in
            HTML why there is no question.
        """
        if reason := self._refusal(person):
            return {"questions": [], "notice": label_view.refused(reason)}
        try:
            desk = self.desk()
        except RecordsError as fault:
            return {"questions": [], "notice": label_view.broken(str(fault))}
        return self._next(desk, _rater(person, browser), _kind(kind), _tokens(held))

    def answer(
        self,
        person: Person,
        token: str,
        answer: str,
        milliseconds: int,
        browser: str,
        held: list[str],
    ) -> Reply:
        """Store an answer; the reply comes when it is on disk.

        Args:
            token: The question that is answered.
            answer: "left", "right", "tie" or "skip" for a pair; "1" to "5" or "skip" for a rating.
            milliseconds: How long the rater looked.
            browser: The rater's secret, as for /label_deal.
            held: Tokens of further questions that the page has.

        Returns:
            As /label_deal, and `again`: the question had this `answer` already, nothing was stored
            now; `reveal`: how the images were made, as HTML, empty after a skip.
        """
        desk, rater = self._open(person, browser)
        try:
            answered = desk.answer(rater, _text(token), answer, milliseconds)
        except (UnknownTicket, BadAnswer, Gone, RecordsError) as problem:
            raise _told(problem) from problem
        reply = self._next(desk, rater, answered.ticket.question.kind, _tokens(held))
        shown = self._reveal(desk, answered)
        return reply | {"answer": answered.answer, "again": answered.again, "reveal": shown}

    def undo(self, person: Person, token: str, browser: str, held: list[str]) -> Reply:
        """Take an answer back and ask again.

        Args:
            token: The question whose answer is taken back.
            browser: The rater's secret, as for /label_deal.
            held: Tokens of further questions that the page has.

        Returns:
            As /label_deal; the question that is asked again comes first, with a new token.
        """
        desk, rater = self._open(person, browser)
        try:
            ticket = desk.undo(rater, _text(token))
        except (UnknownTicket, BadAnswer, RecordsError) as problem:
            raise _told(problem) from problem
        kind = ticket.question.kind
        return self._next(desk, rater, kind, [ticket.token, *_tokens(held)]) | {"kind": kind}

    def image(self, request: Request) -> Response:
        """The blind copy of an image, for whoever knows the token."""
        token, side = request.path_params["token"], request.path_params["side"]
        try:
            data = self.desk().image(token, side)
        except (UnknownTicket, NoImage, RecordsError) as fault:
            return JSONResponse({"error": str(fault)}, 404)
        return Response(data, media_type="image/png", headers=KEPT)

    def drawing(self, request: Request) -> Response:
        """How an image of an answered question was made, drawn. Before the answer there is none."""
        token, side = request.path_params["token"], request.path_params["side"]
        try:
            record = self.desk().answered_record(token, side)
        except (UnknownTicket, NoImage, RecordsError) as fault:
            return JSONResponse({"error": str(fault)}, 404)
        return Response(label_view.workflow(record, side), media_type="text/html", headers=KEPT)

    # --- inside

    def _refusal(self, person: Person) -> str:
        """Why this person may not vote here, or ""; nothing is counted."""
        access = self.gate.access
        try:
            if not access.allows(person, "vote"):
                access.may(person, "vote")
        except NotAllowed as refusal:
            return str(refusal)
        return ""

    def _open(self, person: Person, browser: str) -> tuple[Desk, str]:
        try:
            return self.desk(), _rater(person, browser)
        except RecordsError as fault:
            raise _told(fault) from fault

    def _next(self, desk: Desk, rater: str, kind: Kind, held: list[str]) -> Reply:
        tickets = desk.deal(rater, kind, held, AHEAD)
        return {
            "questions": [_question(ticket) for ticket in tickets],
            "standing": _figures(desk.standing(rater)),
            "notice": "" if tickets else _why_none(desk, kind),
        }

    def _reveal(self, desk: Desk, answered: Answered) -> str:
        """Nothing after a skip: the pair may come again."""
        if answered.answer == "skip":
            return ""
        question = answered.ticket.question
        try:
            records = [desk.store.get(record) for record in question.records]
        except UnknownRecord:
            return ""  # deleted for good in this very moment
        return label_view.reveal(answered, records, _addresses(answered.ticket))


def _page_of(request: gr.Request) -> str:
    """Gradio's name for the open page, which the script sends along: a login may hang on it."""
    return request.session_hash or ""


def _question(ticket: Ticket) -> Reply:
    """All that a page may know before the answer."""
    asked = ticket.question
    return {
        "token": ticket.token,
        "kind": asked.kind,
        "prompt": asked.prompt,
        "images": _addresses(ticket),
    }


def _addresses(ticket: Ticket) -> list[str]:
    """Where the blind copies are, relative to the page."""
    sides = range(len(ticket.question.records))
    return [f"{FILES}/label/{ticket.token}/{side}.png" for side in sides]


def _figures(standing: Standing) -> Reply:
    return {
        "votes": standing.votes,
        "ratings": standing.ratings,
        "all_votes": standing.all_votes,
        "all_ratings": standing.all_ratings,
        "raters": standing.raters,
        "own": _agreement(standing.own),
        "between": _agreement(standing.between),
    }


def _agreement(one: Agreement) -> Reply:
    return {"pairs": one.units, "equal": one.equal, "alpha": one.alpha}


def _why_none(desk: Desk, kind: Kind) -> str:
    if not desk.pool.images:
        return label_view.no_images()
    if kind == "pair" and not desk.pool.pairs:
        return label_view.no_pairs(desk.pool.stored)
    return label_view.all_done(kind)


def _rater(person: Person, browser: object) -> str:
    """The name of this rater's votes. Raises gr.Error when nothing tells raters apart."""
    secret = browser if isinstance(browser, str) else ""
    if not person.name and len(secret) < SHORTEST_SECRET:
        raise gr.Error(
            f"'browser' is a secret text of {SHORTEST_SECRET} characters or more, the same in every "
            "call, by which you are known again.",
            print_exception=False,
        )
    return person.rater(secret)


def _kind(text: object) -> Kind:
    if text == "pair" or text == "rating":
        return text
    raise gr.Error(
        f"The kind is 'pair' or 'rating', not {str(text)[:40]!r}.", print_exception=False
    )


def _text(token: object) -> str:
    """A token as a text; what is none is a token that nobody has."""
    return token if isinstance(token, str) else ""


def _tokens(held: object) -> list[str]:
    """What a page says it holds; anything at all may come from a program."""
    texts = held if isinstance(held, list) else []
    return [text for text in texts[:MOST_HELD] if isinstance(text, str)]


def _told(problem: Exception) -> gr.Error:
    return gr.Error(str(problem), print_exception=False)


def _script() -> str:
    return (ASSETS / "label.js").read_text(encoding="utf-8")
