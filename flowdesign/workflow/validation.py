"""Validation, total: any value whatever gives a list of problems, never an exception.

An untrained policy, a stranger's file and a typing person all end up here, so a message says what
was given, what is allowed and what was probably meant. Codes are those of ComfyUI's `/prompt`
where it has one. As there, only nodes that an output needs are checked, and unknown inputs ignored.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from flowdesign import catalog
from flowdesign.catalog import Installed, singular, suggest
from flowdesign.nodes import NODES, Input, NodeType
from flowdesign.workflow.graph import (
    DependencyCycle,
    Workflow,
    is_link,
    links,
    outputs_of,
    post_order,
)
from flowdesign.workflow.limits import over_limits
from flowdesign.workflow.problems import Problem, limited, show

MAX_NODES = 500
MAX_ID = 200  # characters of a node's id
MAX_TEXT = 20_000  # characters of one text
MAX_BITS = 64  # of a whole number: a seed needs them


def validate(value: object, installed: Installed | None = None) -> list[Problem]:
    """Return what keeps a value from being a workflow that runs here; an empty list is good.

    `installed` is what file names are checked against: by default a fresh scan. Of very many
    problems the first are listed, those of structure before those of values.
    """
    return limited(every_problem(value, installed))


def every_problem(value: object, installed: Installed | None = None) -> list[Problem]:
    """Return what `validate` returns before it is limited."""
    shape = list(_shape(value))
    if shape or not isinstance(value, dict):
        return shape
    problems = [] if outputs_of(value) else [_no_outputs()]
    wanted = _reachable(value, outputs_of(value) or value)
    models = catalog.installed() if installed is None else installed
    for node in wanted:
        problems += _node(value, node, models)
    problems += _cycles(value, wanted)
    return problems or [*over_limits({node: value[node] for node in wanted})]


def _shape(value: object) -> Iterator[Problem]:
    """Yield what keeps a value from being a graph of known nodes."""
    if not isinstance(value, dict):
        message = f"A workflow is an object that maps ids to nodes, not {show(value)}."
        yield Problem("invalid_prompt", "", "", message)
    elif not value:
        yield Problem("prompt_no_outputs", "", "", "The workflow is empty: it has no nodes.")
    elif len(value) > MAX_NODES:
        message = f"The workflow has {len(value)} nodes; at most {MAX_NODES} are allowed."
        yield Problem("too_many_nodes", "", "", message)
    else:
        for key, node in value.items():
            yield from _node_shape(key, node)


def _node_shape(key: object, node: object) -> Iterator[Problem]:
    if not isinstance(key, str):
        message = f"The id of a node is a string, not {show(key)}."
        yield Problem("invalid_prompt", show(key), "", message)
        return
    if len(key) > MAX_ID:
        message = (
            f"The id {show(key)} of a node has {len(key)} characters; at most {MAX_ID} are read."
        )
        yield Problem("invalid_prompt", show(key), "", message)
        return
    if not isinstance(node, dict):
        message = f"Node {show(key)} is not an object, but {show(node)}."
        yield Problem("invalid_prompt", key, "", message)
        return
    class_type, inputs = node.get("class_type"), node.get("inputs")
    if not isinstance(class_type, str):
        message = f"Node {show(key)} has no class_type that names its type."
        yield Problem("invalid_prompt", key, "", message)
    elif class_type not in NODES:
        yield Problem("invalid_prompt", key, "", _unknown(class_type))
    elif not isinstance(inputs, dict):
        message = f"Node {show(key)} ({class_type}) has no inputs object."
        yield Problem("invalid_prompt", key, "", message)


@lru_cache(1024)  # a large graph has many nodes of few types
def _unknown(class_type: str) -> str:
    return f"Unknown node type {show(class_type)}. {suggest(class_type, NODES)}"


def _no_outputs() -> Problem:
    message = "The workflow has no output: add a SaveImage or PreviewImage node."
    return Problem("prompt_no_outputs", "", "", message)


def _reachable(workflow: Workflow, roots: Iterable[str]) -> list[str]:
    """Return the ids that the roots need, in the workflow's order."""
    waiting, found = list(roots), set(roots)
    while waiting:
        for _, origin, _ in links(workflow[waiting.pop()]):
            if origin in workflow and origin not in found:
                found.add(origin)
                waiting.append(origin)
    return [node for node in workflow if node in found]


def _node(workflow: Workflow, node: str, models: Installed) -> Iterator[Problem]:
    declared = NODES[workflow[node]["class_type"]]
    inputs = workflow[node]["inputs"]
    for each in declared.inputs:
        where = f"Node {show(node)} ({declared.class_type})"
        if each.name not in inputs:
            if each.required:
                message = (
                    f"{where} needs the input '{each.name}'.{_misspelt(each, declared, inputs)}"
                )
                yield Problem("required_input_missing", node, each.name, message)
            continue
        value = inputs[each.name]
        if isinstance(value, list | tuple):
            code, message = _link_fault(workflow, each, value)
        elif each.is_socket:
            code = "bad_linked_input"
            message = f"'{each.name}' takes a link to a {each.type}, not {show(value)}."
        else:
            code, message = _value_fault(each, value, models)
        if code:
            yield Problem(code, node, each.name, f"{where}: {message}")


def _misspelt(missing: Input, declared: NodeType, inputs: dict[Any, Any]) -> str:
    known = {each.name for each in declared.inputs}
    strange = [name for name in inputs if isinstance(name, str) and name not in known]
    near = difflib.get_close_matches(missing.name, [name[:100] for name in strange[:50]], 1)
    return f" Was {show(near[0])} meant to be it?" if near else ""


def _link_fault(workflow: Workflow, declared: Input, value: Any) -> tuple[str, str]:
    if not is_link(value):
        return "bad_linked_input", f"'{declared.name}' is not a link of the form [id, slot]."
    origin, slot = value
    if origin not in workflow:
        message = f"'{declared.name}' is linked to node {show(origin)}, which does not exist."
        return "bad_linked_input", message
    class_type = workflow[origin]["class_type"]
    outputs = NODES[class_type].outputs
    if not 0 <= slot < len(outputs):
        message = (
            f"'{declared.name}' is linked to output {show(slot)} of node {show(origin)} "
            f"({class_type}), which has {len(outputs)} output{'s' * (len(outputs) != 1)}."
        )
        return "bad_linked_input", message
    if outputs[slot] != declared.type:
        message = (
            f"'{declared.name}' takes a {declared.type}, but output {slot} of node "
            f"{show(origin)} ({class_type}) is a {outputs[slot]}."
        )
        return "return_type_mismatch", message
    return "", ""


def _value_fault(declared: Input, value: object, models: Installed) -> tuple[str, str]:
    if declared.type == "COMBO":
        return _choice_fault(declared, value, models)
    if declared.type == "STRING":
        return _text_fault(declared, value)
    if declared.type == "BOOLEAN":
        return _switch_fault(declared, value)
    return _number_fault(declared, value)


def _choice_fault(declared: Input, value: object, models: Installed) -> tuple[str, str]:
    options = models.names(declared.kind) if declared.kind else declared.options
    if not isinstance(value, str):
        message = f"'{declared.name}' takes a name, not {show(value)}. {suggest('', options)}"
        return "invalid_input_type", message
    if value in options:
        return "", ""
    what = singular(declared.kind) if declared.kind else declared.name
    broken = models.why_broken(declared.kind, value) if declared.kind else ""
    if broken:
        return "value_not_in_list", f"the {what} {show(value)} {broken}. {suggest(value, options)}"
    hint = suggest(value, options)
    if declared.kind and not options:
        hint = f"No {what} is installed."
    return "value_not_in_list", f"unknown {what} {show(value)}. {hint}"


def _text_fault(declared: Input, value: object) -> tuple[str, str]:
    if not isinstance(value, str):
        return "invalid_input_type", f"'{declared.name}' takes a text, not {show(value)}."
    if len(value) > MAX_TEXT:
        message = f"'{declared.name}' has {len(value)} characters; at most {MAX_TEXT} are allowed."
        return "value_bigger_than_max", message
    if declared.name == "filename_prefix" and _escapes(value):
        message = f"{show(value)} leaves the output folder; use a name without '..'."
        return "unsafe_path", message
    return "", ""


def _switch_fault(declared: Input, value: object) -> tuple[str, str]:
    if isinstance(value, bool):
        return "", ""
    return "invalid_input_type", f"'{declared.name}' takes true or false, not {show(value)}."


def _escapes(path: str) -> bool:
    """Whether a file name prefix is absolute, climbs up, or cannot be a name at all."""
    parts = re.split(r"[\\/]", path)
    return parts[0] == "" != path or ".." in parts or ":" in path or "\0" in path


def _number_fault(declared: Input, value: object) -> tuple[str, str]:
    name, kind = declared.name, "whole number" if declared.type == "INT" else "number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "invalid_input_type", f"'{name}' takes a {kind}, not {show(value)}."
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return "invalid_input_type", f"'{name}' takes a {kind} of at most {MAX_BITS} bits."
    if isinstance(value, float):
        whole = math.isfinite(value) and value.is_integer()
        if not math.isfinite(value) or (declared.type == "INT" and not whole):
            return "invalid_input_type", f"'{name}' takes a {kind}, not {show(value)}."
    if declared.min is not None and value < declared.min:
        message = f"'{name}' is {show(value)}; the least is {show(declared.min)}."
        return "value_smaller_than_min", message
    if declared.max is not None and value > declared.max:
        message = f"'{name}' is {show(value)}; the most is {show(declared.max)}."
        return "value_bigger_than_max", message
    return "", ""


def _cycles(workflow: Workflow, wanted: list[str]) -> Iterator[Problem]:
    """Yield the first cycle, written as a chain."""
    needs = {n: [o for _, o, _ in links(workflow[n]) if o in workflow] for n in wanted}
    try:
        post_order(needs, wanted)
    except DependencyCycle as cycle:
        yield Problem("dependency_cycle", cycle.path[0], "", str(cycle))
