"""The Train tab: start runs, watch them, compare them.

A page holds which run is open and which are compared; everything it shows is read from the folders of
the runs (`train_runs`), so that a reload, a second visitor and a restarted app see the same. While a run
is at work the page looks every two seconds and draws only what has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.lease import LeaseError
from flowdesign.ui import cards, train_view
from flowdesign.ui.critics import Critics, is_ensemble
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import NEWEST_WINS, QUIET, Updates
from flowdesign.ui.reward_explain import Explain
from flowdesign.ui.style import ASSETS
from flowdesign.ui.train_actions import RunActions
from flowdesign.ui.train_curves import draw, gather
from flowdesign.ui.train_estimate import seconds_left
from flowdesign.ui.train_form import command_line
from flowdesign.ui.train_launch import Launcher
from flowdesign.ui.train_metrics import figures_of
from flowdesign.ui.train_new import NewRun
from flowdesign.ui.train_runs import Run, TrainError, last_lines, read_notes

SOON, LATER = 2.0, 10.0  # seconds between two looks, with a run at work and without
COMPARED = 8  # runs in one chart
LINES, LAST = 80, 12  # of a log: to read, and with what went wrong
FOLLOW = (
    '\nwatch("value", () => { const run = element.querySelector("article");'
    " if (!run || window.fdOpenRun !== run.dataset.name) return; window.fdOpenRun = null;"
    " run.focus({ preventScroll: true });"
    ' run.scrollIntoView({ block: "nearest" }); });'
)

WANTED = "(place, wanted) => [place, window.fdWanted()]"


@dataclass(frozen=True)
class Place:
    """What a page has open and compares. Only presses change it, so a late look undoes none."""

    opened: str = ""
    ticked: tuple[str, ...] = ()


class Train:
    """The tab's components and handlers. Handlers return {component: new value}."""

    def __init__(self, launcher: Launcher, gate: Gate, tab: gr.Tab, critics: Critics) -> None:
        self.launcher, self.book, self.gate = launcher, launcher.book, gate
        script = (ASSETS / "train.js").read_text(encoding="utf-8")
        self.place, self.marks = gr.State(Place()), gr.State({})  # marks: of what the page shows
        self.timer = gr.Timer(LATER, active=False)
        with gr.Column(elem_id="fd-train"):
            self.machine = cards.html(elem_id="fd-machine")
            with gr.Tabs(elem_id="fd-train-tabs", overflow_behavior="wrap") as self.tabs:
                with gr.Tab("Runs", id="runs"):
                    self._build_runs(script, critics)
                with gr.Tab("New run", id="new"):
                    self.new = NewRun(launcher, gate)
                with gr.Tab("Trash", id="trash"):
                    self.actions.build_trash(script)
        self._connect(tab)

    def _build_runs(self, script: str, critics: Critics) -> None:
        with gr.Row(elem_id="fd-train-runs"):
            with gr.Column(scale=2, min_width=300, elem_id="fd-run-list"):
                self.list = cards.html(elem_id="fd-runs", js_on_load=script)
                self.wanted = gr.Textbox(visible=False)
            with gr.Column(scale=5, min_width=300, elem_id="fd-run-opened"):
                self.head = cards.html(elem_id="fd-run-head", js_on_load=FOLLOW)
                self.actions = RunActions(self.launcher, self.gate)
                self.curves = cards.html(elem_id="fd-run-curves", js_on_load=script)
                self.figures = cards.html(elem_id="fd-run-figures")
                self.report = cards.html(elem_id="fd-run-report")
                self.explain = Explain(critics, self.gate)
                with gr.Accordion("Options", open=False, elem_id="fd-run-options"):
                    self.options = cards.html()
                with gr.Accordion("Log", open=False, elem_id="fd-run-log"):
                    self.log = cards.html()

    @property
    def parts(self) -> dict[str, Any]:
        """The components that are drawn from the folders, by the name of their digest."""
        return {
            "machine": self.machine, "list": self.list, "head": self.head, "curves": self.curves,
            "figures": self.figures, "report": self.report, "options": self.options, "log": self.log,
        }  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.place, *self.drawn]

    @property
    def drawn(self) -> list[Any]:
        """The same without the place."""
        return [
            self.marks, self.timer, *self.parts.values(), *self.actions.buttons,
            self.explain.box, self.explain.answer,
        ]  # fmt: skip

    def _connect(self, tab: gr.Tab) -> None:
        gate, outputs = self.gate, self.outputs
        arriving = [*outputs, *self.new.outputs, *self.actions.outputs]
        tab.select(
            gate.reads_for(self.arrive), [self.place, *self.new.names], arriving, **QUIET
        )  # fmt: skip
        looking = gate.reads_for(self.look)
        self.timer.tick(looking, [self.place, self.marks], self.drawn, **QUIET)
        pressing = [*outputs, *self.actions.outputs]
        self.list.click(
            gate.reads_for(self.press),
            [self.place, self.wanted],
            pressing,
            js=WANTED,
            **NEWEST_WINS,
        )
        self.actions.connect(self.place, outputs, self.show, self.open_run)
        self.new.connect(self.place, [*outputs, self.tabs], self.open_new)
        self.explain.connect(self.place, self.folder_of)

    # --- handlers

    def arrive(self, person: Person, place: Place, *names: str) -> Updates:
        """Show the tab as the folders are now, whatever the page showed before."""
        may = self.gate.access.allows(person, "run")
        parts = self.new.show(may, *names) | self.actions.show_trash(person)
        return parts | self.show(person, place)

    def press(self, person: Person, place: Place, wanted: str) -> Updates:
        """Open the first of the runs that the page wants, and compare the others."""
        place = place or Place()
        opened, *ticked = (wanted or "").split(" ")
        kept = [one for one in place.ticked if one in ticked]
        kept += [one for one in ticked if one not in kept]
        there = Place(opened or place.opened, tuple(kept[-COMPARED:]))
        closed = {self.actions.said: ""} | self.actions.close()
        return (closed if there.opened != place.opened else {}) | self.show(person, there)

    def open_run(self, person: Person, place: Place, name: str) -> Updates:
        """Open a run."""
        return self.show(person, replace(place or Place(), opened=name))

    def open_new(self, person: Person, place: Place, name: str) -> Updates:
        """Open a run that has just begun, where runs are shown."""
        return self.open_run(person, place, name) | {self.tabs: gr.Tabs(selected="runs")}

    def show(self, person: Person, place: Place) -> Updates:
        """Everything as it is now; a page that has nothing open gets the first run of the list."""
        place = place or Place()
        try:
            runs = self.book.all()
        except LeaseError as fault:
            return {self.machine: cards.status(str(fault), "bad")}
        if place.opened not in {run.name for run in runs}:
            place = replace(place, opened=runs[0].name if runs else "")
        return self._changed(person, place, runs, {}) | {self.place: place}

    def look(self, person: Person, place: Place, marks: Mapping[str, str]) -> Updates:
        """What has changed since the page was drawn; what the timer asks for."""
        try:
            runs = self.book.all()
        except LeaseError as fault:
            return {self.machine: cards.status(str(fault), "bad")}
        return self._changed(person, place or Place(), runs, marks or {})

    def _changed(
        self, person: Person, place: Place, runs: list[Run], before: Mapping[str, str]
    ) -> Updates:
        """Updates of what is not as these marks say, with the new marks."""
        run = next((one for one in runs if one.name == place.opened), None)
        drawn = self._draw(runs, run, place)
        offered = self.actions.offer(person, run)
        busy = any(one.open for one in runs)
        marks = {name: _digest(text) for name, text in drawn.items()}
        explains = run is not None and is_ensemble(run.folder)
        marks |= {"buttons": repr([*offered.values(), place.opened]), "timer": str(busy)}
        marks["explain"] = f"{explains} {place.opened}"
        changed = {name for name, mark in marks.items() if before.get(name) != mark}
        if not changed:
            return {self.marks: gr.skip()}
        updates: Updates = {self.marks: marks}
        updates |= {part: drawn[name] for name, part in self.parts.items() if name in changed}
        if "buttons" in changed:
            updates |= {
                button: gr.update(visible=shown, interactive=may)
                for button, (shown, may) in offered.items()
            }
        if "explain" in changed:
            updates |= {self.explain.box: gr.update(visible=explains), self.explain.answer: ""}
        if "timer" in changed:
            updates[self.timer] = gr.Timer(SOON if busy else LATER, active=True)
        return updates

    def folder_of(self, place: Place) -> Path | None:
        """The folder of the run that a page has open."""
        try:
            return self.book.get((place or Place()).opened).folder
        except TrainError:
            return None

    # --- what is drawn

    def _draw(self, runs: list[Run], run: Run | None, place: Place) -> dict[str, str]:
        """The HTML of every part."""
        left = {one.name: found for one in runs if (found := self._left(one)) is not None}
        drawn = dict.fromkeys(self.parts, "")
        drawn["machine"] = train_view.machine(runs, left)
        drawn["list"] = train_view.run_list(runs, place.opened, place.ticked)
        if run is None:
            drawn["head"] = train_view.gone(place.opened) if place.opened else ""
            return drawn
        logged = last_lines(run.folder, LINES)
        end = "\n".join(logged.split("\n")[-LAST:])
        drawn["head"] = train_view.head(run, left.get(run.name), end, read_notes(run.folder))
        compared = [one for one in runs if one is run or one.name in place.ticked]
        drawn["curves"] = draw(
            gather({one.name: self.book.metrics.columns(one.folder) for one in compared})
        )
        drawn["figures"] = train_view.table(_untold(run, figures_of(run.folder)))
        drawn["options"] = self._options(run, compared)
        drawn["log"] = train_view.log(logged)
        if run.kind is not None and run.kind.report is not None:
            drawn["report"] = run.kind.report(run.folder)
        return drawn

    def _options(self, run: Run, compared: list[Run]) -> str:
        try:
            command = command_line(run.kind, self.book.config(run)) if run.kind else ""
        except TrainError as fault:
            command = str(fault)
        values = {one.name: self.book.options(one.folder) for one in compared}
        return train_view.options(command, values[run.name], values)

    def _left(self, run: Run) -> float | None:
        if run.state not in ("running", "stopping"):
            return None
        return seconds_left(self.book.metrics.rows(run.folder), run.step, run.total)


def _untold(run: Run, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that the report of the run's kind does not show."""
    told = run.kind.told if run.kind else ()
    return {name: value for name, value in figures.items() if name not in told}


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
