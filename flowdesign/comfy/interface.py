"""From ComfyUI's interface format to its API format, as its browser side does it.

Values are positional (`widgets`), links are numbered, subgraphs have graphs inside (`scopes`), and some nodes
are only there for the eye (`kinds`): reroutes are followed, primitives and Get and Set nodes resolved, notes
dropped, muted nodes removed and bypassed ones passed through (`bypass`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flowdesign.comfy.bypass import Bypass
from flowdesign.comfy.groups import INPUTS
from flowdesign.comfy.kinds import GETTERS, PRIMITIVE, SETTERS, VIRTUAL
from flowdesign.comfy.replacing import ASKED, FILENAME, SAVERS, Replacing
from flowdesign.comfy.scopes import BYPASSED, MUTED, Node, Scope, is_id, open_file
from flowdesign.comfy.texts import as_sent
from flowdesign.comfy.widgets import as_value, entries, is_known, is_named, values_of
from flowdesign.workflow import Problem, show

__all__ = ["VIRTUAL", "is_interface", "resolve"]


def is_interface(value: dict[Any, Any]) -> bool:
    """Whether an object has the form of an interface file."""
    return isinstance(value.get("nodes"), list)


def resolve(value: dict[Any, Any], names: bool = False) -> tuple[dict[str, Any], list[Problem]]:
    """Return the API graph of an interface file, with what could not be taken over; total.

    With `names`, that is also said of values that have none: of classes that are not known here, in a file
    that does not name them.
    """
    problems: list[Problem] = []
    links = _Links(top := open_file(value, problems))
    graph: dict[str, Any] = {}
    for key, scope, node in top.all():
        if node["type"] in VIRTUAL or node.get("mode") in (MUTED, BYPASSED):
            continue
        if names and not is_named(node):
            which = "Some" if is_known(node) else "The"
            message = f"{which} values of {show(node['type'])} have no names here."
            problems.append(Problem("unnamed_values", key, "", message))
        inputs, lost = _inputs(links, scope, node)
        problems += [Problem("link_lost", key, name, why) for name, why in lost]
        graph[key] = {"class_type": node["type"], "inputs": inputs}
    return graph, problems


def _inputs(
    links: _Links, scope: Scope, node: Node
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A node's API inputs: its widget values, then what an instance gives, then what is linked; and for
    which of them that is lost, and why."""
    found, given = _own(scope, node), {}
    lost: list[tuple[str, str]] = []
    for each in entries(node, "inputs"):
        name, link = each.get("name"), each.get("link")
        if isinstance(name, str) and link is not None:
            value = links.origin(scope, link, each.get("type"))
            if isinstance(value, _Lost):
                lost.append((name, f"What is linked to {show(name)} is lost: {value.why}"))
            elif isinstance(value, _Put):
                if "widget" in each or scope.is_group:  # a primitive changes widgets, and no others
                    found[name] = value.value
            elif value is not None:
                given[name] = value
    if FILENAME in found and node["type"] in SAVERS:
        found[FILENAME] = links.replacing(found[FILENAME])
    return {name: as_sent(value, node["type"]) for name, value in found.items()} | given, lost


def _own(scope: Scope, node: Node) -> dict[str, Any]:
    """The values of a node's widgets, as this instance of its subgraph has them."""
    values = values_of(node) | scope.changed.get(str(node["id"]), {})
    sampler = values.get("sampler_name")
    if node["type"] in ("KSampler", "KSamplerAdvanced") and isinstance(sampler, str):
        values["sampler_name"] = sampler.removeprefix("sample_")  # so the first files call them
    return values


@dataclass(frozen=True)
class _Lost:
    """Instead of what is behind a link that leads nowhere."""

    why: str


@dataclass(frozen=True)
class _Put:
    """What a primitive puts into the widget that it is linked to."""

    value: Any


@dataclass(frozen=True)
class _Bypassed:
    """Instead of what is behind a link that leads to a bypassed node: that depends on who wants it.

    `wanted` is the type, in a tuple, of the input of a subgraph on the way, which then stands for the first.
    """

    scope: Scope
    key: str
    slot: int
    wanted: tuple[object, ...] = ()


_Place = tuple[Scope, Any]  # a link in its scope
_CIRCLE = _Lost("its links lead round in a circle.")


class _Links:
    """Follows links; each is followed once, so a long chain costs no more than its length."""

    def __init__(self, top: Scope) -> None:
        self.replacing = Replacing(top, self._values)
        self._found: dict[tuple[int, Any], Any] = {}  # by scope and link
        self._passed: dict[tuple[int, str, int], Any] = {}  # by scope, bypassed node and its input
        self._bypasses: dict[tuple[int, str, int], Bypass] = {}  # by scope, node and output
        self._setters: dict[int, dict[Any, Node]] = {}  # by scope, then by name

    def origin(self, scope: Scope, link: Any, wanted: object) -> Any:
        """What is behind a link for an input of type `wanted`: [id, slot], a value, None, or _Lost."""
        passed: list[tuple[int, str, int]] = []
        value = self._followed(scope, link)
        while isinstance(value, _Bypassed):
            scope, bypass = value.scope, self._bypass(value)
            chosen = None if bypass is None else bypass.input(*(value.wanted or (wanted,)))
            if bypass is None or chosen is None:
                value = None
                break
            key = (id(scope), value.key, chosen)
            if key in self._passed:
                value = self._passed[key]
                break
            passed.append(key)
            self._passed[key] = _CIRCLE
            link, wanted = (bypass.inputs[chosen].get(name) for name in ("link", "type"))
            value = None if link is None else self._followed(scope, link)
        self._passed.update(dict.fromkeys(passed, value))
        return list(value) if isinstance(value, list) else value

    def _bypass(self, of: _Bypassed) -> Bypass | None:
        key = (id(of.scope), of.key, of.slot)
        if key not in self._bypasses:
            node = of.scope.nodes[of.key]
            if not 0 <= of.slot < len(entries(node, "outputs")):
                return None
            passing = of.scope.passing.get(of.key)
            node = {**node, "inputs": passing} if passing else node
            self._bypasses[key] = Bypass(node, of.slot)
        return self._bypasses[key]

    def _followed(self, scope: Scope, link: Any) -> Any:
        """What is behind a link, as `origin` says, or the first bypassed node."""
        followed: list[tuple[tuple[int, Any], Scope, Any]] = []
        value: Any = None
        place: _Place | None = (scope, link)
        while place is not None:
            scope, link = place
            key = (id(scope), link if is_id(link) else None)
            if key in self._found:
                value = self._found[key]
                break
            followed.append((key, scope, link))
            self._found[key] = _CIRCLE
            value, place = self._step(scope, link)
        for key, scope, link in reversed(followed):
            value = self._found[key] = _leaving(scope, link, value)
        return value

    def _step(self, scope: Scope, link: Any) -> tuple[Any, _Place | None]:
        """What a link gives, or None and the next link that this hangs on."""
        if not is_id(link) or link not in scope.links:
            return _Lost(f"the file has no link {show(link)}."), None
        key, slot = scope.links[link]
        if key == INPUTS and scope.outer is not None:
            return _from_outside(scope, slot)
        node = scope.nodes.get(key)
        if node is None:
            return _Lost(f"the file has no node {show(key)}."), None
        if node["type"] in GETTERS:
            return self._kept(scope, _first(scope, node))
        if node["type"] == PRIMITIVE:
            return self._put(scope, node), None
        if node["type"] in VIRTUAL:  # these pass on what they get even when they are muted
            return None, _entering(scope, node, slot)
        if node.get("mode") == MUTED:
            return None, None
        if node.get("mode") == BYPASSED:
            return _Bypassed(scope, key, slot), None
        if key in scope.inside:
            inner = scope.inside[key]
            return None, (inner, inner.results[slot]) if slot in inner.results else None
        return [scope.prefix + key, slot], None

    def _put(self, scope: Scope, node: Node) -> _Put | None:
        value = _first(scope, node)
        properties = node.get("properties")
        asked = value and isinstance(properties, dict) and properties.get(ASKED)
        put = self.replacing(value) if asked else value
        return None if put is None else _Put(put)

    def _values(self, scope: Scope, node: Node) -> dict[str, Any]:
        """The values of a node's widgets, with those that primitives put there."""
        if node["type"] == PRIMITIVE:
            return {"value": _first(scope, node)}
        if (key := str(node["id"])) in scope.inside:
            return scope.inside[key].given
        values = _own(scope, node)
        for each in entries(node, "inputs"):
            name, link = each.get("name"), each.get("link")
            key, _ = scope.links.get(link, ("", 0)) if is_id(link) else ("", 0)
            origin = scope.nodes.get(key)
            if isinstance(name, str) and name in values and origin and origin["type"] == PRIMITIVE:
                values[name] = _first(scope, origin)
        return values

    def _kept(self, scope: Scope, name: Any) -> tuple[Any, _Place | None]:
        """What has been kept under a name: in this scope, or in one around it."""
        place: Scope | None = scope
        while place is not None:
            if id(place) not in self._setters:
                self._setters[id(place)] = _setters(place)
            node = self._setters[id(place)].get(name) if isinstance(name, str) else None
            if node is not None:
                return None, _entering(place, node, 0)
            place = place.outer
        return _Lost(f"nothing is set under the name {show(name)}."), None


def _setters(scope: Scope) -> dict[Any, Node]:
    """The nodes that keep something, by the name they keep it under; the first of a name."""
    there = [each for each in scope.nodes.values() if each["type"] in SETTERS]
    named = [(_first(scope, each), each) for each in there if each.get("mode") != MUTED]
    return {name: each for name, each in reversed(named) if isinstance(name, str)}


def _from_outside(scope: Scope, slot: int) -> tuple[Any, _Place | None]:
    """What comes in at an input of a subgraph: a link of its instance, or the value that this gives."""
    link = scope.entry(slot).get("link")
    if link is not None and scope.outer is not None:
        return None, (scope.outer, link)
    name = scope.names[slot] if 0 <= slot < len(scope.names) else ""
    return scope.value(name), None


def _leaving(scope: Scope, link: Any, value: Any) -> Any:
    """What is behind a link, told to who is inside a subgraph: a bypassed node passes on what the subgraph's input
    wants, and a primitive feeds only the widget outside, which is not read once something is linked to it."""
    key, slot = scope.links.get(link, ("", 0)) if isinstance(value, _Bypassed | _Put) else ("", 0)
    if key != INPUTS or scope.outer is None or scope.is_group:
        return value
    if isinstance(value, _Put):
        return None
    return value if value.wanted else replace(value, wanted=(scope.entry(slot).get("type"),))


def _first(scope: Scope, node: Node) -> Any:
    """A node's first value, or the one that an instance gives to a primitive."""
    values, changed = node.get("widgets_values"), scope.changed.get(str(node["id"]), {})
    own = as_value(values[0]) if isinstance(values, list) and values else None
    return changed.get("value", own) if node["type"] == PRIMITIVE else own


def _entering(scope: Scope, node: Node, slot: int) -> _Place | None:
    """The link at a node's input of a number."""
    links = [each.get("link") for each in entries(node, "inputs")[slot : slot + 1]]
    return (scope, links[0]) if links and links[0] is not None else None
