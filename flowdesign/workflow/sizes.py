"""How large every latent and image of a workflow is, without rendering it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flowdesign.catalog import asset
from flowdesign.workflow.graph import Workflow, source, topological_order
from flowdesign.workflow.passes import SAMPLERS

VAE_FACTOR = 8  # pixels of an image per latent element, per side: ComfyUI's latents assume it
LEAST_LATENT_SIDE = 64  # pixels; LatentUpscale asks for no less
UNKNOWN_SCALE = 4  # assumed of an upscale model that the catalogue does not know
EMPTY_LATENTS = ("EmptyLatentImage", "EmptySD3LatentImage")
MAX_PIXELS = {"LATENT": 2048 * 2048, "IMAGE": 4096 * 4096}


class Size(NamedTuple):
    """Width and height in pixels (of a latent: of the image it stands for), and the batch."""

    width: int
    height: int
    batch: int
    socket: str  # LATENT or IMAGE

    @property
    def pixels(self) -> int:
        """Pixels of the whole batch."""
        return self.width * self.height * self.batch

    @property
    def fault(self) -> str:
        """Why nothing of this size is rendered, or an empty string."""
        if self.width < 1 or self.height < 1:
            return f"{self.width}x{self.height} pixels are too few."
        limit = MAX_PIXELS[self.socket]
        if self.pixels > limit:
            batch = f" x {self.batch} images" if self.batch > 1 else ""
            return (
                f"{self.width}x{self.height}{batch} is too large: "
                f"at most {limit} pixels in all ({int(limit**0.5)}x{int(limit**0.5)})."
            )
        return ""


def sizes(workflow: Workflow) -> dict[str, Size]:
    """Return the size of every latent and image; of a faulty one, but of none that follows it."""
    found: dict[str, Size] = {}
    for node in topological_order(workflow):
        class_type, inputs = workflow[node]["class_type"], workflow[node]["inputs"]
        if class_type in EMPTY_LATENTS:
            side = [int(inputs[name]) // VAE_FACTOR * VAE_FACTOR for name in ("width", "height")]
            found[node] = Size(side[0], side[1], int(inputs["batch_size"]), "LATENT")
        elif class_type in _RULES:
            name, rule = _RULES[class_type]
            link = source(workflow, node, name)
            before = found.get(link[0]) if link else None
            if before is not None and not before.fault:
                found[node] = rule(before, inputs, workflow)
    return found


def _same(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    return before


def _decode(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    return before._replace(socket="IMAGE")


def _encode(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    return _latent(before, before.width // VAE_FACTOR, before.height // VAE_FACTOR)


def _latent(before: Size, width: int, height: int) -> Size:
    return Size(width * VAE_FACTOR, height * VAE_FACTOR, before.batch, "LATENT")


def _latent_by(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    scale = inputs["scale_by"]
    width, height = (round(side // VAE_FACTOR * scale) for side in before[:2])
    return _latent(before, width, height)


def _image_by(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    scale = inputs["scale_by"]
    return before._replace(width=round(before.width * scale), height=round(before.height * scale))


def asked_size(
    inputs: Mapping[str, Any], width: int, height: int, least: int
) -> tuple[int, int] | None:
    """Return the (width, height) that a resize of something of this shape asks for.

    A side of 0 follows from the other one; None when both are 0, which changes nothing. As ComfyUI.
    """
    new_width, new_height = int(inputs["width"]), int(inputs["height"])
    if new_width == 0 and new_height == 0:
        return None
    if new_width == 0:
        new_width = round(width * max(least, new_height) / height)
    elif new_height == 0:
        new_height = round(height * max(least, new_width) / width)
    return max(least, new_width), max(least, new_height)


def _latent_to(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    size = asked_size(inputs, before.width, before.height, LEAST_LATENT_SIDE)
    return _latent(before, size[0] // VAE_FACTOR, size[1] // VAE_FACTOR) if size else before


def _image_to(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    size = asked_size(inputs, before.width, before.height, 1)
    return before._replace(width=size[0], height=size[1]) if size else before


def _image_by_model(before: Size, inputs: dict[str, Any], workflow: Workflow) -> Size:
    loader = workflow[inputs["upscale_model"][0]]
    row = asset("upscale_models", loader["inputs"]["model_name"])
    scale = row.scale if row else UNKNOWN_SCALE
    return before._replace(width=before.width * scale, height=before.height * scale)


_RULES: dict[str, tuple[str, Callable[[Size, dict[str, Any], Workflow], Size]]] = {
    **dict.fromkeys(SAMPLERS, ("latent_image", _same)),
    "VAEDecode": ("samples", _decode),
    "VAEEncode": ("pixels", _encode),
    "LatentUpscaleBy": ("samples", _latent_by),
    "LatentUpscale": ("samples", _latent_to),
    "ImageScaleBy": ("image", _image_by),
    "ImageScale": ("image", _image_to),
    "ImageUpscaleWithModel": ("image", _image_by_model),
    "SaveImage": ("images", _same),
    "PreviewImage": ("images", _same),
}
