"""LoRA files that call a transformer's weights as the original code of SD 3 and FLUX.1 does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from original_names import Tensors, flux_names, sd3_names, weights

from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.lora import Pair, change, match
from flowdesign.render.transformer_names import MLP

KOHYA = "lora_unet_{_}.lora_down.weight", "lora_unet_{_}.lora_up.weight"
COMFYUI = "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight"
FAMILIES: dict[str, Callable[[Tensors], Tensors]] = {"tiny_sd3": sd3_names, "tiny_flux": flux_names}


def lora(originals: Tensors, school: tuple[str, str]) -> tuple[Tensors, Tensors]:
    """A LoRA of rank 2 on every layer, and what it adds to each."""
    chance = torch.Generator().manual_seed(7)
    tensors, added = {}, {}
    for name, weight in originals.items():
        if name.endswith(".weight") and weight.ndim > 1:
            layer = name.removesuffix(".weight")
            down, up = (
                pattern.replace("{_}", layer.replace(".", "_")).replace("{}", layer)
                for pattern in school
            )
            tensors[down] = torch.randn(2, weight[0].numel(), generator=chance)
            tensors[up] = torch.randn(len(weight), 2, generator=chance)
            added[name] = (tensors[up] @ tensors[down]).reshape(weight.shape)
    return tensors, added


@pytest.mark.parametrize("school", [KOHYA, COMFYUI], ids=["kohya", "ComfyUI"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_adds_what_it_adds_in_the_original_code(
    families: Path, family: str, school: tuple[str, str]
) -> None:
    rename, own = FAMILIES[family], weights(families / "checkpoints" / family / "transformer")
    tensors, added = lora(rename(own), school)
    found = match(tensors, {"transformer": own})
    for name, pair in found.pairs["transformer"].items():
        own[name] = own[name] + change(pair, tensors, own[name], 1.0)
    before = rename(weights(families / "checkpoints" / family / "transformer"))
    turned = [name for name in added if "adaLN" in name and len(added[name]) % 6]
    turned += ["final_layer.adaLN_modulation.1.weight"]
    for name, value in rename(own).items():
        plus = added.get(name, 0) if name not in turned else 0
        torch.testing.assert_close(value, before[name] + plus, msg=name)
    unknown = {
        name.removeprefix("lora_unet_").removeprefix("diffusion_model.") for name in found.unknown
    }
    assert len(unknown) == 2 * len(set(turned) & added.keys()), unknown


def test_a_share_that_does_not_fit_is_named() -> None:
    tensors = {"d": torch.zeros(2, 4), "u": torch.zeros(8, 2)}
    for share in (2, MLP):
        with pytest.raises(UnsupportedModel, match=r"does not fit.*'u'"):
            change(Pair("d", "u", "", share=share), tensors, torch.zeros(9, 4), 1.0)
