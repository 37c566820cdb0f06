"""The main job, end to end: a prompt becomes workflows, and each becomes an image and its files.

    prompt -> policy -> workflow -> render -> image

`Studio.design` yields events as they happen, so the page and the command line show the first design
while the next is still being made. The policy and the renderer are given to the constructor;
`open_studio` loads the real ones. Nothing heavy is imported until then.
"""

from __future__ import annotations

import itertools
import logging
import math
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flowdesign.catalog import Installed, installed
from flowdesign.critic import Critic, Expected, expect, open_critic
from flowdesign.designs import (
    Design,
    make_design,
    restore,
    say_fault,
    sweep,
    tell,
    write_files,
)
from flowdesign.pace import Pace, Stretch
from flowdesign.parts import Cancel, Designers, Job, Picture, Renderer, Sampled
from flowdesign.policies import Policies
from flowdesign.request import MAX_SAID, BadRequest, Request, check_prompt, check_seed
from flowdesign.tokens import (
    VOCABULARY,
    Automaton,
    CannotFix,
    NotInLanguage,
    decode,
    encode,
    restrict,
)
from flowdesign.workflow import MAX_TEXT, Workflow, validate

KEEP_SECONDS = 24 * 3600  # how long files stay before they are swept

log = logging.getLogger(__name__)


class _Stop(Exception):
    """Raised by the callback that the policy and the renderer ask between steps."""


@dataclass(frozen=True)
class Designed:
    """The policy has said a workflow; its image comes next. Without an ensemble nothing is expected."""

    index: int
    design: Design
    expected: Expected | None = None


@dataclass(frozen=True)
class Rendered:
    """The image is there. `seconds` is the time of the render alone."""

    index: int
    design: Design
    image: Path  # a PNG that carries the workflow
    api: Path  # the same workflow as ComfyUI API JSON
    ui: Path  # and as ComfyUI UI JSON, with a layout
    seconds: float
    fidelity: str  # "exact" or "approximate"
    reasons: tuple[str, ...]
    saved: int = 1  # how many images the workflow saves; `image` is the first
    expected: Expected | None = None


@dataclass(frozen=True)
class Failed:
    """This design gave no image; the others go on. `refused` means that nothing was tried."""

    index: int
    reason: str
    design: Design | None = None
    refused: bool = False


@dataclass(frozen=True)
class Stopped:
    """The work was cancelled; no event follows."""


Event = Designed | Rendered | Failed | Stopped


class Studio:
    """Policies, a renderer and a folder for what they make. One piece of work at a time."""

    def __init__(
        self,
        policies: Designers,
        renderer: Renderer,
        output: Path | None = None,
        models: Installed | None = None,
        critic: Critic | None = None,
    ) -> None:
        self.policies = policies
        self.renderer = renderer
        self.critic = critic
        self.output = output or Path(tempfile.gettempdir()) / "flowdesign"
        self.models = models or installed()
        self.pace = Pace()
        self._lock = threading.Lock()

    def design(self, request: Request, cancel: Cancel = lambda: False) -> Iterator[Event]:
        """Design and render, one after the other. Raises BadRequest before any work.

        Every design has the same seed, so that images differ by workflow alone. `cancel` is asked
        between steps of any kind; when it says yes, `Stopped` is the last event. Closing the
        iterator stops the work as well. A `ranked` request says all designs before the first image,
        and the one with the highest lower bound comes first. One that asks for policies `beside` each
        other gets rows of designs with equal chance, a column for each scale; the last one ranks them.
        """
        request = self._checked(request.checked())
        ask = _asking(cancel)
        columns = [self._drawn(request, scale, ask) for scale in request.scales]
        found = _in_rows(columns, request.ranked and self.critic is not None)
        return self._until_stopped(self._render_all(found, ask))

    def render(
        self, workflow: Workflow, prompt: str, seed: int, cancel: Cancel = lambda: False
    ) -> Iterator[Event]:
        """Render a given workflow for a prompt. Raises BadRequest when it cannot run here."""
        problems = validate(workflow, self.models)
        if problems:
            raise BadRequest("This workflow cannot run: " + tell(problems))
        design = make_design(workflow, prompt, seed)
        one = iter([Designed(0, design, self._expected(design))])
        return self._until_stopped(self._render_all(one, _asking(cancel)))

    def say(self, request: Request, cancel: Cancel = lambda: False) -> Iterator[Event]:
        """Design without rendering: up to MAX_SAID designs. Raises BadRequest before any work.

        The ensemble is asked once for all of them, so they come together. `finish` renders one.
        """
        request = self._checked(replace(request, beside=False).checked(MAX_SAID))
        return self._until_stopped(self._said(request, _asking(cancel)))

    def finish(self, designed: Designed, cancel: Cancel = lambda: False) -> Iterator[Event]:
        """Render one design that was said."""
        ask = _asking(cancel)
        return self._until_stopped(self._render_one(designed, ask) for _ in range(1))

    def _checked(self, request: Request) -> Request:
        """The request with the policy's name, if it can be met here. Raises BadRequest."""
        known = [self.policies.check(request.policy, scale) for scale in request.scales]
        if request.fixed:
            try:
                restrict(self._language, request.fixed)
            except CannotFix as fault:
                raise BadRequest(str(fault)) from fault
        return replace(request, policy=known[0].name)

    @cached_property
    def _language(self) -> Automaton:
        return Automaton(VOCABULARY, self.models)

    def _said(self, request: Request, ask: Cancel) -> Iterator[Event]:
        """What the policy says, and what the ensemble expects of it."""
        found = list(self._sampled(request, request.scale, ask))
        designed = [event for event in found if isinstance(event, Designed)]
        expected = self._turn(lambda: self._expect([one.design for one in designed]), ask)
        told = iter(expected)
        for event in found:
            yield replace(event, expected=next(told)) if isinstance(event, Designed) else event

    def _drawn(
        self, request: Request, scale: float | None, ask: Cancel
    ) -> Iterator[Designed | Failed]:
        """What the policy says at a guidance scale, by index, each with what is expected of it."""
        for event in self._sampled(request, scale, ask):
            if isinstance(event, Designed):
                event = replace(event, expected=self._expected(event.design))
            yield event

    def _sampled(
        self, request: Request, scale: float | None, ask: Cancel
    ) -> Iterator[Designed | Failed]:
        """What the policy says at a guidance scale, by index."""
        policy = self._turn(lambda: self.policies.speaker(request.policy, scale), ask)
        drawn = _in_order(
            policy.sample_stream(
                request.prompt, request.count, request.seed, request.temperature, request.top_p,
                constrained=not request.free, cancel=ask, fixed=request.fixed,
            )
        )  # fmt: skip
        spent = Stretch()

        def following() -> Sampled | None:
            with spent.measured():
                return next(drawn, None)

        while (sample := self._turn(following, ask)) is not None:
            decoded = decode(sample.tokens)
            if decoded.workflow is None or decoded.problems:
                yield Failed(sample.index, "Not a workflow: " + tell(decoded.problems))
                continue
            tokens = tuple(sample.tokens)
            design = make_design(decoded.workflow, request.prompt, request.seed, tokens)
            yield Designed(sample.index, replace(design, policy=request.policy, scale=scale))
        self.pace.said(request.count, spent.seconds)

    def _expected(self, design: Design) -> Expected | None:
        """What the ensemble says of a design."""
        return self._expect([design])[0]

    def _expect(self, designs: Sequence[Design]) -> list[Expected | None]:
        """What the ensemble says of designs; nothing of workflows outside the language."""
        found: list[Expected | None] = [None] * len(designs)
        if self.critic is None:
            return found
        sentences = {at: said for at, one in enumerate(designs) if (said := _tokens(one))}
        prompts = [designs[at].prompt for at in sentences]
        try:
            told = expect(self.critic, prompts, list(sentences.values())) if sentences else []
        except ValueError as fault:  # an ensemble that lacks a word; designs need none
            log.warning("Designs are shown without an expected score: %s", fault)
            return found
        for at, expected in zip(sentences, told, strict=True):
            found[at] = expected
        return found

    def _render_all(self, found: Iterator[Designed | Failed], ask: Cancel) -> Iterator[Event]:
        for event in found:
            yield event
            if isinstance(event, Designed):
                yield self._render_one(event, ask)

    def _render_one(self, designed: Designed, ask: Cancel) -> Event:
        index, design = designed.index, designed.design
        try:
            picture = self._turn(lambda: next(self.renderer.render([Job(design.bound)], ask)), ask)
        except _Stop:
            raise
        except Exception as fault:  # one broken render must not take the other designs along
            log.exception("Rendering design %d failed", index)
            return Failed(index, f"The render failed: {say_fault(fault)}", design)
        if picture.fidelity.label == "refused" or not picture.images:
            reason = "; ".join(picture.fidelity.reasons) or "the workflow saves no image"
            return Failed(index, reason, design, refused=True)
        try:
            return self._write(designed, picture)
        except OSError as fault:
            log.exception("Writing design %d failed", index)
            reason = f"The files could not be written: {fault.strerror or say_fault(fault)}"
            return Failed(index, reason, design)

    def _write(self, designed: Designed, picture: Picture) -> Rendered:
        index, design = designed.index, designed.design
        folder = self.output / secrets.token_hex(8)
        stem = f"flowdesign-{design.seed}-{index + 1}"
        self.pace.drew(picture.seconds)
        label, reasons = picture.fidelity.label, tuple(picture.fidelity.reasons)
        image, api, ui = write_files(folder, stem, design, picture.images[0], label, reasons)
        count = len(picture.images)
        return Rendered(
            index, design, image, api, ui, picture.seconds, label, reasons, count, designed.expected
        )

    def _until_stopped(self, events: Iterator[Event]) -> Iterator[Event]:
        sweep(self.output, KEEP_SECONDS)
        try:
            yield from events
        except _Stop:
            yield Stopped()

    def _turn(self, work: Callable[[], Any], ask: Cancel) -> Any:
        """Do one piece of work while no other thread does; stop waiting when cancelled."""
        ask()
        with _held(self._lock, ask):
            return work()


def open_studio(
    output: Path | None = None, critic: Callable[[], Critic | None] | None = None
) -> Studio:
    """Load the shipped policy and the renderer, and make one design so that the next is quick.

    `critic` gives the reward ensemble, the shipped one where it is not given.
    """
    from flowdesign.render import Renderer as RealRenderer

    models = installed()
    parts = Policies(models), RealRenderer(models)
    studio = Studio(*parts, output, models, (critic or open_critic)())
    for event in studio.design(Request("a red circle", count=1)):
        if isinstance(event, Failed):
            log.warning("The first render failed: %s", event.reason)
    studio.pace.warmed()
    return studio


def render_file(file: Path, prompt: str, seed: int, folder: Path) -> dict[str, Any]:
    """Render the workflow in a JSON or PNG file into `folder`; what was made, ready for JSON.

    Raises BadRequest when the file holds no workflow that runs here, or when it is refused.
    """
    models = installed()
    found = restore(file, models)
    if found.workflow is None or found.problems:
        raise BadRequest(f"{file.name} cannot be rendered: {tell(found.problems)}")
    design = make_design(found.workflow, check_prompt(prompt, MAX_TEXT), check_seed(seed))
    from flowdesign.render import Renderer as RealRenderer
    from flowdesign.render import RenderError

    renderer: Renderer = RealRenderer(models)
    try:
        picture = next(renderer.render([Job(design.bound)]))
    except RenderError as fault:
        raise BadRequest(f"{file.name} cannot be rendered: {fault}") from fault
    label, reasons = picture.fidelity.label, list(picture.fidelity.reasons)
    if label == "refused" or not picture.images:
        raise BadRequest(f"{file.name} was refused: {'; '.join(reasons)}")
    stem = _free_stem(folder, f"flowdesign-{seed}")
    png, api, ui = write_files(folder, stem, design, picture.images[0], label, reasons)
    made = {"image": str(png), "api": str(api), "ui": str(ui), "description": design.description}
    return made | {"fidelity": label, "reasons": reasons, "seconds": round(picture.seconds, 3)}


def _free_stem(folder: Path, stem: str) -> str:
    """A name that no PNG of the folder has: "flowdesign-7", else "flowdesign-7-2"."""
    names = (stem if count == 1 else f"{stem}-{count}" for count in itertools.count(1))
    return next(name for name in names if not (folder / f"{name}.png").exists())


def _in_order(samples: Iterator[Sampled]) -> Iterator[Sampled]:
    """Samples end in any order; pass them on by index, so that design 1 comes first."""
    waiting: dict[int, Sampled] = {}
    turn = 0
    for sample in samples:
        waiting[sample.index] = sample
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1
    yield from (waiting[index] for index in sorted(waiting))


def _tokens(design: Design) -> tuple[int, ...]:
    """The sentence of a design; none for a workflow that the vocabulary cannot say exactly."""
    if design.tokens:
        return design.tokens
    try:
        found = encode(design.workflow)
    except NotInLanguage:
        return ()
    return () if found.notes else found.tokens


def _in_rows(
    columns: Sequence[Iterator[Designed | Failed]], ranked: bool
) -> Iterator[Designed | Failed]:
    """The first of each column, then the second of each, numbered in that order.

    Ranked, all are drawn first, and the row whose last design has the highest lower bound leads.
    """
    rows: Iterable[tuple[Designed | Failed, ...]] = zip(*columns, strict=True)
    if ranked:
        rows = sorted(rows, key=lambda row: -_worth(row[-1]))
    for index, event in enumerate(itertools.chain.from_iterable(rows)):
        yield replace(event, index=index)


def _worth(event: Designed | Failed) -> float:
    """The lower bound of a design; failures and what the ensemble cannot judge are worth least."""
    expected = event.expected if isinstance(event, Designed) else None
    return -math.inf if expected is None else expected.bound


def _asking(cancel: Cancel) -> Cancel:
    """A callback that raises `_Stop` itself, so that every layer below stops in the same way."""

    def ask() -> bool:
        if cancel():
            raise _Stop
        return False

    return ask


@contextmanager
def _held(lock: threading.Lock, ask: Cancel) -> Iterator[None]:
    while not lock.acquire(timeout=0.1):
        ask()
    try:
        yield
    finally:
        lock.release()
