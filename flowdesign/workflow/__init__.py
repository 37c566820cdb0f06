"""The workflow: ComfyUI's API graph, its validation, its canonical form, its prompt and seed.

A workflow is ``{id: {"class_type": ..., "inputs": {...}}}``, and a link is ``[id, slot]``.
An *unbound* workflow holds ``{prompt}`` where the prompt goes, and 0 for every seed.
"""

from flowdesign.workflow.binding import PROMPT, bind, unbind
from flowdesign.workflow.description import describe
from flowdesign.workflow.graph import (
    DependencyCycle,
    Problem,
    Workflow,
    canonical,
    digests,
    nodes_of,
    source,
    topological_order,
    workflow_hash,
)
from flowdesign.workflow.sizes import Size, sizes
from flowdesign.workflow.validation import validate

__all__ = [
    "PROMPT",
    "DependencyCycle",
    "Problem",
    "Size",
    "Workflow",
    "bind",
    "canonical",
    "describe",
    "digests",
    "nodes_of",
    "sizes",
    "source",
    "topological_order",
    "unbind",
    "validate",
    "workflow_hash",
]
