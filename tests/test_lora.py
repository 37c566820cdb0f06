"""LoRA files of three naming schools, matched with the weights of one model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)

from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.lora import Layout, Pair, change, ignored_alpha, match, original_name

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def unet() -> Any:
    """Three levels with two resnets each, as SDXL has them."""
    return UNet2DConditionModel(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def attention_modules(unet: Any) -> list[str]:
    names = [name.removesuffix(".weight") for name, _ in unet.named_parameters()]
    return [name for name in names if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))]


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight"),
        ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
        ("unet.{}.lora_linear_layer.down.weight", "unet.{}.lora_linear_layer.up.weight"),
        ("lora_unet_{_}.lora_down.weight", "lora_unet_{_}.lora_up.weight"),
    ],
)
def test_every_school_of_names_is_understood(unet: Any, down: str, up: str) -> None:
    modules = attention_modules(unet)

    def written(pattern: str, module: str) -> str:
        return pattern.replace("{_}", module.replace(".", "_")).replace("{}", module)

    names = [written(pattern, module) for module in modules for pattern in (down, up)]
    found = match(names, {"unet": [name for name, _ in unet.named_parameters()]})
    assert set(found.pairs["unet"]) == {f"{module}.weight" for module in modules}
    assert not found.unknown


def test_old_processor_names_are_understood(unet: Any) -> None:
    module = "mid_block.attentions.0.transformer_blocks.0.attn1"
    names = [
        f"unet.{module}.processor.{part}_lora.{way}.weight"
        for part in ("to_q", "to_out")
        for way in ("down", "up")
    ]
    found = match(names, {"unet": [name for name, _ in unet.named_parameters()]})
    assert set(found.pairs["unet"]) == {f"{module}.to_q.weight", f"{module}.to_out.0.weight"}


def test_block_numbers_of_the_original_code_are_those_diffusers_reads(unet: Any) -> None:
    """Kohya files for SDXL: diffusers' own translation must lead back to the same modules."""
    weights = [name for name, _ in unet.named_parameters()]
    layout = Layout.of(weights)
    modules = attention_modules(unet)
    state = {}
    for module in modules:
        flat = original_name(module.replace(".", "_"), layout)
        state[f"lora_unet_{flat}.lora_down.weight"] = torch.zeros(2, 8)
        state[f"lora_unet_{flat}.lora_up.weight"] = torch.zeros(8, 2)
    found = match(state, {"unet": weights})
    assert set(found.pairs["unet"]) == {f"{module}.weight" for module in modules}
    theirs, _ = _convert_non_diffusers_lora_to_diffusers(
        _maybe_map_sgm_blocks_to_diffusers(dict(state), unet.config)
    )
    # They answer in the oldest of the schools, which is read here as well.
    again = match(theirs, {"unet": weights})
    assert set(again.pairs["unet"]) == {f"{module}.weight" for module in modules}
    assert not again.unknown


@pytest.mark.parametrize(
    ("flat", "original"),
    [
        ("conv_in", "input_blocks_0_0"),
        ("down_blocks_0_resnets_1_conv1", "input_blocks_2_0_in_layers_2"),
        ("down_blocks_0_downsamplers_0_conv", "input_blocks_3_0_op"),
        ("mid_block_resnets_1_conv2", "middle_block_2_out_layers_3"),
        ("up_blocks_0_resnets_2_conv_shortcut", "output_blocks_2_0_skip_connection"),
        ("up_blocks_0_upsamplers_0_conv", "output_blocks_2_2_conv"),
        ("up_blocks_2_resnets_0_time_emb_proj", "output_blocks_6_0_emb_layers_1"),
    ],
)
def test_some_names_by_hand(flat: str, original: str) -> None:
    assert original_name(flat, Layout(2, frozenset({0, 1}))) == original


def test_text_encoders_are_told_apart() -> None:
    inner = "text_model.encoder.layers.0.self_attn.q_proj"
    names = []
    for prefix in ("lora_te1_", "lora_te2_"):
        flat = prefix + inner.replace(".", "_")
        names += [f"{flat}.lora_down.weight", f"{flat}.lora_up.weight", f"{flat}.alpha"]
    # transformers 5 writes one encoder without "text_model." and the other with it
    weights = {
        "text_encoder": [f"{inner.removeprefix('text_model.')}.weight"],
        "text_encoder_2": [f"{inner}.weight"],
    }
    found = match(names, weights)
    assert all(len(pairs) == 1 for pairs in found.pairs.values())
    pair = found.pairs["text_encoder_2"][f"{inner}.weight"]
    assert pair.alpha.startswith("lora_te2_")


def test_a_change_by_hand() -> None:
    """up @ down * alpha / rank * strength."""
    tensors = {
        "down": torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        "up": torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]),
        "alpha": torch.tensor(1.0),
    }
    weight = torch.zeros(3, 2)
    plain = change(Pair("down", "up", ""), tensors, weight, 1.0)
    assert plain.tolist() == [[1.0, 2.0], [0.0, 2.0], [1.0, 3.0]]
    assert torch.equal(change(Pair("down", "up", "alpha"), tensors, weight, 3.0), plain * 1.5)


def test_a_change_of_a_convolution_is_the_two_convolutions_in_turn() -> None:
    down, up = torch.randn(2, 3, 3, 3), torch.randn(5, 2, 1, 1)
    weight = change(Pair("d", "u", ""), {"d": down, "u": up}, torch.zeros(5, 3, 3, 3), 1.0)
    x = torch.randn(1, 3, 6, 6)
    convolve = torch.nn.functional.conv2d
    torch.testing.assert_close(
        convolve(x, weight), convolve(convolve(x, down), up), rtol=1e-4, atol=1e-4
    )


def test_a_change_that_does_not_fit_is_named() -> None:
    tensors = {"d": torch.zeros(2, 7), "u": torch.zeros(3, 2)}
    with pytest.raises(UnsupportedModel, match=r"does not fit.*'u'"):
        change(Pair("d", "u", ""), tensors, torch.zeros(3, 2), 1.0)


def test_what_is_not_understood_is_reported(unet: Any) -> None:
    found = match(["unet.nothing.lora_A.weight", "x"], {"unet": ["conv_in.weight"]})
    assert found.unknown == ("unet.nothing.lora_A.weight", "x")
    half = match(["unet.conv_in.lora_A.weight"], {"unet": ["conv_in.weight"]})
    assert not half.pairs["unet"]  # a down without an up changes nothing


@pytest.mark.parametrize(
    ("metadata", "ignored"),
    [
        ({}, False),
        ({"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 4}'}, False),
        ({"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 8}'}, True),
        ({"lora_adapter_metadata": "nonsense"}, False),
        ({"lora_adapter_metadata": "[1]"}, False),
    ],
)
def test_a_scale_in_the_metadata_is_noticed(metadata: dict[str, str], ignored: bool) -> None:
    assert ignored_alpha(metadata) is ignored
