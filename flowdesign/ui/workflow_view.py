"""A workflow drawn as a graph: one inline SVG, made from the API graph alone.

Boxes look like ComfyUI's: the node's name, its wired sockets, its settings. Colours come from the style
sheet, so the drawing follows light and dark mode. Every text is escaped: workflows come from anywhere.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowdesign.nodes import NODES
from flowdesign.ui.workflow_layout import Layout, Link, Size, lay_out
from flowdesign.workflow import Problem, Workflow, is_link

WIDTH = 156.0
TITLE = 24.0
ROW = 16.0
PADDING = 6.0
MARGIN = 8.0
CHARACTERS = 24  # that fit one row of a box
SHORTEST = 7  # characters that a value keeps beside a long label: "disable"
TITLE_CHARACTERS, SOCKET_CHARACTERS = 22, 13
TEXT_ROWS = 3  # of a prompt or a problem before it is cut
SHRINK, SHRUNK = 0.84, 1080.0  # a drawing up to this wide may shrink by this much to fit a card
MAX_NODES = 300  # a larger graph is not drawn: this one took 0.5 s of a core at worst
HIDDEN = frozenset({"seed", "noise_seed", "filename_prefix"})  # shown elsewhere on the page


@dataclass(frozen=True)
class _Box:
    """What one node shows: wired inputs, used outputs, rows of settings."""

    key: str
    class_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]  # (name, value); an empty name is a line of text
    faults: tuple[str, ...] = ()  # lines of what is wrong with it
    problems: str = ""  # all of that in full

    @property
    def socket_rows(self) -> int:
        return max(len(self.inputs), len(self.outputs))

    @property
    def height(self) -> float:
        rows = self.socket_rows + len(self.settings) + len(self.faults)
        return TITLE + rows * ROW + (PADDING if rows else 0)

    def row(self, index: int) -> float:
        """Height of the middle of a row below the box's top."""
        return TITLE + PADDING / 2 + (index + 0.5) * ROW

    def size(self) -> Size:
        """The box as the layout sees it."""
        inputs = {name: self.row(i) for i, name in enumerate(self.inputs)}
        return Size(WIDTH, self.height, inputs, [self.row(i) for i in range(len(self.outputs))])


def draw(workflow: Workflow, name: str, description: str, problems: Sequence[Problem] = ()) -> str:
    """An `<svg>` of the workflow; `name` and `description` are read out by screen readers.

    `name` is also the prefix of the ids inside, so it must be unique on the page. `problems` are shown at
    their nodes, of what is too large to draw in words. Total: what is not a node or not a wire in a broken workflow is left out.
    """
    said: dict[str, list[str]] = {}
    for problem in problems:
        said.setdefault(problem.node, []).append(problem.message)
    count, workflow = len(workflow), _nodes_only(workflow)
    if count > MAX_NODES:
        return _too_large(count, workflow, said)
    links = _links(workflow)
    boxes = {key: _box(key, node, links, said.get(key, ())) for key, node in workflow.items()}
    layout = lay_out({key: box.size() for key, box in boxes.items()}, links)
    wires = "".join(_wire(link, layout, workflow) for link in links)
    nodes = "".join(_node(box, *layout.boxes[key]) for key, box in boxes.items())
    prefix = html.escape("".join(c if c.isalnum() else "-" for c in name))
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    smallest = width * SHRINK if width <= SHRUNK else width
    return (
        f'<svg class="fd-graph" role="img" aria-labelledby="{prefix}-t {prefix}-d"'
        f' viewBox="{-MARGIN:g} {-MARGIN:g} {width:.0f} {height:.0f}"'
        f' style="min-width:{smallest:.0f}px;max-width:{width:.0f}px">'
        f'<title id="{prefix}-t">{html.escape(name)}</title>'
        f'<desc id="{prefix}-d">{html.escape(description)}</desc>{wires}{nodes}</svg>'
    )


def _too_large(count: int, workflow: Workflow, said: Mapping[str, Sequence[str]]) -> str:
    """Words in place of a drawing: how large it is, and what is wrong at which node."""
    note = f'<p class="fd-note">This workflow has {count} nodes: too many to draw here.</p>'
    rows = "".join(
        f"<li><b>{html.escape(_cut(workflow[node]['class_type'], TITLE_CHARACTERS))}</b> "
        f"{html.escape(node)}: {html.escape(' '.join(messages))}</li>"
        for node, messages in said.items()
        if node in workflow
    )
    return note + (f'<ul class="fd-list">{rows}</ul>' if rows else "")


def _nodes_only(workflow: Workflow) -> Workflow:
    return {
        str(key): node
        for key, node in workflow.items()
        if isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
    }


def _links(workflow: Workflow) -> list[Link]:
    """Every wire whose two ends exist."""
    return [
        Link(value[0], value[1], key, name)
        for key, node in workflow.items()
        for name, value in node["inputs"].items()
        if is_link(value) and value[0] in workflow
    ]


def _box(
    key: str, node: Mapping[str, Any], links: list[Link], problems: Sequence[str] = ()
) -> _Box:
    known = NODES.get(node["class_type"])
    wired = tuple(link.input for link in links if link.target == key)
    used = max((link.slot for link in links if link.source == key), default=-1)
    names = known.outputs if known else ()
    outputs = tuple(names[i] if i < len(names) else "output" for i in range(used + 1))
    settings: list[tuple[str, str]] = []
    for name, value in node["inputs"].items():
        if not is_link(value) and name not in HIDDEN:
            settings += _setting(name, value)
    faults = tuple(line for each in problems for line in _wrapped(each))
    return _Box(
        key, node["class_type"], wired, outputs, tuple(settings), faults, "\n".join(problems)
    )


def _setting(name: str, value: Any) -> list[tuple[str, str]]:
    """One row `name value`, or several rows of text for a prompt."""
    if name == "text":
        return [("", line) for line in _wrapped(str(value)) or ["(empty)"]]
    label = name.removesuffix("_name").replace("_", " ")
    text = f"{value:g}" if isinstance(value, float) else str(value)
    value = _cut(text, max(SHORTEST, CHARACTERS - len(label) - 1))
    return [(_cut(label, CHARACTERS - len(value) - 1), value)]


def _wrapped(text: str) -> list[str]:
    """A text in lines that fit, no more than TEXT_ROWS."""
    lines = textwrap.wrap(text, CHARACTERS)
    if len(lines) > TEXT_ROWS:
        lines = [*lines[: TEXT_ROWS - 1], _cut(lines[TEXT_ROWS - 1] + "…", CHARACTERS)]
    return lines


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _kind(workflow: Workflow, link: Link) -> str:
    """The socket type of a wire, as a CSS class."""
    known = NODES.get(workflow[link.source]["class_type"])
    outputs = known.outputs if known else ()
    return _type_class(outputs[link.slot] if 0 <= link.slot < len(outputs) else "")


def _type_class(socket: str) -> str:
    return "fd-t-" + ("".join(c for c in socket.lower() if c.isalnum()) or "other")


def _wire(link: Link, layout: Layout, workflow: Workflow) -> str:
    points = layout.wires[link]
    x, y = points[0]
    path = f"M{x:.1f} {y:.1f}"
    for step, (x2, y2) in enumerate(points[1:]):
        if step % 2:  # along a lane
            path += f"H{x2:.1f}"
        else:
            bend = max(16.0, abs(x2 - x) / 2)
            path += f"C{x + bend:.1f} {y:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        x, y = x2, y2
    return f'<path class="fd-wire {_kind(workflow, link)}" d="{path}"/>'


def _node(box: _Box, x: float, y: float) -> str:
    title = html.escape(_cut(box.class_type, TITLE_CHARACTERS))
    told = f"<title>{html.escape(box.problems)}</title>" if box.problems else ""
    css = "fd-node fd-node-bad" if box.problems else "fd-node"
    parts = [
        f'<g transform="translate({x:.1f} {y:.1f})">{told}<rect class="{css}" width="{WIDTH:g}"'
        f' height="{box.height:g}" rx="7"/><path class="fd-node-line" d="M0 {TITLE:g}H{WIDTH:g}"/>'
        f'<text class="fd-node-title" x="9" y="{TITLE / 2 + 4:g}">{title}</text>'
    ]
    parts += [_input(box, i, name) for i, name in enumerate(box.inputs)]
    parts += [_output(box, i, name) for i, name in enumerate(box.outputs)]
    parts += [_row(box, i, *setting) for i, setting in enumerate(box.settings)]
    parts += [_text(box, len(box.settings) + i, "fd-fault", t) for i, t in enumerate(box.faults)]
    return "".join(parts) + "</g>"


def _input(box: _Box, index: int, name: str) -> str:
    known = NODES.get(box.class_type)
    types = {declared.name: declared.type for declared in known.inputs} if known else {}
    socket = types.get(name, "")
    if len(name) > SOCKET_CHARACTERS:  # conditioning_to is "to"
        name = name.removeprefix(socket.lower() + "_")
    y, label = box.row(index), html.escape(_cut(name.replace("_", " "), SOCKET_CHARACTERS))
    return (
        f'<circle class="fd-port {_type_class(socket)}" cy="{y:g}" r="3.5"/>'
        f'<text class="fd-socket" x="9" y="{y + 4:g}">{label}</text>'
    )


def _output(box: _Box, index: int, name: str) -> str:
    y, label = box.row(index), html.escape(_cut(name.lower().replace("_", " "), SOCKET_CHARACTERS))
    return (
        f'<circle class="fd-port {_type_class(name)}" cx="{WIDTH:g}" cy="{y:g}" r="3.5"/>'
        f'<text class="fd-socket" text-anchor="end" x="{WIDTH - 9:g}" y="{y + 4:g}">{label}</text>'
    )


def _row(box: _Box, index: int, name: str, value: str) -> str:
    if not name:
        return _text(box, index, "fd-text", value)
    y = box.row(box.socket_rows + index) + 4
    return (
        f'<text class="fd-name" x="9" y="{y:g}">{html.escape(name)}</text>'
        f'<text class="fd-value" text-anchor="end" x="{WIDTH - 9:g}" y="{y:g}">'
        f"{html.escape(value)}</text>"
    )


def _text(box: _Box, index: int, css: str, line: str) -> str:
    y = box.row(box.socket_rows + index) + 4
    return f'<text class="{css}" x="9" y="{y:g}">{html.escape(line)}</text>'
