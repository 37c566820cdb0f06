"""From JSON that claims to be a workflow. Never raises: what is wrong becomes a problem."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowdesign import catalog
from flowdesign.catalog import Installed
from flowdesign.comfy.interface import is_interface, resolve
from flowdesign.comfy.kinds import RENAMED
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

MAX_TEXT = 4 * 2**20  # characters of JSON; ComfyUI's largest template has 0.5 million
MAX_PARTS = 200_000  # lists and objects in it
_REQUEST = (
    "prompt",
    "output",
    "extra_data",
    "extra_pnginfo",
)  # what a graph is in, from outside to inside


@dataclass(frozen=True)
class Imported:
    """What a file gave: the unbound workflow (None if there is none), its prompt and seed.

    Without problems the workflow is valid and everything it needs is installed. `graph` are the nodes of the
    file in the API format, whatever they are; two imports are the same without it.
    """

    workflow: Workflow | None
    prompt: str = ""
    seed: int = 0
    problems: tuple[Problem, ...] = ()
    graph: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def failed(code: str, message: str) -> Imported:
    """Return an import that gave nothing, and why."""
    return Imported(None, problems=(Problem(code, "", "", message),))


def from_text(text: str, installed: Installed | None = None) -> Imported:
    """Import JSON text."""
    value, problem = parsed(text)
    return Imported(None, problems=(problem,)) if problem else from_json(value, installed)


def parsed(text: str) -> tuple[Any, Problem | None]:
    """The value of JSON text, or what is wrong with it."""
    if fault := _too_large(text):
        return None, _invalid(fault)
    try:
        return json.loads(text), None
    except RecursionError:
        return None, _invalid("The JSON is nested too deeply.")
    except ValueError as error:
        return None, _invalid(f"This is not JSON: {error}.")


def _too_large(text: str) -> str:
    """In what a text is larger than any workflow; told before it is parsed, since lists take memory."""
    advice = "Take out what is no part of the workflow, like images or results that nodes keep."
    if len(text) > MAX_TEXT:
        return f"The JSON has more than {MAX_TEXT // 2**20} million characters. {advice}"
    count = text.count("[") + text.count("{")
    if count > MAX_PARTS:
        return f"The JSON has {count} lists and objects; at most {MAX_PARTS} are read. {advice}"
    return ""


def _invalid(message: str) -> Problem:
    return Problem("invalid_json", "", "", message)


def from_json(value: object, installed: Installed | None = None) -> Imported:
    """Import API JSON, interface JSON, or FlowDesign's own record, told apart by their form."""
    models = catalog.installed() if installed is None else installed
    value = _unwrapped(value, _REQUEST)
    if isinstance(value, dict) and is_interface(value):
        graph, problems = resolve(value)
        if any(problem.code == "too_many_nodes" for problem in problems):
            return Imported(None, problems=tuple(problems))
        return replace(_imported(_with_defaults(graph), models, problems), graph=graph)
    if isinstance(value, dict) and isinstance(value.get("workflow"), dict):
        return _record(value, models)
    return _imported(value, models, [])


def graph_of(value: object) -> tuple[dict[str, Any], list[Problem]]:
    """The API graph in a JSON value of any of these forms, whatever its nodes are, and what was lost."""
    value = _unwrapped(value, (*_REQUEST, "workflow"))
    if isinstance(value, dict) and is_interface(value):
        graph, problems = resolve(value, names=True)
        return graph, limited(problems)
    if isinstance(value, dict) and len(value) > MAX_NODES:
        message = f"The workflow has {len(value)} nodes; at most {MAX_NODES} are read."
        return {}, [Problem("too_many_nodes", "", "", message)]
    if not (found := _nodes(value)):
        message = "This JSON is no workflow: neither nodes with a class_type nor a list of nodes."
        return {}, [Problem("invalid_prompt", "", "", message)]
    return found, []


def _unwrapped(value: object, names: Sequence[str]) -> object:
    """What a record, a request or a file's texts hold under one of these names, or the value itself.

    The graph that was executed is before what the editor shows. A node may be called by such a name, too.
    """
    while isinstance(value, dict) and not is_interface(value):
        among = (value.get(name) for name in names)
        inner = [each for each in among if isinstance(each, dict) and "class_type" not in each]
        if not inner:
            return value
        value = inner[0]
    return value


def _nodes(value: object) -> dict[str, Any]:
    """The nodes of an API graph with the types that they have today; none if it is no such graph."""
    if not isinstance(value, dict) or len(value) > MAX_NODES:
        return {}
    if not all(map(_is_node, value.values())):
        return {}
    return {str(key): _bare(_renamed(node)) for key, node in value.items()}


def _bare(node: dict[Any, Any]) -> dict[Any, Any]:
    """A node as the API format has it: a PNG also keeps what a server noted on it, which may be no JSON."""
    return {name: node[name] for name in ("inputs", "class_type", "_meta") if name in node}


def _renamed(node: dict[Any, Any]) -> dict[Any, Any]:
    kind = node.get("class_type")
    return {**node, "class_type": RENAMED.get(kind, kind)} if isinstance(kind, str) else node


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
    return Imported(inner.workflow, prompt, seed, tuple(problems), inner.graph)


def _imported(graph: object, models: Installed, before: list[Problem]) -> Imported:
    """Check a graph and take prompt and seed out of it."""
    given, graph = _nodes(graph), _named(graph, models)
    problems = limited([*before, *every_problem(graph, models)])
    if not isinstance(graph, dict) or any(p.code not in OF_VALUES for p in problems):
        return Imported(None, problems=tuple(problems), graph=given)
    workflow, prompt, seed = unbind(_clean(graph))
    return Imported(workflow, prompt, min(max(seed, 0), MAX_SEED), tuple(problems), given)


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
        each = _renamed(each) if isinstance(each, dict) else each
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
