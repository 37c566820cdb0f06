"""The diffusion models of the family: stock UNet2DConditionModel in SDXL's layout on 8x8 latents.

v-prediction, scaled-linear betas, text by cross-attention at both levels and by the pooled vector.
Trained on latents that are encoded once; captions are embedded once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL.Image import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flowdesign.drawing import draw
from flowdesign.render.codec import PatchCodec
from flowdesign.scenes import Domain
from flowdesign.zoo.codec import LATENT_CHANNELS
from flowdesign.zoo.fit import Chance, Loss
from flowdesign.zoo.pairs import training_pair
from flowdesign.zoo.text import WIDTH, embed

TIME_ID_WIDTH = 8
UNCONDITIONAL = 0.1  # share of training samples without a prompt, for guidance


def new_unet() -> UNet2DConditionModel:
    """An untrained model; about 5 million parameters."""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4),  # number of heads, by diffusers' historic name
        use_linear_projection=True,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=WIDTH + 6 * TIME_ID_WIDTH,
        resnet_time_scale_shift="scale_shift",
    )
    unet.set_attn_processor(AttnProcessor())  # the fused kernel's backward is slow on CPU
    return unet


@dataclass(frozen=True)
class Latents:
    """A training set: latents (n, 48, 8, 8), caption of each, embeddings of the distinct captions."""

    latents: Tensor
    caption: Tensor  # (n,) index into the embeddings
    hidden: Tensor  # (captions, 77, 128); the last row is the empty prompt
    pooled: Tensor  # (captions, 128)


def make_latents(
    domain: Domain,
    variant_share: float,
    count: int,
    seed: int,
    vae: PatchCodec,
    text: tuple[nn.Module, object],
    cache: Path,
) -> Latents:
    """Draw, encode and embed a training set; kept in `cache` so that a resumed run has the same."""
    if not cache.exists():
        rng = random.Random(f"{seed}/{domain.style}/{variant_share}")
        pairs = [training_pair(rng, domain, variant_share) for _ in range(count)]
        texts = sorted({text for text, _ in pairs}) + [""]
        index = {text: i for i, text in enumerate(texts)}
        parts = [embed(*text, texts[i : i + 256]) for i in range(0, len(texts), 256)]
        scenes = [draw(s, seed=rng.getrandbits(30)) for _, s in pairs]
        tensors = {
            "latents": _encode(vae, scenes),
            "caption": torch.tensor([index[text] for text, _ in pairs]),
            "hidden": torch.cat([h for h, _ in parts]).to(torch.bfloat16),
            "pooled": torch.cat([p for _, p in parts]),
        }
        save_file(tensors, cache)
    return Latents(**load_file(cache))


@torch.no_grad()
def _encode(vae: PatchCodec, scenes: list[Image]) -> Tensor:
    done = []
    for start in range(0, len(scenes), 64):
        pixels = np.stack([np.asarray(s) for s in scenes[start : start + 64]])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        done.append(vae.encode(batch).latent_dist.mean * vae.config.scaling_factor)
    return torch.cat(done)


def alphas_cumulative() -> Tensor:
    """Cumulative product of 1 - beta for the scaled-linear betas of Stable Diffusion, (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def _time_ids(chance: Chance, batch: int) -> Tensor:
    """SDXL's six sizes; varied in training, so that the model does not lean on them."""
    sizes = 64.0 + 16 * torch.randint(0, 5, (batch, 2), generator=chance.torch)
    return torch.cat([sizes, torch.zeros(batch, 2), sizes], dim=1)


def denoising_loss(unet: UNet2DConditionModel, data: Latents, batch: int = 32) -> Loss:
    """Mean squared error of v, all noise levels alike.

    Weights that grow with the signal (Hang et al., 2303.09556) starve the high noise levels, where it is
    decided what is drawn where: with them the models were slow to learn which colour is whose.
    """
    alphas = alphas_cumulative()
    empty = len(data.pooled) - 1

    def loss(chance: Chance) -> Tensor:
        rows = torch.randint(0, len(data.latents), (batch,), generator=chance.torch)
        drop = torch.rand(batch, generator=chance.torch) < UNCONDITIONAL
        caption = torch.where(drop, empty, data.caption[rows])
        clean = data.latents[rows]
        noise = torch.randn(clean.shape, generator=chance.torch)
        # One timestep in each of `batch` equal parts: less variance than independent draws.
        spread = (torch.arange(batch) + torch.rand(batch, generator=chance.torch)) / batch
        t = (spread * 1000).long().clamp(max=999)
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, target = a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean  # fmt: skip
        added = {"text_embeds": data.pooled[caption], "time_ids": _time_ids(chance, batch)}
        # float32: on a CPU without matrix units, casting to bfloat16 costs a third more than it saves.
        made = unet(noisy, t, data.hidden[caption].float(), added_cond_kwargs=added).sample
        return (made - target).pow(2).mean()

    return loss
