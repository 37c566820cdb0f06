"""From JSON that claims to be a workflow. Never raises: what is wrong becomes a problem."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flowdesign import catalog
from flowdesign.catalog import Installed
from flowdesign.comfy.interface import is_interface, resolve, unnamed
from flowdesign.headers import SUFFIX
from flowdesign.nodes import MAX_SEED, NODES
from flowdesign.workflow import (
    MAX_NODES,
    OF_VALUES,
    Problem,
    Workflow,
    every_problem,
    limited,
    topological_order,
    unbind,
)


@dataclass(frozen=True)
class Imported:
    """What a file gave: the unbound workflow (None if there is none), its prompt and seed.

    Without problems the workflow is valid and everything it needs is installed.
    """

    workflow: Workflow | None
    prompt: str = ""
    seed: int = 0
    problems: tuple[Problem, ...] = ()


def failed(code: str, message: str) -> Imported:
    """Return an import that gave nothing, and why."""
    return Imported(None, problems=(Problem(code, "", "", message),))


def from_text(text: str, installed: Installed | None = None) -> Imported:
    """Import JSON text."""
    try:
        value = json.loads(text)
    except RecursionError:
        return failed("invalid_json", "The JSON is nested too deeply.")
    except ValueError as error:
        return failed("invalid_json", f"This is not JSON: {error}.")
    return from_json(value, installed)


def from_json(value: object, installed: Installed | None = None) -> Imported:
    """Import API JSON, interface JSON, or FlowDesign's own record, told apart by their form."""
    models = catalog.installed() if installed is None else installed
    if isinstance(value, dict) and is_interface(value):
        graph, problems = resolve(value)
        if any(problem.code == "too_many_nodes" for problem in problems):
            return Imported(None, problems=tuple(problems))
        return _imported(_with_defaults(graph), models, problems)
    if isinstance(value, dict) and isinstance(value.get("workflow"), dict):
        return _record(value, models)
    if isinstance(value, dict) and isinstance(value.get("prompt"), dict):
        inner = value["prompt"]  # the body of a request to /prompt, or a node with this id
        return _imported(value if "class_type" in inner else inner, models, [])
    return _imported(value, models, [])


def graph_of(value: object) -> tuple[dict[str, Any], list[Problem]]:
    """The API graph in a JSON value of any of these forms, whatever its nodes are, and what was lost."""
    if isinstance(value, dict) and is_interface(value):
        graph, problems = resolve(value)
        return graph, [*problems, *unnamed(value)]
    for name in ("workflow", "prompt"):
        inner = value.get(name) if isinstance(value, dict) else None
        if isinstance(inner, dict) and "class_type" not in inner:
            return graph_of(inner)
    if not isinstance(value, dict) or not value or not all(map(_is_node, value.values())):
        message = "This JSON is no workflow: neither nodes with a class_type nor a list of nodes."
        return {}, [Problem("invalid_prompt", "", "", message)]
    return {str(key): node for key, node in value.items()}, []


def _is_node(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("class_type"), str)
        and isinstance(value.get("inputs"), dict)
    )


def _record(value: dict[Any, Any], models: Installed) -> Imported:
    """Import FlowDesign's own record: an unbound workflow beside its prompt and seed."""
    if "class_type" in value["workflow"]:
        return _imported(value, models, [])  # a node whose id is "workflow"
    inner = from_json(value["workflow"], models) if is_interface(value["workflow"]) else None
    inner = inner or _imported(value["workflow"], models, [])
    prompt, seed = value.get("prompt", inner.prompt), value.get("seed", inner.seed)
    problems = list(inner.problems)
    if not isinstance(prompt, str):
        problems.append(Problem("invalid_record", "", "", "The prompt of the file is not a text."))
        prompt = ""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        message = f"The seed of the file is not a whole number from 0 to {MAX_SEED}."
        problems.append(Problem("invalid_record", "", "", message))
        seed = 0
    return Imported(inner.workflow, prompt, seed, tuple(problems))


def _imported(graph: object, models: Installed, before: list[Problem]) -> Imported:
    """Check a graph and take prompt and seed out of it."""
    graph = _named(graph, models)
    problems = limited([*before, *every_problem(graph, models)])
    if not isinstance(graph, dict) or any(p.code not in OF_VALUES for p in problems):
        return Imported(None, problems=tuple(problems))
    workflow, prompt, seed = unbind(_clean(graph))
    return Imported(workflow, prompt, min(max(seed, 0), MAX_SEED), tuple(problems))


def _with_defaults(graph: dict[str, Any]) -> dict[str, Any]:
    """Give widgets that came after a file was written their defaults, as ComfyUI's browser side does."""
    return {
        key: {**node, "inputs": _defaults(node["class_type"]) | node["inputs"]}
        for key, node in graph.items()
    }


def _defaults(class_type: str) -> dict[str, Any]:
    widgets = NODES[class_type].widgets if class_type in NODES else ()
    return {each.name: each.default for each in widgets if each.default is not None}


def _clean(graph: dict[str, Any]) -> Workflow:
    """Return a copy of what outputs need, with declared inputs only: as ComfyUI, which runs no more."""
    needed = set(topological_order(graph))
    return {
        node: {
            "class_type": each["class_type"],
            "inputs": {
                declared.name: each["inputs"][declared.name]
                for declared in NODES[each["class_type"]].inputs
                if declared.name in each["inputs"]
            },
        }
        for node, each in graph.items()
        if node in needed
    }


def _named(graph: object, models: Installed) -> object:
    """Return the graph with file names as they are listed here: ComfyUI writes the suffix.

    One that is too large to be read is left as it is.
    """
    if not isinstance(graph, dict) or len(graph) > MAX_NODES:
        return graph
    result: dict[Any, Any] = {}
    for node, each in graph.items():
        known = isinstance(each, dict) and isinstance(each.get("class_type"), str)
        declared = NODES.get(each["class_type"]) if known else None
        if declared and isinstance(each.get("inputs"), dict):
            inputs = dict(each["inputs"])
            for widget in declared.widgets:
                value = inputs.get(widget.name)
                if widget.kind and isinstance(value, str):
                    inputs[widget.name] = _name(value, models.names(widget.kind))
            each = {**each, "inputs": inputs}
        result[node] = each
    return result


def _name(value: str, names: tuple[str, ...]) -> str:
    bare = value.replace("\\", "/").removesuffix(SUFFIX)
    return bare if value not in names and bare in names else value
