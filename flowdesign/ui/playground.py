"""The Playground: a prompt becomes designs, one card after the other.

A button asks at once and the work follows when it is the page's turn: one studio serves all visitors.
Cancelling has two sides. The Cancel button (or the page going away) sets the task's own
`threading.Event`, which the work asks for between steps; Gradio's `cancels` takes work that still
waits out of the queue, and ends the running event for the browser.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr

from flowdesign.catalog import Installed
from flowdesign.designs import Restored, restore, say_fault, takes_prompt
from flowdesign.policies import Policies
from flowdesign.request import MAX_DESIGNS, MAX_ROWS, BadRequest, check_prompt
from flowdesign.scenes import example_prompts
from flowdesign.studio import Designed, Failed, Rendered, Stopped, Studio
from flowdesign.ui import cards
from flowdesign.ui.design_settings import Settings, chosen_seed
from flowdesign.ui.handlers import IN_TURN, QUIET, Updates, pressing
from flowdesign.ui.keeping import Keeping
from flowdesign.ui.tasks import NotLoaded, Task, Tasks, until_loaded
from flowdesign.workflow import MAX_TEXT, Workflow

log = logging.getLogger(__name__)

EXAMPLES = 6
SLOTS = max(MAX_DESIGNS, 3 * MAX_ROWS)
BESIDE = "fd-beside"  # the class of results in rows of three


class Playground:
    """The tab's components and what its buttons do. Handlers return {component: new value}."""

    def __init__(
        self,
        opening: Future[Studio],
        keeping: Keeping,
        models: Installed | None = None,
        policies: Policies | None = None,
    ) -> None:
        self.opening = opening
        self.keeping, self.gate = keeping, keeping.gate
        self.models = models
        self.tasks = Tasks[Task]()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_id="fd-compose"):
                self._build_compose()
            with gr.Column(scale=3, min_width=280, elem_id="fd-settings"):
                self.settings = Settings(policies or Policies())
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
        with gr.Column(elem_id="fd-results") as self.results:
            self.empty = cards.html(cards.empty(), elem_id="fd-empty")
            # Always there, hidden by the style sheet while empty: a component that becomes visible
            # loses values that arrive while it is being mounted.
            self.slots = [
                cards.html(
                    elem_id=f"fd-slot-{i + 1}", elem_classes="fd-slot", js_on_load=pressing("keep")
                )
                for i in range(SLOTS)
            ]

    def _connect(self) -> None:
        """Ask at once, outside the queue; work when it is this page's turn.

        Designing is open to everyone: what it makes goes to a folder that is swept.
        """
        reads = self.gate.reads
        buttons = [self.status, self.go, self.stop, self.render_it]
        outputs = [*buttons, self.settings.seed, self.empty, self.results, *self.slots]
        settings = [self.prompt, *self.settings.inputs]
        asking = gr.on(
            [self.go.click, self.prompt.submit],
            reads(self.ask_design),
            settings,
            outputs,
            **QUIET,
        )
        again = self.render_it.click(
            reads(self.ask_render),
            [self.restored, self.prompt, self.settings.seed],
            outputs,
            **QUIET,
        )
        moved = self.settings.scale.release(reads(self.ask_at_scale), settings, outputs, **QUIET)
        work = reads(self.work)
        for asked in (asking, again, moved):
            asked.then(work, None, outputs, **IN_TURN)
        self.stop.click(reads(self.cancel), None, outputs, **QUIET)
        for button in self.examples:
            button.click(reads(lambda text: text), button, self.prompt, **QUIET)
        keep = self.gate.writes("keep", self.keeping.press)
        for slot in self.slots:
            slot.click(keep, None, slot, **QUIET)
        chosen = self.settings
        chosen.policy.input(reads(chosen.choose), chosen.policy, chosen.offered[1:], **QUIET)
        self._connect_restore()

    def _connect_restore(self) -> None:
        shown = [self.restored, self.restored_box, self.restored_view, self.render_it]
        fields = [self.prompt, self.settings.seed, self.settings.random, self.status, self.file]
        reads = self.gate.reads
        self.file.upload(reads(self.open_file), self.file, shown + fields, **QUIET)
        self.forget.click(reads(self.put_away), None, [self.restored, self.restored_box], **QUIET)

    # --- what the buttons do

    def ask_design(self, request: gr.Request, prompt: str, *settings: Any) -> Updates:
        """Check what was asked and take a place in the queue."""
        return self._design(request, prompt, settings)

    def _design(
        self, request: gr.Request, prompt: str, settings: Sequence[Any], keep: bool = False
    ) -> Updates:
        """Ask for designs; with `keep` the cards stay until new ones are there: most will be the same."""
        try:
            asked = self.settings.read(prompt, *settings)
        except BadRequest as problem:
            return {self.status: cards.status(str(problem), "bad")}
        task = Task(lambda studio, cancel: studio.design(asked, cancel), asked.total, asked.seed)
        updates = self._ask(task, request, asked.beside)
        kept = self.slots[: asked.total] if keep else []
        return {place: value for place, value in updates.items() if place not in kept}

    def ask_at_scale(
        self,
        request: gr.Request,
        prompt: str,
        count: float,
        seed: str,
        random: bool,
        *settings: Any,
    ) -> Updates:
        """The slider was moved: design again with the same chance, so that only the scale differs.

        Nothing happens before the first design. Work that is under way gives way.
        """
        if not (seed or "").strip() or not (prompt or "").strip():
            return {self.status: gr.skip()}
        self.tasks.drop(request.session_hash or "")
        return self._design(request, prompt, (count, seed, False, *settings), keep=True)

    def ask_render(
        self, workflow: Workflow | None, prompt: str, seed: str | None, request: gr.Request
    ) -> Updates:
        """Ask for the restored workflow with the prompt and the seed that the page shows."""
        try:
            if workflow is None:
                raise BadRequest("There is no restored workflow. Drop a PNG or JSON file first.")
            number = chosen_seed(seed)
            text = check_prompt(prompt or "", MAX_TEXT) if takes_prompt(workflow) else ""
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
            if self.tasks.holds(page, task):
                yield self._over(task)
        except (BadRequest, NotLoaded) as problem:
            yield self._idle(str(problem), "bad")
        except Exception as fault:  # of any part; the page must be usable again
            log.exception("The design failed")
            yield self._failed(task, fault)
        finally:
            self.tasks.end(page, task)  # also when Gradio closes this because the page has gone

    def cancel(self, request: gr.Request) -> Updates:
        """Stop this page's work. What is under way says itself how it ended."""
        task = self.tasks.stop(request.session_hash or "")
        if task is None:
            return self._idle("There was nothing to stop.")
        return {self.stop: gr.update(interactive=False)} if task.taken else self._over(task)

    def leave(self, request: gr.Request) -> None:
        """The page is gone: stop its work too."""
        self.tasks.drop(request.session_hash or "")
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
            self.restored_view: cards.restored(item, Path(path).name, *self._fidelity(item)),
            self.render_it: gr.update(visible=item.runnable),
            self.status: cards.status(said, "" if item.runnable else "bad"),
            self.file: None,
        }
        if item.prompt:
            updates[self.prompt] = item.prompt
        if item.seed is not None:
            updates |= {self.settings.seed: str(item.seed), self.settings.random: False}
        return updates

    def _fidelity(self, item: Restored) -> tuple[str, Sequence[str]]:
        """How a restored workflow will be rendered; "" where that is not known yet."""
        if not item.runnable:
            return "refused", ()
        if not self.opening.done() or self.opening.exception() or item.workflow is None:
            return "", ()
        found = self.opening.result().renderer.fidelity(item.workflow)
        return found.label, found.reasons

    def put_away(self) -> Updates:
        """Hide the restored workflow."""
        return {self.restored: None, self.restored_box: gr.update(visible=False)}

    # --- work under way

    def _ask(self, task: Task, request: gr.Request, beside: bool = False) -> Updates:
        page = request.session_hash or ""
        task.keeps = self.keeping.how(request)
        if not self.tasks.add(page, task):
            return {self.status: gr.skip()}
        self.keeping.begin(page)
        return {
            self.status: cards.status("Waiting for a free turn…", "busy"),
            self.settings.seed: str(task.seed),
            self.go: gr.update(interactive=False),
            self.stop: gr.update(interactive=True),
            self.render_it: gr.update(interactive=False),
            self.empty: gr.update(visible=False),
            self.results: gr.update(elem_classes=[BESIDE] if beside else []),
        } | dict.fromkeys(self.slots, "")

    def _idle(self, text: str, kind: str = "") -> Updates:
        return {
            self.status: cards.status(text, kind),
            self.go: gr.update(interactive=True),
            self.stop: gr.update(interactive=False),
            self.render_it: gr.update(interactive=True),
        }

    def _over(self, task: Task) -> Updates:
        """How far the task came before its end or before somebody stopped it."""
        if not task.stop.is_set():
            return self._idle(f"{_designs(task.done)} for seed {task.seed}.")
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
                return
            yield self._step(task, event)
            if isinstance(event, Rendered):
                yield {self.slots[event.index]: self.keeping.finish(page, event, task.keeps)}

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


def _finished(event: Rendered | Failed) -> str:
    return cards.rendered(event) if isinstance(event, Rendered) else cards.failed(event)


def _designs(count: int) -> str:
    return "1 design" if count == 1 else f"{count} designs"
