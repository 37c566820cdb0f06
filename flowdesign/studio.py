"""The main job, end to end: a prompt becomes workflows, and each becomes an image and its files.

    prompt -> policy -> workflow -> render -> image

`Studio.design` yields events as they happen, so the page and the command line show the first design
while the next is still being made. The policy and the renderer are given to the constructor;
`open_studio` loads the real ones. Nothing heavy is imported until then.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flowdesign.catalog import Installed, installed
from flowdesign.designs import (
    Design,
    make_design,
    restore,
    say_fault,
    sweep,
    tell,
    write_files,
)
from flowdesign.tokens import decode
from flowdesign.workflow import Workflow, validate

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPT = 1000  # characters
MAX_DESIGNS = 8
MAX_TEMPERATURE = 2.0
MAX_SEED = 2**64 - 1  # as in ComfyUI
RANDOM_SEEDS = 2**32  # a drawn seed stays short enough to copy by hand
KEEP_SECONDS = 24 * 3600  # how long files stay before they are swept

log = logging.getLogger(__name__)
Cancel = Callable[[], bool]


class BadRequest(ValueError):
    """The caller asked for something that cannot be done; the message says what and the limits."""


class _Stop(Exception):
    """Raised by the callback that the policy and the renderer ask between steps."""


@dataclass(frozen=True)
class Request:
    """What to design. `checked` raises BadRequest for values out of range."""

    prompt: str
    count: int = 4
    seed: int = 0
    temperature: float = 1.0

    def checked(self, most: int = MAX_DESIGNS) -> Request:
        """The same request with a trimmed prompt. Any value at all may come from a program.

        `most` is how many designs may be asked for.
        """
        prompt = check_prompt(self.prompt)
        if not (_is_number(self.count, int) and 1 <= self.count <= most):
            raise BadRequest(f"Ask for 1 to {most} designs, not {self.count}.")
        check_seed(self.seed)
        known = _is_number(self.temperature, int, float)
        if not (known and 0 <= self.temperature <= MAX_TEMPERATURE):  # also refuses nan
            raise BadRequest(
                f"The temperature is from 0 to {MAX_TEMPERATURE:g}, not {self.temperature}."
            )
        return Request(prompt, self.count, self.seed, self.temperature)


@dataclass(frozen=True)
class Designed:
    """The policy has said a workflow; its image comes next."""

    index: int
    design: Design


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


class Sampled(Protocol):
    """One sentence of a policy."""

    @property
    def index(self) -> int: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...


class Designer(Protocol):
    """What the studio needs of a policy (`flowdesign.policy.Policy`)."""

    def sample_stream(
        self, prompt: str, n: int, seed: int, temperature: float, *, cancel: Cancel | None
    ) -> Iterator[Sampled]:
        """Draw n sentences and yield each as it ends."""


class Fidelity(Protocol):
    """How near a render is to ComfyUI's: "exact", "approximate" or "refused", and why."""

    @property
    def label(self) -> str: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...


class Picture(Protocol):
    """One job's result."""

    @property
    def images(self) -> Sequence[Image]: ...
    @property
    def fidelity(self) -> Fidelity: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Job:
    """What a renderer is asked to run: a workflow that is bound to a prompt and a seed."""

    workflow: Workflow


class Renderer(Protocol):
    """What the studio needs of a renderer (`flowdesign.render.Renderer`)."""

    def render(self, jobs: Sequence[Any], cancel: Cancel | None = None) -> Iterator[Picture]:
        """Run each job's workflow; `cancel` is asked before every sampler step."""


class Studio:
    """A policy, a renderer and a folder for what they make. One piece of work at a time."""

    def __init__(
        self,
        policy: Designer,
        renderer: Renderer,
        output: Path | None = None,
        models: Installed | None = None,
    ) -> None:
        self.policy = policy
        self.renderer = renderer
        self.output = output or Path(tempfile.gettempdir()) / "flowdesign"
        self.models = models or installed()
        self._lock = threading.Lock()

    def design(self, request: Request, cancel: Cancel = lambda: False) -> Iterator[Event]:
        """Design and render, one after the other. Raises BadRequest before any work.

        Every design has the same seed, so that images differ by workflow alone. `cancel` is asked
        between steps of any kind; when it says yes, `Stopped` is the last event. Closing the
        iterator stops the work as well.
        """
        request = request.checked()
        return self._until_stopped(self._designs(request, _asking(cancel)))

    def render(
        self, workflow: Workflow, prompt: str, seed: int, cancel: Cancel = lambda: False
    ) -> Iterator[Event]:
        """Render a given workflow for a prompt. Raises BadRequest when it cannot run here."""
        problems = validate(workflow, self.models)
        if problems:
            raise BadRequest("This workflow cannot run: " + tell(problems))
        design = make_design(workflow, prompt, seed)
        return self._until_stopped(self._render_all([(0, design)], _asking(cancel)))

    def _designs(self, request: Request, ask: Cancel) -> Iterator[Event]:
        drawn = _in_order(
            self.policy.sample_stream(
                request.prompt, request.count, request.seed, request.temperature, cancel=ask
            )
        )
        while (sample := self._turn(lambda: next(drawn, None), ask)) is not None:
            decoded = decode(sample.tokens)
            if decoded.workflow is None or decoded.problems:
                yield Failed(sample.index, "Not a workflow: " + tell(decoded.problems))
                continue
            design = make_design(
                decoded.workflow, request.prompt, request.seed, tuple(sample.tokens)
            )
            yield from self._render_all([(sample.index, design)], ask)

    def _render_all(self, designs: Sequence[tuple[int, Design]], ask: Cancel) -> Iterator[Event]:
        for index, design in designs:
            yield Designed(index, design)
            yield self._render_one(index, design, ask)

    def _render_one(self, index: int, design: Design, ask: Cancel) -> Event:
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
            return self._write(index, design, picture)
        except OSError as fault:
            log.exception("Writing design %d failed", index)
            reason = f"The files could not be written: {fault.strerror or say_fault(fault)}"
            return Failed(index, reason, design)

    def _write(self, index: int, design: Design, picture: Picture) -> Rendered:
        folder = self.output / secrets.token_hex(8)
        stem = f"flowdesign-{design.seed}-{index + 1}"
        label, reasons = picture.fidelity.label, tuple(picture.fidelity.reasons)
        image, api, ui = write_files(folder, stem, design, picture.images[0], label, reasons)
        count = len(picture.images)
        return Rendered(index, design, image, api, ui, picture.seconds, label, reasons, count)

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


def check_prompt(prompt: str) -> str:
    """The prompt without control characters (files cannot hold them) and outer blanks.

    Raises BadRequest when it is empty or too long.
    """
    if not isinstance(prompt, str):
        raise BadRequest("The prompt is a text.")
    kept = (c for c in prompt if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    prompt = "".join(kept).strip()
    if not prompt:
        raise BadRequest("The prompt is empty. Describe the picture you want.")
    if len(prompt) > MAX_PROMPT:
        raise BadRequest(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are allowed."
        )
    return prompt


def check_seed(seed: int) -> int:
    """The seed itself. Raises BadRequest when it is not one that ComfyUI takes."""
    if not (_is_number(seed, int) and 0 <= seed <= MAX_SEED):
        raise BadRequest(f"The seed is a whole number from 0 to {MAX_SEED}, not {str(seed)[:40]}.")
    return seed


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def random_seed() -> int:
    """A seed that nobody chose."""
    return secrets.randbelow(RANDOM_SEEDS)


def open_studio(output: Path | None = None) -> Studio:
    """Load the shipped policy and the renderer, and make one design so that the next is quick."""
    from flowdesign.policy import Policy
    from flowdesign.render import Renderer as RealRenderer

    models = installed()
    studio = Studio(Policy.load(), RealRenderer(models), output, models)
    for event in studio.design(Request("a red circle", count=1)):
        if isinstance(event, Failed):
            log.warning("The first render failed: %s", event.reason)
    return studio


def render_file(file: Path, prompt: str, seed: int, folder: Path) -> dict[str, Any]:
    """Render the workflow in a JSON or PNG file into `folder`; what was made, ready for JSON.

    Raises BadRequest when the file holds no workflow that runs here, or when it is refused.
    """
    from flowdesign.render import Renderer as RealRenderer
    from flowdesign.render import RenderError

    models = installed()
    found = restore(file, models)
    if found.workflow is None or found.problems:
        raise BadRequest(f"{file.name} cannot be rendered: {tell(found.problems)}")
    design = make_design(found.workflow, check_prompt(prompt), check_seed(seed))
    renderer: Renderer = RealRenderer(models)
    try:
        picture = next(renderer.render([Job(design.bound)]))
    except RenderError as fault:
        raise BadRequest(f"{file.name} cannot be rendered: {fault}") from fault
    label, reasons = picture.fidelity.label, list(picture.fidelity.reasons)
    if label == "refused" or not picture.images:
        raise BadRequest(f"{file.name} was refused: {'; '.join(reasons)}")
    stem = f"flowdesign-{seed}"
    png, api, ui = write_files(folder, stem, design, picture.images[0], label, reasons)
    made = {"image": str(png), "api": str(api), "ui": str(ui), "description": design.description}
    return made | {"fidelity": label, "reasons": reasons, "seconds": round(picture.seconds, 3)}


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
