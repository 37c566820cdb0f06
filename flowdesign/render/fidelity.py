"""How near an image will be to ComfyUI's: exact, approximate or refused, known before it is rendered.

Exact means that ComfyUI's rules (noise levels, timesteps, noise, samplers, texts) are followed in
float32, so that results differ by rounding only, about 1e-6. It does not mean that ComfyUI can open the model:
where it cannot, the result says so. No weight is loaded to tell: the configuration files and the
headers of safetensors files are enough.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowdesign.catalog import Installed, installed, suggest
from flowdesign.headers import SUFFIX
from flowdesign.render.errors import RenderError
from flowdesign.render.files import (
    Checkpoint,
    check_weights,
    read_checkpoint,
    read_header,
    read_vae,
)
from flowdesign.render.lora import ignored_alpha, match
from flowdesign.render.operations import OPERATIONS
from flowdesign.render.resize import TILE
from flowdesign.render.samplers import SAMPLERS
from flowdesign.render.sigmas import SCHEDULES
from flowdesign.render.text import EMBEDDING
from flowdesign.workflow import Workflow, sizes, source, topological_order, validate

EXACT, APPROXIMATE, REFUSED = "exact", "approximate", "refused"


@dataclass(frozen=True)
class Fidelity:
    """A label (exact, approximate or refused), the reasons for it, and what else is to be known."""

    label: str
    reasons: tuple[str, ...] = ()


def fidelity(workflow: Workflow, models: Installed | None = None) -> Fidelity:
    """Tell how a workflow will be rendered in float32 on a CPU; total, whatever the workflow."""
    models = models or installed()
    problems = validate(workflow, models)
    if problems:
        return Fidelity(REFUSED, tuple(dict.fromkeys(problem.message for problem in problems)))
    order = topological_order(workflow)
    refusals = tuple(_refusals(workflow, order, models))
    if refusals:
        return Fidelity(REFUSED, tuple(dict.fromkeys(refusals)))
    reasons = tuple(dict.fromkeys(_reasons(workflow, order, models)))
    notes = tuple(dict.fromkeys(_notes(workflow, order, models)))
    return Fidelity(APPROXIMATE if reasons else EXACT, (*reasons, *notes))


def _notes(workflow: Workflow, order: list[str], models: Installed) -> Iterator[str]:
    """Yield what is no reason for a label."""
    for node in order:
        name = workflow[node]["inputs"].get("ckpt_name")
        own = read_checkpoint(models.path("checkpoints", name)).own_parts if name else ()
        if own:
            yield f"ComfyUI cannot load '{name}' itself: it does not know its {' and '.join(own)}"


def _refusals(workflow: Workflow, order: list[str], models: Installed) -> Iterator[str]:
    for node in order:
        class_type, inputs = workflow[node]["class_type"], workflow[node]["inputs"]
        if class_type not in OPERATIONS:
            yield f"The node {class_type} is not rendered here. {suggest(class_type, OPERATIONS)}"
        for name, known in (("sampler_name", SAMPLERS), ("scheduler", SCHEDULES)):
            if name in inputs and inputs[name] not in known:
                what = name.removesuffix("_name")
                yield f"Unknown {what} '{inputs[name]}'. {suggest(str(inputs[name]), known)}"
        try:
            _read_files(workflow, node, models)
        except RenderError as fault:
            yield str(fault)


def _read_files(workflow: Workflow, node: str, models: Installed) -> None:
    """Read what the files of a loader say; raises RenderError when they cannot be loaded."""
    inputs = workflow[node]["inputs"]
    if "ckpt_name" in inputs:
        read_checkpoint(models.path("checkpoints", inputs["ckpt_name"]))
    if "vae_name" in inputs:
        read_vae(models.path("vae", inputs["vae_name"]))
    if "lora_name" in inputs:
        read_header(models.path("loras", inputs["lora_name"]))
    if "model_name" in inputs:
        read_header(models.path("upscale_models", inputs["model_name"]))


def _reasons(workflow: Workflow, order: list[str], models: Installed) -> Iterator[str]:
    extent = sizes(workflow)
    for node in order:
        class_type, inputs = workflow[node]["class_type"], workflow[node]["inputs"]
        if "ckpt_name" in inputs:
            yield from read_checkpoint(models.path("checkpoints", inputs["ckpt_name"])).notes
        if class_type == "LoraLoader":
            yield from _lora_reasons(workflow, node, models)
        if EMBEDDING in str(inputs.get("text", "")):
            yield f"'{EMBEDDING}' in a text is read as a word: textual inversion is not supported"
        if inputs.get("sampler_name") in ("uni_pc", "uni_pc_bh2") and inputs["steps"] == 1:
            yield "ComfyUI takes no step at all with UniPC and 1 step; here it takes one"
        if class_type == "ImageUpscaleWithModel":
            link = source(workflow, node, "image")
            before = extent.get(link[0]) if link else None
            if before and max(before.width, before.height) > TILE:
                yield f"images over {TILE} pixels are upscaled in tiles, whose blending is not verified"


def _lora_reasons(workflow: Workflow, node: str, models: Installed) -> Iterator[str]:
    name = workflow[node]["inputs"]["lora_name"]
    checkpoint = _checkpoint_of(workflow, node, models)
    tensors, metadata = read_header(models.path("loras", name))
    found = match(tensors, weights_of(checkpoint))
    used = sum(len(pairs) for pairs in found.pairs.values())
    if not used:
        yield f"the LoRA '{name}' changes nothing in '{checkpoint.folder.name}'"
    elif found.unknown:
        yield f"{len(found.unknown)} of {len(tensors)} tensors of the LoRA '{name}' are not used"
    if ignored_alpha(metadata):
        yield f"the LoRA '{name}' asks for a scale in its metadata, which is not read"


def _checkpoint_of(workflow: Workflow, node: str, models: Installed) -> Checkpoint:
    """Return the checkpoint behind a node's model input."""
    while (link := source(workflow, node, "model")) is not None:
        node = link[0]
    return read_checkpoint(models.path("checkpoints", workflow[node]["inputs"]["ckpt_name"]))


def weights_of(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Return the names of the weights of the parts that a LoRA can change, from file headers."""
    found: dict[str, list[str]] = {}
    for part in ("unet", *checkpoint.text_encoders):
        folder = checkpoint.folder / part
        check_weights(folder)
        files = sorted(glob.glob(str(Path(glob.escape(str(folder))) / f"*{SUFFIX}")))
        found[part] = [name for file in files for name in read_header(Path(file))[0]]
    return found
