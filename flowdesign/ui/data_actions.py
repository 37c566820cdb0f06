"""What can be done with chosen records: score them again, export them, delete them and undo that."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.config import ScoreConfig, build
from flowdesign.records import PREDICTED, RecordsError, UnknownRecord
from flowdesign.scorers import SCORERS, available, is_on_hub
from flowdesign.ui import cards, data_work
from flowdesign.ui.critics import Critics
from flowdesign.ui.data_filter import BadFilter, FilterForm, read
from flowdesign.ui.files import Exports
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates
from flowdesign.ui.jobs_view import JobsView
from flowdesign.ui.selection import NothingChosen, Selection, choose, say
from flowdesign.ui.shared import SharedStore

WITH_TICKED = "(scope, ticked, ...others) => [scope, window.fdTicked(), ...others]"
BY_TEXT = ("predicted by the reward ensemble (needs no image)", PREDICTED)
MANY = 5000  # records that are deleted in the background: 200,000 take some five seconds
UNTICK = "(...values) => { window.fdUntick(); return values; }"
FORMATS = [("JSON Lines", "jsonl"), ("CSV", "csv"), ("Parquet", "parquet")]


class Actions:
    """The bar above the tiles and the panels that its buttons open."""

    def __init__(
        self, records: SharedStore, gate: Gate, form: FilterForm, jobs: JobsView, exports: Exports,
        critics: Critics,
    ) -> None:  # fmt: skip
        self.records, self.gate, self.form, self.critics = records, gate, form, critics
        self.jobs, self.exports = jobs, exports
        self.ticked = gr.Textbox("", visible=False)  # filled by the page when a button is pressed
        self.undo_token = gr.State("")
        with gr.Row(elem_classes="fd-bar", elem_id="fd-actions-bar"):
            self.scope = gr.Radio(
                [("the ticked", "ticked"), ("all that match", "all")],
                value="ticked",
                show_label=False,
                container=False,
                elem_id="fd-scope",
                min_width=230,
            )
            self.score = gr.Button("Score again…", size="sm", scale=0, elem_id="fd-score")
            self.export = gr.Button("Export…", size="sm", scale=0, elem_id="fd-export")
            self.delete = gr.Button("Delete…", size="sm", scale=0, elem_id="fd-delete")
        with gr.Row(elem_classes="fd-bar", elem_id="fd-news"):
            self.said = cards.html(elem_id="fd-said", scale=0)
            self.undo = gr.Button("Undo", size="sm", visible=False, scale=0, elem_id="fd-undo")
        self._build_panels()

    def _build_panels(self) -> None:
        with gr.Column(visible=False, elem_classes="fd-ask", elem_id="fd-ask-score") as one:
            ready = [name for name in SCORERS if not available(name)]
            fetched = [(f"{name} (fetched first)", name) for name in SCORERS if is_on_hub(name)]
            self.names = gr.CheckboxGroup(
                [*((name, name) for name in ready), *fetched, BY_TEXT],
                value=[name for name in build(ScoreConfig, {}).scorers if name in ready],
                label="Scorers",
            )
            cards.html(_missing())
            with gr.Row():
                self.score_now = gr.Button("Score", variant="primary", scale=0)
                self.no_score = gr.Button("Close", scale=0)
        with gr.Column(visible=False, elem_classes="fd-ask", elem_id="fd-ask-export") as two:
            with gr.Row():
                self.format = gr.Radio(FORMATS, value="jsonl", label="Tables as")
                self.with_images = gr.Checkbox(True, label="With the images", container=False)
            with gr.Row():
                self.export_now = gr.Button("Make the file", variant="primary", scale=0)
                self.no_export = gr.Button("Close", scale=0)
        with gr.Column(visible=False, elem_classes="fd-ask", elem_id="fd-ask-delete") as three:
            self.question = cards.html()
            with gr.Row():
                self.delete_now = gr.Button("Delete", variant="stop", scale=0, elem_id="fd-sure")
                self.no_delete = gr.Button("Keep them", scale=0)
        self.panels = [one, two, three]

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.score, self.delete]

    def show(self, person: Person) -> Updates:
        """Switch off what this person may not do; the server refuses it all the same."""
        may = self.gate.access.allows
        return {
            self.score: gr.update(interactive=may(person, "rescore")),
            self.delete: gr.update(interactive=may(person, "delete")),
        }

    def connect(self, refresh: Any, here: list[Any], page: list[Any]) -> None:
        """Connect the buttons; `refresh` shows the page of tiles again."""
        gate, outputs = self.gate, [self.said, self.undo, self.undo_token, *self.panels]
        chosen = [self.scope, self.ticked, *self.form.inputs]
        opening: dict[str, Any] = {"js": WITH_TICKED, **QUIET}
        self.score.click(gate.reads(self.ask_score), chosen, outputs, **opening)
        self.export.click(gate.reads(self.ask_export), chosen, outputs, **opening)
        asking = [self.question, *outputs]
        self.delete.click(gate.writes("delete", self.ask_delete), chosen, asking, **opening)
        for button in (self.no_score, self.no_export, self.no_delete):
            button.click(gate.reads(self.close), None, self.panels, **QUIET)
        started = [*outputs, *self.jobs.outputs]
        scoring = gate.writes("rescore", self.rescore)
        inputs = [self.scope, self.ticked, self.names, *self.form.inputs]
        self.score_now.click(scoring, inputs, started, **opening)
        exporting = gate.reads(self.start_export)
        inputs = [self.scope, self.ticked, self.format, self.with_images, *self.form.inputs]
        self.export_now.click(exporting, inputs, started, **opening)
        deleting = gate.writes("delete", self.delete_chosen)
        deleted = self.delete_now.click(deleting, chosen, started, **opening)
        undoing = gate.writes("delete", self.bring_back)
        back = self.undo.click(undoing, self.undo_token, outputs, **QUIET)
        # Also after a reload: whoever looks at the deleted records can bring the last ones back.
        offering = gate.reads_for(self.offer_undo)
        self.form.deleted.select(offering, self.form.deleted, outputs, **QUIET)
        back.then(offering, self.form.deleted, outputs, **QUIET)
        deleted.success(refresh, here, page, js=UNTICK, **QUIET)
        back.success(refresh, here, page, **QUIET)

    # --- opening a panel

    def ask_score(self, scope: str, ticked: str, *asked: Any) -> Updates:
        """Ask which scorers."""
        return self._panel(0, self._chosen(scope, ticked, asked))

    def ask_export(self, scope: str, ticked: str, *asked: Any) -> Updates:
        """Ask in which form."""
        return self._panel(1, self._chosen(scope, ticked, asked))

    def ask_delete(self, person: Person, scope: str, ticked: str, *asked: Any) -> Updates:
        """Ask whether these shall really go."""
        chosen = self._chosen(scope, ticked, asked)
        updates = self._panel(2, chosen)
        if isinstance(chosen, Selection):
            many = say(*chosen.count(self.records()))
            words = f"Delete {many}? Undo brings them back."
            updates[self.question] = f'<p class="fd-say">{words}</p>'
        return updates

    def close(self) -> Updates:
        """Close the panels."""
        return {panel: gr.update(visible=False) for panel in self.panels}

    # --- doing it

    def rescore(
        self, person: Person, scope: str, ticked: str, names: list[str], *asked: Any
    ) -> Updates:
        """Begin to score in the background."""
        chosen = self._chosen(scope, ticked, asked)
        if isinstance(chosen, str):
            return self._told(chosen)
        known = [name for name in (*SCORERS, PREDICTED) if name in (names or [])]
        critic = self.critics.usual() if PREDICTED in known else None
        if not known:
            return self._told("Choose at least one scorer.")
        if PREDICTED in known and critic is None:
            return self._told("There is no reward ensemble here that works. Train one under Train.")
        store = self.records()
        started = self.jobs.start(
            f"Scoring {say(*chosen.count(store))}",
            lambda job: data_work.rescore(job, store, chosen, known, critic),
            "rescore",
        )
        return self.close() | {self.said: ""} | started

    def start_export(
        self, scope: str, ticked: str, format_: str, with_images: bool, *asked: Any
    ) -> Updates:
        """Begin to write a zip file in the background; its link appears beside the job."""
        chosen = self._chosen(scope, ticked, asked)
        if isinstance(chosen, str):
            return self._told(chosen)
        store, exports = self.records(), self.exports
        wanted = data_work.ExportOf(chosen, str(format_), bool(with_images))
        started = self.jobs.start(
            f"Exporting {say(*chosen.count(store))}",
            lambda job: data_work.export(job, store, wanted, exports),
        )
        return self.close() | {self.said: ""} | started

    def delete_chosen(self, person: Person, scope: str, ticked: str, *asked: Any) -> Updates:
        """Take the records out of sight and offer to bring them back."""
        chosen = self._chosen(scope, ticked, asked)
        if isinstance(chosen, str):
            return self._told(chosen)
        store = self.records()
        count, exact = chosen.count(store)
        if count > MANY:
            return self.close() | self.jobs.start(
                f"Deleting {say(count, exact)}",
                lambda job: data_work.delete(store, chosen, person.label),
                "delete",
            )
        ids = list(chosen.numbers(store))
        try:
            token = store.delete(ids, person.label)
        except (UnknownRecord, OverflowError):
            return self._told("Some of these records do not exist any more. Nothing was deleted.")
        return self.close() | {
            self.said: cards.status(f"Deleted {say(len(ids))}."),
            self.undo: gr.update(visible=True),
            self.undo_token: token,
        }

    def offer_undo(self, person: Person, shown: str) -> Updates:
        """Say what was deleted last, and offer to bring it back, while deleted records are shown."""
        last = self.records().last_deletion() if shown == "yes" else None
        if last is None or not self.gate.access.allows(person, "delete"):
            return {self.said: gr.skip()}
        when = last.created.replace("T", " ")[:16]
        words = f"Deleted last: {say(last.records)}, by {last.who}, {when} UTC."
        return {
            self.said: cards.status(words),
            self.undo: gr.update(visible=True),
            self.undo_token: last.token,
        }

    def bring_back(self, person: Person, token: str) -> Updates:
        """Undo the last deletion of this page."""
        try:
            count = self.records().undelete(token)
        except UnknownRecord:
            return self._told("There is nothing to bring back: these were removed for good.")
        return {
            self.said: cards.status(f"{say(count)} brought back."),
            self.undo: gr.update(visible=False),
            self.undo_token: "",
        }

    def _chosen(self, scope: str, ticked: str, asked: tuple[Any, ...]) -> Selection | str:
        """What is chosen, or why nothing is."""
        try:
            return choose(scope, ticked, read(*asked).filter)
        except (NothingChosen, BadFilter, RecordsError) as fault:
            return str(fault)

    def _panel(self, index: int, chosen: Selection | str) -> Updates:
        if isinstance(chosen, str):
            return self._told(chosen)
        shown = {panel: gr.update(visible=panel is self.panels[index]) for panel in self.panels}
        return shown | {self.said: ""}

    def _told(self, words: str) -> Updates:
        return self.close() | {self.said: cards.status(words, "bad")}


def _missing() -> str:
    """Which scorers cannot be used here, and what each one needs."""
    lacking = {name: why for name in SCORERS if (why := available(name))}
    rows = "".join(f"<li>{escape(why)}</li>" for why in lacking.values())
    if not rows:
        return ""
    words = "1 scorer is" if len(lacking) == 1 else f"{len(lacking)} scorers are"
    return (
        f'<details class="fd-tokens"><summary>{words} not ready here</summary>'
        f'<ul class="fd-list">{rows}</ul></details>'
    )
