"""Forms made from configs: one component per option, and the way from what was typed to a config.

The bounds are said beside each option and checked by the config alone, so that a wrong value stays as
it was typed and the message is the one that the command line gives.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, get_args, get_origin

import annotated_types
import gradio as gr
from pydantic.fields import FieldInfo

from flowdesign.config import ConfigError, RunConfig, as_text, build, plain_type, to_flags
from flowdesign.ui import cards
from flowdesign.ui.handlers import Updates
from flowdesign.ui.train_kinds import Kind

WRONG = "fd-wrong"  # the class of a component whose value cannot be used
_SAID: Mapping[type, str] = {
    annotated_types.Ge: "{} or more",
    annotated_types.Gt: "above {}",
    annotated_types.Le: "{} at most",
    annotated_types.Lt: "below {}",
}


@dataclass(frozen=True)
class Checked:
    """What was typed, as a config, or what is wrong with it: messages by field, "" for the whole."""

    config: RunConfig | None = None
    faults: Mapping[str, str] = field(default_factory=dict)


class KindForm:
    """The components of one kind of run, in a column that is shown while the kind is chosen."""

    def __init__(self, kind: Kind, name: str, visible: bool) -> None:
        """`name` is what the next run is called unless somebody says otherwise."""
        self.kind = kind
        self.fields: dict[str, Any] = {}
        names = [name for name in kind.config.model_fields if name not in kind.first]
        with gr.Column(visible=visible, elem_classes="fd-kind") as self.column:
            cards.html(f'<p class="fd-note">{escape(kind.about)}</p>')
            self.preset = gr.Radio(
                [preset.name for preset in kind.presets],
                value=kind.presets[0].name,
                label="Preset",
                elem_id=f"fd-preset-{kind.name}",
            )
            self.about = cards.html(about_preset(kind, kind.presets[0].name))
            with gr.Row(elem_classes="fd-fields"):
                self._build(("run", *kind.first))
            self.fields["run"].value = name
            with (
                gr.Accordion("More options", open=False),
                gr.Row(elem_classes="fd-fields"),
            ):
                self._build([name for name in names if name != "run"])

    @property
    def inputs(self) -> list[Any]:
        """The components, in the order of the config's fields."""
        return [self.fields[name] for name in self.kind.config.model_fields]

    def check(self, values: Sequence[Any]) -> Checked:
        """Turn the values of `inputs` into a config."""
        return check(self.kind, values)

    def fill(self, preset: str) -> Updates:
        """Put a preset's values into the form; the name of the run stays."""
        chosen = next((one for one in self.kind.presets if one.name == preset), None)
        if chosen is None:
            return {self.about: gr.skip()}
        updates: Updates = {self.about: about_preset(self.kind, preset)}
        for name, info in self.kind.config.model_fields.items():
            if name != "run":
                value = chosen.values.get(name, default_of(info))
                updates[self.fields[name]] = _shown(info, value)
        return updates

    def mark(self, faults: Mapping[str, str], before: Sequence[str]) -> Updates:
        """Show what is wrong at the fields; those that were marked `before` and are right now, too."""
        updates: Updates = {}
        for name in {*faults, *before} & set(self.fields):
            info, message = self.kind.config.model_fields[name], faults.get(name)
            about = plain(message) if message else describe(info)
            classes = ["fd-field", *([WRONG] if message else [])]
            updates[self.fields[name]] = gr.update(info=about, elem_classes=classes)
        return updates

    def _build(self, names: Sequence[str]) -> None:
        for name in names:
            info = self.kind.config.model_fields[name]
            self.fields[name] = component(name, info, f"fd-{self.kind.name}-{name}")


def about_preset(kind: Kind, name: str) -> str:
    """What a preset is for."""
    found = next((preset.about for preset in kind.presets if preset.name == name), "")
    return f'<p class="fd-note">{escape(found)}</p>'


def component(name: str, info: FieldInfo, elem_id: str) -> Any:
    """The component for one option, by its type."""
    kind, value = plain_type(info.annotation), _shown(info, default_of(info))
    common: dict[str, Any] = {
        "label": "Name of the run" if name == "run" else name.replace("_", " ").capitalize(),
        "info": describe(info),
        "elem_id": elem_id,
        "elem_classes": ["fd-field"],
        "interactive": True,
    }
    if kind is bool:
        return gr.Checkbox(value, **common)
    if get_origin(kind) is Literal:
        return gr.Dropdown(list(get_args(kind)), value=value, **common)
    if kind in (int, float):
        return gr.Number(value, step=1 if kind is int else _stride(value), **common)
    return gr.Textbox(value, max_lines=1, **common)


def check(kind: Kind, values: Sequence[Any]) -> Checked:
    """Turn values, in the order of the config's fields, into a config or into what is wrong."""
    names = kind.config.model_fields
    typed = {name: _typed(value) for name, value in zip(names, values, strict=True)}
    try:
        return Checked(build(kind.config, typed))
    except ConfigError as error:
        return Checked(None, _by_field(str(error), names))


def command_line(kind: Kind, config: RunConfig) -> str:
    """The command that starts this run, as one types it in a shell."""
    return shlex.join(["python", "-m", "flowdesign", kind.name, *to_flags(config)])


def default_of(info: FieldInfo) -> Any:
    """The default of an option, None when it has none."""
    return None if info.is_required() else info.get_default(call_default_factory=True)


def describe(info: FieldInfo) -> str:
    """What an option is, and what it may be."""
    bounds = [
        words.format(f"{getattr(one, kind.__name__.lower()):g}")
        for one in info.metadata
        for kind, words in _SAID.items()
        if isinstance(one, kind)
    ]
    return plain(f"{info.description or ''}{' (' + ', '.join(bounds) + ')' if bounds else ''}")


def plain(text: str) -> str:
    """A text for a place that reads Markdown and HTML, shown as it is.

    A _ within a word says nothing in Markdown, and names are full of them.
    """
    within = {found.start(1) for found in re.finditer(r"(?<=[^\W_])(_)(?=[^\W_])", text)}
    return "".join(
        c if c.isalnum() or c in " ,.:;()'%/-" or at in within else f"&#{ord(c)};"
        for at, c in enumerate(text)
    )


def _shown(info: FieldInfo, value: Any) -> Any:
    """A value as its component holds it."""
    kind = plain_type(info.annotation)
    if kind in (bool, int, float) or get_origin(kind) is Literal:
        return value
    return as_text(value)


def _typed(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _stride(value: Any) -> float:
    """How far one press of an arrow key goes: the first digit of the value."""
    return float(10 ** math.floor(math.log10(abs(value)))) if value else 0.1


def _by_field(complaint: str, names: Mapping[str, Any]) -> dict[str, str]:
    """The lines of a ConfigError by the field that each begins with."""
    faults: dict[str, str] = {}
    for line in complaint.split("\n"):
        place, _, message = line.partition(": ")
        name = place.partition(".")[0]
        known = name if name in names else ""
        said = message if known and name == place else line
        faults[known] = f"{faults[known]}; {said}" if known in faults else said
    return faults
