"""The graphs inside a file of ComfyUI's interface: its own, and one for every subgraph node.

    top = open_file(value, problems)
    top.inside["18"].inside["17"].nodes["3"]        in the API format it is node 18:17:3

A subgraph is defined once and may stand in many places; each instance may give its own values to widgets
inside it. The older group nodes become subgraphs here. Whatever is malformed is reported and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from flowdesign.comfy.groups import OUTPUTS, as_subgraph, groups
from flowdesign.comfy.widgets import entries, unwrapped
from flowdesign.workflow import MAX_ID, MAX_NODES, Problem, show

Node = Mapping[str, Any]
Origin = tuple[str, int]  # the id of a node and the number of its output
OWN = "-1"  # stands for the subgraph node itself where it lists its widgets
MUTED, BYPASSED = 2, 4  # litegraph's node modes
NOTES = frozenset({"Note", "MarkdownNote"})
MAX_DEPTH = 16


@dataclass
class Scope:
    """A graph: its nodes by id, where its links begin, and the subgraph node that it is the inside of.

    `names` are the subgraph's inputs and `results` the links (by number of the output) that leave it;
    `given` are values of the instance's own widgets by input, `changed` those of widgets inside, by node.
    """

    prefix: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[Any, Origin] = field(default_factory=dict)
    outer: Scope | None = None
    instance: Node = field(default_factory=dict)
    names: Sequence[str] = ()
    results: dict[int, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    inside: dict[str, Scope] = field(default_factory=dict)

    def all(self) -> Iterator[tuple[str, Scope, Node]]:
        """Every node that is no subgraph, with its id in the API format and its scope."""
        for key, node in self.nodes.items():
            if key in self.inside:
                yield from self.inside[key].all()
            else:
                yield self.prefix + key, self, node

    def outside(self, slot: int) -> Any:
        """The link that is at the instance's input of this number; None without one."""
        inputs = entries(self.instance, "inputs")
        name = self.names[slot] if 0 <= slot < len(self.names) else None
        found = [each for each in inputs if name is not None and each.get("name") == name]
        return (found or inputs[slot : slot + 1] or [{}])[0].get("link")


def open_file(value: dict[Any, Any], problems: list[Problem]) -> Scope:
    """Read an interface file. With more nodes than are read, the only problem says so."""
    return _Reader(value, problems).open()


def is_note(node: object) -> bool:
    """Whether an entry is there to be read by people only."""
    kind = node.get("type") if isinstance(node, dict) else None
    return isinstance(kind, str) and kind in NOTES


def is_id(value: object) -> bool:
    """Whether a value may be the id of a node or a link."""
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() < 64
    return isinstance(value, str) and len(value) <= MAX_ID


@dataclass
class _Graph:
    """What is written once and may stand in many places. `source` is kept, so that its id stays its own."""

    source: Mapping[Any, Any]
    size: int = 0  # nodes that are no notes, whatever they look like
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[Any, Origin] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)


class _Reader:
    """Makes scopes; counts the nodes, of which a few definitions can make very many."""

    def __init__(self, value: dict[Any, Any], problems: list[Problem]) -> None:
        self.value, self.problems, self.count = value, problems, 0
        self._graphs: dict[int, _Graph] = {}
        self.definitions = dict(_definitions(value))
        self.groups = dict(groups(value))

    def open(self) -> Scope:
        """The scope of the whole file."""
        top = Scope()
        self._fill(top, self.value, 0)
        if self.count > MAX_NODES:
            message = f"The file has {self.count} nodes or more; at most {MAX_NODES} are read."
            self.problems[:] = [Problem("too_many_nodes", "", "", message)]
            return Scope()
        return top

    def _fill(self, scope: Scope, graph: Mapping[Any, Any], depth: int) -> None:
        parsed = self._parsed(graph)
        self.count += parsed.size
        if self.count > MAX_NODES:
            return
        scope.nodes, scope.links, scope.results = parsed.nodes, parsed.links, parsed.results
        for key, node in scope.nodes.items():
            if node.get("mode") not in (MUTED, BYPASSED):
                self._enter(scope, key, node, depth)

    def _parsed(self, graph: Mapping[Any, Any]) -> _Graph:
        """A graph's nodes and links; a definition with many instances is read once."""
        if id(graph) not in self._graphs:
            nodes, links = graph.get("nodes"), graph.get("links")
            listed = nodes if _is_list(nodes) else []
            found = _Graph(graph, sum(not is_note(node) for node in listed))
            if found.size <= MAX_NODES:
                found.nodes = {str(node["id"]): node for node in self._checked(listed)}
                for number, origin, target in map(_link, links if _is_list(links) else []):
                    found.links[number] = origin
                    if target[0] == OUTPUTS:
                        found.results[target[1]] = number
            self._graphs[id(graph)] = found
        return self._graphs[id(graph)]

    def _enter(self, scope: Scope, key: str, node: Node, depth: int) -> None:
        """Open what is inside a node, if it is a subgraph or a group."""
        definition = self._definition(node)
        if definition is None:
            return
        if depth == MAX_DEPTH:
            message = f"Node {show(key)} is a subgraph inside {depth} others; so many are not read."
            self.problems.append(Problem("unsupported_subgraph", key, "", message))
            return
        inner = Scope(f"{scope.prefix}{key}:", outer=scope, instance=node)
        inner.names = [str(each.get("name")) for each in entries(definition, "inputs")]
        _promote(inner, definition, scope.changed.get(key, {}))
        scope.inside[key] = inner
        self._fill(inner, definition, depth + 1)

    def _definition(self, node: Node) -> Mapping[str, Any] | None:
        kind = node["type"]
        if kind in self.groups:
            return as_subgraph(self.groups[kind], node)
        return self.definitions.get(kind)

    def _checked(self, nodes: Sequence[Any]) -> Iterator[Node]:
        for index, node in enumerate(nodes):
            if is_note(node):
                continue
            known = isinstance(node, dict) and is_id(node.get("id"))
            if known and isinstance(node.get("type"), str):
                yield node
            else:
                message = f"Entry {index} of the nodes has no id or no type."
                self.problems.append(Problem("invalid_prompt", "", "", message))


def _promote(inner: Scope, definition: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Take in the values that the instance gives to its own widgets, or that are given to those.

    properties.proxyWidgets lists [node inside, widget], or ["-1", input] for an input of the subgraph that
    is a widget; inputs that it leaves out come first. The widget of such a pair is called by its name or
    by both ("3: seed").
    """
    listed = _proxies(inner.instance)
    inputs = [each for each in entries(inner.instance, "inputs") if "widget" in each]
    own = [(OWN, str(each.get("name"))) for each in inputs]
    order = [pair for pair in own if pair not in listed] + listed
    values = inner.instance.get("widgets_values")
    placed = dict(zip(order, values, strict=False)) if isinstance(values, list) else {}
    for name, value in changed.items():
        placed |= {pair: value for pair in order if name in (pair[1], ": ".join(pair))}
    for (node, name), value in placed.items():
        place = inner.given if node == OWN else inner.changed.setdefault(node, {})
        place[name] = unwrapped(value)


def _proxies(node: Node) -> list[tuple[str, str]]:
    properties = node.get("properties")
    listed = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    pairs = listed if isinstance(listed, list) else []
    return [
        (str(pair[0]), pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) >= 2 and isinstance(pair[1], str) and is_id(pair[0])
    ]


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _link(link: object) -> tuple[Any, Origin, Origin]:
    """The id of a link and its two ends, written as a list or an object."""
    if isinstance(link, dict):
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        parts = [link.get(name) for name in names]
    else:
        parts = list(link[:5]) if isinstance(link, list) else []
    parts += [None] * (5 - len(parts))
    if not (is_id(parts[0]) and is_id(parts[1]) and type(parts[2]) is int):
        return None, ("", 0), ("", 0)
    target = (str(parts[3]), parts[4]) if is_id(parts[3]) and type(parts[4]) is int else ("", 0)
    return parts[0], (str(parts[1]), parts[2]), target


def _definitions(value: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The subgraphs that a file defines, by the type of their nodes."""
    defined = value.get("definitions")
    listed = defined.get("subgraphs") if isinstance(defined, dict) else None
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, dict) and isinstance(each.get("id"), str):
            yield each["id"], each
