"""The image codec of the family (see `render.codec`): its closed-form half and its trained half."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from flowdesign.drawing import draw, random_scene
from flowdesign.render.codec import PatchCodec
from flowdesign.scenes import CATEGORIES, DOMAINS, random_spec
from flowdesign.zoo.fit import Chance, Loss

LATENT_CHANNELS = 48


def random_picture(rng: random.Random, side: int = 64) -> Tensor:
    """Any scene of the world as (3, side, side) in -1..1."""
    spec = random_spec(rng, rng.choice(DOMAINS), rng.choice(CATEGORIES), rng.random() < 0.4)
    image = draw(random_scene(rng, spec), side)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def new_codec(seed: int, pictures: int) -> PatchCodec:
    """A codec with its projection fitted and its correction still at zero."""
    torch.manual_seed(seed)
    codec: PatchCodec = PatchCodec(latent_channels=LATENT_CHANNELS)
    rng = random.Random(seed)
    codec.fit_components(torch.stack([random_picture(rng) for _ in range(pictures)]))
    return codec


def decoder_loss(codec: PatchCodec, batch: int = 16) -> Loss:
    """Absolute error of pixels and edges, from latents with noise of 0 to 0.3 standard deviations.

    What a diffusion model makes is never exact: a decoder that saw only exact latents would draw its
    errors, this one draws the nearest clean picture.
    """

    def loss(chance: Chance) -> Tensor:
        true = torch.stack([random_picture(chance.python) for _ in range(batch)])
        latent = codec.encode(true).latent_dist.mean
        level = torch.rand((batch, 1, 1, 1), generator=chance.torch) * 0.3
        noise = torch.randn(latent.shape, generator=chance.torch)
        made = codec.decode(latent + level * noise / codec.config.scaling_factor).sample
        rows = (made.diff(dim=-2) - true.diff(dim=-2)).abs().mean()
        columns = (made.diff(dim=-1) - true.diff(dim=-1)).abs().mean()
        return (made - true).abs().mean() + rows + columns

    return loss
