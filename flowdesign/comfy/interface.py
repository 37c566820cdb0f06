"""From ComfyUI's interface format to its API format, as its browser side does it.

Values are positional, links are numbered, and some nodes are only there for the eye: reroutes are
followed, primitives are inlined, notes dropped, muted nodes removed and bypassed ones passed through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowdesign.nodes import NODES, NodeType
from flowdesign.workflow import MAX_ID, MAX_NODES, Problem, show

MUTED, BYPASSED = 2, 4  # litegraph's node modes
MAX_SLOTS = 256  # of one node that are looked at: no real one has as many
NOTES = frozenset({"Note", "MarkdownNote"})
VIRTUAL = NOTES | {"Reroute", "PrimitiveNode"}
_GROUPS = ("workflow/", "workflow>")  # how older files name their group nodes
_CONTROLS = ("fixed", "increment", "decrement", "randomize")


def is_interface(value: dict[Any, Any]) -> bool:
    """Whether an object has the form of an interface file."""
    return isinstance(value.get("nodes"), list)


def resolve(value: dict[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the API graph of an interface file, with what could not be taken over; total."""
    count = sum(not _is_note(node) for node in value["nodes"])
    if count > MAX_NODES:
        message = f"The file has {count} nodes; at most {MAX_NODES} are read."
        return {}, [Problem("too_many_nodes", "", "", message)]
    reader = _Reader(value)
    graph: dict[str, Any] = {}
    for key, node in reader.nodes.items():
        if node["type"] in VIRTUAL or node.get("mode") in (MUTED, BYPASSED):
            continue
        if node["type"] in reader.subgraphs or node["type"].startswith(_GROUPS):
            message = f"Node {show(key)} is a subgraph; FlowDesign does not read those yet."
            reader.problems.append(Problem("unsupported_subgraph", key, "", message))
            continue
        graph[key] = {"class_type": node["type"], "inputs": reader.inputs(node)}
    return graph, reader.problems


class _Reader:
    """Looks nodes and links up; whatever is malformed is reported and left out."""

    def __init__(self, value: dict[Any, Any]) -> None:
        self.problems: list[Problem] = []
        self.nodes = {str(node["id"]): node for node in self._checked(value["nodes"])}
        links = value.get("links")
        self.links = dict(_link(link) for link in links) if isinstance(links, list) else {}
        self.subgraphs = _subgraphs(value)
        self._found: dict[Any, Any] = {}  # what is behind each link that was followed

    def _checked(self, nodes: list[Any]) -> Iterator[dict[str, Any]]:
        for index, node in enumerate(nodes):
            if _is_note(node):
                continue
            if (
                isinstance(node, dict)
                and _is_id(node.get("id"))
                and isinstance(node.get("type"), str)
            ):
                yield node
            else:
                message = f"Entry {index} of the nodes has no id or no type."
                self.problems.append(Problem("invalid_prompt", "", "", message))

    def inputs(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a node's API inputs: its widget values, then what is linked."""
        declared = NODES.get(node["type"])
        found = dict(_widget_values(declared, node.get("widgets_values"))) if declared else {}
        for each in _entries(node, "inputs"):
            name, link = each.get("name"), each.get("link")
            if isinstance(name, str) and link is not None:
                value = self._origin(link)
                if value is not None:
                    found[name] = value
        return found

    def _origin(self, link: object) -> Any:
        """Return [id, slot] or an inlined value behind a link; None if nothing is there.

        Every link is followed once, so a long chain of reroutes costs no more than its length.
        """
        followed: list[Any] = []
        value: Any = None
        while _is_id(link) and link in self.links:
            if link in self._found:
                value = self._found[link]
                break
            followed.append(link)
            self._found[link] = None  # what a loop of reroutes ends in
            value, link = self._step(*self.links[link])
        self._found.update(dict.fromkeys(followed, value))
        return list(value) if isinstance(value, list) else value

    def _step(self, key: str, slot: int) -> tuple[Any, Any]:
        """Return what an output gives, or None and the link that it passes on."""
        node = self.nodes.get(key)
        if node is None or node.get("mode") == MUTED:
            return None, None
        if node["type"] == "PrimitiveNode":
            values = node.get("widgets_values")
            return (values[0] if isinstance(values, list) and values else None), None
        if node["type"] == "Reroute":
            return None, next((each.get("link") for each in _entries(node, "inputs")), None)
        if node.get("mode") == BYPASSED:
            return None, _bypass(node, slot)
        return [key, slot], None


def _is_note(node: object) -> bool:
    kind = node.get("type") if isinstance(node, dict) else None
    return isinstance(kind, str) and kind in NOTES


def _is_id(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() < 64
    return isinstance(value, str) and len(value) <= MAX_ID


def _entries(node: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = node.get(name)
    listed = entries[:MAX_SLOTS] if isinstance(entries, list) else []
    return [e for e in listed if isinstance(e, dict)]


def _link(link: object) -> tuple[Any, tuple[str, int]]:
    """Return (link id, (origin id, origin slot)) of a link written as a list or an object."""
    if isinstance(link, dict):
        parts = [link.get(name) for name in ("id", "origin_id", "origin_slot")]
    else:
        parts = list(link[:3]) if isinstance(link, list) else []
    if len(parts) == 3 and _is_id(parts[0]) and _is_id(parts[1]) and type(parts[2]) is int:
        return parts[0], (str(parts[1]), parts[2])
    return None, ("", 0)


def _subgraphs(value: dict[Any, Any]) -> set[str]:
    definitions = value.get("definitions")
    entries = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    listed = entries if isinstance(entries, list) else []
    ids = {e.get("id") for e in listed if isinstance(e, dict) and isinstance(e.get("id"), str)}
    return {each for each in ids if isinstance(each, str)}


def _bypass(node: dict[str, Any], slot: int) -> Any:
    """Return the link that a bypassed node passes on: of the output's type, its slot preferred."""
    outputs = _entries(node, "outputs")
    if not 0 <= slot < len(outputs):
        return None
    socket, inputs = outputs[slot].get("type"), _entries(node, "inputs")
    for each in [*inputs[slot : slot + 1], *inputs]:
        if each.get("type") == socket and each.get("link") is not None:
            return each["link"]
    return None


def _widget_values(declared: NodeType, values: object) -> Iterator[tuple[str, Any]]:
    """Yield (input, value) of a node's widgets; a file older than an input gets its default."""
    if isinstance(values, dict):
        for each in declared.widgets:
            if each.name in values:
                yield each.name, _unwrapped(values[each.name])
        return
    rest = list(values) if isinstance(values, list) else []
    for each in declared.widgets:
        if rest:
            yield each.name, _unwrapped(rest.pop(0))
        elif each.default is not None:
            yield each.name, each.default
        if each.control and rest and (isinstance(rest[0], bool) or rest[0] in _CONTROLS):
            rest.pop(0)


def _unwrapped(value: Any) -> Any:
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value
