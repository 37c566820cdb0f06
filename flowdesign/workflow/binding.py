"""The prompt and the seed of a workflow: put in before it runs, taken out when a file is read.

The rule for seeds: every sampler that adds noise gets the seed plus its index among those, in order of
execution, so that no two passes start from the same noise; a sampler that adds none gets the seed itself.

A person's file may hold any seeds. So an unbound workflow has, where a seed goes, how far the seed was
from the rule, modulo 2**64: 0 where it follows the rule, and always 0 at the first. With another seed
the passes keep their distance, and what was bound before comes back as it was.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flowdesign.catalog import PREFIXES
from flowdesign.nodes import MAX_SEED, NODES
from flowdesign.workflow.graph import Workflow, digests, outputs_of, source, topological_order
from flowdesign.workflow.passes import SAMPLERS, guiding

PROMPT = "{prompt}"
SEEDS = {  # what holds a seed, and its name there
    "KSampler": "seed",
    "KSamplerAdvanced": "noise_seed",
    "RandomNoise": "noise_seed",
    "SamplerCustom": "noise_seed",
}
TEXTS = {  # what reads texts, and their names there
    name: tuple(each.name for each in declared.inputs if each.type == "STRING")
    for name, declared in NODES.items()
    if "CONDITIONING" in declared.outputs
}
_READERS = tuple(name for name, texts in TEXTS.items() if texts)
_FOLLOW = {  # the input that leads from a conditioning to the text that carries the prompt
    "ConditioningConcat": "conditioning_to",
    "ConditioningCombine": "conditioning_1",
    "ConditioningZeroOut": "conditioning",
    "ConditioningAverage": "conditioning_to",
    "ConditioningSetArea": "conditioning",
    "ConditioningSetAreaPercentage": "conditioning",
    "ConditioningSetAreaStrength": "conditioning",
    "ConditioningSetTimestepRange": "conditioning",
    "FluxGuidance": "conditioning",
}


_SEEDS = MAX_SEED + 1  # how many there are: counting goes on from 0 after the largest


def bind(workflow: Workflow, prompt: str, seed: int) -> Workflow:
    """Return a copy with the prompt in every text that holds {prompt}, and with seeds.

    Of a workflow that is bound already, which shows where its first seed is not 0, the seeds keep
    their distance. Raises ValueError for a seed out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"The seed must be a whole number from 0 to {MAX_SEED}.")
    result = _copy(workflow)
    for each in result.values():
        for name in _texts(each):
            each["inputs"][name] = each["inputs"][name].replace(PROMPT, prompt)
    rule = _rule(result)
    apart = _apart(result, rule, bound=_first_seed(result, rule) != 0)
    for node, index in rule.items():
        _set_seed(result[node], (seed + index + apart[node]) % _SEEDS)
    return result


def unbind(workflow: Workflow, prompt: str | None = None) -> tuple[Workflow, str, int]:
    """Return (unbound workflow, prompt, seed): the inverse of `bind`.

    Unless the prompt is given, a known prefix at the start of the text is taken for a choice of the
    workflow, not for a part of the prompt; a text that holds {prompt} gives "". A workflow that holds
    {prompt}, with 0 for its first seed, is unbound already.
    """
    result = _copy(workflow)
    rule = _rule(result)
    seed, apart = _first_seed(result, rule), _apart(result, rule, _is_bound(result, rule))
    prompt = _take_prompt(result, prompt)
    for node in rule:
        _set_seed(result[node], apart[node])
    return result, prompt, seed


def seeds_apart(workflow: Workflow) -> dict[str, int]:
    """Return, by node, what is added to the first seed where that is not what the rule adds.

    Between -2**63 and 2**63, of the two ways around the nearer.
    """
    rule = _rule(workflow)
    apart = _apart(workflow, rule, _is_bound(workflow, rule))
    return {node: signed(index + apart[node]) for node, index in rule.items() if apart[node]}


def with_seeds_by_rule(workflow: Workflow) -> Workflow:
    """Return a copy of an unbound workflow in which all seeds follow the rule."""
    result = _copy(workflow)
    for node in result.values():
        if node["class_type"] in SEEDS:
            _set_seed(node, 0)
    return result


def signed(offset: int) -> int:
    """Return an offset of seeds as the nearer of the two ways around, modulo 2**64."""
    return (offset + _SEEDS // 2) % _SEEDS - _SEEDS // 2


def _copy(workflow: Workflow) -> Workflow:
    return {
        node: {"class_type": each["class_type"], "inputs": dict(each["inputs"])}
        for node, each in workflow.items()
    }


def _adds_noise(node: dict[str, Any]) -> bool:
    return node["inputs"].get("add_noise", True) in ("enable", True)


def _texts(node: dict[str, Any]) -> list[str]:
    """Return the names of the texts that a node holds."""
    names = TEXTS.get(node["class_type"], ())
    return [name for name in names if isinstance(node["inputs"].get(name), str)]


def _in_order(workflow: Workflow, class_types: Collection[str]) -> list[str]:
    """Return the nodes of these types that outputs need, in an order without id, seed or prompt."""
    blank = _copy(workflow)
    for node in blank.values():
        for each in NODES[node["class_type"]].inputs:
            if each.control or each.type == "STRING":
                node["inputs"][each.name] = each.default
    found = digests(blank)
    roots = sorted(outputs_of(blank), key=found.__getitem__)
    order = topological_order(blank, roots)
    return [node for node in order if workflow[node]["class_type"] in class_types]


def _rule(workflow: Workflow) -> dict[str, int]:
    """Return what the rule adds to the seed, by node, in the order of execution."""
    found: dict[str, int] = {}
    index = 0
    for node in _in_order(workflow, SEEDS):
        adds_noise = _adds_noise(workflow[node])
        found[node] = index * adds_noise
        index += adds_noise
    return found


def _apart(workflow: Workflow, rule: dict[str, int], bound: bool) -> dict[str, int]:
    """Return how far each seed is from the rule: what an unbound workflow holds."""
    if not bound:
        return {node: _seed(workflow[node]) for node in rule}
    first = _first_seed(workflow, rule)
    return {n: (_seed(workflow[n]) - first - index) % _SEEDS for n, index in rule.items()}


def _is_bound(workflow: Workflow, rule: dict[str, int]) -> bool:
    """Whether the seeds are seeds. A bound workflow may hold {prompt}, or have 0 for its first seed."""
    if _first_seed(workflow, rule) != 0:
        return True
    return not any(PROMPT in workflow[node]["inputs"][name] for node, name in _places(workflow))


def _first_seed(workflow: Workflow, rule: dict[str, int]) -> int:
    """Return the seed of the first that adds noise, else of the first; 0 where there is none."""
    noisy = (node for node in rule if _adds_noise(workflow[node]))
    first = next(noisy, next(iter(rule), None))
    return _seed(workflow[first]) if first is not None else 0


def _seed(node: dict[str, Any]) -> int:
    return int(node["inputs"][SEEDS[node["class_type"]]])


def _set_seed(node: dict[str, Any], seed: int) -> None:
    node["inputs"][SEEDS[node["class_type"]]] = seed


def _places(workflow: Workflow) -> list[tuple[str, str]]:
    """Return (id, name) of every text that samplers are to follow."""
    samplers = _in_order(workflow, SAMPLERS)
    carriers = [node for node in (_carrier(workflow, each) for each in samplers) if node]
    return [(node, name) for node in carriers for name in _texts(workflow[node])]


def _take_prompt(workflow: Workflow, known: str | None) -> str:
    """Put {prompt} in place of the prompt, and return it; an unbound one has none."""
    places = _places(workflow)
    texts = [workflow[node]["inputs"][name] for node, name in places]
    if not texts or any(PROMPT in text for text in texts):
        return known or ""
    prefix = max((p for p in PREFIXES if texts[0].startswith(p)), key=len)
    prompt = texts[0][len(prefix) :] if known is None else known
    for node, name in places:
        text = workflow[node]["inputs"][name]
        head = next((p for p in PREFIXES if p + prompt == text), None)
        if head is not None:
            workflow[node]["inputs"][name] = head + PROMPT
    return prompt


def _carrier(workflow: Workflow, sampler: str) -> str | None:
    """Return the text node behind what a sampler is to follow."""
    link = guiding(workflow, sampler, "positive")
    while link and workflow[link[0]]["class_type"] in _FOLLOW:
        link = source(workflow, link[0], _FOLLOW[workflow[link[0]]["class_type"]])
    return link[0] if link and workflow[link[0]]["class_type"] in _READERS else None
