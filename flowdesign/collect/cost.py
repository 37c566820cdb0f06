"""How much sampling a workflow asks for, known before it is rendered."""

from __future__ import annotations

from flowdesign.nodes import NODES
from flowdesign.workflow import Workflow, nodes_of, sizes

TWICE = ("heun", "dpmpp_sde")  # samplers that evaluate the model twice in a step
SAMPLERS = ("KSampler", "KSamplerAdvanced")


def evaluations(workflow: Workflow, native: int) -> float:
    """Give the evaluations of the diffusion model for one image of a valid workflow.

    Counted in evaluations at `native` x `native` pixels: a larger image counts by its area, guidance
    counts twice. (Attention grows faster than the area, so for large images it is a lower bound.)
    """
    extent, total = sizes(workflow), 0.0
    for class_type in SAMPLERS:
        for node in nodes_of(workflow, class_type):
            inputs = {i.name: i.default for i in NODES[class_type].widgets}
            inputs |= workflow[node]["inputs"]
            last = min(inputs["steps"], inputs.get("end_at_step", inputs["steps"]))
            steps = max(last - inputs.get("start_at_step", 0), 0)
            times = (1 + (inputs["sampler_name"] in TWICE)) * (1 + (inputs["cfg"] != 1))
            size = extent[node]
            total += steps * times * size.width * size.height / native**2
    return total
