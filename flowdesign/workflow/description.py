"""A workflow in one English sentence, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowdesign.catalog import PREFIXES
from flowdesign.workflow.binding import PROMPT, TEXTS, seeds_apart
from flowdesign.workflow.graph import Workflow, outputs_of, source, topological_order
from flowdesign.workflow.passes import SAMPLERS, guiding, settings
from flowdesign.workflow.sizes import EMPTY_LATENTS

_BACK = {  # the input that leads back along latents and images
    **dict.fromkeys(SAMPLERS, "latent_image"),
    "VAEDecode": "samples",
    "VAEEncode": "pixels",
    "LatentUpscaleBy": "samples",
    "LatentUpscale": "samples",
    "ImageScaleBy": "image",
    "ImageScale": "image",
    "ImageUpscaleWithModel": "image",
    "SaveImage": "images",
    "PreviewImage": "images",
}


def describe(workflow: Workflow) -> str:
    """Return one sentence that says what a valid workflow does, without prompt and seed.

    Where the seed of a later pass does not follow from the first by the rule, it says so.
    """
    apart = seeds_apart(workflow)
    texts = (_output(workflow, output, apart) for output in outputs_of(workflow))
    return "; also ".join(dict.fromkeys(texts))


def _output(workflow: Workflow, output: str, apart: Mapping[str, int]) -> str:
    order = topological_order(workflow, [output])
    samplers = [node for node in order if workflow[node]["class_type"] in SAMPLERS]
    parts: list[str] = []
    said = ""
    for sampler in samplers:
        checkpoint = _checkpoint(workflow, sampler)
        if parts:
            parts.append(_later_pass(workflow, sampler, checkpoint if checkpoint != said else ""))
        else:
            parts.append(_first_pass(workflow, sampler, order))
        parts[-1] += _seed(workflow, sampler, apart)
        said = checkpoint
    text = ", then ".join(parts) or "no sampling"
    return ", ".join([text, *_resizes(workflow, output)])


def _first_pass(workflow: Workflow, sampler: str, order: list[str]) -> str:
    changes = [*_changes(workflow, sampler), *_parts(workflow, sampler, order)]
    checkpoint = _checkpoint(workflow, sampler)
    head = f"{checkpoint} with {', '.join(changes)}" if changes else checkpoint
    parts = [head, *_texts(workflow, sampler), *_resizes(workflow, sampler)]
    return ", ".join([*parts, _steps(settings(workflow, sampler))])


def _later_pass(workflow: Workflow, sampler: str, checkpoint: str) -> str:
    parts = [*_resizes(workflow, sampler), _steps(settings(workflow, sampler))]
    return " and ".join(parts) + (f" on {checkpoint}" if checkpoint else "")


def _steps(inputs: dict[str, Any]) -> str:
    steps, start = inputs["steps"], inputs.get("start_at_step", 0)
    end = min(inputs.get("end_at_step", steps), steps)
    count = f"{steps} steps" if end - start == steps else f"steps {start + 1} to {end} of {steps}"
    text = f"{count} of {inputs['sampler_name']}/{inputs['scheduler']} at cfg {inputs['cfg']:g}"
    denoise = inputs.get("denoise", 1.0)
    return text if denoise == 1 else f"{text} and denoise {denoise:g}"


def _seed(workflow: Workflow, sampler: str, apart: Mapping[str, int]) -> str:
    """Return what a pass does with the first seed, where that is not what the rule says."""
    link = source(workflow, sampler, "noise")
    offset = apart.get(link[0] if link else sampler)
    if offset is None:
        return ""
    sign = "-" if offset < 0 else "+"
    return " with the first seed" + (f" {sign} {abs(offset):,}" if offset else "")


def _models(workflow: Workflow, sampler: str) -> Iterator[dict[str, Any]]:
    """Yield the nodes that make a sampler's model, the checkpoint loader last."""
    link = guiding(workflow, sampler, "model")
    while link:
        yield workflow[link[0]]
        link = source(workflow, link[0], "model")


def _checkpoint(workflow: Workflow, sampler: str) -> str:
    inputs = list(_models(workflow, sampler))[-1]["inputs"]
    return str(inputs.get("ckpt_name") or inputs["unet_name"])


def _changes(workflow: Workflow, sampler: str) -> list[str]:
    """Return what is done to the checkpoint's model, in order."""
    return [_change(node) for node in list(_models(workflow, sampler))[-2::-1]]


def _change(node: dict[str, Any]) -> str:
    inputs = node["inputs"]
    if "lora_name" in inputs:
        return f"LoRA {inputs['lora_name']} ({inputs['strength_model']:g})"
    if node["class_type"] == "PerturbedAttentionGuidance":
        return f"perturbed attention ({inputs['scale']:g})"
    if node["class_type"] == "RescaleCFG":
        return f"cfg rescale ({inputs['multiplier']:g})"
    if node["class_type"].startswith("ModelSampling"):
        return f"noise shifted by {inputs.get('shift', inputs.get('max_shift')):g}"
    return "FreeU ({})".format(", ".join(f"{inputs[name]:g}" for name in ("b1", "b2", "s1", "s2")))


def _parts(workflow: Workflow, sampler: str, order: list[str]) -> list[str]:
    """Return clip skip and VAE, where they are not the checkpoint's own."""
    texts = topological_order(workflow, [sampler])
    skips = [workflow[n]["inputs"].get("stop_at_clip_layer") for n in texts]
    vaes = [workflow[node]["inputs"].get("vae_name") for node in order]
    found = [f"clip skip {skip}" for skip in skips if skip is not None]
    return [*found, *(f"VAE {vae}" for vae in vaes if vae is not None)]


def _texts(workflow: Workflow, sampler: str) -> Iterator[str]:
    """Yield what is said beside the prompt."""
    positive, negative = (_behind(workflow, sampler, name) for name in ("positive", "negative"))
    for prefix in sorted(PREFIXES, key=len, reverse=True):
        if prefix and positive and positive[0].startswith(prefix):
            yield f'the prompt after "{prefix.rstrip(", ")}"'
            break
    yield from (f'plus "{text}"' for text in positive[1:])
    if _zeroed(workflow, sampler):
        yield "against zeros"
    elif negative and negative[0] and PROMPT not in negative[0]:
        yield f'against "{negative[0]}"'


def _zeroed(workflow: Workflow, sampler: str) -> bool:
    link = guiding(workflow, sampler, "negative")
    return link is not None and workflow[link[0]]["class_type"] == "ConditioningZeroOut"


def _behind(workflow: Workflow, sampler: str, name: str) -> list[str]:
    """Return the texts behind a conditioning input."""
    link = guiding(workflow, sampler, name)
    order = topological_order(workflow, [link[0]]) if link else []
    texts = [(n, TEXTS.get(workflow[n]["class_type"], ())) for n in order]
    return [str(workflow[n]["inputs"][name]) for n, names in texts for name in names[:1]]


def _resizes(workflow: Workflow, node: str) -> list[str]:
    """Return the first size, or the resizes, between a node and the sampler before it."""
    found: list[str] = []
    link = source(workflow, node, _BACK[workflow[node]["class_type"]])
    while link and workflow[link[0]]["class_type"] not in SAMPLERS:
        text = _resize(workflow, link[0])
        found += [text] if text else []
        name = _BACK.get(workflow[link[0]]["class_type"])
        link = source(workflow, link[0], name) if name else None
    return found[::-1]


def _resize(workflow: Workflow, node: str) -> str:
    class_type, inputs = workflow[node]["class_type"], workflow[node]["inputs"]
    space = "latent" if class_type.startswith("Latent") else "image"
    if class_type in EMPTY_LATENTS:
        batch = f" ({inputs['batch_size']} images)" if inputs["batch_size"] > 1 else ""
        return f"{inputs['width']}x{inputs['height']}{batch}"
    if class_type == "ImageUpscaleWithModel":
        return f"upscaled with {workflow[inputs['upscale_model'][0]]['inputs']['model_name']}"
    if "scale_by" in inputs:
        return f"{inputs['scale_by']:g}x {space} resize ({inputs['upscale_method']})"
    if "crop" in inputs:
        return (
            f"{space} resize to {inputs['width']}x{inputs['height']} ({inputs['upscale_method']})"
        )
    return ""
