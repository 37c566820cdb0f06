"""From pictures to what CLIP and BLIP see: a square of pixels with CLIP's mean and deviation.

Done with Pillow, as the published checkpoints were trained, so that no torchvision is needed:
bicubic resizing on 8-bit pixels, sizes rounded as the original transforms do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
Frame = Callable[[Image.Image, int], Image.Image]


def crop(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side and cut the middle out: the frame of CLIP and ImageReward."""
    width, height = image.size
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    resized = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((extent - side) / 2) for extent in size)
    return resized.crop((left, top, left + side, top + side))


def pad(image: Image.Image, side: int) -> Image.Image:
    """Resize the longer side and add black at both ends of the other: the frame of HPS v2."""
    scale = side / max(image.size)
    width, height = (round(extent * scale) for extent in image.size)
    canvas = Image.new("RGB", (side, side))
    resized = image.resize((max(1, width), max(1, height)), Image.Resampling.BICUBIC)
    canvas.paste(resized, ((side - width) // 2, (side - height) // 2))
    return canvas


def to_pixels(images: Sequence[Image.Image], side: int, frame: Frame = crop) -> Tensor:
    """Give normalised float32 pixels (images, 3, side, side)."""
    framed = [np.asarray(frame(image.convert("RGB"), side), np.float32) / 255 for image in images]
    pixels = torch.from_numpy(np.stack(framed))
    pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return pixels.permute(0, 3, 1, 2).contiguous()
