"""The graphs inside a file of ComfyUI's interface: its own, and one for every subgraph node.

    top = open_file(value, problems)
    top.inside["18"].inside["17"].nodes["3"]        in the API format it is node 18:17:3

A subgraph is defined once and may stand in many places; each instance may give its own values to widgets
inside it. The older group nodes become subgraphs here. Whatever is malformed is reported and left out; what is
larger than any real file is not walked at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowdesign.comfy.groups import INPUTS, OUTPUTS, Group, groups
from flowdesign.comfy.kinds import RENAMED, is_note
from flowdesign.comfy.widgets import MAX_SLOTS, as_value, entries, is_input, named_values, values_of
from flowdesign.workflow import MAX_ID, MAX_NODES, Problem, show

Node = Mapping[str, Any]
Origin = tuple[str, int]  # the id of a node and the number of its output
Widget = tuple[str, str]  # the id of a node and the name of one of its widgets
OWN = "-1"  # stands for the subgraph node itself where it lists its widgets
MUTED, BYPASSED = 2, 4  # litegraph's node modes
MAX_DEPTH = 16
MAX_LISTED = 5_000  # entries in a list of nodes, with notes, or of definitions
MAX_LINKS = 20_000  # entries in a list of links
MAX_INPUTS = 20_000  # of all nodes together; ComfyUI's largest template has 428


@dataclass
class Scope:
    """A graph: its nodes by id, where its links begin, and the subgraph node that it is the inside of.

    `names` are the subgraph's inputs, `entering` those of its instance by name, and `results` the links (by
    number of the output) that leave it; `given` are values of the instance's own widgets by input, `changed` those of widgets inside, by node.
    `passing` are the inputs of bypassed subgraph nodes in here, by node, in the order of their subgraphs.
    `widgets` are the inputs that are widgets, with the first inside that hangs on each; `is_group` tells the
    older group nodes.
    """

    prefix: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[Any, Origin] = field(default_factory=dict)
    outer: Scope | None = None
    instance: Node = field(default_factory=dict)
    names: Sequence[str] = ()
    entering: dict[str, Node] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)
    widgets: Mapping[str, Widget] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    inside: dict[str, Scope] = field(default_factory=dict)
    passing: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    is_group: bool = False

    def all(self) -> Iterator[tuple[str, Scope, Node]]:
        """Every node that is no subgraph, with its id in the API format and its scope."""
        for key, node in self.nodes.items():
            if key in self.inside:
                yield from self.inside[key].all()
            else:
                yield self.prefix + key, self, node

    def value(self, name: str) -> Any:
        """What an input gives that nothing is linked to: the instance's value, or that of the first widget inside.

        So all that hang on an input get the same.
        """
        if name not in self.given and name in self.widgets:
            key, inner = self.widgets[name]
            if key in self.inside:
                self.given[name] = self.inside[key].value(inner)
            else:
                values = values_of(self.nodes[key]) | self.changed.get(key, {})
                self.given[name] = values.get(inner)
        return self.given.get(name)

    def entry(self, slot: int) -> Mapping[str, Any]:
        """The instance's input of this number; an empty one without any.

        Inputs are told apart by their names. An instance that calls one differently has it at its number.
        """
        if 0 <= slot < len(self.names) and self.names[slot] in self.entering:
            return self.entering[self.names[slot]]
        for each in entries(self.instance, "inputs")[slot : slot + 1]:
            if each.get("name") not in self.names:
                return each
        return {}


def open_file(value: dict[Any, Any], problems: list[Problem]) -> Scope:
    """Read an interface file. With more nodes than are read, the only problem says so."""
    return _Reader(value, problems).open()


def is_id(value: object) -> bool:
    """Whether a value may be the id of a node or a link."""
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() < 64
    return isinstance(value, str) and len(value) <= MAX_ID


class _TooMuch(Exception):
    """The file is larger than any real one; the message says in what."""


@dataclass
class _Graph:
    """What is written once and may stand in many places. `source` is kept, so that its id stays its own."""

    source: Mapping[Any, Any]
    size: int = 0  # nodes that are no notes, whatever they look like
    inputs: int = 0
    is_parsed: bool = False
    widgets: Mapping[str, Widget] = field(
        default_factory=dict
    )  # inputs of a subgraph that are some
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[Any, Origin] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)


class _Reader:
    """Makes scopes; counts the nodes, of which a few definitions can make very many."""

    def __init__(self, value: dict[Any, Any], problems: list[Problem]) -> None:
        self.value, self.problems, self.count, self.inputs = value, problems, 0, 0
        self._graphs: dict[int, _Graph] = {}
        self._groups: dict[int, Group] = {}
        self.definitions: dict[str, Mapping[str, Any]] = {}
        self.groups: dict[str, Mapping[str, Any]] = {}

    def open(self) -> Scope:
        """The scope of the whole file."""
        try:
            self.definitions.update(_definitions(self.value))
            self.groups.update(groups(self.value))
            self._fill(top := Scope(), self.value, 0)
        except _TooMuch as too_much:
            self.problems[:] = [Problem("too_many_nodes", "", "", str(too_much))]
            return Scope()
        return top

    def _fill(self, scope: Scope, graph: Mapping[Any, Any], depth: int) -> None:
        self._count(graph)
        parsed = self._parsed(graph)
        scope.nodes, scope.links, scope.results = parsed.nodes, parsed.links, parsed.results
        for key, node in scope.nodes.items():
            if node.get("mode") not in (MUTED, BYPASSED) or self._is_sent(node, depth):
                self._enter(scope, key, node, depth)
            if node.get("mode") == BYPASSED and node["type"] in self.definitions:
                scope.passing[key] = _complete(node, self.definitions[node["type"]])

    def _is_sent(self, node: Node, depth: int) -> bool:
        """Whether what is inside is sent whatever the mode of the node: so it is with subgraphs in subgraphs."""
        return depth > 0 and node["type"] in self.definitions

    def _count(self, graph: Mapping[Any, Any]) -> None:
        """Count a graph once more, before anything in it is walked; raises _TooMuch."""
        found = self._measured(graph)
        self.count, self.inputs = self.count + found.size, self.inputs + found.inputs
        _check("nodes", self.count, MAX_NODES)
        _check("inputs", self.inputs, MAX_INPUTS)

    def _measured(self, graph: Mapping[Any, Any]) -> _Graph:
        """A graph of which no more is known than its size; raises _TooMuch."""
        if id(graph) not in self._graphs:
            nodes = _list(graph.get("nodes"))
            size = sum(not is_note(node) for node in nodes[: MAX_LISTED + 1])
            _check("nodes", size, MAX_NODES)
            _check("notes", len(nodes), MAX_LISTED)
            _check("links", len(_list(graph.get("links"))), MAX_LINKS)
            inputs = sum(_slots(node) for node in nodes if isinstance(node, dict))
            self._graphs[id(graph)] = _Graph(graph, size, inputs)
        return self._graphs[id(graph)]

    def _parsed(self, graph: Mapping[Any, Any]) -> _Graph:
        """A graph's nodes and links; a definition with many instances is read once."""
        found = self._measured(graph)
        if not found.is_parsed:
            found.is_parsed = True
            found.nodes = {str(node["id"]): node for node in self._checked(graph)}
            for number, origin, target in map(_link, _list(graph.get("links"))):
                found.links[number] = origin
                if target[0] == OUTPUTS:
                    found.results[target[1]] = number
            found.widgets = _widgets(graph, found)
        return found

    def _enter(self, scope: Scope, key: str, node: Node, depth: int) -> None:
        """Open what is inside a node, if it is a subgraph or a group."""
        kind = node["type"]
        if kind not in self.groups and kind not in self.definitions:
            return
        if depth == MAX_DEPTH:
            message = f"Node {show(key)} is a subgraph inside {depth} others; so many are not read."
            self.problems.append(Problem("unsupported_subgraph", key, "", message))
            return
        inner = Scope(f"{scope.prefix}{key}:", outer=scope, instance=node)
        inner.is_group = kind in self.groups
        given = reversed(entries(node, "inputs"))
        inner.entering = {str(each.get("name")): each for each in given}
        scope.inside[key] = inner
        changed = scope.changed.get(key, {})
        if kind in self.groups:
            definition = self._grouped(inner, self.groups[kind], changed)
        else:
            definition = self.definitions[kind]
            inner.names, inner.widgets = _names(definition), self._parsed(definition).widgets
            _promote(inner, changed)
        self._fill(inner, definition, depth + 1)

    def _grouped(
        self, inner: Scope, source: Mapping[str, Any], changed: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What is inside a group, with the values of this instance; `changed` are other ones by place."""
        if id(source) not in self._groups:
            self._measured(source)
            self._groups[id(source)] = Group(source)
        group = self._groups[id(source)]
        values = _list(inner.instance.get("widgets_values"))
        values = [changed.get(str(at), value) for at, value in enumerate(values)]
        for number, name, value in group.values(values):
            inner.changed.setdefault(str(number), {})[name] = value
        inner.names = group.names
        return group.definition

    def _checked(self, graph: Mapping[Any, Any]) -> Iterator[Node]:
        for index, node in enumerate(_list(graph.get("nodes"))):
            if is_note(node):
                continue
            known = isinstance(node, dict) and is_id(node.get("id"))
            if known and isinstance(node.get("type"), str):
                kind = node["type"]
                yield {**node, "type": RENAMED[kind]} if kind in RENAMED else node
            else:
                message = f"Entry {index} of the nodes has no id or no type."
                self.problems.append(Problem("invalid_prompt", "", "", message))


def _check(what: str, count: int, most: int) -> None:
    if count > most:
        raise _TooMuch(f"The file has {count} {what} or more; at most {most} are read.")


def _slots(node: Mapping[Any, Any]) -> int:
    """How many inputs a node has; raises _TooMuch if these are more than are looked at."""
    lists = {name: len(_list(node.get(name))) for name in ("inputs", "outputs")}
    lists["promoted widgets"] = len(_pairs(node))
    for name, count in lists.items():
        if count > MAX_SLOTS:
            known = show(node.get("id"))
            raise _TooMuch(f"Node {known} has {count} {name}; at most {MAX_SLOTS} are read.")
    return lists["inputs"]


def _promote(inner: Scope, changed: Mapping[str, Any]) -> None:
    """Take in the values that the instance gives to its own widgets, or that are given to those.

    These are the inputs of the subgraph that are widgets, and what properties.proxyWidgets lists: [node inside, widget], or ["-1", input] for one of those inputs; inputs
    that it leaves out come first. The widget of a pair is called by its name or by both ("3: seed"). One
    without a value leaves what is inside as it is.
    """
    listed = dict.fromkeys(_proxies(inner.instance))
    own = [(OWN, name) for name in _in_order(inner.instance, inner.widgets)]
    order = [*(pair for pair in own if pair not in listed), *listed]
    named = named_values(inner.instance)
    values = _list(inner.instance.get("widgets_values")) if named is None else []
    given = dict(zip(order, values, strict=False))
    said = {**(named or {}), **changed}
    for pair in order:
        node, name = pair
        both = ": ".join(inner.widgets.get(name, (name,)) if node == OWN else pair)
        value = said.get(both, said.get(name, given.get(pair)))
        if value is not None and is_input(name):
            place = inner.given if node == OWN else inner.changed.setdefault(node, {})
            place[name] = as_value(value)


def _in_order(instance: Node, widgets: Mapping[str, Widget]) -> list[str]:
    """The widgets of an instance in the order of its values: as it lists them. Of a file out of a PNG it
    lists those that are linked and those with a label; then it is the subgraph's own order."""
    listed = [str(each.get("name")) for each in entries(instance, "inputs") if "widget" in each]
    return listed if set(listed) >= set(widgets) else list(widgets)


def _widgets(definition: Mapping[Any, Any], graph: _Graph) -> dict[str, Widget]:
    """The inputs of a subgraph that are widgets, in order, with the first inside that hangs on each: the first
    in the input's own list of links."""
    found: dict[int, dict[Any, Widget]] = {}
    for key, node in graph.nodes.items():
        for each in entries(node, "inputs"):
            number = each.get("link") if "widget" in each else None
            origin = graph.links.get(number) if is_id(number) else None
            if origin is not None and origin[0] == INPUTS:
                found.setdefault(origin[1], {})[number] = key, str(each.get("name"))
    listed = enumerate(entries(definition, "inputs"))
    return {
        str(each.get("name")): _nearest(each, found[slot]) for slot, each in listed if slot in found
    }


def _nearest(entry: Mapping[str, Any], hanging: Mapping[Any, Widget]) -> Widget:
    first = next((n for n in _list(entry.get("linkIds")) if is_id(n) and n in hanging), None)
    return hanging[first] if first is not None else next(iter(hanging.values()))


def _complete(node: Node, definition: Mapping[Any, Any]) -> list[Mapping[str, Any]]:
    """All inputs of a subgraph node in the order of its subgraph: a file out of a PNG leaves out widgets."""
    given, names = entries(node, "inputs"), set(_names(definition))
    listed = {str(each.get("name")): each for each in given}
    every = [
        {"type": each.get("type"), **listed.get(str(each.get("name")), {})}
        for each in entries(definition, "inputs")
    ]
    return [*every, *(each for each in given if str(each.get("name")) not in names)]


def _names(definition: Mapping[Any, Any]) -> Sequence[str]:
    """The names of a subgraph's inputs."""
    return [str(each.get("name")) for each in entries(definition, "inputs")]


def _proxies(node: Node) -> Iterator[tuple[str, str]]:
    """The pairs of a subgraph node. A third part is the node in the node, where several widgets have a name."""
    for pair in _pairs(node):
        inside, name, *deeper = pair if isinstance(pair, list) and len(pair) >= 2 else (None, None)
        if is_id(inside) and isinstance(name, str):
            yield str(inside), f"{deeper[0]}: {name}" if deeper and is_id(deeper[0]) else name


def _pairs(node: Mapping[Any, Any]) -> list[Any]:
    """What a node's properties list as its widgets; one that was edited by hand is JSON in a text."""
    properties = node.get("properties")
    found = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if isinstance(found, str):
        try:
            found = json.loads(found) if len(found) <= MAX_LISTED else None
        except (ValueError, RecursionError):
            found = None
    return _list(found)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


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
    """The subgraphs that a file defines, by the type of their nodes; some files define one within another."""
    waiting, count = [value], 0
    while waiting:
        defined = waiting.pop().get("definitions")
        listed = _list(defined.get("subgraphs") if isinstance(defined, dict) else None)
        count += len(listed)
        _check("subgraphs", count, MAX_LISTED)
        for each in listed:
            if isinstance(each, dict) and isinstance(each.get("id"), str):
                yield each["id"], each
                waiting.append(each)
