"""From ComfyUI's interface format to its API format, as its browser side does it.

Values are positional (`widgets`), links are numbered, subgraphs have graphs inside (`scopes`), and some nodes
are only there for the eye: reroutes are followed, primitives and Get and Set nodes resolved, notes
dropped, muted nodes removed and bypassed ones passed through.
"""

from __future__ import annotations

from typing import Any

from flowdesign.comfy.groups import INPUTS
from flowdesign.comfy.scopes import (
    BYPASSED,
    MUTED,
    NOTES,
    Node,
    Scope,
    is_id,
    open_file,
)
from flowdesign.comfy.widgets import entries, is_named, unwrapped, values_of
from flowdesign.workflow import Problem, show

REROUTES = frozenset({"Reroute", "Reroute (rgthree)"})
SETTERS = frozenset({"SetNode", "easy setNode"})  # keep what comes in under a name
GETTERS = frozenset({"GetNode", "easy getNode"})  # give what has been kept under a name
VIRTUAL = NOTES | REROUTES | SETTERS | GETTERS | {"PrimitiveNode"}


def is_interface(value: dict[Any, Any]) -> bool:
    """Whether an object has the form of an interface file."""
    return isinstance(value.get("nodes"), list)


def resolve(value: dict[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the API graph of an interface file, with what could not be taken over; total."""
    problems: list[Problem] = []
    links = _Links()
    graph: dict[str, Any] = {}
    for key, scope, node in open_file(value, problems).all():
        if node["type"] not in VIRTUAL and node.get("mode") not in (MUTED, BYPASSED):
            inputs = _inputs(links, scope, node)
            graph[key] = {"class_type": node["type"], "inputs": inputs}
    return graph, problems


def unnamed(value: dict[Any, Any]) -> list[Problem]:
    """The nodes of an interface file whose values are lost: of classes that are not known here, in a
    file that does not name them."""
    return [
        Problem(
            "unnamed_values", key, "", f"The values of {show(node['type'])} have no names here."
        )
        for key, _, node in open_file(value, []).all()
        if node["type"] not in VIRTUAL and not is_named(node)
        if node.get("mode") not in (MUTED, BYPASSED)
    ]


def _inputs(links: _Links, scope: Scope, node: Node) -> dict[str, Any]:
    """A node's API inputs: its widget values, then what an instance gives, then what is linked."""
    found = values_of(node) | scope.changed.get(str(node["id"]), {})
    for each in entries(node, "inputs"):
        name, link = each.get("name"), each.get("link")
        if isinstance(name, str) and link is not None:
            value = links.origin(scope, link)
            if value is not None:
                found[name] = value
    return found


class _Links:
    """Follows links; each is followed once, so a long chain costs no more than its length."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, Any], Any] = {}

    def origin(self, scope: Scope, link: Any) -> Any:
        """Return [id, slot] or an inlined value behind a link; None if nothing is there."""
        followed: list[tuple[int, Any]] = []
        value: Any = None
        place: tuple[Scope, Any] | None = (scope, link)
        while place is not None and is_id(place[1]) and place[1] in place[0].links:
            key = (id(place[0]), place[1])
            if key in self._found:
                value = self._found[key]
                break
            followed.append(key)
            self._found[key] = None  # what a loop ends in
            value, place = _step(place[0], *place[0].links[place[1]])
        self._found.update(dict.fromkeys(followed, value))
        return list(value) if isinstance(value, list) else value


def _step(scope: Scope, key: str, slot: int) -> tuple[Any, tuple[Scope, Any] | None]:
    """What an output gives, or None and the link, with its scope, that it passes on."""
    if key == INPUTS and scope.outer is not None:
        return _from_outside(scope, slot)
    node = scope.nodes.get(key)
    if node is None or node.get("mode") == MUTED:
        return None, None
    if node["type"] == "PrimitiveNode":
        return _first(node), None
    if node["type"] in REROUTES | SETTERS:
        return None, (scope, _entering(node))
    if node["type"] in GETTERS:
        return None, _kept(scope, _first(node))
    if node.get("mode") == BYPASSED:
        return None, (scope, _bypass(node, slot))
    if key in scope.inside:
        inner = scope.inside[key]
        return None, (inner, inner.results.get(slot))
    return [scope.prefix + key, slot], None


def _from_outside(scope: Scope, slot: int) -> tuple[Any, tuple[Scope, Any] | None]:
    """What comes in at an input of a subgraph: a link of its instance, or the value that this gives."""
    link = scope.outside(slot)
    if link is not None and scope.outer is not None:
        return None, (scope.outer, link)
    name = scope.names[slot] if 0 <= slot < len(scope.names) else ""
    return scope.given.get(name), None


def _kept(scope: Scope, name: Any) -> tuple[Scope, Any] | None:
    """The link into the node that keeps what is got: in this scope, or in one around it."""
    place: Scope | None = scope
    while place is not None:
        for node in place.nodes.values():
            if node["type"] in SETTERS and node.get("mode") != MUTED and _first(node) == name:
                return place, _entering(node)
        place = place.outer
    return None


def _first(node: Node) -> Any:
    """A node's first value."""
    values = node.get("widgets_values")
    return unwrapped(values[0]) if isinstance(values, list) and values else None


def _entering(node: Node) -> Any:
    """The link at a node's first input."""
    return next((each.get("link") for each in entries(node, "inputs")), None)


def _bypass(node: Node, slot: int) -> Any:
    """Return the link that a bypassed node passes on: of the output's type, its slot preferred."""
    outputs = entries(node, "outputs")
    if not 0 <= slot < len(outputs):
        return None
    socket, inputs = outputs[slot].get("type"), entries(node, "inputs")
    for each in [*inputs[slot : slot + 1], *inputs]:
        if each.get("type") == socket and each.get("link") is not None:
            return each["link"]
    return None
