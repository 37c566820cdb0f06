"""A new run: choose a kind and a preset, change what you like, see the command and the cost, start it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.lease import LeaseError
from flowdesign.ui import cards, train_view
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates
from flowdesign.ui.train_estimate import estimate
from flowdesign.ui.train_form import Checked, KindForm, command_line
from flowdesign.ui.train_kinds import Kind
from flowdesign.ui.train_launch import Busy, Launcher
from flowdesign.ui.train_runs import TrainError

NEWEST_WINS: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
FIX = "Put right what is marked; nothing was started."
Open = Callable[[Person, Any, str], Updates]  # shows a run: who asks, the place, its name


class NewRun:
    """The sub-tab: one form for each kind, of which the chosen one is shown."""

    def __init__(self, launcher: Launcher, gate: Gate) -> None:
        kinds = list(launcher.book.kinds.values())
        self.kind = gr.Radio(
            [(kind.title, kind.name) for kind in kinds],
            value=kinds[0].name,
            label="What to run",
            elem_id="fd-new-kind",
        )
        self.parts = [_Part(kind, launcher, gate, visible=kind is kinds[0]) for kind in kinds]
        columns = [part.form.column for part in self.parts]
        self.kind.change(gate.reads(self.choose), self.kind, columns, **QUIET)

    @property
    def names(self) -> list[Any]:
        """The fields with the names of the runs, which `show` looks at."""
        return [part.name for part in self.parts]

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [one for part in self.parts for one in (part.name, part.start, part.queue)]

    def connect(self, place: Any, outputs: list[Any], open_run: Open) -> None:
        """Connect the forms; `open_run` shows a run that has begun, in `outputs`."""
        for part in self.parts:
            part.connect(place, outputs, open_run)

    def choose(self, name: str) -> Updates:
        """Show the form of a kind."""
        return {
            part.form.column: gr.update(visible=part.form.kind.name == name) for part in self.parts
        }

    def show(self, may: bool, *names: str) -> Updates:
        """Offer names that are free, and switch off what the visitor may not do."""
        updates: Updates = {}
        for part, name in zip(self.parts, names, strict=True):
            updates |= part.offer(name)
            updates |= {
                part.start: gr.update(interactive=may),
                part.queue: gr.update(interactive=may),
            }
        return updates


class _Part:
    """The form of one kind, with its command, its cost and its buttons."""

    def __init__(self, kind: Kind, launcher: Launcher, gate: Gate, visible: bool) -> None:
        self.launcher, self.book, self.gate = launcher, launcher.book, gate
        self.form = KindForm(kind, self.book.free_name(kind), visible)
        self.name = self.form.fields["run"]
        first = self._read([one.value for one in self.form.inputs])
        with self.form.column:
            self.wrong = gr.State(())  # the fields that are marked
            self.expected = cards.html(self._expect(first), elem_id=f"fd-expect-{kind.name}")
            self.command = gr.Textbox(
                self._command(first),
                label="The same from a shell",
                interactive=False,
                max_lines=8,
                buttons=["copy"],
                elem_id=f"fd-command-{kind.name}",
                elem_classes=["fd-command"],
            )
            self.said = cards.html(elem_id=f"fd-new-said-{kind.name}")
            with gr.Row(elem_classes="fd-bar"):
                self.start = gr.Button(
                    "Start", variant="primary", scale=0, elem_id=f"fd-start-{kind.name}"
                )
                self.queue = gr.Button(
                    "Queue it", visible=False, scale=0, elem_id=f"fd-queue-{kind.name}"
                )

    @property
    def _checked(self) -> list[Any]:
        return [self.wrong, self.command, self.expected, *self.form.inputs]

    def connect(self, place: Any, outputs: list[Any], open_run: Open) -> None:
        """Connect the form's fields and buttons."""
        gate, form, self._open = self.gate, self.form, open_run
        changes = [one.change for one in form.inputs]
        gr.on(
            changes, gate.reads(self.check), [self.wrong, *form.inputs], self._checked,
            **NEWEST_WINS,
        )  # fmt: skip
        filled = [form.about, *form.inputs]
        form.preset.input(gate.reads(self.fill), form.preset, filled, **QUIET)
        inputs = [place, self.wrong, *form.inputs]
        shown = [*self._checked, self.said, self.queue, *outputs]
        starting = gate.writes("run", self.begin)
        self.start.click(starting, inputs, shown, **QUIET)
        waiting = gate.writes("run", self.wait)
        self.queue.click(waiting, inputs, shown, **QUIET)

    def offer(self, name: str) -> Updates:
        """Another name for the next run when this one is taken."""
        if name and not (self.book.root / str(name)).exists():
            return {}
        return {self.name: self.book.free_name(self.form.kind)}

    def fill(self, preset: str) -> Updates:
        """Put a preset's values into the form; it may go on from where another run ended."""
        updates, form = self.form.fill(preset), self.form
        after = next((one.after for one in form.kind.presets if one.name == preset), None)
        if after and (run := self.book.newest(*after[1:])):
            updates[form.fields[after[0]]] = run
        return updates

    def _read(self, values: Sequence[Any]) -> Checked:
        """What the form holds, as a config of a run that can begin, or what is wrong with it."""
        found = self.form.check(values)
        lacking = self.book.lacking(self.form.kind, found.config) if found.config else {}
        return Checked(None, lacking) if lacking else found

    def check(self, wrong: tuple[str, ...], *values: Any) -> Updates:
        """Show the command and the cost of what the form holds now, or what is wrong with it."""
        found = self._read(values)
        updates = self.form.mark(found.faults, wrong or ())
        updates[self.wrong] = tuple(found.faults)
        return updates | {self.command: self._command(found), self.expected: self._expect(found)}

    def begin(self, person: Person, place: Any, wrong: tuple[str, ...], *values: Any) -> Updates:
        """Start the run; while another is at work, say which and offer to queue."""
        found = self._read(values)
        if found.config is None:
            return self.check(wrong, *values) | self._told(FIX)
        try:
            self.launcher.start(self.form.kind, found.config, person.label)
        except Busy as busy:
            words = f"{busy} Queue this run, and it starts when the machine is free."
            return self._told(words) | {self.queue: gr.update(visible=True)}
        except (TrainError, LeaseError) as fault:
            return self._told(str(fault))
        return self._begun(self._open(person, place, found.config.run))

    def wait(self, person: Person, place: Any, wrong: tuple[str, ...], *values: Any) -> Updates:
        """Put the run into the queue."""
        found = self._read(values)
        if found.config is None:
            return self.check(wrong, *values) | self._told(FIX)
        try:
            self.launcher.enqueue(self.form.kind, found.config, person.label)
        except (TrainError, LeaseError) as fault:
            return self._told(str(fault))
        return self._begun(self._open(person, place, found.config.run))

    def _begun(self, opened: Updates) -> Updates:
        fresh = {self.name: self.book.free_name(self.form.kind)}
        return opened | fresh | {self.said: "", self.queue: gr.update(visible=False)}

    def _told(self, words: str) -> Updates:
        return {self.said: cards.status(words, "bad"), self.queue: gr.update(visible=False)}

    def _command(self, found: Checked) -> str:
        return command_line(self.form.kind, found.config) if found.config else ""

    def _expect(self, found: Checked) -> str:
        if found.config is None:
            general = found.faults.get("", "Put right what is marked.")
            return cards.status(general, "bad")
        kind = self.form.kind
        return train_view.expectation(estimate(kind, found.config, self.book.former(kind)))
