"""Moves the values of a workflow to the nearest ones the vocabulary has, and says which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowdesign.catalog import ASSETS, FAMILIES, asset
from flowdesign.nodes import NODES, Input
from flowdesign.tokens.builder import ALL_STEPS, FILENAME_PREFIX, switch_step
from flowdesign.tokens.vocabulary import SWITCHES
from flowdesign.workflow import (
    Workflow,
    nodes_of,
    seeds_apart,
    source,
    with_seeds_by_rule,
)


class Snapper:
    """Works on a copy of an unbound workflow; `workflow` is the result and `notes` say what was moved."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow: Workflow = with_seeds_by_rule(workflow)
        self.notes: list[str] = []
        if seeds_apart(workflow):
            self.notes.append("The seeds of later passes are not kept: they follow from the first.")
        for node in self.workflow:
            self._outputs(node)
            self._bins(node)
        self._sizes()
        self._switches()
        self._loras()

    def _set(self, node: str, name: str, value: Any, silent: bool = False) -> None:
        inputs = self.workflow[node]["inputs"]
        if inputs[name] != value:
            if not silent:
                before, after = _short(inputs[name]), _short(value)
                where = f"{self.workflow[node]['class_type']} {node}"
                self.notes.append(f"{where}: {name} {before} became {after}.")
            inputs[name] = value

    def _outputs(self, node: str) -> None:
        """Make every output a SaveImage with the project's file name."""
        each = self.workflow[node]
        if each["class_type"] == "PreviewImage":
            each["class_type"] = "SaveImage"
            each["inputs"]["filename_prefix"] = FILENAME_PREFIX
            self.notes.append(f"PreviewImage {node} became SaveImage.")
        elif each["class_type"] == "SaveImage":
            self._set(node, "filename_prefix", FILENAME_PREFIX)

    def _bins(self, node: str) -> None:
        """Move every number that has bins; a first pass has no denoise to choose."""
        declared = NODES[self.workflow[node]["class_type"]]
        for each in declared.inputs:
            if each.bins and each.type in ("INT", "FLOAT"):
                value = self.workflow[node]["inputs"][each.name]
                self._set(node, each.name, _nearest(value, self._choices(node, each)))
        if declared.presets:
            inputs = self.workflow[node]["inputs"]
            preset = min(declared.presets.values(), key=lambda p: _distance(p, inputs))
            for name, value in preset.items():
                self._set(node, name, value)
        if declared.class_type == "LoraLoader":
            self._set(node, "strength_clip", self.workflow[node]["inputs"]["strength_model"])

    def _choices(self, node: str, declared: Input) -> Sequence[Any]:
        if declared.name != "denoise":
            return declared.bins
        before = source(self.workflow, node, "latent_image")
        first = before and self.workflow[before[0]]["class_type"] == "EmptyLatentImage"
        return (1.0,) if first else declared.bins

    def _sizes(self) -> None:
        names = [
            n["inputs"]["ckpt_name"] for n in self.workflow.values() if "ckpt_name" in n["inputs"]
        ]
        row = asset("checkpoints", names[0]) if names else None
        family = FAMILIES[(row or ASSETS[0]).family]
        for node in nodes_of(self.workflow, "EmptyLatentImage"):
            inputs = self.workflow[node]["inputs"]
            asked = inputs["width"], inputs["height"]
            width, height = min(
                family.sizes, key=lambda s: abs(s[0] - asked[0]) + abs(s[1] - asked[1])
            )
            self._set(node, "width", width)
            self._set(node, "height", height)
            self._set(node, "batch_size", 1)

    def _switches(self) -> None:
        """Move the step at which a second checkpoint takes over, in both halves."""
        for node in nodes_of(self.workflow, "KSamplerAdvanced"):
            inputs = self.workflow[node]["inputs"]
            steps = inputs["steps"]
            choices = [switch_step(steps, share) for share in SWITCHES]
            if inputs["end_at_step"] >= steps:
                self._set(node, "end_at_step", ALL_STEPS, silent=True)  # the same steps
                if inputs["start_at_step"] > 0:
                    self._set(node, "start_at_step", _nearest(inputs["start_at_step"], choices))
            elif inputs["start_at_step"] == 0:
                self._set(node, "end_at_step", _nearest(inputs["end_at_step"], choices))

    def _loras(self) -> None:
        """Put chained LoRAs into the vocabulary's order: their sum does not depend on it."""
        order = [row.name for row in ASSETS if row.kind == "loras"]
        loras = nodes_of(self.workflow, "LoraLoader")
        names = ("lora_name", "strength_model", "strength_clip")
        values = [tuple(self.workflow[n]["inputs"][key] for key in names) for n in loras]
        ordered = sorted(values, key=lambda v: order.index(v[0]) if v[0] in order else len(order))
        if ordered != values:
            self.notes.append("The LoRAs were put into the vocabulary's order.")
        for node, row in zip(loras, ordered, strict=True):
            self.workflow[node]["inputs"].update(zip(names, row, strict=True))


def _nearest(value: float, choices: Sequence[Any]) -> Any:
    """Return the nearest choice, but never one of another sign."""
    same = [choice for choice in choices if (choice < 0) == (value < 0)]
    return min(same, key=lambda choice: abs(choice - value)) if same else value


def _distance(preset: Any, inputs: dict[str, Any]) -> float:
    return float(sum(abs(value - inputs[name]) for name, value in preset.items()))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)[:60]
