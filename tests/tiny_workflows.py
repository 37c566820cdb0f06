"""Small workflows for tests of the renderer, and how to look at what they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from flowdesign.render import Job, Renderer
from flowdesign.workflow import Workflow

PROMPT, NEGATIVE = "a red star on white", "blue"
STEPS, CFG, SEED = 6, 4.0, 7


def txt2img(checkpoint: str, prompt: str = PROMPT, **sampling: Any) -> Workflow:
    """The plainest workflow; `sampling` overrides widgets of the sampler."""
    widgets = {
        "seed": SEED,
        "steps": STEPS,
        "cfg": CFG,
        "sampler_name": "euler",
        "scheduler": "karras",
        "denoise": 1.0,
    } | sampling
    return {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "yes": node("CLIPTextEncode", text=prompt, clip=["ckpt", 1]),
        "no": node("CLIPTextEncode", text=NEGATIVE, clip=["ckpt", 1]),
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sample": node(
            "KSampler",
            model=["ckpt", 0],
            positive=["yes", 0],
            negative=["no", 0],
            latent_image=["empty", 0],
            **widgets,
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["ckpt", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def advanced(workflow: Workflow, name: str, **inputs: Any) -> dict[str, Any]:
    """A KSamplerAdvanced like the KSampler of a workflow."""
    widgets = {n: v for n, v in workflow[name]["inputs"].items() if n not in ("seed", "denoise")}
    return node("KSamplerAdvanced", noise_seed=SEED, **(widgets | inputs))


def one(renderer: Renderer, workflow: Workflow) -> Image.Image:
    (result,) = renderer.render([Job(workflow)])
    assert result.images, result.fidelity
    return result.images[0]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def with_lora(checkpoint: str, name: str, model: float, clip: float) -> Workflow:
    workflow = txt2img(checkpoint)
    workflow["lora"] = node(
        "LoraLoader",
        model=["ckpt", 0],
        clip=["ckpt", 1],
        lora_name=name,
        strength_model=model,
        strength_clip=clip,
    )
    workflow["sample"]["inputs"]["model"] = ["lora", 0]
    for text in ("yes", "no"):
        workflow[text]["inputs"]["clip"] = ["lora", 1]
    return workflow
