"""The settings of the Playground: how many designs, how they are drawn, and by which policy."""

from __future__ import annotations

from typing import Any

import gradio as gr

from flowdesign.policies import Policies
from flowdesign.request import (
    LEAST_SCALE,
    MAX_DESIGNS,
    MAX_ROWS,
    MAX_SEED,
    MAX_TEMPERATURE,
    MOST_SCALE,
    BadRequest,
    Request,
    check_seed,
    random_seed,
)
from flowdesign.ui.handlers import Updates

GUIDED = "0 is the policy before GRPO, 1 after it; above 1 goes on in that direction, below 0 back."
UNGUIDED = "This policy was not improved by GRPO, so there is nothing to guide between."


class Settings:
    """The components, and the request that they make."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self._build_drawing()
        self._build_policy()

    def _build_drawing(self) -> None:
        """How designs are drawn."""
        self.count = _slider("Designs", "fd-count", (1, MAX_DESIGNS), 4, 1)
        about = "Lower is more alike, higher is more adventurous."
        self.temperature = _slider(
            "Temperature", "fd-temperature", (0.1, MAX_TEMPERATURE), 1.0, 0.1, about
        )
        about = "Below 1 leaves out the least likely words."
        self.top_p = _slider("Top-p", "fd-top-p", (0.1, 1.0), 1.0, 0.05, about)
        self.ranked = _tick("Best first: order by the expected score", "fd-ranked")
        with gr.Row(elem_classes="fd-half"):
            self.seed = gr.Textbox(
                label="Seed", value="", placeholder="random", max_lines=1, elem_id="fd-seed"
            )
            self.random = _tick("New seed each time", "fd-random", value=True)

    def _build_policy(self) -> None:
        """Which policy designs, and how far guidance goes."""
        self.policy = gr.Dropdown(label="Policy", elem_id="fd-policy", filterable=False)
        ends = (LEAST_SCALE, MOST_SCALE)
        self.scale = _slider("Guidance scale s", "fd-guidance", ends, 1.0, 0.1, GUIDED)
        self.beside = _tick("Side by side: before GRPO, after it, and guided", "fd-side")
        self.free = _tick("Without the grammar, to see what is not valid", "fd-free")

    @property
    def inputs(self) -> list[Any]:
        """The components, in the order in which `read` takes their values."""
        return [
            self.count, self.seed, self.random, self.temperature, self.top_p, self.ranked, self.policy,
            self.scale, self.beside, self.free,
        ]  # fmt: skip

    @property
    def offered(self) -> list[Any]:
        """What depends on the policies that there are."""
        return [self.policy, self.scale, self.beside]

    def read(
        self,
        prompt: str | None,
        count: float | None,
        seed: str | None,
        random: bool,
        temperature: float,
        top_p: float,
        ranked: bool,
        policy: str | None,
        scale: float | None,
        beside: bool,
        free: bool,
    ) -> Request:
        """The request that the settings make. Raises BadRequest.

        Without guidance the scale does not count; side by side there is room for fewer designs.
        """
        number = random_seed() if random else chosen_seed(seed)
        known = self.policies.known(policy or "")
        guided = known.start is not None
        many = _whole(count)
        if beside and guided and isinstance(many, int):
            many = min(many, MAX_ROWS)
        return Request(
            prompt or "", many, number, temperature, top_p, bool(ranked), known.name,
            scale if guided else None, bool(beside) and guided, bool(free),
        ).checked()  # fmt: skip

    def refresh(self, chosen: str | None) -> Updates:
        """List the policies that are there now: others may have been trained meanwhile."""
        names = [one.name for one in self.policies.all()]
        name = chosen if chosen in names else next(iter(names), None)
        return {self.policy: gr.update(choices=names, value=name)} | self.choose(name)

    def choose(self, name: str | None) -> Updates:
        """Offer guidance where the policy was improved from another."""
        try:
            guided = self.policies.known(name or "").start is not None
        except BadRequest:
            guided = False
        info = GUIDED if guided else UNGUIDED
        beside = (
            gr.update(interactive=True) if guided else gr.update(interactive=False, value=False)
        )
        return {self.scale: gr.update(interactive=guided, info=info), self.beside: beside}


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


def _slider(
    label: str,
    elem_id: str,
    ends: tuple[float, float],
    value: float,
    step: float,
    info: str | None = None,
) -> gr.Slider:
    return gr.Slider(
        *ends, value=value, step=step, label=label, info=info, elem_id=elem_id, buttons=[]
    )


def _tick(label: str, elem_id: str, value: bool = False) -> gr.Checkbox:
    return gr.Checkbox(value=value, label=label, elem_id=elem_id, container=False)


def _whole(number: float | None) -> Any:
    """A slider's number as int; what is none stays as it is, for the check that follows."""
    return int(number) if isinstance(number, float) and number.is_integer() else number
