"""What makes two records the same, and what the store derives from a workflow: hash, parts, split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flowdesign.catalog import Installed
from flowdesign.records.record import BadRecord
from flowdesign.records.splits import Split, split_of_digest
from flowdesign.workflow import (
    OF_VALUES,
    Workflow,
    every_problem,
    topological_order,
    with_seeds_by_rule,
    workflow_hash,
)

NONE = "none"  # the value of a component that a workflow does without
SEEDS = frozenset({"seed", "noise_seed"})  # what nodes call their seeds, ours and others'
_OF_FIRST_PASS = {
    "sampler": "sampler_name", "scheduler": "scheduler", "steps": "steps", "cfg": "cfg",
}  # fmt: skip
_NOTHING = Installed({})  # a record's identity does not depend on what is installed here


@dataclass(frozen=True)
class Parts:
    """What the store keeps of a workflow beside its graph. `components` are (kind, value) pairs.

    `hash` is the same for what differs by seed alone, `identity` only for what makes the same image;
    of a workflow made of our nodes, whose first seed is taken out, both are canonical hashes, and one
    where later seeds follow from the first.
    """

    text: str
    identity: str
    hash: str
    split: Split
    checkpoint: str
    sampler: str
    components: tuple[tuple[str, str], ...]


def workflow_text(workflow: Workflow) -> str:
    """The graph as one line of ASCII JSON, in its own order: what the store and its exports hold.

    Raises BadRecord for what JSON cannot say.
    """
    try:
        return json.dumps(workflow, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise BadRecord(f"The workflow of this record is not JSON: {fault}.") from fault


@lru_cache(maxsize=4096)
def parts_of(text: str) -> Parts:
    """Take a workflow apart, given as `workflow_text`; any graph whatever has parts."""
    workflow = json.loads(text)
    ours = _is_ours(workflow)
    identity, digest = _ours(workflow) if ours else _others(workflow)
    order = topological_order(workflow) if ours else list(workflow)
    found = tuple(dict.fromkeys(_components(list(_inputs(workflow, order)))))
    first = dict(reversed(found))
    checkpoint, sampler = first.get("checkpoint", ""), first.get("sampler", "")
    return Parts(text, identity, digest, split_of_digest(digest), checkpoint, sampler, found)


def _ours(workflow: Workflow) -> tuple[str, str]:
    """The identity and the hash of a workflow of our nodes; nearly all have one for both."""
    plain = with_seeds_by_rule(workflow)
    digest = workflow_hash(plain)
    return digest if plain == workflow else workflow_hash(workflow), digest


def _others(workflow: Workflow) -> tuple[str, str]:
    return _sorted_sha(workflow), _sorted_sha(_without_seeds(workflow))


def record_key(
    prompt: str, workflow: Workflow, seed: int, assets: Mapping[str, str], renderer: str
) -> str:
    """Give the identity of a record, sha256 in hex: what would be rendered again to the same image.

    Ids and key order of the workflow do not matter.
    """
    return key_of(prompt, parts_of(workflow_text(workflow)).identity, seed, assets, renderer)


def key_of(
    prompt: str, workflow_digest: str, seed: int, assets: Mapping[str, str], renderer: str
) -> str:
    """`record_key` for a workflow whose hash is known."""
    content = [prompt, workflow_digest, seed, sorted(assets.items()), renderer]
    return _sha(json.dumps(content, separators=(",", ":")))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sorted_sha(workflow: Any) -> str:
    return _sha(json.dumps(workflow, sort_keys=True))


def _without_seeds(workflow: dict[str, Any]) -> dict[str, Any]:
    """The graph with 0 for every seed: two seeds of one workflow must not fall into two splits."""
    return {
        key: node | {"inputs": node["inputs"] | dict.fromkeys(SEEDS & set(node["inputs"]), 0)}
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        else node
        for key, node in workflow.items()
    }


def _is_ours(workflow: Any) -> bool:
    """Whether every node is one of ours and wired as it should be, whatever its values are."""
    return all(problem.code in OF_VALUES for problem in every_problem(workflow, _NOTHING))


def _components(nodes: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (kind, value) in the order of execution; of passes only the first one's settings."""
    for inputs in nodes:
        name = inputs.get("ckpt_name", inputs.get("unet_name"))
        if isinstance(name, str):
            yield "checkpoint", name
    passes = [inputs for inputs in nodes if isinstance(inputs.get("sampler_name"), str)]
    for kind, name in _OF_FIRST_PASS.items():
        value = passes[0].get(name) if passes else None
        if isinstance(value, str | int | float):
            yield kind, value if isinstance(value, str) else f"{value:g}"
    yield "passes", str(len(passes))
    yield from _named("lora", "lora_name", nodes)
    yield from _named("upscaler", "model_name", nodes)


def _named(kind: str, name: str, nodes: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield every file of a kind that the workflow loads, or that there is none."""
    found = [inputs[name] for inputs in nodes if isinstance(inputs.get(name), str)]
    yield from ((kind, value) for value in found or [NONE])


def _inputs(workflow: dict[str, Any], order: list[str]) -> Iterator[dict[str, Any]]:
    for node in order:
        each = workflow[node]
        if isinstance(each, dict) and isinstance(each.get("inputs"), dict):
            yield each["inputs"]
