"""Guidance and patches: numbers by hand, FreeU and perturbed attention against written-out models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from torch import Tensor

from flowdesign.render.checkpoint import Checkpoint
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.files import Part
from flowdesign.render.guidance import Denoiser
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.networks import UNet
from flowdesign.render.patches import free_u, perturbed_attention
from flowdesign.render.values import Condition, Conditioning, FreeU, Guider, Model

torch.set_num_threads(1)
LEVELS = NoiseLevels()
WIDTH = 8


def checkpoint(prediction: str = "epsilon", is_xl: bool = False) -> Checkpoint:
    family, part = "sdxl" if is_xl else "sd1", Part("network", Path("some"), Path("some"))
    return Checkpoint("some", family, part, (), None, prediction, LEVELS, 4, 0.18215, 0.0)


def guided(
    unet: Any,
    made: Checkpoint,
    model: Model,
    positive: Conditioning,
    negative: Conditioning,
    cfg: float,
    check: Callable[[], None],
) -> Denoiser:
    return Denoiser(
        UNet(unet, made, LEVELS),
        Guider(model, positive, negative, cfg),
        LEVELS,
        check,
        lambda: perturbed_attention(unet),
    )


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(8, 16, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    ).requires_grad_(False)


def text(seed: int, tokens: int = 5, copies: int = 1) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn((1, tokens, WIDTH), generator=generator).repeat(1, copies, 1)
    return Conditioning((Condition(hidden, None),))


def denoiser(unet: Any, model: Model, cfg: float, kind: str = "epsilon") -> Denoiser:
    return guided(unet, checkpoint(kind), model, text(1), text(2), cfg, lambda: None)


def predicted(unet: Any, x: Tensor, sigma: float, about: Conditioning) -> Tensor:
    """The model's output under one text, written out."""
    scaled = x / math.sqrt(1 + sigma**2)
    hidden = about.entries[0].hidden.expand(len(x), -1, -1)
    output: Tensor = unet(scaled, LEVELS.timestep(sigma), hidden).sample
    return output


X, SIGMA = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3)) * 2.5, 2.5


def test_cfg_by_hand(unet: Any) -> None:
    yes, no = (X - SIGMA * predicted(unet, X, SIGMA, text(seed)) for seed in (1, 2))
    found = denoiser(unet, Model("some"), 5.0)(X, SIGMA)
    torch.testing.assert_close(found, no + 5.0 * (yes - no), rtol=1e-4, atol=5e-5)


def test_v_prediction_by_hand(unet: Any) -> None:
    """x0 = sqrt(a) x_scaled - sqrt(1 - a) v with a = 1 / (1 + sigma^2)."""
    a = 1 / (1 + SIGMA**2)
    v = predicted(unet, X, SIGMA, text(1))
    expected = math.sqrt(a) * (X * math.sqrt(a)) - math.sqrt(1 - a) * v
    found = denoiser(unet, Model("some"), 1.0, "v_prediction")(X, SIGMA)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rescaled_cfg_has_the_spread_of_the_wanted_prediction(unet: Any) -> None:
    """With multiplier 1, v under guidance has the standard deviation of v under the prompt."""
    a = 1 / (1 + SIGMA**2)
    found = denoiser(unet, Model("some", rescale=1.0), 7.0)(X, SIGMA)
    wanted = denoiser(unet, Model("some"), 1.0)(X, SIGMA)

    def to_v(clean: Tensor) -> Tensor:
        return (a * X - clean) / math.sqrt(1 - a)

    torch.testing.assert_close(to_v(found).std(), to_v(wanted).std(), rtol=1e-4, atol=1e-5)
    plain = denoiser(unet, Model("some"), 7.0)(X, SIGMA)
    off = denoiser(unet, Model("some", rescale=0.0), 7.0)(X, SIGMA)
    torch.testing.assert_close(off, plain, rtol=1e-4, atol=1e-4)


def test_perturbed_attention_is_that_of_diffusers(unet: Any) -> None:
    wanted = denoiser(unet, Model("some"), 1.0)(X, SIGMA)
    attention = [
        block.attn1 for layer in unet.mid_block.attentions for block in layer.transformer_blocks
    ]
    kept = [module.processor for module in attention]
    for module in attention:
        module.set_processor(PAGIdentitySelfAttnProcessor2_0())
    # Their processor expects the plain half and the perturbed half in one batch.
    scaled = (X / math.sqrt(1 + SIGMA**2)).repeat(2, 1, 1, 1)
    hidden = text(1).entries[0].hidden.expand(2, -1, -1)
    broken = unet(scaled, LEVELS.timestep(SIGMA), hidden).sample[1:]
    for module, processor in zip(attention, kept, strict=True):
        module.set_processor(processor)
    expected = wanted + 3.0 * (wanted - (X - SIGMA * broken))
    found = denoiser(unet, Model("some", perturbed=3.0), 1.0)(X, SIGMA)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_perturbed_attention_is_taken_back_after_an_error(unet: Any) -> None:
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError), perturbed_attention(unet):
        raise RuntimeError
    assert unet.attn_processors == before


def test_free_u_rescales_what_the_paper_says(unet: Any) -> None:
    """Compare the input of every up resnet with the formula, worked on the plain input."""
    seen: dict[str, list[Tensor]] = {"plain": [], "patched": []}
    resnets = [resnet for block in unet.up_blocks for resnet in block.resnets]

    def record(name: str) -> None:
        hooks = [
            each.register_forward_pre_hook(lambda _, given: seen[name].append(given[0].clone()))
            for each in resnets[:1]
        ]
        predicted(unet, X, SIGMA, text(1))
        for hook in hooks:
            hook.remove()

    record("plain")
    with free_u(unet, [FreeU(b1=1.5, b2=1.2, s1=0.5, s2=0.3)]):
        record("patched")
    # The first join has 32 channels of backbone, four times the first level: b1 and s1.
    plain, patched = seen["plain"][0], seen["patched"][0]
    backbone, skip = plain[:, :32], plain[:, 32:]
    mean = backbone.mean(1, keepdim=True)
    gain = 0.5 * (mean - mean.min()) / (mean.max() - mean.min()) + 1
    torch.testing.assert_close(patched[:, :16], backbone[:, :16] * gain)
    torch.testing.assert_close(patched[:, 16:32], backbone[:, 16:])
    # The lowest four frequencies of the skip connection are halved, among them the mean.
    torch.testing.assert_close(patched[:, 32:].mean((2, 3)), skip.mean((2, 3)) * 0.5)


def test_free_u_leaves_no_hook(unet: Any) -> None:
    plain = predicted(unet, X, SIGMA, text(1))
    with free_u(unet, [FreeU(1.5, 1.2, 0.5, 0.3)]):
        assert not torch.equal(predicted(unet, X, SIGMA, text(1)), plain)
    assert torch.equal(predicted(unet, X, SIGMA, text(1)), plain)


def test_texts_of_two_lengths_share_a_call(unet: Any) -> None:
    """Repeating a shorter text changes nothing, so both may stand in one batch."""
    long = text(4, tokens=10)
    made = guided(unet, checkpoint(), Model("some"), long, text(2), 4.0, lambda: None)(X, SIGMA)
    yes, no = (X - SIGMA * predicted(unet, X, SIGMA, each) for each in (long, text(2)))
    torch.testing.assert_close(made, no + 4.0 * (yes - no), rtol=1e-4, atol=1e-5)


def test_several_texts_are_averaged(unet: Any) -> None:
    both = Conditioning(text(1).entries + text(4).entries)
    made = guided(unet, checkpoint(), Model("some"), both, text(2), 1.0, lambda: None)(X, SIGMA)
    parts = [X - SIGMA * predicted(unet, X, SIGMA, text(seed)) for seed in (1, 4)]
    torch.testing.assert_close(made, (parts[0] + parts[1]) / 2, rtol=1e-4, atol=1e-5)


def test_a_text_of_another_model_is_named(unet: Any) -> None:
    other = Conditioning((Condition(torch.zeros(1, 5, WIDTH + 1), None),))
    with pytest.raises(BadWorkflow, match="another kind of model"):
        guided(unet, checkpoint(), Model("some"), other, text(2), 4.0, lambda: None)
    with pytest.raises(BadWorkflow, match="another kind of model"):
        guided(unet, checkpoint(is_xl=True), Model("some"), text(1), text(2), 4.0, lambda: None)
