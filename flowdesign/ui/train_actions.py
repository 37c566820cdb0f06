"""What can be done with the opened run: stop, resume, queue, rename, note, delete and undo that."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.lease import LeaseError
from flowdesign.ui import cards, train_keeping, train_view
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates, pressed
from flowdesign.ui.train_launch import Busy, Launcher
from flowdesign.ui.train_runs import Run, TrainError, read_notes

Show = Callable[[Person, Any], Updates]  # the runs as they are now, with this place opened
Open = Callable[[Person, Any, str], Updates]  # the same with another run opened


class RunActions:
    """The bar below the opened run, the panels that its buttons open, and the trash."""

    def __init__(self, launcher: Launcher, gate: Gate) -> None:
        self.launcher, self.book, self.gate = launcher, launcher.book, gate
        self.token = gr.State("")  # of the run that was deleted last on this page
        with gr.Row(elem_classes="fd-bar", elem_id="fd-run-bar"):
            self.stop = _button("Stop", "fd-run-stop")
            self.end = _button("End now", "fd-run-end")
            self.resume = _button("Resume", "fd-run-resume", variant="primary")
            self.queue = _button("Queue it", "fd-run-queue")
            self.rename = _button("Rename…", "fd-run-rename")
            self.note = _button("Notes…", "fd-run-note")
            self.delete = _button("Delete…", "fd-run-delete")
        with gr.Row(elem_classes="fd-bar", elem_id="fd-run-news"):
            self.said = cards.html(elem_id="fd-run-said", scale=0)
            self.undo = _button("Undo", "fd-run-undo")
        self._build_panels()

    def _build_panels(self) -> None:
        with gr.Column(visible=False, elem_classes="fd-ask", elem_id="fd-ask-rename") as one:
            self.name = gr.Textbox(label="New name", max_lines=1, elem_id="fd-run-name")
            with gr.Row(elem_classes="fd-bar"):
                self.rename_now = gr.Button("Rename", variant="primary", scale=0)
                self.no_rename = gr.Button("Keep it", scale=0)
        with gr.Column(visible=False, elem_classes="fd-ask", elem_id="fd-ask-note") as two:
            self.text = gr.Textbox(label="Notes", lines=4, elem_id="fd-run-text")
            with gr.Row(elem_classes="fd-bar"):
                self.note_now = gr.Button("Save", variant="primary", scale=0)
                self.no_note = gr.Button("Close", scale=0)
        with gr.Column(visible=False, elem_classes="fd-ask", elem_id="fd-ask-run-delete") as three:
            self.question = cards.html()
            with gr.Row(elem_classes="fd-bar"):
                self.delete_now = gr.Button(
                    "Delete", variant="stop", scale=0, elem_id="fd-run-sure"
                )
                self.no_delete = gr.Button("Keep it", scale=0)
        self.panels = [one, two, three]

    def build_trash(self, script: str) -> None:
        """Add the list of deleted runs, where the tab wants it."""
        self.trash = cards.html(elem_id="fd-trash", js_on_load=script)
        with gr.Row(elem_classes="fd-bar"):
            self.empty = gr.Button("Empty the trash…", size="sm", scale=0, elem_id="fd-empty-trash")
            self.empty_now = gr.Button(
                "Remove them for good", variant="stop", size="sm", scale=0, visible=False,
                elem_id="fd-empty-sure",
            )  # fmt: skip
        self.trash_said = cards.html(elem_id="fd-trash-said")

    @property
    def buttons(self) -> list[Any]:
        """The buttons that `offer` shows and hides."""
        return [
            self.stop, self.end, self.resume, self.queue, self.rename, self.note, self.delete,
        ]  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """Everything else that an action updates."""
        return [
            self.said, self.undo, self.token, self.name, self.text, self.question, *self.panels,
            self.trash, self.empty, self.empty_now, self.trash_said,
        ]  # fmt: skip

    def offer(self, person: Person, run: Run | None) -> dict[Any, tuple[bool, bool]]:
        """For each button whether it is shown and whether this person may press it."""
        may = self.gate.access.allows
        runs, deletes = may(person, "run"), may(person, "delete")
        own = run is not None and not run.shipped
        at_rest = own and run is not None and not run.open
        state = run.state if run else "finished"
        return {
            self.stop: (state in ("queued", "starting", "running"), runs),
            self.end: (state == "stopping", runs),
            self.resume: (run is not None and run.resumable, runs),
            self.queue: (False, runs),
            self.rename: (at_rest, runs),
            self.note: (own, runs),
            self.delete: (at_rest, deletes),
        }

    def connect(self, place: Any, shown: list[Any], show: Show, open_run: Open) -> None:
        """Connect the buttons; `show` gives the runs as they are after an action, in `shown`."""
        self._show, self._open = show, open_run
        gate, outputs = self.gate, [*shown, *self.outputs]
        for button, handler in (
            (self.stop, self.do_stop),
            (self.end, self.do_end),
            (self.resume, self.do_resume),
            (self.queue, self.do_queue),
        ):
            button.click(gate.writes("run", handler), place, outputs, **QUIET)
        self.rename.click(gate.reads(self.ask_rename), place, self.outputs, **QUIET)
        self.note.click(gate.reads(self.ask_note), place, self.outputs, **QUIET)
        self.delete.click(gate.reads(self.ask_delete), place, self.outputs, **QUIET)
        for button in (self.no_rename, self.no_note, self.no_delete):
            button.click(gate.reads(self.close), None, self.panels, **QUIET)
        renaming, noting = gate.writes("run", self.do_rename), gate.writes("run", self.do_note)
        gr.on(
            [self.rename_now.click, self.name.submit], renaming, [place, self.name], outputs,
            **QUIET,
        )  # fmt: skip
        self.note_now.click(noting, [place, self.text], outputs, **QUIET)
        self.delete_now.click(gate.writes("delete", self.do_delete), place, outputs, **QUIET)
        undoing = gate.writes("delete", self.do_undo)
        self.undo.click(undoing, [place, self.token], outputs, **QUIET)
        self.trash.click(gate.writes("delete", self.bring_back), place, outputs, **QUIET)
        self.empty.click(gate.reads(self.ask_empty), None, self.outputs, **QUIET)
        emptying = gate.writes("delete", self.do_empty)
        self.empty_now.click(emptying, None, self.outputs, **QUIET)

    # --- at work

    def do_stop(self, person: Person, place: Any) -> Updates:
        """End the run after its step, or take it out of the queue."""
        return self._do(person, place, lambda name: self.launcher.stop(name))

    def do_end(self, person: Person, place: Any) -> Updates:
        """End the run's process at once."""
        return self._do(person, place, lambda name: self.launcher.end_now(name))

    def do_resume(self, person: Person, place: Any) -> Updates:
        """Let the run go on; while another is at work, say which and offer to queue."""
        try:
            self.launcher.resume(opened(place), person.label)
        except Busy as busy:
            words = f"{busy} Queue it, and it goes on when the machine is free."
            return self._told(words) | {self.queue: gr.update(visible=True)}
        except (TrainError, LeaseError) as fault:
            return self._told(str(fault))
        return self._done(person, place)

    def do_queue(self, person: Person, place: Any) -> Updates:
        """Let the run go on when the machine is free."""
        return self._do(person, place, lambda name: self.launcher.enqueue_again(name, person.label))

    # --- at rest

    def ask_rename(self, place: Any) -> Updates:
        """Ask for the new name."""
        return self._panel(0) | {self.name: opened(place)}

    def ask_note(self, place: Any) -> Updates:
        """Show the notes for editing."""
        try:
            notes = read_notes(self.book.get(opened(place)).folder)
        except TrainError as fault:
            return self._told(str(fault))
        return self._panel(1) | {self.text: notes.rstrip("\n")}

    def ask_delete(self, place: Any) -> Updates:
        """Ask whether the run shall really go, and say what builds on it."""
        name = opened(place)
        users = train_keeping.builds_on(self.book, name)
        warning = f" {', '.join(users)} would not find it any more." if users else ""
        words = f"Delete the run '{name}'?{warning} It goes to the trash; Undo brings it back."
        return self._panel(2) | {self.question: f'<p class="fd-say">{escape(words)}</p>'}

    def close(self) -> Updates:
        """Close the panels."""
        return {panel: gr.update(visible=False) for panel in self.panels}

    def do_rename(self, person: Person, place: Any, wanted: str) -> Updates:
        """Give the run another name."""
        wanted = str(wanted or "").strip()
        try:
            train_keeping.rename(self.book, opened(place), wanted)
        except (TrainError, LeaseError, OSError) as fault:
            return self._told(str(fault), keep=True)
        return self._said("") | self._open(person, place, wanted)

    def do_note(self, person: Person, place: Any, text: str) -> Updates:
        """Keep the notes."""
        return self._do(
            person,
            place,
            lambda name: train_keeping.write_notes(self.book, name, str(text or "")),
        )

    def do_delete(self, person: Person, place: Any) -> Updates:
        """Move the run to the trash and offer to bring it back."""
        name = opened(place)
        try:
            token = train_keeping.delete(self.book, name)
        except (TrainError, LeaseError, OSError) as fault:
            return self._told(str(fault))
        news = {
            self.said: cards.status(f"Deleted {name}."),
            self.undo: gr.update(visible=True),
            self.token: token,
        }
        shown = self._said("") | self._open(person, place, "")
        return shown | news | self.show_trash(person)

    def do_undo(self, person: Person, place: Any, token: str) -> Updates:
        """Bring back the run that was deleted last on this page."""
        return self._back(person, place, str(token or ""))

    def bring_back(self, person: Person, place: Any, event: gr.EventData) -> Updates:
        """Bring back the run whose button was pressed."""
        return self._back(person, place, pressed(event, "back"))

    def ask_empty(self) -> Updates:
        """Ask whether the trash shall really be emptied."""
        return {self.empty_now: gr.update(visible=True), self.trash_said: ""}

    def do_empty(self, person: Person) -> Updates:
        """Remove the deleted runs for good."""
        count = train_keeping.empty(self.book)
        words = "1 run is" if count == 1 else f"{count} runs are"
        told = {self.trash_said: cards.status(f"{words} gone for good.")}
        return self.show_trash(person) | told | {self.undo: gr.update(visible=False)}

    def show_trash(self, person: Person) -> Updates:
        """The deleted runs as they are now."""
        may = self.gate.access.allows(person, "delete")
        found = train_keeping.trashed(self.book)
        return {
            self.trash: train_view.trash(found, may),
            self.empty: gr.update(interactive=may and bool(found)),
            self.empty_now: gr.update(visible=False),
        }

    def _back(self, person: Person, place: Any, token: str) -> Updates:
        try:
            name = train_keeping.bring_back(self.book, token)
        except (TrainError, LeaseError, OSError) as fault:
            return {
                self.said: cards.status(str(fault), "bad"),
                self.trash_said: cards.status(str(fault), "bad"),
            }
        words = cards.status(f"{name} is back.")
        news = {self.said: words, self.trash_said: words, self.undo: gr.update(visible=False)}
        return self._open(person, place, name) | news | self.show_trash(person)

    def _do(self, person: Person, place: Any, action: Callable[[str], object]) -> Updates:
        try:
            action(opened(place))
        except (TrainError, LeaseError, OSError) as fault:
            return self._told(str(fault), keep=True)
        return self._done(person, place)

    def _done(self, person: Person, place: Any) -> Updates:
        return self._said("") | self._show(person, place)

    def _said(self, words: str, kind: str = "") -> Updates:
        said = cards.status(words, kind) if words else ""
        return self.close() | {self.said: said, self.undo: gr.update(visible=False)}

    def _told(self, words: str, keep: bool = False) -> Updates:
        """Say what is in the way; with `keep` what was typed stays in its open panel."""
        if keep:
            return {self.said: cards.status(words, "bad")}
        return self._said(words, "bad")

    def _panel(self, index: int) -> Updates:
        shown = {panel: gr.update(visible=panel is self.panels[index]) for panel in self.panels}
        return shown | {self.said: "", self.undo: gr.update(visible=False)}


def opened(place: Any) -> str:
    """The name of the run that a page has open; "" for none."""
    return str(getattr(place, "opened", "") or "")


def _button(words: str, elem_id: str, variant: str = "secondary") -> gr.Button:
    return gr.Button(words, size="sm", scale=0, visible=False, elem_id=elem_id, variant=variant)
