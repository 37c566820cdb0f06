"""What every node becomes in a script, in one table: STATEMENTS maps a class to a function.

A function gets the script so far and a node's inputs: its widgets, and what the linked nodes gave. It writes
statements and gives the node's outputs: descriptions of models, as the renderer has them, else the
names of variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch

from flowdesign.catalog import Installed
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.files import Part
from flowdesign.render.operation import Context
from flowdesign.render.operations import OPERATIONS
from flowdesign.render.text import embedding_named, embeddings_in
from flowdesign.render.tokenizers import tokenizer
from flowdesign.render.values import Clip
from flowdesign.standalone.passes import sampled
from flowdesign.standalone.writing import RESIZE, Pipe, Writing
from flowdesign.workflow import LEAST_LATENT_SIDE, PROMPT, VAE_FACTOR

Inputs = Mapping[str, Any]
Outputs = tuple[Any, ...]
Statement = Callable[[Writing, Inputs], Outputs]
MOST_STOCK = 75  # tokens of a text that the stock pipelines read
STOCK_LAYERS = (None, -1, -2, -3)  # that every text encoder has
SIZES = "flowdesign.workflow.sizes"


def _described(class_type: str) -> Statement:
    """The renderer's own function, for nodes that only describe a model."""

    def describe(writing: Writing, inputs: Inputs) -> Outputs:
        nothing: Any = None
        context = Context(nothing, torch.device("cpu"), 1, lambda: None)
        outputs: Outputs = OPERATIONS[class_type](context, [inputs])[0]
        return outputs

    return describe


# --- texts ---------------------------------------------------------------------------------------


def _encode_text(writing: Writing, inputs: Inputs) -> Outputs:
    clip: Clip = inputs["clip"]
    pipe = writing.pipe_of_texts(clip)
    text = inputs["text"].replace(PROMPT, writing.prompt)
    embeddings, options = _embeddings(text, writing.models), ""
    if _is_stock(text, clip, pipe):
        function = writing.call("encode")
        if clip.skip is not None:  # the XL pipelines count from the second layer from the end
            options = f", clip_skip={-clip.skip - 2}"
    else:
        function = writing.call("encode_weighted")
        if clip.skip is not None:
            options = f", layer={_layer(clip.skip, pipe)}"
        if embeddings:
            options += f", embeddings={embeddings}"
    return (writing.let("text", f"{function}({pipe.name}, {_literal(inputs['text'])}{options})"),)


def _embeddings(text: str, models: Installed) -> dict[str, str]:
    """The files of the embeddings that a text calls; ComfyUI leaves out what is not installed."""
    known = models.names("embeddings")
    names = (embedding_named(written, known)[0] for written in embeddings_in(text))
    return {n: str(models.path("embeddings", n).resolve()) for n in names if n is not None}


def _layer(skip: int, pipe: Pipe) -> int:
    """The layer of a text encoder's file; those of SD 2 leave the last one out. Raises BadWorkflow."""
    if pipe.facts.family != "sd2":
        return skip
    if skip == -1:
        raise BadWorkflow("CLIPSetLastLayer -1 reads a layer that the files of SD 2 leave out.")
    return skip + 1


def _literal(text: str) -> str:
    """A text as an expression, with PROMPT where the prompt goes."""
    parts = [repr(part) if part else "" for part in text.split(PROMPT)]
    joined = " + PROMPT + ".join(parts).strip(" +") if len(parts) > 1 else parts[0]
    return joined or "''"


def _is_stock(text: str, clip: Clip, pipe: Pipe) -> bool:
    """Whether the stock pipeline encodes a text as ComfyUI does.

    It knows no weights and reads 75 tokens; with SD 1.5 its clip_skip fails (diffusers 0.42).
    """
    known = STOCK_LAYERS if pipe.facts.is_xl else (None,)
    if clip.skip not in known or "(" in text or ")" in text or embeddings_in(text):
        return False
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return False  # half of a surrogate pair: the tokenizer of the pipeline raises an error
    parts = pipe.facts.texts
    if "tokenizer" in pipe.facts.own_parts and not all(map(_frames, parts)):
        return False
    if len(text.encode()) <= MOST_STOCK:  # a token has a byte at least
        return True
    return all(len(_words(part)(text)["input_ids"]) <= MOST_STOCK + 2 for part in parts)


def _frames(part: Part) -> bool:
    """Whether a tokenizer puts start and end around a text, as CLIP's does."""
    words = _words(part)
    framed: list[int] = words("")["input_ids"]
    return framed == [words.bos_token_id, words.eos_token_id]


_words = lru_cache(maxsize=8)(tokenizer)


def _concat(writing: Writing, inputs: Inputs) -> Outputs:
    pair = f"{inputs['conditioning_to']}, {inputs['conditioning_from']}"
    return (writing.let("text", f"{writing.call('concat')}({pair})"),)


def _combine(writing: Writing, inputs: Inputs) -> Outputs:
    writing.approximate.append(
        "ConditioningCombine averages the predictions under two texts, which no stock pipeline does; "
        "here the texts themselves are averaged"
    )
    pair = f"{inputs['conditioning_1']}, {inputs['conditioning_2']}"
    return (writing.let("text", f"{writing.call('mean')}({pair})"),)


def _average(writing: Writing, inputs: Inputs) -> Outputs:
    pair = f"{inputs['conditioning_to']}, {inputs['conditioning_from']}"
    share = float(inputs["conditioning_to_strength"])
    return (writing.let("text", f"{writing.call('average')}({pair}, {share})"),)


def _everywhere(class_type: str, what: str) -> Statement:
    """A text that counts for a part of the image or of the noise: here it counts as any other."""

    def passed_on(writing: Writing, inputs: Inputs) -> Outputs:
        writing.approximate.append(
            f"{class_type} {what}, which no stock pipeline does; here it counts as any other text"
        )
        return (inputs["conditioning"],)

    return passed_on


def _zero_out(writing: Writing, inputs: Inputs) -> Outputs:
    return (writing.let("text", f"{writing.call('zeros')}({inputs['conditioning']})"),)


# --- latents and images --------------------------------------------------------------------------


def _empty_latent(writing: Writing, inputs: Inputs) -> Outputs:
    height, width = (int(inputs[name]) // VAE_FACTOR for name in ("height", "width"))
    shape = f"{int(inputs['batch_size'])}, 4, {height}, {width}"
    return (writing.let("latents", f"torch.zeros({shape}, device=DEVICE)"),)


def _decode_latent(writing: Writing, inputs: Inputs) -> Outputs:
    vae = writing.vae(inputs["vae"])
    return (writing.let("image", f"{writing.call('decode')}({vae}, {inputs['samples']})"),)


def _encode_image(writing: Writing, inputs: Inputs) -> Outputs:
    vae = writing.vae(inputs["vae"])
    return (writing.let("latents", f"{writing.call('encode_image')}({vae}, {inputs['pixels']})"),)


def _scale_latent(writing: Writing, inputs: Inputs) -> Outputs:
    size = f"*{writing.call('by')}({inputs['samples']}, {float(inputs['scale_by'])})"
    return (_resized(writing, "latents", inputs["samples"], size, inputs["upscale_method"]),)


def _scale_image(writing: Writing, inputs: Inputs) -> Outputs:
    size = f"*{writing.call('by')}({inputs['image']}, {float(inputs['scale_by'])})"
    return (_resized(writing, "image", inputs["image"], size, inputs["upscale_method"]),)


def _resize_latent(writing: Writing, inputs: Inputs) -> Outputs:
    return (_asked(writing, "latents", inputs, inputs["samples"], LEAST_LATENT_SIDE, VAE_FACTOR),)


def _resize_image(writing: Writing, inputs: Inputs) -> Outputs:
    return (_asked(writing, "image", inputs, inputs["image"], 1, 1),)


def _asked(writing: Writing, kind: str, inputs: Inputs, samples: str, least: int, unit: int) -> str:
    """Resize to a size in pixels; a side of 0 follows from the shape, two change nothing."""
    width, height = int(inputs["width"]), int(inputs["height"])
    if width == 0 and height == 0:
        return samples
    asked = {"width": width, "height": height}
    function = writing.call("asked_size", SIZES)
    shape = f"{unit} * {samples}.shape[-1], {unit} * {samples}.shape[-2]"
    size = f"*(side // {unit} for side in {function}({asked}, {shape}, {least}))"
    return _resized(writing, kind, samples, size, inputs["upscale_method"], inputs["crop"])


def _resized(
    writing: Writing, kind: str, samples: str, size: str, method: str, crop: str = "disabled"
) -> str:
    function = writing.call("resize", RESIZE)
    options = f", {crop!r}" if crop != "disabled" else ""
    return writing.let(kind, f"{function}({samples}, {size}, {method!r}{options})")


def _upscale_image(writing: Writing, inputs: Inputs) -> Outputs:
    model = writing.upscaler(inputs["upscale_model"].name)
    return (writing.let("image", f"{writing.call('enlarge')}({model}, {inputs['image']})"),)


def _save(writing: Writing, inputs: Inputs) -> Outputs:
    writing.call("save")
    writing.saved.append(inputs["images"])
    return ()


def _preview(writing: Writing, inputs: Inputs) -> Outputs:
    writing.previewed.append(inputs["images"])
    return ()


STATEMENTS: Mapping[str, Statement] = MappingProxyType(
    {
        "CheckpointLoaderSimple": _described("CheckpointLoaderSimple"),
        "VAELoader": _described("VAELoader"),
        "LoraLoader": _described("LoraLoader"),
        "UpscaleModelLoader": _described("UpscaleModelLoader"),
        "CLIPSetLastLayer": _described("CLIPSetLastLayer"),
        "FreeU_V2": _described("FreeU_V2"),
        "PerturbedAttentionGuidance": _described("PerturbedAttentionGuidance"),
        "RescaleCFG": _described("RescaleCFG"),
        "CLIPTextEncode": _encode_text,
        "ConditioningConcat": _concat,
        "ConditioningCombine": _combine,
        "ConditioningZeroOut": _zero_out,
        "ConditioningAverage": _average,
        **{
            f"ConditioningSet{name}": _everywhere(f"ConditioningSet{name}", what)
            for name, what in (
                ("Area", "lets a text count in a part of the image"),
                ("AreaPercentage", "lets a text count in a part of the image"),
                ("AreaStrength", "weighs a text among others"),
                ("TimestepRange", "lets a text count for a part of the noise"),
            )
        },
        "EmptyLatentImage": _empty_latent,
        "LatentUpscaleBy": _scale_latent,
        "LatentUpscale": _resize_latent,
        "VAEDecode": _decode_latent,
        "VAEEncode": _encode_image,
        "KSampler": sampled,
        "KSamplerAdvanced": sampled,
        "ImageUpscaleWithModel": _upscale_image,
        "ImageScaleBy": _scale_image,
        "ImageScale": _resize_image,
        "SaveImage": _save,
        "PreviewImage": _preview,
    }
)
