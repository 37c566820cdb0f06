"""Small stand-ins for the policy and the renderer, given to the studio through its constructor."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from flowdesign.catalog import known_assets
from flowdesign.policies import Known
from flowdesign.request import BadRequest
from flowdesign.studio import Studio
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence, restrict
from flowdesign.workflow import Workflow

Cancel = Callable[[], bool] | None
_GRAMMAR = Automaton(VOCABULARY, known_assets())


@dataclass(frozen=True)
class ToySample:
    """A sentence that nobody thought about."""

    index: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class ToyFidelity:
    label: str = "exact"
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToyPicture:
    images: Sequence[Image.Image]
    fidelity: ToyFidelity
    seconds: float


class ToyPolicy:
    """Random sentences, ending in reverse order, one model step each `pause` seconds."""

    def __init__(self, pause: float = 0.0, broken: Sequence[int] = ()) -> None:
        self.pause = pause
        self.broken = broken
        self.prompts: list[str] = []

    def sample_stream(
        self,
        prompt: str,
        n: int,
        seed: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        *,
        constrained: bool = True,
        cancel: Cancel = None,
        fixed: Sequence[str] = (),
    ) -> Iterator[ToySample]:
        self.prompts.append(prompt)
        for index in reversed(range(n)):
            wait(self.pause, cancel)
            sentence = toy_sentence(random.Random(seed * 100 + index), tuple(fixed))
            yield ToySample(index, (0, 0, 0) if index in self.broken else tuple(sentence))


def toy_sentence(rng: random.Random, fixed: tuple[str, ...] = ()) -> tuple[int, ...]:
    """A random sentence, with these words in it."""
    if not fixed:
        return random_sentence(_GRAMMAR, rng)
    language = restrict(_GRAMMAR, fixed)
    state, tokens = language.start(), list[int]()
    while not language.done(state):
        tokens.append(rng.choice(language.allowed(state)))
        state = language.advance(state, tokens[-1])
    return tuple(tokens)


class ToyPolicies:
    """One policy under several names: "mine" was trained from "start", which has no guidance.

    At scale 0 and below it speaks with other seeds than above.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.asked: list[tuple[str, float | None]] = []

    def all(self) -> list[Any]:
        return [Known("mine", Path("mine"), Path("start")), Known("start", Path("start"), None)]

    def known(self, name: str = "") -> Any:
        found = [one for one in self.all() if name in ("", one.name)]
        if not found:
            raise BadRequest(f"Unknown policy '{name}'.")
        return found[0]

    def check(self, name: str, scale: float | None) -> Any:
        known = self.known(name)
        if scale and known.start is None:
            raise BadRequest("There is no guidance.")
        return known

    def speaker(self, name: str, scale: float | None) -> Any:
        self.asked.append((name, scale))
        return self.policy if scale is None or scale > 0 else Shifted(self.policy)


@dataclass
class Shifted:
    """A policy that speaks with another seed."""

    policy: Any

    def sample_stream(self, prompt: str, n: int, seed: int, *rest: Any, **more: Any) -> Any:
        return self.policy.sample_stream(prompt, n, seed + 1000, *rest, **more)


class ToyRenderer:
    """Draws a disc in `steps` steps of `pause` seconds; the renders in `faults` fail."""

    def __init__(
        self, pause: float = 0.0, steps: int = 10, faults: Sequence[int] = (), images: int = 1
    ) -> None:
        self.pause, self.steps, self.faults, self.images = pause, steps, faults, images
        self.renders = 0
        self.steps_done = 0
        self.told = ToyFidelity()

    def render(self, jobs: Sequence[Any], cancel: Cancel = None) -> Iterator[ToyPicture]:
        for job in jobs:
            yield self._render(job.workflow, cancel)

    def fidelity(self, workflow: Workflow) -> ToyFidelity:
        return self.told

    def _render(self, workflow: Workflow, cancel: Cancel) -> ToyPicture:
        self.renders += 1
        if self.renders - 1 in self.faults:
            raise RuntimeError("the sampler met a NaN at step 3")
        started = time.monotonic()
        for _ in range(self.steps):
            wait(self.pause, cancel)
            self.steps_done += 1
        images = [] if self.told.label == "refused" else [disc(len(workflow))] * self.images
        return ToyPicture(images, self.told, time.monotonic() - started)


def stands_still(renderer: ToyRenderer, within: float) -> bool:
    """Whether the renderer stops taking steps in that many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        before = renderer.steps_done
        time.sleep(0.5)
        if renderer.steps_done == before:
            return True
    return False


def wait(pause: float, cancel: Cancel) -> None:
    """One step of work."""
    if cancel is not None:
        cancel()
    time.sleep(pause)


def disc(number: int) -> Image.Image:
    """A picture that differs with the number."""
    image = Image.new("RGB", (64, 64), "white")
    shade = (40 + number * 37 % 200, 60 + number * 91 % 180, 90 + number * 53 % 150)
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=shade)
    return image


def toy_studio(folder: Path, **parts: Any) -> Studio:
    """A studio whose work takes no time unless asked; the whole catalogue counts as installed."""
    policy = parts.pop("policy", None) or ToyPolicy()
    renderer = parts.pop("renderer", None) or ToyRenderer()
    return Studio(ToyPolicies(policy), renderer, folder, known_assets(), parts.pop("critic", None))
