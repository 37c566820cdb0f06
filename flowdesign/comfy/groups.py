"""Group nodes of older files of ComfyUI's interface, as the subgraphs that came after them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowdesign.comfy.widgets import entries

INPUTS, OUTPUTS = "-10", "-20"  # what stands for the outside at the links of a subgraph
MAX_LINKS = 4096  # of a group that are looked at, for each of its nodes
_PREFIXES = ("workflow/", "workflow>")  # how the types of group nodes begin
_Place = tuple[int, int]  # the number of a node in the group, and of a slot


def groups(value: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The group nodes that a file defines, by the types of their nodes."""
    extra = value.get("extra")
    defined = extra.get("groupNodes") if isinstance(extra, dict) else None
    for name, each in defined.items() if isinstance(defined, dict) else ():
        if isinstance(each, dict):
            yield from ((prefix + str(name), each) for prefix in _PREFIXES)


def as_subgraph(group: Mapping[str, Any], instance: Mapping[str, Any]) -> dict[str, Any]:
    """What is inside a group node, with the values of this instance.

    These are the values of its nodes one after the other. Its inputs are those that no link inside ends
    in, its outputs those that no link begins at or that are said to be.
    """
    nodes = list(_with_values(entries(group, "nodes"), instance.get("widgets_values")))
    links: list[dict[str, Any]] = []
    for target, origin in _origins(group, nodes):
        slots = nodes[target[0]]["inputs"]
        slots[target[1]] = {**slots[target[1]], "link": len(links)}
        links.append(_link(len(links), origin, target))
    for slot, origin in enumerate(_results(group, nodes)):
        links.append(_link(len(links), origin, (int(OUTPUTS), slot)))
    return {"nodes": nodes, "links": links}


def _with_values(nodes: Sequence[Mapping[str, Any]], values: object) -> Iterator[dict[str, Any]]:
    """The nodes with their numbers as ids and their parts of the instance's values."""
    rest = list(values) if isinstance(values, list) else []
    for number, node in enumerate(nodes):
        own = node.get("widgets_values")
        count = len(own) if isinstance(own, list) else 0
        inputs = entries(node, "inputs")
        yield {**node, "id": number, "widgets_values": rest[:count], "inputs": inputs}
        rest = rest[count:]


def _origins(
    group: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[_Place, _Place]]:
    """Each input that something comes in at, and from where: inside, or the next of the group's inputs."""
    inside = {target: origin for origin, target in _links(group)}
    outer = 0
    for number, node in enumerate(nodes):
        for slot, each in enumerate(node["inputs"]):
            if (number, slot) in inside:
                yield (number, slot), inside[number, slot]
            elif "widget" not in each:
                yield (number, slot), (int(INPUTS), outer)
                outer += 1


def _links(group: Mapping[str, Any]) -> Iterator[tuple[_Place, _Place]]:
    """The two ends of every link between a group's nodes."""
    listed = group.get("links")
    for link in listed[:MAX_LINKS] if isinstance(listed, list) else []:
        if isinstance(link, list) and len(link) >= 4 and all(type(end) is int for end in link[:4]):
            yield (link[0], link[1]), (link[2], link[3])


def _results(group: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> list[_Place]:
    """The outputs of a group's nodes that are its own."""
    used = {origin for origin, _ in _links(group)}
    shown = set(_external(group))
    return [
        (number, slot)
        for number, node in enumerate(nodes)
        for slot in range(len(entries(node, "outputs")))
        if (number, slot) not in used or (number, slot) in shown
    ]


def _external(group: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The outputs that are said to be the group's although something inside hangs on them, too."""
    listed = group.get("external")
    for each in listed[:MAX_LINKS] if isinstance(listed, list) else []:
        if isinstance(each, list) and len(each) >= 2 and isinstance(each[0], dict):
            number, slot = each[0].get("index"), each[1]
            if type(number) is int and type(slot) is int:
                yield number, slot


def _link(number: int, origin: _Place, target: _Place) -> dict[str, Any]:
    names = ("origin_id", "origin_slot", "target_id", "target_slot")
    return {"id": number, **dict(zip(names, (*origin, *target), strict=True))}
