"""The upscalers of the family: small SRVGGNetCompact models (Real-ESRGAN's compact layout)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor

from flowdesign.drawing import draw, random_scene
from flowdesign.scenes import CATEGORIES, DOMAINS, random_spec
from flowdesign.zoo.fit import Chance, Loss

CROP = 24  # pixels of the small image


def new_upscaler(scale: int) -> Compact:
    """An untrained upscaler for `scale` times the size."""
    return Compact(num_feat=24, num_conv=4, upscale=scale, act_type="prelu")


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def _pair(rng: random.Random, scale: int) -> tuple[Tensor, Tensor]:
    """A crop of a slightly soft small scene and the same crop of the scene drawn large."""
    spec = random_spec(rng, rng.choice(DOMAINS), rng.choice(CATEGORIES), rng.random() < 0.4)
    scene = random_scene(rng, spec)
    large = _tensor(draw(scene, 64 * scale))
    soft = draw(scene).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))
    x, y = rng.randint(0, 64 - CROP), rng.randint(0, 64 - CROP)
    small = _tensor(soft)[:, y : y + CROP, x : x + CROP]
    return small, large[:, y * scale : (y + CROP) * scale, x * scale : (x + CROP) * scale]


def upscaling_loss(model: Compact, scale: int, batch: int = 8) -> Loss:
    """Absolute error of the enlarged crop."""

    def loss(chance: Chance) -> Tensor:
        small, large = zip(*(_pair(chance.python, scale) for _ in range(batch)), strict=True)
        return (model(torch.stack(small)) - torch.stack(large)).abs().mean()

    return loss


def save_upscaler(model: Compact, path: Path) -> None:
    """Write half-precision safetensors that spandrel recognises."""
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, path)
