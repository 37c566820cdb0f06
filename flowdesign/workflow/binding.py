"""The prompt and the seed of a workflow: put in before it runs, taken out when a file is read.

Every sampler that adds noise gets the seed plus its index among those, in order of execution, so
that no two passes start from the same noise; a sampler that adds none gets the seed itself.
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


def bind(workflow: Workflow, prompt: str, seed: int) -> Workflow:
    """Return a copy with the prompt in every text that holds {prompt}, and with seeds."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"The seed must be a whole number from 0 to {MAX_SEED}.")
    result = _copy(workflow)
    for node in result.values():
        for name in _texts(node):
            node["inputs"][name] = node["inputs"][name].replace(PROMPT, prompt)
    _set_seeds(result, seed)
    return result


def unbind(workflow: Workflow, prompt: str | None = None) -> tuple[Workflow, str, int]:
    """Return (unbound workflow, prompt, seed): the inverse of `bind`.

    Unless the prompt is given, a known prefix at the start of the text is taken for a choice of the
    workflow, not for a part of the prompt; a text that holds {prompt} gives "". Of seeds that do not follow the rule of `bind` only the first is kept.
    """
    result = _copy(workflow)
    seeded = _in_order(result, SEEDS)
    noisy = [node for node in seeded if _adds_noise(result[node])]
    first = (noisy or seeded or [""])[0]
    seed = int(result[first]["inputs"][SEEDS[result[first]["class_type"]]]) if first else 0
    prompt = _take_prompt(result, _in_order(result, SAMPLERS), prompt)
    for node in seeded:
        result[node]["inputs"][SEEDS[result[node]["class_type"]]] = 0
    return result, prompt, seed


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


def _set_seeds(workflow: Workflow, seed: int) -> None:
    index = 0
    for node in _in_order(workflow, SEEDS):
        name = SEEDS[workflow[node]["class_type"]]
        adds_noise = _adds_noise(workflow[node])
        workflow[node]["inputs"][name] = (seed + index * adds_noise) % (MAX_SEED + 1)
        index += adds_noise


def _take_prompt(workflow: Workflow, samplers: list[str], known: str | None) -> str:
    """Put {prompt} in place of the prompt, and return it; an unbound one has none."""
    carriers = [node for node in (_carrier(workflow, each) for each in samplers) if node]
    places = [(node, name) for node in carriers for name in _texts(workflow[node])]
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
