"""The form of the Ablation tab: its components, and the setting that they make."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from flowdesign.ablation.axes import KINDS, Kind, kind_of
from flowdesign.ablation.setting import Setting, read_setting
from flowdesign.policies import Known, Policies
from flowdesign.request import (
    LEAST_SCALE,
    LEAST_TOP_P,
    MAX_SAID,
    MAX_TEMPERATURE,
    MOST_SCALE,
)
from flowdesign.scenes import example_prompts
from flowdesign.ui import cards
from flowdesign.ui.handlers import Updates

EXAMPLES = 2
RANGES = (
    "Values are numbers and ranges, <code>0,1,1.5</code> or <code>0-5 (+0.5)</code> or <code>0-5 "
    "[6]</code>, or names by comma, or <code>all</code>."
)
ELSEWHERE = {"prompt": "the prompts above", "seed": "the seeds above", "none": "—"}
UNGUIDED = (
    "There is no guidance to vary yet: it leads from a policy to what GRPO made of it, and no policy that "
    "GRPO improved is here. python -m flowdesign grpo makes one; all other axes work without."
)


class Form:
    """The components, by the names of the setting's fields."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self.fields: dict[str, Any] = {}
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300, elem_id="fd-ab-what"):
                self._build_what()
            with gr.Column(scale=1, min_width=300, elem_id="fd-ab-axes"):
                self._build_axis("x", "Columns (X)")
                self._build_axis("y", "Rows (Y)")
                cards.html(f'<p class="fd-note">{RANGES}</p>')
                self.note = cards.html(_note(policies.all()), elem_id="fd-ab-note")
                with gr.Accordion("What stays the same", open=False, elem_id="fd-ab-same"):
                    self._build_same()

    def _build_what(self) -> None:
        self.fields["prompts"] = gr.Textbox(
            "\n".join(example_prompts()[:EXAMPLES]),
            label="Prompts, one on a line",
            lines=3,
            max_lines=12,
            elem_id="fd-ab-prompts",
        )
        self.fields["seeds"] = gr.Textbox(
            self._usual("seeds"),
            label="Seeds",
            info="Equal seeds are equal chance in every cell. More of them make the curves surer.",
            max_lines=1,
            elem_id="fd-ab-seeds",
        )
        self.fields["free"] = gr.Checkbox(
            label="Without the grammar, to see what is not valid",
            container=False,
            elem_id="fd-ab-free",
        )

    def _build_axis(self, axis: str, label: str) -> None:
        kind = KINDS[self._usual(axis)]
        values = self._usual(f"{axis}_values")
        if kind.name == "guidance" and not _guided(self.policies.all()):
            kind = KINDS["temperature"]
            values = kind.example
        with gr.Row(elem_classes="fd-ab-axis"):
            self.fields[axis] = gr.Dropdown(
                [(one.title, one.name) for one in KINDS.values()],
                value=kind.name,
                label=label,
                min_width=120,
                elem_id=f"fd-ab-{axis}",
            )
            self.fields[f"{axis}_values"] = gr.Textbox(
                values,
                label="Values",
                placeholder=ELSEWHERE.get(kind.name, ""),
                interactive=kind.typed,
                max_lines=1,
                min_width=120,
                elem_id=f"fd-ab-{axis}-values",
            )

    def _build_same(self) -> None:
        self.fields["policy"] = gr.Dropdown(
            [("the usual one", "")], value="", label="Policy", filterable=False
        )
        self.fields["scale"] = _number("Guidance scale s", (LEAST_SCALE, MOST_SCALE), 1.0)
        with gr.Row(elem_classes="fd-half"):
            self.fields["temperature"] = _number("Temperature", (0.0, MAX_TEMPERATURE), 1.0)
            self.fields["top_p"] = _number("Top-p", (LEAST_TOP_P, 1.0), 1.0)
        self.fields["best_of"] = _number("Best of N designs", (1, MAX_SAID), 1)
        self.fields["fixed"] = gr.Textbox(
            label="Fixed words",
            placeholder="ckpt:mini_flat, upscaler:none",
            info="Said in every workflow; the policy chooses all else.",
            max_lines=1,
            elem_id="fd-ab-fixed",
        )

    def _usual(self, name: str) -> Any:
        return Setting.model_fields[name].default

    @property
    def inputs(self) -> list[Any]:
        """The components, in the order in which `read` takes their values."""
        return [self.fields[name] for name in Setting.model_fields]

    def read(self, values: Sequence[Any]) -> Setting:
        """The setting that the components' values make. Raises BadRequest."""
        named = zip(Setting.model_fields, values, strict=True)
        return read_setting({name: "" if value is None else value for name, value in named})

    def choose(self, axis: str, name: str) -> Updates:
        """Another kind for an axis: show an example of its values, where any are typed."""
        return {self.fields[f"{axis}_values"]: _values(KINDS[name], KINDS[name].example)}

    def refresh(self, chosen: str | None) -> Updates:
        """List the policies that are there now, and say so where none has guidance."""
        known = self.policies.all()
        return {
            self.fields["policy"]: _offer(known, chosen or ""),
            self.note: _note(known),
        }

    def restore(self, setting: Setting) -> Updates:
        """Show a setting that came from a link. Raises BadRequest for an axis that there is not."""
        told = setting.model_dump()
        updates: Updates = {self.fields[name]: value for name, value in told.items()}
        for axis in ("x", "y"):
            values = self.fields[f"{axis}_values"]
            updates[values] = _values(kind_of(told[axis]), told[f"{axis}_values"])
        updates[self.fields["policy"]] = _offer(self.policies.all(), setting.policy)
        return updates


def _guided(known: Sequence[Known]) -> bool:
    return any(one.start is not None for one in known)


def _note(known: Sequence[Known]) -> str:
    """What is missing for guidance."""
    return "" if _guided(known) else f'<p class="fd-note">{escape(UNGUIDED)}</p>'


def _values(kind: Kind, value: str) -> Any:
    """The box of an axis' values."""
    empty = "" if kind.typed else ELSEWHERE[kind.name]
    return gr.update(value=value if kind.typed else "", placeholder=empty, interactive=kind.typed)


def _offer(known: Sequence[Known], chosen: str) -> Any:
    """The policies to choose from. One that has gone stays, so that the answer can say so."""
    names = [one.name for one in known]
    usual = f"the usual one: {names[0]}" if names else "the usual one"
    listed = names if chosen in ("", *names) else [*names, chosen]
    return gr.update(choices=[(usual, ""), *((name, name) for name in listed)], value=chosen)


def _number(label: str, ends: tuple[float, float], value: float) -> gr.Number:
    info = f"{ends[0]:g} to {ends[1]:g}".replace("-", "\N{MINUS SIGN}")
    return gr.Number(value, label=label, info=info, min_width=100)
