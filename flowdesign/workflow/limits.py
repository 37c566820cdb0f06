"""What is well formed and would take the machine down: pixels, steps, and steps times pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowdesign.workflow.graph import Workflow
from flowdesign.workflow.passes import SAMPLERS, settings
from flowdesign.workflow.problems import Problem, show
from flowdesign.workflow.sizes import sizes

MAX_STEPS = 1_000  # of the schedules of all samplers together
MAX_WORK = 1_000 * 1024 * 1024  # steps x pixels, of all samplers together
_COUNTED = 10**12  # a schedule is not counted any further: a tiny denoise makes it endless


def over_limits(workflow: Workflow) -> Iterator[Problem]:
    """Yield what is too large, too long or too much in a workflow that is otherwise valid."""
    found = sizes(workflow)
    for node, size in found.items():
        if size.fault:
            message = f"Node {show(node)} ({workflow[node]['class_type']}): {size.fault}"
            yield Problem("too_many_pixels", node, "", message)
    samplers = {n: settings(workflow, n) for n, each in workflow.items() if _samples(each)}
    yield from _too_long(samplers)
    work = sum(_taken(s) * found[n].pixels for n, s in samplers.items() if n in found)
    if work > MAX_WORK:
        message = (
            f"All samplers together work on {work // 10**6:,} million pixels (steps x pixels); at "
            f"most {MAX_WORK // 10**6:,} million are allowed, as of 1,000 steps at 1024x1024."
        )
        yield Problem("too_much_sampling", "", "", message)


def _samples(node: dict[str, Any]) -> bool:
    return node["class_type"] in SAMPLERS


def _too_long(samplers: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    lengths = {node: _length(inputs) for node, inputs in samplers.items()}
    for node, length in lengths.items():
        if length > MAX_STEPS and samplers[node].get("denoise", 1) < 1:
            steps, denoise = samplers[node]["steps"], samplers[node]["denoise"]
            message = (
                f"Node {show(node)}: {steps} steps at denoise {denoise:g} are the last of a "
                f"schedule of {_number(length)} steps; at most {MAX_STEPS} are allowed."
            )
            yield Problem("too_many_steps", node, "denoise", message)
            return
    steps = sum(lengths.values())
    if steps > MAX_STEPS:
        message = f"All samplers together take {steps} steps; at most {MAX_STEPS} are allowed."
        yield Problem("too_many_steps", "", "", message)


def _length(inputs: dict[str, Any]) -> int:
    """Return how many steps a sampler's schedule has: with a denoise below 1 it takes the last."""
    denoise = inputs.get("denoise", 1.0)
    return int(min(inputs["steps"] / denoise, _COUNTED)) if denoise > 0 else 0


def _taken(inputs: dict[str, Any]) -> int:
    """Return how many steps a sampler takes."""
    steps = int(inputs["steps"])
    if "start_at_step" in inputs:
        return max(0, min(int(inputs["end_at_step"]), steps) - int(inputs["start_at_step"]))
    return steps if inputs.get("denoise", 1.0) > 0 else 0


def _number(length: int) -> str:
    return f"{length:,}" if length < _COUNTED else f"more than {_COUNTED:,}"
