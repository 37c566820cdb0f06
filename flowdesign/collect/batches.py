"""Jobs, and which of them are rendered together.

The renderer computes equal parts of workflows once, and runs samplers together that differ in texts
and seeds only. So the jobs of a workflow stay together, beside those whose first pass is alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flowdesign.collect.plan import Pair
from flowdesign.nodes import NODES
from flowdesign.records.identity import key_of
from flowdesign.tokens import workflow_of
from flowdesign.workflow import Workflow, digests, nodes_of, workflow_hash

WINDOW = 512  # workflows that are sorted together: whatever has been done is an even sample


@dataclass(frozen=True)
class Job:
    """One image to be: an unbound workflow, the sentence that says it, a prompt and a seed."""

    prompt: str
    workflow: Workflow
    sentence: str
    seed: int
    assets: Mapping[str, str]  # name -> hash of the models that the workflow loads
    key: str  # of the record that comes of it


@dataclass(frozen=True)
class Batch:
    """Jobs that are rendered together; `number` is its place in the plan."""

    number: int
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class PlannedWorkflow:
    """A workflow of the plan with all that its jobs share."""

    sentence: str
    workflow: Workflow
    digest: str
    trunk: str
    assets: Mapping[str, str]


def plan_workflow(
    sentence: str, hashes: Callable[[Workflow], Mapping[str, str]]
) -> PlannedWorkflow:
    """Take a sentence apart; `hashes` gives the hashes of the models that a workflow loads.

    Raises ValueError when it is none of this version's language.
    """
    workflow = workflow_of(sentence)
    if workflow is None:
        raise ValueError(f"The plan has a sentence that is no workflow: {sentence}")
    digest, assets = workflow_hash(workflow), hashes(workflow)
    return PlannedWorkflow(sentence, workflow, digest, trunk(workflow), assets)


def trunk(workflow: Workflow) -> str:
    """Give a text that is equal for workflows whose first samplers can be run together."""
    blank: Workflow = {}
    for node, each in workflow.items():
        texts = {i.name for i in NODES[each["class_type"]].inputs if i.type == "STRING"}
        inputs = {name: "" if name in texts else v for name, v in each["inputs"].items()}
        blank[node] = {"class_type": each["class_type"], "inputs": inputs}
    first = [*nodes_of(blank, "KSampler"), *nodes_of(blank, "KSamplerAdvanced")]
    found = digests(blank)
    return min((found[node] for node in first if _is_first(blank, node)), default="")


def make_batches(
    pairs: Sequence[Pair], designs: Mapping[str, PlannedWorkflow], renderer: str, size: int
) -> list[Batch]:
    """Cut a plan into batches of up to `size` jobs, the same ones whenever it is done."""
    by_sentence: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_sentence.setdefault(pair.sentence, []).append(pair)
    order = list(by_sentence)
    parts: list[list[Job]] = []
    for start in range(0, len(order), WINDOW):
        window = sorted(order[start : start + WINDOW], key=lambda one: _rank(designs[one]))
        jobs = [list(_jobs(designs[one], by_sentence[one], renderer)) for one in window]
        parts += _packed(jobs, size)
    return [Batch(number, tuple(jobs)) for number, jobs in enumerate(parts)]


def _is_first(workflow: Workflow, node: str) -> bool:
    latent = workflow[node]["inputs"]["latent_image"][0]
    return bool(workflow[latent]["class_type"] == "EmptyLatentImage")


def _rank(design: PlannedWorkflow) -> tuple[list[str], str, str]:
    """Workflows of the same models are neighbours too: loading and merging takes time."""
    return sorted(design.assets), design.trunk, design.sentence


def _jobs(design: PlannedWorkflow, pairs: Sequence[Pair], renderer: str) -> Iterator[Job]:
    for pair in pairs:
        for seed in pair.seeds:
            key = key_of(pair.prompt, design.digest, seed, design.assets, renderer)
            yield Job(
                pair.prompt, design.workflow, design.sentence, seed, design.assets, key
            )  # fmt: skip


def _packed(groups: Sequence[Sequence[Job]], size: int) -> list[list[Job]]:
    """Fill batches with whole groups where they fit; a larger group is cut."""
    batches: list[list[Job]] = [[]]
    for group in groups:
        for start in range(0, len(group), size):
            part = group[start : start + size]
            if len(batches[-1]) + len(part) > size:
                batches.append([])
            batches[-1] += part
    return [batch for batch in batches if batch]
