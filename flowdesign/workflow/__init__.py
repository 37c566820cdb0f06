"""The workflow: ComfyUI's API graph, its validation, its canonical form, its prompt and seed.

A workflow is ``{id: {"class_type": ..., "inputs": {...}}}``, and a link is ``[id, slot]``.
An *unbound* workflow holds ``{prompt}`` where the prompt goes, and for every seed how far it is from the rule
of `binding`: 0 but for files whose later passes have seeds of their own.
"""

from flowdesign.workflow.binding import (
    PROMPT,
    TEXTS,
    bind,
    seeds_apart,
    signed,
    unbind,
    with_seeds_by_rule,
)
from flowdesign.workflow.description import describe
from flowdesign.workflow.graph import (
    DependencyCycle,
    Workflow,
    canonical,
    digests,
    is_link,
    nodes_of,
    outputs_of,
    source,
    topological_order,
    workflow_hash,
)
from flowdesign.workflow.passes import SAMPLERS, guiding, settings
from flowdesign.workflow.problems import OF_VALUES, MoreProblems, Problem, limited, show, total
from flowdesign.workflow.sizes import LEAST_LATENT_SIDE, VAE_FACTOR, Size, asked_size, sizes
from flowdesign.workflow.validation import MAX_ID, MAX_NODES, MAX_TEXT, every_problem, validate

__all__ = [
    "LEAST_LATENT_SIDE",
    "MAX_ID",
    "MAX_NODES",
    "MAX_TEXT",
    "OF_VALUES",
    "PROMPT",
    "SAMPLERS",
    "TEXTS",
    "VAE_FACTOR",
    "DependencyCycle",
    "MoreProblems",
    "Problem",
    "Size",
    "Workflow",
    "asked_size",
    "bind",
    "canonical",
    "describe",
    "digests",
    "every_problem",
    "guiding",
    "is_link",
    "limited",
    "nodes_of",
    "outputs_of",
    "seeds_apart",
    "settings",
    "show",
    "signed",
    "sizes",
    "source",
    "topological_order",
    "total",
    "unbind",
    "validate",
    "with_seeds_by_rule",
    "workflow_hash",
]
