"""Samplers, whole or taken apart: what they are set to, and which model and texts guide them.

SamplerCustomAdvanced has no widgets: sampler, schedule and guidance are nodes of their own.
"""

from __future__ import annotations

from typing import Any

from flowdesign.nodes import NODES
from flowdesign.workflow.graph import Workflow, is_link, source

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_APART = ("sampler", "sigmas", "guider", "noise")  # the inputs that lead to a sampler's parts
_ALONE = 1.0  # cfg of a guider with one text


def settings(workflow: Workflow, sampler: str) -> dict[str, Any]:
    """Return a sampler's values, those of its parts included, by the names that a KSampler has."""
    found = {"cfg": _ALONE}
    for node in (*_parts(workflow, sampler), sampler):
        declared = NODES[workflow[node]["class_type"]]
        given = workflow[node]["inputs"]
        found |= {each.name: each.default for each in declared.widgets if each.default is not None}
        found |= {name: value for name, value in given.items() if not is_link(value)}
    return found


def guiding(workflow: Workflow, sampler: str, name: str) -> tuple[str, int] | None:
    """Return what feeds a sampler's model, positive or negative input, or its guider's."""
    link = source(workflow, sampler, name)
    guider = source(workflow, sampler, "guider")
    if link is None and guider is not None:
        link = source(workflow, guider[0], name)
        if link is None and name == "positive":
            link = source(workflow, guider[0], "conditioning")
    return link


def _parts(workflow: Workflow, sampler: str) -> list[str]:
    links = (source(workflow, sampler, name) for name in _APART)
    return [link[0] for link in links if link]
