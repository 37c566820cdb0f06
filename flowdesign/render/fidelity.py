"""How near an image will be to ComfyUI's: exact, approximate or refused, known before it is rendered.

Exact means that ComfyUI's rules (noise levels, timesteps, noise, samplers, texts) are followed in
float32, so that results differ by rounding only, about 1e-6. It does not mean that ComfyUI can open the model:
where it cannot, the result says so. No weight is loaded to tell: the configuration files and the
headers of safetensors files are enough.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowdesign.catalog import Installed, installed, suggest
from flowdesign.headers import SUFFIX
from flowdesign.render.checkpoint import Checkpoint, read_checkpoint, read_codec, read_network
from flowdesign.render.errors import RenderError
from flowdesign.render.files import Part, check_weights, read_header
from flowdesign.render.layouts import text_encoder
from flowdesign.render.lora import ignored_alpha, match, part_of
from flowdesign.render.operations import OPERATIONS
from flowdesign.render.resize import TILE
from flowdesign.render.samplers import SAMPLERS
from flowdesign.render.sigmas import SCHEDULES
from flowdesign.render.single_file import names_in_file
from flowdesign.render.text import embedding_named, embeddings_in
from flowdesign.workflow import SAMPLERS as SAMPLING
from flowdesign.workflow import (
    TEXTS,
    Workflow,
    guiding,
    settings,
    sizes,
    source,
    topological_order,
    validate,
)

FLOW = "SD 3 and FLUX.1 were compared with diffusers, not with ComfyUI"
_UNET_ONLY = ("FreeU_V2", "PerturbedAttentionGuidance")
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
        else:
            yield from _flow_refusals(workflow, node, models)


def _flow_refusals(workflow: Workflow, node: str, models: Installed) -> Iterator[str]:
    """Yield what cannot be done with a transformer, which follows a flow."""
    class_type = workflow[node]["class_type"]
    if class_type not in (*SAMPLING, *_UNET_ONLY):
        return
    try:
        checkpoint = _checkpoint_of(workflow, node, models)
    except RenderError:
        return  # told at its loader
    name = str(settings(workflow, node).get("sampler_name"))
    if checkpoint.has_unet:
        return
    if class_type in _UNET_ONLY:
        yield f"{class_type} changes a UNet; '{checkpoint.name}' has a transformer."
    elif name in SAMPLERS and SAMPLERS[name].for_flow is None:
        fit = [each for each, sampler in SAMPLERS.items() if sampler.for_flow is not None]
        yield (
            f"The sampler {name} adds noise in a way that does not fit '{checkpoint.name}', a "
            f"flow-matching model; those that do: {', '.join(fit)}."
        )


def _read_files(workflow: Workflow, node: str, models: Installed) -> None:
    """Read what the files of a loader say; raises RenderError when they cannot be loaded."""
    inputs = workflow[node]["inputs"]
    if "ckpt_name" in inputs:
        read_checkpoint(models.path("checkpoints", inputs["ckpt_name"]))
    if "vae_name" in inputs:
        read_codec(models.path("vae", inputs["vae_name"]))
    if "unet_name" in inputs:
        read_network(models.path("diffusion_models", inputs["unet_name"]))
    for name in _text_files(inputs):
        text_encoder(models.path("text_encoders", name))
    if "lora_name" in inputs:
        read_header(models.path("loras", inputs["lora_name"]))
    if "model_name" in inputs:
        read_header(models.path("upscale_models", inputs["model_name"]))


def _text_files(inputs: Mapping[str, Any]) -> list[str]:
    """Return the text encoders that a loader names."""
    names = ("clip_name", "clip_name1", "clip_name2", "clip_name3")
    return [inputs[name] for name in names if name in inputs]


def _reasons(workflow: Workflow, order: list[str], models: Installed) -> Iterator[str]:
    extent = sizes(workflow)
    for node in order:
        class_type, inputs = workflow[node]["class_type"], workflow[node]["inputs"]
        if "lora_name" in inputs:
            yield from _lora_reasons(workflow, node, models)
        if inputs.get("weight_dtype", "default") != "default":
            yield f"weight_dtype {inputs['weight_dtype']} is not followed: weights are not rounded to 8 bits"
        for name in TEXTS.get(class_type, ()):
            yield from _embedding_reasons(str(inputs[name]), models)
        if class_type in SAMPLING:
            yield from _sampling_reasons(workflow, node, models)
        if class_type == "ImageUpscaleWithModel":
            link = source(workflow, node, "image")
            before = extent.get(link[0]) if link else None
            if before and max(before.width, before.height) > TILE:
                yield f"images over {TILE} pixels are upscaled in tiles, whose blending is not verified"


def _sampling_reasons(workflow: Workflow, node: str, models: Installed) -> Iterator[str]:
    values = settings(workflow, node)
    if values["sampler_name"] in ("uni_pc", "uni_pc_bh2") and values["steps"] == 1:
        yield "ComfyUI takes no step at all with UniPC and 1 step; here it takes one"
    if not _checkpoint_of(workflow, node, models).has_unet:
        yield FLOW


def _embedding_reasons(text: str, models: Installed) -> Iterator[str]:
    for written in embeddings_in(text):
        if embedding_named(written, models.names("embeddings"))[0] is None:
            yield f"the embedding '{written}' is not installed: it is left out, as in ComfyUI"


def _lora_reasons(workflow: Workflow, node: str, models: Installed) -> Iterator[str]:
    name = workflow[node]["inputs"]["lora_name"]
    checkpoint = _checkpoint_of(workflow, node, models)
    parts = [checkpoint.network]
    if source(workflow, node, "clip") is not None:
        parts += _texts_of(workflow, node, models)
    tensors, metadata = read_header(models.path("loras", name))
    found = match(tensors, weights_of(parts))
    used = sum(len(pairs) for pairs in found.pairs.values())
    if not used:
        yield f"the LoRA '{name}' changes nothing in '{checkpoint.name}'"
    elif found.unknown:
        yield f"{len(found.unknown)} of {len(tensors)} tensors of the LoRA '{name}' are not used"
    if ignored_alpha(metadata):
        yield f"the LoRA '{name}' asks for a scale in its metadata, which is not read"


def _checkpoint_of(workflow: Workflow, node: str, models: Installed) -> Checkpoint:
    """Return the checkpoint behind a node's model input, or its guider's."""
    while (link := guiding(workflow, node, "model")) is not None:
        node = link[0]
    inputs = workflow[node]["inputs"]
    if "ckpt_name" in inputs:
        return read_checkpoint(models.path("checkpoints", inputs["ckpt_name"]))
    return read_network(models.path("diffusion_models", inputs["unet_name"]))


def _texts_of(workflow: Workflow, node: str, models: Installed) -> tuple[Part, ...]:
    """Return the text encoders behind a node's clip input."""
    while (link := source(workflow, node, "clip")) is not None:
        node = link[0]
    inputs = workflow[node]["inputs"]
    if "ckpt_name" in inputs:
        return read_checkpoint(models.path("checkpoints", inputs["ckpt_name"])).texts
    paths = (models.path("text_encoders", name) for name in _text_files(inputs))
    return tuple(text_encoder(path) for path in paths)


def weights_of(parts: Iterable[Part]) -> dict[str, list[str]]:
    """Return the names of the weights of the parts that a LoRA can change, none of them loaded."""
    found: dict[str, list[str]] = {}
    for part in parts:
        name = part_of(part.role, part.settings())
        if part.weights.is_file():
            found[name] = list(names_in_file(part))
            continue
        check_weights(part.weights)
        files = sorted(glob.glob(str(Path(glob.escape(str(part.weights))) / f"*{SUFFIX}")))
        found[name] = [key for file in files for key in read_header(Path(file))[0]]
    return found
