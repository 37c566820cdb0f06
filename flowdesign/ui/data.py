"""The Data tab: look through the records, open one, and see what helps.

One filter stands above; everything below acts on what it leaves. Pages follow each other by keyset
(`Store.find`), so the thousandth takes no longer than the first. What is ticked lives in the page
(assets/page.js) and is sent along when a button needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.config import ScoreConfig, build
from flowdesign.critic import Critic
from flowdesign.records import COMBINED, Page, RecordsError, StoredRecord, UnknownRecord
from flowdesign.scorers import SCORERS
from flowdesign.standards import combine, read_reference
from flowdesign.ui import cards, record_view
from flowdesign.ui.critics import Critics
from flowdesign.ui.data_actions import Actions
from flowdesign.ui.data_charts import Charts
from flowdesign.ui.data_filter import BLANK, Asked, BadFilter, FilterForm, read
from flowdesign.ui.data_import import Import
from flowdesign.ui.data_predict import expected_of
from flowdesign.ui.data_weights import Weights
from flowdesign.ui.files import Exports
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import NEWEST_WINS, QUIET, Updates, pressed, pressing
from flowdesign.ui.jobs import Jobs
from flowdesign.ui.jobs_view import JobsView
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.style import ASSETS

FILTERED = ("browse", "charts")  # sub-tabs
PAGE = 48  # tiles: a whole number of rows in most widths


@dataclass(frozen=True)
class Place:
    """Where a visitor is: the ends of the pages before, the records of this one, the opened one."""

    cursors: tuple[str | None, ...] = (None,)
    ids: tuple[int, ...] = ()
    next: str | None = None
    opened: int | None = None


class Data:
    """The tab's components and handlers. Handlers return {component: new value}."""

    def __init__(
        self, records: SharedStore, gate: Gate, tab: gr.Tab, jobs: Jobs, exports: Exports,
        critics: Critics,
    ) -> None:  # fmt: skip
        self.records, self.gate, self.critics = records, gate, critics
        with gr.Column(elem_id="fd-data"):
            with gr.Column(elem_id="fd-filter") as self.filter:
                self.form = FilterForm()
            self.jobs = JobsView(jobs, gate)
            with gr.Tabs(elem_id="fd-data-tabs", overflow_behavior="wrap") as self.tabs:
                with gr.Tab("Browse", id="browse"):
                    self._build_browse(exports)
                with gr.Tab("Charts", id="charts"):
                    self.charts = Charts(records, gate, self.form)
                with gr.Tab("Import", id="import"):
                    self.importing = Import(records, gate, self.jobs)
                with gr.Tab("Weights", id="weights"):
                    self.weights = Weights(records, gate, self.jobs)
        self._connect(tab)

    # --- components

    def _build_browse(self, exports: Exports) -> None:
        self.place, self.section = gr.State(Place()), gr.State("browse")
        with gr.Column(elem_id="fd-browse"):
            with gr.Row(elem_classes="fd-bar"):
                self.found = cards.html(cards.status(""), elem_id="fd-found")
                self.before = gr.Button("‹ Previous", size="sm", scale=0, elem_id="fd-page-before")
                self.after = gr.Button("Next ›", size="sm", scale=0, elem_id="fd-page-after")
            self.actions = Actions(
                self.records, self.gate, self.form, self.jobs, exports, self.critics
            )
            self.grid = cards.html(elem_id="fd-tiles", js_on_load=_script())
            with gr.Row(elem_classes="fd-bar fd-end"):
                self.before_too = gr.Button("‹ Previous", size="sm", scale=0)
                self.after_too = gr.Button("Next ›", size="sm", scale=0)
        with gr.Column(elem_id="fd-opened"):
            with gr.Row(elem_classes="fd-bar"):
                self.close = gr.Button("‹ All records", size="sm", scale=0, elem_id="fd-back")
                self.step_back = gr.Button(
                    "‹ Previous", size="sm", scale=0, elem_id="fd-record-before"
                )
                self.step_on = gr.Button("Next ›", size="sm", scale=0, elem_id="fd-record-after")
            self.record = cards.html(elem_id="fd-record", js_on_load=RECORD)

    @property
    def _page(self) -> list[Any]:
        return [
            self.place, self.found, self.grid, self.record, self.before, self.after,
            self.before_too, self.after_too,
        ]  # fmt: skip

    def _connect(self, tab: gr.Tab) -> None:
        reads, form = self.gate.reads, self.form
        parts = (self.weights, self.charts, self.importing, self.actions)
        shown = [*self._page, *form.choosing, *(one for part in parts for one in part.outputs)]
        arriving = self.gate.reads_for(self.arrive)
        tab.select(arriving, [self.place, *form.inputs], shown, **QUIET)
        self.jobs.on_look(self.gate.reads_for(self.after_look), [self.place, *form.inputs], shown)
        gr.on(form.changes, reads(self.search), form.inputs, self._page, **NEWEST_WINS)
        cleared = [*form.inputs, *self._page]
        clearing = form.clear.click(reads(self.clear), form.inputs, cleared, **QUIET)
        turning = self.tabs.select(reads(self.turn_to), None, [self.section, self.filter], **QUIET)
        self.charts.connect(self.section, turning, clearing)
        here = [self.place, *form.inputs]
        for button in (self.after, self.after_too):
            button.click(reads(self.forward), here, self._page, **QUIET)
        for button in (self.before, self.before_too):
            button.click(reads(self.back), here, self._page, **QUIET)
        self._connect_record()
        self.actions.connect(self.gate.reads(self.refresh), here, self._page)

    def _connect_record(self) -> None:
        reads, opened = self.gate.reads, [self.place, self.record]
        show = reads(self.open_record)
        self.grid.click(show, self.place, opened, **QUIET)
        self.record.click(show, self.place, opened, **QUIET)
        self.close.click(reads(self.close_record), self.place, opened, **QUIET)
        here = [self.place, *self.form.inputs]
        self.step_back.click(reads(self.open_before), here, self._page, **QUIET)
        self.step_on.click(reads(self.open_after), here, self._page, **QUIET)

    # --- pages of tiles

    def arrive(self, person: Person, place: Place, *asked: Any) -> Updates:
        """Show the tab as the store is now: choices, weights and the page the visitor was on."""
        try:
            options = self.records().options()
        except RecordsError as fault:
            return self._told(str(fault))
        updates = self.form.offer(options) | self.charts.offer(options)
        for part in (self.weights, self.importing, self.actions):
            updates |= part.show(person)
        return updates | self._turn(place, place.cursors, asked)

    def after_look(self, person: Person, news: bool, place: Place, *asked: Any) -> Updates:
        """Show what a job has changed, once it has ended."""
        return self.arrive(person, place, *asked) if news else {self.place: gr.skip()}

    def turn_to(self, event: gr.EventData) -> Updates:
        """Note which sub-tab is open; only two of them are about what the filter leaves."""
        section = pressed(event, "id")
        return {self.section: section, self.filter: gr.update(visible=section in FILTERED)}

    def search(self, *asked: Any) -> Updates:
        """Show the first page of what the filter asks for."""
        return self._turn(Place(), (None,), asked)

    def clear(self, *asked: Any) -> Updates:
        """Empty the filter and show the first page of everything."""
        return self.form.cleared(*asked) | self._turn(Place(), (None,), BLANK)

    def refresh(self, place: Place, *asked: Any) -> Updates:
        """Show the same page again."""
        return self._turn(place, place.cursors, asked)

    def forward(self, place: Place, *asked: Any) -> Updates:
        """Show the next page; the last one stays."""
        more = (*place.cursors, place.next) if place.next else place.cursors
        return self._turn(place, more, asked)

    def back(self, place: Place, *asked: Any) -> Updates:
        """Show the page before; the first one stays."""
        return self._turn(place, place.cursors[:-1] or (None,), asked)

    def _turn(
        self,
        place: Place,
        cursors: tuple[str | None, ...],
        values: tuple[Any, ...],
    ) -> Updates:
        try:
            asked = read(*values)
            page = self._find(asked, cursors[-1])
        except (BadFilter, RecordsError) as fault:
            return self._told(str(fault))
        new = Place(cursors, tuple(row.id or 0 for row in page.rows), page.next, place.opened)
        said = _count(page, len(cursors))
        return {
            self.place: new,
            self.found: cards.status(said),
            self.grid: self._tiles(page, asked),
            self.before: gr.update(interactive=len(cursors) > 1),
            self.before_too: gr.update(interactive=len(cursors) > 1),
            self.after: gr.update(interactive=page.next is not None),
            self.after_too: gr.update(interactive=page.next is not None),
        }

    def _find(self, asked: Asked, after: str | None) -> Page:
        return self.records().find(asked.filter, after, PAGE, asked.order)

    def _tiles(self, page: Page, asked: Asked) -> str:
        if page.rows:
            return record_view.tiles(page.rows, asked.filter.scorer)
        if asked.filter.scorer == COMBINED and COMBINED not in self.records().options().scorers:
            return record_view.nothing(
                "No record has a combined score yet: give the scorers weights under Weights."
            )
        if asked == Asked():
            return record_view.empty_store()
        return record_view.nothing("No record matches. Take something out of the filter.")

    def _told(self, words: str) -> Updates:
        return {self.found: cards.status(words, "bad")}

    # --- one record

    def open_record(self, place: Place, event: gr.EventData) -> Updates:
        """Open the record whose button was pressed, on a tile or in a list of votes."""
        asked = pressed(event, "record")
        return self._open(place, int(asked[:18]) if asked.isdecimal() else 0)

    def close_record(self, place: Place) -> Updates:
        """Go back to the tiles."""
        return {self.place: replace(place, opened=None), self.record: ""}

    def open_after(self, place: Place, *asked: Any) -> Updates:
        """Open the record after this one, on the next page if need be."""
        return self._step(place, 1, asked)

    def open_before(self, place: Place, *asked: Any) -> Updates:
        """Open the record before this one, on the page before if need be."""
        return self._step(place, -1, asked)

    def _step(self, place: Place, way: int, asked: tuple[Any, ...]) -> Updates:
        here = place.ids.index(place.opened) if place.opened in place.ids else -1
        if 0 <= here + way < len(place.ids):
            return self._open(place, place.ids[here + way])
        turned = self.forward(place, *asked) if way > 0 else self.back(place, *asked)
        new = turned.get(self.place, place)
        if new.cursors == place.cursors or not new.ids:
            return {self.place: gr.skip()}  # there is no record beyond
        return turned | self._open(new, new.ids[0 if way > 0 else -1])

    def _open(self, place: Place, number: int) -> Updates:
        try:
            shown = record_view.opened(self._gathered(self.records().get(number)))
        except (UnknownRecord, OverflowError):
            shown = record_view.unknown(number)
        except RecordsError as fault:
            return self._told(str(fault))
        return {self.place: replace(place, opened=number), self.record: shown}

    def _gathered(self, record: StoredRecord) -> record_view.Opened:
        store, number = self.records(), record.id or 0
        ratings = [one for one in store.ratings(prompt=record.prompt) if one.record == number]
        abouts = {name: scorer.about for name, scorer in SCORERS.items()}
        held_out = build(ScoreConfig, {}).held_out
        shown = record_view.Opened(record, store.votes_on(number), ratings, abouts, held_out)
        critic = self.critics.at_hand()
        return replace(shown, **_judged(critic, record)) if critic else shown


def _judged(critic: Critic, record: StoredRecord) -> dict[str, Any]:
    """What the reward ensemble expects of a record from its texts, and what it should have said."""
    try:
        (expected,) = expected_of(critic, [record])
        scored = combine(record.scores, critic.weights, read_reference())
    except ValueError:  # it lacks a word of the record, or there is no reference set
        return {}
    return {"expected": expected, "scored": scored}


def _count(page: Page, number: int) -> str:
    """How many records match, and which of them are shown."""
    if not page.rows:
        return "No records" if number == 1 else "No more records"
    first = (number - 1) * PAGE + 1
    last = first + len(page.rows) - 1
    total = max(page.total, last)
    of = f"{total:,}" if page.total_is_exact else f"at least {total:,}"
    return f"{first:,} to {last:,} of {of} records"


RECORD = pressing("record") + 'watch("value", () => window.fdOpened(element));'


def _script() -> str:
    """What the browser does with tiles."""
    return (ASSETS / "data.js").read_text(encoding="utf-8")
