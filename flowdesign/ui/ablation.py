"""The Ablation tab: an X/Y grid of designs with equal chance, its curves and its files.

It works as the Playground does: a button asks at once, the cells follow when it is the page's turn, and
what is finished when somebody cancels stays on the page and is not made again.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import gradio as gr

from flowdesign.ablation.curves import axis_of, curves_of
from flowdesign.ablation.export import export
from flowdesign.ablation.plan import Plan, make_plan
from flowdesign.ablation.running import Cells, Outcome
from flowdesign.ablation.setting import from_link
from flowdesign.catalog import CatalogError, Installed, installed
from flowdesign.designs import say_fault
from flowdesign.policies import Policies
from flowdesign.request import BadRequest
from flowdesign.scoring import Scoring
from flowdesign.studio import Studio
from flowdesign.tokens import VOCABULARY, Automaton
from flowdesign.ui import ablation_curves, ablation_view, cards
from flowdesign.ui.ablation_form import Form
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import IN_TURN, NEWEST_WINS, QUIET, Updates
from flowdesign.ui.tasks import NotLoaded, Tasks, Ticket, until_loaded

log = logging.getLogger(__name__)

SLOTS = 24  # places for rows: a finished cell draws only its own place anew
EVERY = 0.3  # seconds between two drawings of what was made before
CURVES_EVERY = 3.0  # seconds between two drawings of the curves
MOST_PAGES = 50  # whose grids are remembered, for export
COPY = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const link = new URL(button.dataset.copy, window.location.href).href;
  navigator.clipboard.writeText(link).then(() => { button.textContent = "Copied"; });
});
"""


@dataclass(eq=False)
class Grid(Ticket):
    """What a page asked for, and the cells that are finished."""

    plan: Plan
    done: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    made: int = 0  # of these, how many were made now
    started: float = 0.0
    changed: set[int] = field(default_factory=set)  # slots to draw anew

    @property
    def size(self) -> int:
        """How many rows share a slot."""
        return math.ceil(len(self.plan.rows) / SLOTS)

    def add(self, outcome: Outcome) -> None:
        """Take a finished cell in."""
        cell = outcome.cell
        self.done[cell.row, cell.column] = outcome
        self.made += not outcome.again
        self.changed.add(cell.row // self.size)

    def left(self) -> float | None:
        """Seconds until the end, at the pace so far."""
        if not self.made:
            return None
        pace = (time.monotonic() - self.started) / self.made
        return pace * (len(self.plan.cells) - len(self.done))


class Ablation:
    """The tab's components and what its buttons do. Handlers return {component: new value}."""

    def __init__(
        self,
        opening: Future[Studio],
        gate: Gate,
        models: Installed | None = None,
        policies: Policies | None = None,
    ) -> None:
        self.opening, self.gate, self.models = opening, gate, models
        self.policies = policies or Policies()
        self.cells = Cells(Scoring())
        self.tasks = Tasks[Grid]()
        self._grids: OrderedDict[str, Grid] = OrderedDict()
        self.form = Form(self.policies)
        self._build_actions()
        self._build_results()
        self._connect()

    # --- components

    def _build_actions(self) -> None:
        self.plan = cards.html(elem_id="fd-ab-plan", js_on_load=COPY)
        with gr.Row(elem_id="fd-ab-actions"):
            self.go = gr.Button("Make the grid", variant="primary", elem_id="fd-ab-go", scale=4)
            self.stop = gr.Button("Cancel", elem_id="fd-ab-cancel", interactive=False, scale=1)
            self.save = gr.Button("Export", elem_id="fd-ab-export", interactive=False, scale=1)
        self.status = cards.html(cards.status(""), elem_id="fd-ab-status")
        self.files = cards.html(elem_id="fd-ab-files")

    def _build_results(self) -> None:
        self.curves = cards.html(elem_id="fd-ab-curves")
        self.slots = [
            cards.html(elem_id=f"fd-ab-slot-{index + 1}", elem_classes="fd-ab-slot")
            for index in range(SLOTS)
        ]

    @property
    def _buttons(self) -> list[Any]:
        return [self.status, self.go, self.stop, self.save]

    def _connect(self) -> None:
        """Everybody may ask: what is made goes to a folder that is swept."""
        reads, fields = self.gate.reads, self.form.fields
        inputs, outputs = self.form.inputs, [*self._buttons, self.curves, self.files, *self.slots]
        look = reads(self.look)
        for axis in ("x", "y"):
            choose = reads(self._chooser(axis))
            fields[axis].input(choose, fields[axis], fields[f"{axis}_values"], **QUIET)
        gr.on([one.change for one in inputs], look, inputs, self.plan, **NEWEST_WINS)
        pressed = [self.go.click, fields["x_values"].submit, fields["y_values"].submit]
        asking = gr.on(pressed, reads(self.ask), inputs, outputs, **QUIET)
        working = asking.then(reads(self.work), None, outputs, **IN_TURN)
        working.then(look, inputs, self.plan, **NEWEST_WINS)
        self.stop.click(reads(self.cancel), None, outputs, **QUIET)
        self.save.click(reads(self.export), None, [self.files, self.status], **QUIET)

    def show_in(self, app: gr.Blocks, tab: gr.Tab, tabs: gr.Tabs) -> None:
        """Follow the page: restore a link's setting when it opens, list policies, stop when it goes."""
        form, reads = self.form, self.gate.reads
        app.load(reads(self._opener(tabs)), None, [tabs, self.status, *form.inputs], **QUIET)
        policy = form.fields["policy"]
        refreshed = tab.select(reads(form.refresh), policy, [policy, form.note], **QUIET)
        refreshed.then(reads(self.look), form.inputs, self.plan, **NEWEST_WINS)
        app.unload(reads(self.leave))

    def _chooser(self, axis: str) -> Any:
        def choose(name: str) -> Updates:
            """Another kind of values for this axis."""
            return self.form.choose(axis, name)

        return choose

    def _opener(self, tabs: gr.Tabs) -> Any:
        def restore(request: gr.Request) -> Updates:
            """Open this tab with the setting of the link that led here, if one did."""
            try:
                setting = from_link(dict(request.query_params))
                if setting is None:
                    return {self.status: gr.skip()}
                return {tabs: gr.update(selected="ablation")} | self.form.restore(setting)
            except BadRequest as problem:
                told = cards.status(f"The link cannot be restored. {problem}", "bad")
                return {tabs: gr.update(selected="ablation"), self.status: told}

        return restore

    # --- what the buttons do

    def look(self, *values: Any) -> str:
        """How many cells the form asks for and how long they take, or what is wrong with it."""
        try:
            plan = self._plan(values)
        except BadRequest as problem:
            return ablation_view.wrong(str(problem))
        studio = self._studio
        if studio is None:
            return ablation_view.planned(plan, len(plan.cells), None, False)
        waiting = len(self.cells.waiting(studio, plan))
        return ablation_view.planned(plan, waiting, self.cells.expect(studio, plan), True)

    def ask(self, request: gr.Request, *values: Any) -> Updates:
        """Check what was asked and take a place in the queue."""
        try:
            grid = Grid(self._plan(values))
        except BadRequest as problem:
            return {self.status: cards.status(str(problem), "bad")}
        page = request.session_hash or ""
        if not self.tasks.add(page, grid):
            return {self.status: gr.skip()}
        self._grids[page] = grid
        self._grids.move_to_end(page)
        while len(self._grids) > MOST_PAGES:
            self._grids.popitem(last=False)
        drawn = dict.fromkeys(self.slots, "") | self._draw(grid, range(SLOTS), running=True)
        return drawn | {
            self.status: cards.status("Waiting for a free turn…", "busy"),
            self.go: gr.update(interactive=False),
            self.stop: gr.update(interactive=True),
            self.save: gr.update(interactive=False),
            self.curves: "",
            self.files: "",
        }

    def work(self, request: gr.Request) -> Iterator[Updates]:
        """Make the cells that this page asked for; yields as they finish."""
        page = request.session_hash or ""
        grid = self.tasks.take(page)
        if grid is None:
            yield {self.status: gr.skip()}
            return
        try:
            if not self.opening.done():
                yield self._busy("The models are still loading. The grid starts right after.")
            for _ in until_loaded(self.opening, grid.stop):
                pass
            yield from self._make(grid)
            if self.tasks.holds(page, grid):
                yield self._over(grid)
        except (BadRequest, NotLoaded) as problem:
            yield self._ended(grid, str(problem), "bad")
        except Exception as fault:  # of any part; what is finished stays
            log.exception("The ablation failed")
            yield self._ended(grid, f"The grid failed: {say_fault(fault)}", "bad")
        finally:
            self.tasks.end(page, grid)  # also when Gradio closes this because the page has gone

    def cancel(self, request: gr.Request) -> Updates:
        """Stop this page's work; what is finished stays. Work under way says itself how it ended."""
        grid = self.tasks.stop(request.session_hash or "")
        if grid is None:
            return {self.status: cards.status("There was nothing to stop.")}
        return {self.stop: gr.update(interactive=False)} if grid.taken else self._over(grid)

    def leave(self, request: gr.Request) -> None:
        """The page is gone: stop its work, and forget its grid."""
        self.tasks.drop(request.session_hash or "")
        self._grids.pop(request.session_hash or "", None)

    def export(self, request: gr.Request) -> Updates:
        """Write the page's grid, as far as it is finished, to files."""
        grid = self._grids.get(request.session_hash or "")
        if grid is None or not grid.done:
            return {self.status: cards.status("There is no grid yet. Make one first.", "bad")}
        folder = self.opening.result().output / secrets.token_hex(8)
        try:
            made = export(grid.plan, list(grid.done.values()), folder)
        except OSError as fault:
            words = f"The files could not be written: {fault.strerror or say_fault(fault)}"
            return {self.status: cards.status(words, "bad")}
        return {self.files: ablation_view.files(made, grid.plan)}

    # --- work under way

    def _make(self, grid: Grid) -> Iterator[Updates]:
        if grid.stop.is_set():
            return
        yield self._busy("Making the first cell…")
        grid.started = drawn = charted = time.monotonic()
        for outcome in self.cells.run(self.opening.result(), grid.plan, grid.stop.is_set):
            grid.add(outcome)
            now = time.monotonic()
            if outcome.again and now - drawn < EVERY:
                continue
            drawn = now
            updates = self._changed(grid) | self._busy(_progress(grid))
            if now - charted > CURVES_EVERY:
                charted = now
                updates[self.curves] = _curves(grid)
            yield updates

    def _changed(self, grid: Grid) -> Updates:
        changed, grid.changed = grid.changed, set()
        return self._draw(grid, changed, running=True)

    def _draw(self, grid: Grid, slots: Any, running: bool) -> Updates:
        """The rows of these slots as they are now."""
        rows = range(len(grid.plan.rows))
        return {
            self.slots[slot]: ablation_view.rows(grid.plan, here, grid.done, running)
            for slot in slots
            if (here := rows[slot * grid.size : (slot + 1) * grid.size])
        }

    def _over(self, grid: Grid) -> Updates:
        """The grid as far as it came before its end or before somebody stopped it."""
        came = ablation_view.finished(grid.plan, grid.done)
        return self._ended(grid, f"Stopped after {came}" if grid.stop.is_set() else came)

    def _ended(self, grid: Grid, words: str, kind: str = "") -> Updates:
        """The grid as it stays."""
        return self._draw(grid, range(SLOTS), running=False) | {
            self.status: cards.status(words, kind),
            self.go: gr.update(interactive=True),
            self.stop: gr.update(interactive=False),
            self.save: gr.update(interactive=bool(grid.done)),
            self.curves: _curves(grid),
        }

    def _busy(self, text: str) -> Updates:
        return {self.status: cards.status(text, "busy")}

    def _plan(self, values: Any) -> Plan:
        """The plan of the form. Raises BadRequest."""
        try:
            return make_plan(self.form.read(values), self.policies, self._language)
        except CatalogError as fault:
            raise BadRequest(str(fault)) from fault

    @cached_property
    def _language(self) -> Automaton:
        return Automaton(VOCABULARY, self.models or installed())

    @property
    def _studio(self) -> Studio | None:
        """The studio once it is open; None before, and when it could not be opened."""
        done = self.opening.done() and self.opening.exception() is None
        return self.opening.result() if done else None


def _progress(grid: Grid) -> str:
    words = f"{len(grid.done)} of {len(grid.plan.cells)} cells"
    left = grid.left()
    return words + ("…" if not left else f", about {ablation_view.duration(left)} left…")


def _curves(grid: Grid) -> str:
    kind = axis_of(grid.plan)
    if kind is None:
        return ""
    done = list(grid.done.copy().values())  # another thread may still add one
    return ablation_curves.draw(curves_of(grid.plan, done), kind.title)
