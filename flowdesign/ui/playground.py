"""The Playground: a prompt becomes designs, one card after the other.

A button asks at once and the work follows when it is the page's turn: one studio serves all visitors.
Cancelling has two sides. The Cancel button (or the page going away) sets the task's own
`threading.Event`, which the work asks for between steps; Gradio's `cancels` takes work that still
waits out of the queue, and ends the running event for the browser.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr

from flowdesign.catalog import Installed
from flowdesign.designs import restore, say_fault, takes_prompt
from flowdesign.request import (
    MAX_DESIGNS,
    MAX_SEED,
    MAX_TEMPERATURE,
    BadRequest,
    Request,
    check_prompt,
    check_seed,
    random_seed,
)
from flowdesign.scenes import example_prompts
from flowdesign.studio import Designed, Failed, Rendered, Stopped, Studio
from flowdesign.ui import cards
from flowdesign.ui.handlers import QUIET, Updates, pressing
from flowdesign.ui.keeping import Keeping
from flowdesign.ui.tasks import NotLoaded, Task, Tasks, until_loaded
from flowdesign.workflow import Workflow

log = logging.getLogger(__name__)

IN_TURN: dict[str, Any] = {
    "concurrency_id": "studio",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "api_visibility": "private",
}
EXAMPLES = 6
GUIDANCE_NOTE = (
    "Not available yet: it steers from the supervised policy towards the reward-trained one (GRPO), "
    "which has not been trained. Every design uses the supervised policy, s = 0."
)


class Playground:
    """The tab's components and what its buttons do. Handlers return {component: new value}."""

    def __init__(
        self, opening: Future[Studio], keeping: Keeping, models: Installed | None = None
    ) -> None:
        self.opening = opening
        self.keeping, self.gate = keeping, keeping.gate
        self.models = models
        self.tasks = Tasks()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_id="fd-compose"):
                self._build_compose()
            with gr.Column(scale=3, min_width=280, elem_id="fd-settings"):
                self._build_settings()
        self._build_restore()
        self._build_results()
        self._connect()

    # --- components

    def _build_compose(self) -> None:
        self.prompt = gr.Textbox(
            label="Prompt",
            placeholder="a red star left of a blue heart",
            lines=2,
            max_lines=6,
            elem_id="fd-prompt",
            autofocus=True,
        )
        with gr.Row(elem_id="fd-actions"):
            self.go = gr.Button("Design", variant="primary", elem_id="fd-design", scale=4)
            self.stop = gr.Button("Cancel", elem_id="fd-cancel", interactive=False, scale=1)
        self.status = cards.html(cards.status(""), elem_id="fd-status")
        cards.html(
            '<p class="fd-caption fd-keys">Examples to start from. <span>(<kbd>Ctrl</kbd> '
            "<kbd>Enter</kbd> designs, <kbd>Esc</kbd> cancels)</span></p>"
        )
        with gr.Row(elem_id="fd-examples"):
            self.examples = [gr.Button(text, size="sm") for text in example_prompts()[:EXAMPLES]]

    def _build_settings(self) -> None:
        self.count = gr.Slider(
            1, MAX_DESIGNS, value=4, step=1, label="Designs", elem_id="fd-count", buttons=[]
        )
        self.temperature = gr.Slider(
            0.1,
            MAX_TEMPERATURE,
            value=1.0,
            step=0.1,
            label="Temperature",
            info="Lower is more alike, higher is more adventurous.",
            elem_id="fd-temperature",
            buttons=[],
        )
        self.ranked = gr.Checkbox(
            value=False,
            label="Best first: order by the expected score",
            elem_id="fd-ranked",
            container=False,
        )
        with gr.Row(elem_classes="fd-half"):
            self.seed = gr.Textbox(
                label="Seed", value="", placeholder="random", max_lines=1, elem_id="fd-seed"
            )
            self.random = gr.Checkbox(
                value=True, label="New seed each time", elem_id="fd-random", container=False
            )
        self.guidance = gr.Slider(
            0,
            5,
            value=0,
            step=0.1,
            label="Guidance s",
            info=GUIDANCE_NOTE,
            interactive=False,
            elem_id="fd-guidance",
            buttons=[],
        )

    def _build_restore(self) -> None:
        self.file = gr.File(
            label="Drop a FlowDesign or ComfyUI file here (PNG or JSON) to restore its prompt, "
            "workflow and seed",
            file_types=[".png", ".json"],
            height=96,
            elem_id="fd-drop",
        )
        self.restored = gr.State(None)
        with gr.Column(visible=False, elem_id="fd-restored") as self.restored_box:
            self.restored_view = cards.html()
            with gr.Row():
                self.render_it = gr.Button(
                    "Render this workflow", variant="primary", elem_id="fd-render", scale=0
                )
                self.forget = gr.Button("Put it away", elem_id="fd-forget", scale=0)

    def _build_results(self) -> None:
        with gr.Column(elem_id="fd-results"):
            self.empty = cards.html(cards.empty(), elem_id="fd-empty")
            # Always there, hidden by the style sheet while empty: a component that becomes visible
            # loses values that arrive while it is being mounted.
            self.slots = [
                cards.html(
                    elem_id=f"fd-slot-{i + 1}", elem_classes="fd-slot", js_on_load=pressing("keep")
                )
                for i in range(MAX_DESIGNS)
            ]

    def _connect(self) -> None:
        """Ask at once, outside the queue; work when it is this page's turn.

        Designing is open to everyone: what it makes goes to a folder that is swept.
        """
        reads = self.gate.reads
        buttons = [self.status, self.go, self.stop, self.render_it]
        outputs = [*buttons, self.seed, self.empty, *self.slots]
        settings = [
            self.prompt, self.count, self.seed, self.random, self.temperature, self.ranked,
        ]  # fmt: skip
        asking = gr.on(
            [self.go.click, self.prompt.submit],
            reads(self.ask_design),
            settings,
            outputs,
            **QUIET,
        )
        again = self.render_it.click(
            reads(self.ask_render), [self.restored, self.prompt, self.seed], outputs, **QUIET
        )
        work = reads(self.work)
        working = [asked.then(work, None, outputs, **IN_TURN) for asked in (asking, again)]
        self.stop.click(reads(self.cancel), None, outputs, cancels=working, **QUIET)
        for button in self.examples:
            button.click(reads(lambda text: text), button, self.prompt, **QUIET)
        keep = self.gate.writes("keep", self.keeping.press)
        for slot in self.slots:
            slot.click(keep, None, slot, **QUIET)
        self._connect_restore()

    def _connect_restore(self) -> None:
        shown = [self.restored, self.restored_box, self.restored_view, self.render_it]
        fields = [self.prompt, self.seed, self.random, self.status, self.file]
        reads = self.gate.reads
        self.file.upload(reads(self.open_file), self.file, shown + fields, **QUIET)
        self.forget.click(reads(self.put_away), None, [self.restored, self.restored_box], **QUIET)

    # --- what the buttons do

    def ask_design(
        self,
        prompt: str,
        count: float | None,
        seed: str | None,
        random: bool,
        temperature: float,
        ranked: bool,
        request: gr.Request,
    ) -> Updates:
        """Check what was asked and take a place in the queue."""
        try:
            number = random_seed() if random else chosen_seed(seed)
            asked = Request(
                prompt or "", _whole(count), number, temperature, bool(ranked)
            ).checked()
        except BadRequest as problem:
            return {self.status: cards.status(str(problem), "bad")}
        task = Task(lambda studio, cancel: studio.design(asked, cancel), asked.count, number)
        return self._ask(task, request)

    def ask_render(
        self, workflow: Workflow | None, prompt: str, seed: str | None, request: gr.Request
    ) -> Updates:
        """Ask for the restored workflow with the prompt and the seed that the page shows."""
        try:
            if workflow is None:
                raise BadRequest("There is no restored workflow. Drop a PNG or JSON file first.")
            number = chosen_seed(seed)
            text = check_prompt(prompt or "") if takes_prompt(workflow) else ""
        except BadRequest as problem:
            return {self.status: cards.status(str(problem), "bad")}
        task = Task(lambda studio, cancel: studio.render(workflow, text, number, cancel), 1, number)
        return self._ask(task, request)

    def work(self, request: gr.Request) -> Iterator[Updates]:
        """Do what this page asked for; yields as events happen."""
        page = request.session_hash or ""
        task = self.tasks.take(page)
        if task is None:
            yield {self.status: gr.skip()}
            return
        try:
            yield from self._wait(task)
            yield from self._show(task, page)
        except (BadRequest, NotLoaded) as problem:
            yield self._idle(str(problem), "bad")
        except Exception as fault:  # of any part; the page must be usable again
            log.exception("The design failed")
            yield self._failed(task, fault)
        finally:
            self.tasks.end(page, task)  # also when Gradio closes this because the page has gone

    def cancel(self, request: gr.Request) -> Updates:
        """Stop this page's work. Gradio's `cancels` takes it out of the queue if it waits there."""
        task = self.tasks.stop(request.session_hash or "")
        return self._stopped(task) if task else self._idle("There was nothing to stop.")

    def leave(self, request: gr.Request) -> None:
        """The page is gone: stop its work too."""
        self.tasks.stop(request.session_hash or "")
        self.keeping.begin(request.session_hash or "")

    def open_file(self, path: str | None) -> Updates:
        """Restore prompt, workflow and seed from an uploaded file."""
        if path is None:
            return {self.status: gr.skip()}
        item = restore(Path(path), self.models)
        said = "Restored." if item.runnable else "This file could not be restored completely."
        updates: Updates = {
            self.restored: item.workflow if item.runnable else None,
            self.restored_box: gr.update(visible=True),
            self.restored_view: cards.restored(item, Path(path).name),
            self.render_it: gr.update(visible=item.runnable),
            self.status: cards.status(said, "" if item.runnable else "bad"),
            self.file: None,
        }
        if item.prompt:
            updates[self.prompt] = item.prompt
        if item.seed is not None:
            updates |= {self.seed: str(item.seed), self.random: False}
        return updates

    def put_away(self) -> Updates:
        """Hide the restored workflow."""
        return {self.restored: None, self.restored_box: gr.update(visible=False)}

    # --- work under way

    def _ask(self, task: Task, request: gr.Request) -> Updates:
        page = request.session_hash or ""
        task.keeps = self.keeping.how(request)
        if not self.tasks.add(page, task):
            return {self.status: gr.skip()}
        self.keeping.begin(page)
        return {
            self.status: cards.status("Waiting for a free turn…", "busy"),
            self.seed: str(task.seed),
            self.go: gr.update(interactive=False),
            self.stop: gr.update(interactive=True),
            self.render_it: gr.update(interactive=False),
            self.empty: gr.update(visible=False),
        } | dict.fromkeys(self.slots, "")

    def _idle(self, text: str, kind: str = "") -> Updates:
        return {
            self.status: cards.status(text, kind),
            self.go: gr.update(interactive=True),
            self.stop: gr.update(interactive=False),
            self.render_it: gr.update(interactive=True),
        }

    def _stopped(self, task: Task) -> Updates:
        updates = self._idle(f"Stopped after {_designs(task.done)}. Seed {task.seed}.")
        if task.current:
            updates[self.slots[task.current.index]] = cards.stopped(task.current)
        return updates

    def _failed(self, task: Task, fault: Exception) -> Updates:
        reason = say_fault(fault)
        updates = self._idle(f"The design failed: {reason}", "bad")
        if task.current:
            index, design = task.current.index, task.current.design
            updates[self.slots[index]] = cards.failed(Failed(index, reason, design))
        return updates

    def _wait(self, task: Task) -> Iterator[Updates]:
        """Say that the models are loading, until they are there."""
        if not self.opening.done():
            yield self._busy("The models are still loading. Your design starts right after.")
        for _ in until_loaded(self.opening, task.stop):
            pass

    def _show(self, task: Task, page: str) -> Iterator[Updates]:
        if task.stop.is_set():
            return
        yield self._busy(f"Designing 1 of {task.count}…")
        for event in task.work(self.opening.result(), task.stop.is_set):
            if isinstance(event, Stopped):
                yield self._stopped(task)
                return
            yield self._step(task, event)
            if isinstance(event, Rendered):
                yield {self.slots[event.index]: self.keeping.finish(page, event, task.keeps)}
        yield self._idle(f"{_designs(task.done)} for seed {task.seed}.")

    def _step(self, task: Task, event: Designed | Rendered | Failed) -> Updates:
        if isinstance(event, Designed):
            task.current = event
            card, doing = cards.designed(event), "Rendering"
        else:
            task.current, task.done = None, task.done + 1
            card, doing = _finished(event), "Designing"
        said = f"{doing} {min(task.done + 1, task.count)} of {task.count}…"
        return {self.slots[event.index]: card} | self._busy(said)

    def _busy(self, text: str) -> Updates:
        return {self.status: cards.status(text, "busy")}


def read_seed(text: str) -> int:
    """A seed from the text box: a text, because large seeds do not survive in JavaScript.

    Raises BadRequest when it is not a whole number in ComfyUI's range.
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_SEED))):
        raise BadRequest(f"The seed is a whole number from 0 to {MAX_SEED}, not '{digits[:40]}'.")
    return check_seed(int(digits))


def chosen_seed(text: str | None) -> int:
    """The seed in the text box, a random one when it is empty. Raises BadRequest."""
    return read_seed(text) if text and text.strip() else random_seed()


def _whole(number: float | None) -> Any:
    """A slider's number as int; what is none stays as it is, for the check that follows."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _finished(event: Rendered | Failed) -> str:
    return cards.rendered(event) if isinstance(event, Rendered) else cards.failed(event)


def _designs(count: int) -> str:
    return "1 design" if count == 1 else f"{count} designs"
