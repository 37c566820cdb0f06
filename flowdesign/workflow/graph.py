"""The graph itself: links, order, the canonical form and its hash. For workflows that validate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flowdesign.nodes import NODES, Input
from flowdesign.workflow.problems import show

Workflow = dict[str, dict[str, Any]]
_SOCKETS = {
    name: tuple(each.name for each in declared.inputs if each.is_socket)
    for name, declared in NODES.items()
}
MAX_SHOWN = 8  # nodes of a cycle in a message


class DependencyCycle(ValueError):
    """The nodes of `path` depend on themselves."""

    def __init__(self, path: tuple[str, ...]) -> None:
        names = [show(node)[1:-1] for node in path]  # one line, short, without quotes
        if len(names) > MAX_SHOWN + 1:
            names = [*names[:MAX_SHOWN], "...", names[-1]]
        super().__init__(f"The nodes {' -> '.join(names)} depend on themselves.")
        self.path = path


def is_link(value: object) -> bool:
    """Whether a value has the form of a link, [id, slot]."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def source(workflow: Workflow, node: str, name: str) -> tuple[str, int] | None:
    """Return (id, slot) that feeds an input, or None when it holds a value or is absent."""
    value = workflow[node]["inputs"].get(name)
    return (value[0], value[1]) if is_link(value) else None


def links(node: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (input, source id, slot) of a node's sockets, in declared order."""
    inputs = node["inputs"]
    for name in _SOCKETS[node["class_type"]]:
        value = inputs.get(name)
        if is_link(value):
            yield name, value[0], value[1]


def nodes_of(workflow: Workflow, class_type: str) -> list[str]:
    """Return the ids of the nodes of a type that outputs need, in the order of execution."""
    return [n for n in topological_order(workflow) if workflow[n]["class_type"] == class_type]


def outputs_of(workflow: Workflow) -> list[str]:
    """Return the ids of the output nodes."""
    return [n for n, node in workflow.items() if NODES[node["class_type"]].is_output]


def topological_order(workflow: Workflow, roots: Iterable[str] | None = None) -> list[str]:
    """Return the ids, every node after those it needs; raises DependencyCycle.

    Only what `roots` need is listed; by default the roots are the output nodes.
    """
    needs = {n: [s for _, s, _ in links(node) if s in workflow] for n, node in workflow.items()}
    return post_order(needs, outputs_of(workflow) if roots is None else roots)


def post_order(needs: Mapping[str, list[str]], roots: Iterable[str]) -> list[str]:
    """Return what the roots need, dependencies first; raises DependencyCycle. Not recursive."""
    done: dict[str, None] = {}
    for root in roots:
        path: list[tuple[str, Iterator[str]]] = [(root, iter(needs[root]))] * (root not in done)
        on_path = dict.fromkeys(n for n, _ in path)
        while path:
            node, rest = path[-1]
            following = next((n for n in rest if n not in done), None)
            if following is None:
                path.pop()
                on_path.pop(node)
                done[node] = None
            elif following in on_path:
                names = list(on_path)
                raise DependencyCycle((*names[names.index(following) :], following))
            else:
                path.append((following, iter(needs[following])))
                on_path[following] = None
    return list(done)


def normal(declared: Input, value: Any) -> Any:
    """Return a widget's value in its declared type, so that 4 and 4.0 are the same cfg."""
    if declared.type == "FLOAT":
        return float(value) + 0.0  # no negative zero
    return int(value) if declared.type == "INT" else value


def digests(workflow: Workflow) -> dict[str, str]:
    """Return a hash per node, of all that its result depends on; ids do not matter.

    Nodes that no output needs have none.
    """
    found: dict[str, str] = {}
    for node in topological_order(workflow):
        declared = NODES[workflow[node]["class_type"]]
        content: list[Any] = [declared.class_type]
        for each in declared.inputs:
            if each.name in workflow[node]["inputs"]:
                link = source(workflow, node, each.name)
                value = workflow[node]["inputs"][each.name]
                content.append(
                    [each.name, [found[link[0]], link[1]]]
                    if link
                    else [each.name, normal(each, value)]
                )
        text = json.dumps(content, separators=(",", ":"))
        found[node] = hashlib.sha256(text.encode()).hexdigest()
    return found


def canonical(workflow: Workflow) -> Workflow:
    """Return the workflow in its one form: what outputs need, equal nodes merged, ids 1, 2, ...

    Ids and titles carry no meaning; two workflows make the same images from the same canonical form.
    """
    found = digests(workflow)
    roots = sorted(outputs_of(workflow), key=found.__getitem__)
    ids: dict[str, str] = {}
    result: Workflow = {}
    for node in topological_order(workflow, roots):
        if found[node] in ids:
            continue
        ids[found[node]] = new = str(len(ids) + 1)
        declared = NODES[workflow[node]["class_type"]]
        inputs: dict[str, Any] = {}
        for each in declared.inputs:
            if each.name in workflow[node]["inputs"]:
                link = source(workflow, node, each.name)
                value = workflow[node]["inputs"][each.name]
                inputs[each.name] = [ids[found[link[0]]], link[1]] if link else normal(each, value)
        result[new] = {"class_type": declared.class_type, "inputs": inputs}
    return result


def workflow_hash(workflow: Workflow) -> str:
    """Return the hash of the canonical form, so ids, titles and key order do not matter."""
    text = json.dumps(canonical(workflow), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
