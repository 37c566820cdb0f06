"""Resizing latents and images, with ComfyUI's methods. Tensors are (batch, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional

TILE = 512  # longest side that an upscale model is given at once
OVERLAP = 32  # of neighbouring tiles
NEARLY_PARALLEL = 1e-5


def resize(samples: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resize to a size; "center" first crops to the new shape."""
    if crop == "center":
        samples = _crop(samples, width, height)
    if method == "bislerp":
        return bislerp(samples, width, height)
    if method == "lanczos":
        return lanczos(samples, width, height)
    return functional.interpolate(samples, size=(height, width), mode=method)


def _crop(samples: Tensor, width: int, height: int) -> Tensor:
    old_height, old_width = samples.shape[-2:]
    old, new = old_width / old_height, width / height
    x = round((old_width - old_width * (new / old)) / 2) if old > new else 0
    y = round((old_height - old_height * (old / new)) / 2) if old < new else 0
    return samples[..., y : old_height - y, x : old_width - x]


def lanczos(samples: Tensor, width: int, height: int) -> Tensor:
    """Resize images in 0..1 with Pillow, through 8 bits."""
    done = []
    for image in samples:
        pixels = (255.0 * image.movedim(0, -1).cpu().numpy()).clip(0, 255).astype(np.uint8)
        large = Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.LANCZOS)
        done.append(torch.from_numpy(np.array(large).astype(np.float32) / 255.0).movedim(-1, 0))
    return torch.stack(done).to(samples)


def bislerp(samples: Tensor, width: int, height: int) -> Tensor:
    """Interpolate the direction of a place's channels on the sphere, and their length linearly."""
    wide = _along_last(samples.float(), width)
    tall = _along_last(wide.transpose(-1, -2), height).transpose(-1, -2)
    return tall.to(samples.dtype).contiguous()


def _along_last(samples: Tensor, length: int) -> Tensor:
    first, second, part = _neighbours(samples.shape[-1], length)
    a = samples[..., first].movedim(1, -1)  # (batch, rows, length, channels)
    b = samples[..., second].movedim(1, -1)
    part = part.view(1, 1, -1, 1).to(samples.device)
    return _slerp(a, b, part).movedim(-1, 1)


def _neighbours(old: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (index, next index, place between them) for every new element."""

    def stretched(places: Tensor) -> Tensor:
        grown = functional.interpolate(places.view(1, 1, 1, -1), size=(1, new), mode="bilinear")
        return grown.flatten()

    here = torch.arange(old, dtype=torch.float32)
    following = here + 1
    following[-1] -= 1
    first = stretched(here)
    return first.long(), stretched(following).long(), first - first.floor()


def _slerp(a: Tensor, b: Tensor, part: Tensor) -> Tensor:
    lengths = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    units = [
        torch.where(length == 0, torch.zeros_like(vector), vector / length)
        for vector, length in zip((a, b), lengths, strict=True)
    ]
    cosine = (units[0] * units[1]).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    mixed = torch.sin((1 - part) * angle) * units[0] + torch.sin(part * angle) * units[1]
    turned = mixed / torch.sin(angle) * (lengths[0] * (1 - part) + lengths[1] * part)
    turned = torch.where(cosine > 1 - NEARLY_PARALLEL, a, turned)
    return torch.where(cosine < NEARLY_PARALLEL - 1, a * (1 - part) + b * part, turned)


def tiled(image: Tensor, scale: int, upscale: Callable[[Tensor], Tensor]) -> Tensor:
    """Upscale one image (1, 3, height, width), by overlapping tiles when a side exceeds TILE.

    Tiles are blended with a ramp over the overlap, as wide as the overlap.
    """
    height, width = image.shape[-2:]
    if height <= TILE and width <= TILE:
        return upscale(image)
    total = torch.zeros((1, 3, height * scale, width * scale), device=image.device)
    weight = torch.zeros_like(total)
    for y, tall in _spans(height):
        for x, wide in _spans(width):
            made = upscale(image[..., y : y + tall, x : x + wide])
            mask = _ramp(made.shape[-2], scale)[:, None] * _ramp(made.shape[-1], scale)
            mask = mask.to(image.device)
            rows = slice(y * scale, y * scale + made.shape[-2])
            columns = slice(x * scale, x * scale + made.shape[-1])
            total[..., rows, columns] += made * mask
            weight[..., rows, columns] += mask
    return total / weight


def _spans(length: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) of the tiles along one side."""
    if length <= TILE:
        yield 0, length
        return
    for start in range(0, length - OVERLAP, TILE - OVERLAP):
        place = max(0, min(length - OVERLAP, start))
        yield place, min(TILE, length - place)


def _ramp(length: int, scale: int) -> Tensor:
    """Return the weights of one side: rising over the overlap, then 1, then falling."""
    feather = OVERLAP * scale
    weights = torch.ones(length)
    if feather < length:
        rise = (torch.arange(feather) + 1) / feather
        weights[:feather] *= rise
        weights[length - feather :] *= rise.flip(0)
    return weights
