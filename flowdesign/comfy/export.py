"""From a valid workflow to ComfyUI's two formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowdesign.catalog import Installed, installed
from flowdesign.comfy.texts import as_written
from flowdesign.nodes import NODES, NodeType
from flowdesign.workflow import Workflow, source, topological_order

CONTROL = "fixed"  # what the interface does with the seed after a run: keep it
COLUMN, GAP = 360, 40  # pixels on the canvas
MAX_DIGITS = 15  # of an id: a browser's numbers are exact so far
_WIDTH, _HEADER, _ROW, _TEXT = 315, 46, 26, 100


def to_api(workflow: Workflow, models: Installed | None = None) -> dict[str, Any]:
    """Return the API format, which `/prompt` takes; bind prompt and seed before.

    Models are named as ComfyUI lists them: a file that is installed (by default: here) with its suffix.
    """
    return {
        node: {
            "inputs": {
                name: list(value) if isinstance(value, list | tuple) else value
                for name, value in each["inputs"].items()
            },
            "class_type": each["class_type"],
            "_meta": {"title": each["class_type"]},
        }
        for node, each in _listed(workflow, models or installed()).items()
    }


def _listed(workflow: Workflow, models: Installed) -> Workflow:
    """Return the workflow with its model files named as ComfyUI lists them."""
    result: Workflow = {}
    for node, each in workflow.items():
        inputs = dict(each["inputs"])
        for widget in NODES[each["class_type"]].widgets:
            if widget.kind and isinstance(inputs.get(widget.name), str):
                inputs[widget.name] = models.listed(widget.kind, inputs[widget.name])
        result[node] = {**each, "inputs": inputs}
    return result


def to_ui(workflow: Workflow, models: Installed | None = None) -> dict[str, Any]:
    """Return the interface format (litegraph 0.4), laid out from left to right by depth.

    Ids are kept when all are whole numbers, as the interface needs; else they are numbered anew. Models
    are named as in `to_api`.
    """
    workflow = _listed(workflow, models or installed())
    if not all(_is_number(node) for node in workflow):
        workflow = _numbered(workflow)
    order = topological_order(workflow)
    links = _links(workflow, order)
    places = _places(workflow, order)
    return {
        "last_node_id": max(map(int, workflow), default=0),
        "last_link_id": len(links),
        "nodes": [
            _node(workflow, node, index, places[node], links) for index, node in enumerate(order)
        ],
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _is_number(node: str) -> bool:
    short = len(node) <= MAX_DIGITS and node.isascii() and node.isdigit()
    return short and str(int(node)) == node


def _numbered(workflow: Workflow) -> Workflow:
    """Return the workflow with ids 1, 2, ... in the order of execution.

    Equal nodes stay apart, unlike in the canonical form: an empty prompt and an empty negative text
    are the same text only for now.
    """
    ids = {node: str(at) for at, node in enumerate(topological_order(workflow), start=1)}
    result: Workflow = {}
    for node, new in ids.items():
        inputs = dict(workflow[node]["inputs"])
        for name in _sockets(NODES[workflow[node]["class_type"]]):
            link = source(workflow, node, name)
            if link:
                inputs[name] = [ids[link[0]], link[1]]
        result[new] = {"class_type": workflow[node]["class_type"], "inputs": inputs}
    return result


def _sockets(declared: NodeType) -> list[str]:
    return [each.name for each in declared.inputs if each.is_socket]


def _links(workflow: Workflow, order: list[str]) -> list[list[Any]]:
    """Return [link id, origin id, origin slot, target id, target slot, type] of every link."""
    found: list[list[Any]] = []
    for node in order:
        for slot, name in enumerate(_sockets(NODES[workflow[node]["class_type"]])):
            link = source(workflow, node, name)
            if link:
                socket = NODES[workflow[link[0]]["class_type"]].outputs[link[1]]
                found.append([len(found) + 1, int(link[0]), link[1], int(node), slot, socket])
    return found


def _node(
    workflow: Workflow, node: str, order: int, place: tuple[int, int], links: list[list[Any]]
) -> dict[str, Any]:
    declared = NODES[workflow[node]["class_type"]]
    arriving = {link[4]: link[0] for link in links if link[3] == int(node)}
    return {
        "id": int(node),
        "type": declared.class_type,
        "pos": list(place),
        "size": [_WIDTH, _height(declared)],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [
            {"name": name, "type": declared.input(name).type, "link": arriving.get(slot)}
            for slot, name in enumerate(_sockets(declared))
        ],
        "outputs": [
            {
                "name": socket,
                "type": socket,
                "links": [k[0] for k in links if k[1] == int(node) and k[2] == slot],
                "slot_index": slot,
            }
            for slot, socket in enumerate(declared.outputs)
        ],
        "properties": {"Node name for S&R": declared.class_type},
        "widgets_values": _widgets(declared, workflow[node]["inputs"]),
    }


def _widgets(declared: NodeType, inputs: Mapping[str, Any]) -> list[Any]:
    """Return the values by position; a seed is followed by what happens to it after a run."""
    values: list[Any] = []
    for each in declared.widgets:
        values.append(as_written(inputs.get(each.name, each.default), declared.class_type))
        if each.control:
            values.append(CONTROL)
    return values


def _height(declared: NodeType) -> int:
    rows = max(len(_sockets(declared)), len(declared.outputs)) + len(declared.widgets)
    controls = sum(each.control for each in declared.widgets)
    texts = sum(each.name == "text" for each in declared.widgets)
    return _HEADER + _ROW * (rows + controls) + _TEXT * texts


def _places(workflow: Workflow, order: list[str]) -> dict[str, tuple[int, int]]:
    """Return where each node stands: a column per depth, nodes below each other in it."""
    depth: dict[str, int] = {}
    bottom: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for node in order:
        declared = NODES[workflow[node]["class_type"]]
        before = [source(workflow, node, name) for name in _sockets(declared)]
        depth[node] = max((depth[link[0]] + 1 for link in before if link), default=0)
        top = bottom.get(depth[node], 0)
        places[node] = (depth[node] * COLUMN, top)
        bottom[depth[node]] = top + _height(declared) + GAP
    return places
