"""Group nodes of older files of ComfyUI's interface, as the subgraphs that came after them.

    group = Group(definition)
    group.definition                    what is inside, as the definition of a subgraph
    group.values([768, "fixed", 4])     the values of an instance: number of a node inside, widget, value

The order of a group's inputs, outputs and values is nowhere written; it follows from its nodes as in
ComfyUI's browser side (groupNode.ts). Widgets and sockets come node by node, then the widgets that were
converted to inputs. What is linked inside is not among them; a primitive is a widget of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowdesign.comfy.kinds import PRIMITIVE, REROUTE, VIRTUAL
from flowdesign.comfy.widgets import bare, entries, is_input, is_known, names_of, placed

INPUTS, OUTPUTS = "-10", "-20"  # what stands for the outside at the links of a subgraph
_PREFIXES = ("workflow/", "workflow>")  # how the types of group nodes begin
_Place = tuple[int, int]  # the number of a node in the group, and of a slot


def groups(value: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The group nodes that a file defines, by the types of their nodes."""
    extra = value.get("extra")
    defined = extra.get("groupNodes") if isinstance(extra, dict) else None
    for name, each in defined.items() if isinstance(defined, dict) else ():
        if isinstance(each, dict):
            yield from ((prefix + str(name), each) for prefix in _PREFIXES)


class Group:
    """A group node's definition, read once for all its instances."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._nodes = _nodes(source)
        self._labels = [_labels(node) for node in self._nodes]
        self._config = source.get("config")
        self._origins = {target: origin for origin, target in _links(source)}
        self._used = set(self._origins.values())
        self._givers = {number for number, _ in self._used}
        self._shown = set(_external(source))
        self._seen: dict[str, int] = {}  # names so far
        self._owners: list[tuple[int, str]] = []  # whose the values of an instance are, in order
        self._links: list[dict[str, Any]] = []
        self.names: list[str] = []  # of the inputs
        for target, origin in self._origins.items():
            self._connect(origin, target)
        self._open()
        for slot, origin in enumerate(self._results()):
            self._connect(origin, (int(OUTPUTS), slot))
        self.definition = {"nodes": self._nodes, "links": self._links}

    def values(self, listed: object) -> Iterator[tuple[int, str, Any]]:
        """The values of an instance as (number of a node inside, widget, value), unknown ones left out."""
        given = listed if isinstance(listed, list) else []
        names = placed([name for _, name in self._owners], given)
        for (number, _), (name, value) in zip(self._owners, names, strict=False):
            if name and is_input(name) and value is not None:
                yield number, name, value

    def _open(self) -> None:
        """Go through the nodes in ComfyUI's order, and note the group's inputs and values."""
        there = [number for number in range(len(self._nodes)) if self._is_there(number)]
        widgets: list[tuple[int, str, str]] = []
        for number in there:
            widgets += self._widgets(number)
            self._sockets(number)
        for number in there:
            self._converted(number)
        for number, name, called in widgets:  # an instance has an input for one that was converted
            self._nodes[number]["inputs"].append({"name": name, "type": "*"})
            self._enter(number, len(self._nodes[number]["inputs"]) - 1, called)

    def _widgets(self, number: int) -> Iterator[tuple[int, str, str]]:
        """The widgets of a node with a known name, and what they are called outside; each has a value."""
        inputs = _converted(self._nodes[number])
        for marked in _names(self._nodes[number]):
            if bare(marked) not in inputs:
                self._owners.append((number, marked))
                if marked:
                    yield number, bare(marked), self._called(number, bare(marked))

    def _converted(self, number: int) -> None:
        """Make the widgets that are inputs inputs of the group, with a value, unless they are linked inside."""
        marks = {bare(marked): marked for marked in _names(self._nodes[number])}
        for name, slot in sorted(_converted(self._nodes[number]).items(), key=lambda each: each[1]):
            if (number, slot) not in self._origins:
                self._owners.append((number, marks.get(name, name)))
                self._enter(number, slot, self._called(number, name))

    def _sockets(self, number: int) -> None:
        """Make the sockets that nothing inside is linked to inputs of the group."""
        node = self._nodes[number]
        for slot, each in enumerate(node["inputs"]):
            if "widget" in each or (number, slot) in self._origins:
                continue
            name = _socket(node) if node["type"] == REROUTE else str(each.get("name"))
            called = self._called(number, name)
            if self._said(number, "input", name).get("visible") is not False:
                self._enter(number, slot, called)

    def _is_there(self, number: int) -> bool:
        """Whether a node has anything outside: one of the editor has not, nor a reroute between others."""
        kind, gives = self._nodes[number].get("type"), number in self._givers
        if kind == REROUTE and gives and (number, 0) in self._origins:
            return (number, 0) in self._shown
        return isinstance(kind, str) and (
            gives if kind == PRIMITIVE else kind == REROUTE or kind not in VIRTUAL
        )

    def _called(self, number: int, name: str) -> str:
        """What an input or widget is called outside: with the title of its node if its name is taken."""
        node, own = self._nodes[number], self._said(number, "input", name).get("name")
        label = self._labels[number].get(name)
        called = next((each for each in (own, label) if isinstance(each, str)), name)
        key, title = called, node.get("title")
        if called in self._seen or (node["type"] == PRIMITIVE and title):
            before = title if isinstance(title, str) else node["type"]
            key = called = f"{before} {name}"
            if called in self._seen:
                called = f"{before} {self._seen[called]} {name}"
        self._seen[key] = self._seen.get(key, 1) + 1
        return called

    def _said(self, number: int, side: str, name: str) -> Mapping[str, Any]:
        """What a person has set for an input or output: another name, or whether it is visible."""
        found: Any = self._config
        for key in (str(number), side, name):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _enter(self, number: int, slot: int, called: str) -> None:
        """Make an input of a node inside the group's next."""
        self._connect((int(INPUTS), len(self.names)), (number, slot))
        self.names.append(called)

    def _connect(self, origin: _Place, target: _Place) -> None:
        number, (node, slot) = len(self._links), target
        names = ("origin_id", "origin_slot", "target_id", "target_slot")
        self._links.append({"id": number, **dict(zip(names, (*origin, *target), strict=True))})
        inputs = self._nodes[node]["inputs"] if 0 <= node < len(self._nodes) else []
        if 0 <= slot < len(inputs):
            inputs[slot]["link"] = number

    def _results(self) -> Iterator[_Place]:
        """The outputs of the nodes that are the group's own: those that nothing inside hangs on, unless
        something else is said."""
        for number, node in enumerate(self._nodes):
            for slot in range(len(entries(node, "outputs")) if self._is_there(number) else 0):
                place = (number, slot)
                visible = self._said(number, "output", str(slot)).get("visible")
                if place not in self._used or place in self._shown if visible is None else visible:
                    yield place


def _nodes(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The nodes with their numbers as ids, and inputs that nothing is linked to; a copy."""
    listed = source.get("nodes")
    found = listed if isinstance(listed, list) else []
    return [
        {
            **node,
            "id": number,
            "inputs": [{**each, "link": None} for each in entries(node, "inputs")],
        }
        for number, node in enumerate(each if isinstance(each, dict) else {} for each in found)
    ]


def _labels(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a person has called the inputs, by their names."""
    return {str(each.get("name")): each.get("label") for each in reversed(node["inputs"])}


def _converted(node: Mapping[str, Any]) -> dict[str, int]:
    """The widgets that are inputs, with the number of each."""
    inputs = entries(node, "inputs")
    return {str(each.get("name")): slot for slot, each in enumerate(inputs) if "widget" in each}


def _names(node: Mapping[str, Any]) -> Sequence[str]:
    """The marked names of a node's widgets, as many as it has values; empty ones if none is known."""
    kind, values = str(node["type"]), node.get("widgets_values")
    if kind == PRIMITIVE:
        return _PRIMITIVES.get(_socket(node), ("value",))
    listed = values if isinstance(values, list) else []
    if kind.startswith(_PREFIXES):
        return [str(at) for at in range(len(listed))]  # a group in a group: values by place
    names = names_of(node)
    if is_known(node) or 0 < len(listed) <= 2 * len(names):  # newer files list all, with controls
        return [name for name, _ in zip(names, placed(names, listed), strict=False)]
    return [""] * (len(listed) - len(_converted(node)))


def _socket(node: Mapping[str, Any]) -> str:
    """The type of a node's first output."""
    return next((str(each.get("type")) for each in entries(node, "outputs")), "*")


def _links(group: Mapping[str, Any]) -> Iterator[tuple[_Place, _Place]]:
    """The two ends of every link between a group's nodes; one from outside begins at none."""
    listed = group.get("links")
    for link in listed if isinstance(listed, list) else []:
        if isinstance(link, list) and len(link) >= 4 and all(type(end) is int for end in link[:4]):
            yield (link[0], link[1]), (link[2], link[3])


def _external(group: Mapping[str, Any]) -> Iterator[_Place]:
    """The outputs that are said to be the group's although something inside hangs on them, too."""
    listed = group.get("external")
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, list) and len(each) >= 2:
            number = each[0].get("index") if isinstance(each[0], dict) else each[0]
            if type(number) is int and type(each[1]) is int:
                yield number, each[1]


# The values of a primitive, by what it gives: only some have one that says what happens after a run, and a
# choice from a list has a filter of that list behind it.
_PRIMITIVES = {"INT": ("value*",), "COMBO": ("value*", "")}
