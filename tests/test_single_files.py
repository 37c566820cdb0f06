"""Single files of the original names, models in parts, shipped configurations; LoRAs and embeddings on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxPipeline,
)
from original_names import LAYOUTS, flux_names, unet_names, weights
from safetensors.torch import save_file
from tiny_families import custom, flow_graph, value_of
from tiny_models import lora_weights
from tiny_workflows import (
    node,
    one,
    txt2img,
    with_lora,
)
from torch import Tensor

from flowdesign.catalog import installed
from flowdesign.render import Job, Renderer, fidelity
from flowdesign.render.checkpoint import described, read_checkpoint
from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.files import CONFIGS, Part
from flowdesign.render.layouts import LAYOUTS as SHIPPED
from flowdesign.render.layouts import layout_of
from flowdesign.render.lora import change, match
from flowdesign.render.models import Library
from flowdesign.render.single_file import empty
from flowdesign.render.tokenizers import tokenizer
from flowdesign.render.values import Clip, LoraUse, Model, Vae

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(families: Path) -> Path:
    """The tiny models of all families, as folders and as single files."""
    return families


# --- single files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_single_file_has_the_weights_of_the_folder(folder: Path, models: Any, name: str) -> None:
    library = Library(models)
    for each in (name, f"files/{name}"):
        found = library.checkpoint(each)
        assert (found.family, found.prediction) == (
            library.checkpoint(name).family,
            library.checkpoint(name).prediction,
        )
    family = library.checkpoint(name).family
    pairs = [(library.network(Model(n)), library.network(Model(f"files/{n}"))) for n in [name]]
    pairs.append(
        (library.vae(Vae("checkpoints", name)), library.vae(Vae("checkpoints", f"files/{name}")))
    )
    encoders = [library.encoders(Clip(n, family=family)) for n in (name, f"files/{name}")]
    assert list(encoders[0]) == list(encoders[1])
    pairs += [(encoders[0][role].model, encoders[1][role].model) for role in encoders[0]]
    for folders, files in pairs:
        theirs = files.state_dict()
        assert folders.state_dict().keys() == theirs.keys()
        for key, value in folders.state_dict().items():
            assert torch.equal(value, theirs[key]), key


def test_a_single_file_is_rendered(renderer: Renderer) -> None:
    for name in ("tiny_sd2", "tiny_flux"):
        expected = one(renderer, flow_graph(name)).tobytes()
        assert one(renderer, flow_graph(f"files/{name}")).tobytes() == expected


def part_file(folder: Path, name: str, part: str, to: Path) -> None:
    """One part alone in a file, with the original names, and its configuration beside it."""
    source = folder / "checkpoints" / name / part
    _, rename = LAYOUTS[name][part]
    save_file({n: v.contiguous() for n, v in rename(weights(source)).items()}, f"{to}.safetensors")
    configs = to.with_suffix(".config")
    configs.mkdir()
    (configs / "config.json").write_text((source / "config.json").read_text())
    tokenizer_folder = source.with_name(part.replace("text_encoder", "tokenizer"))
    if tokenizer_folder != source and tokenizer_folder.is_dir():
        shutil.copytree(tokenizer_folder, configs / "tokenizer")


def test_a_model_in_parts_is_the_whole_model(folder: Path, tmp_path: Path, models: Any) -> None:
    for kind in ("diffusion_models", "text_encoders", "vae"):
        (tmp_path / kind).mkdir()
    shutil.copytree(
        folder / "checkpoints/files/tiny_flux.config", tmp_path / "diffusion_models/flux.config"
    )
    held = flux_names(weights(folder / "checkpoints/tiny_flux/transformer"))
    save_file(
        {n: v.contiguous() for n, v in held.items()}, tmp_path / "diffusion_models/flux.safetensors"
    )
    for name, part in (("l", "text_encoder"), ("t5", "text_encoder_2")):
        part_file(folder, "tiny_flux", part, tmp_path / "text_encoders" / name)
    part_file(folder, "tiny_flux", "vae", tmp_path / "vae" / "ae")
    workflow = custom()
    workflow["unet"] = node("UNETLoader", unet_name="flux", weight_dtype="default")
    workflow["clip"] = node("DualCLIPLoader", clip_name1="t5", clip_name2="l", type="flux")
    workflow["vae"] = node("VAELoader", vae_name="ae")
    workflow["yes"]["inputs"]["clip"] = ["clip", 0]
    workflow["decode"]["inputs"]["vae"] = ["vae", 0]
    for name in ("levels", "guider"):
        workflow[name]["inputs"]["model"] = ["unet", 0]
    del workflow["ckpt"]
    found = one(Renderer(installed([tmp_path])), workflow)
    whole = one(Renderer(models), custom())
    apart = abs(np.asarray(found, int) - np.asarray(whole, int))
    assert apart.max() <= 1  # where weights lie in memory may change the last bit


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("sd1", {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}),
        ("sd2", {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024)}),
        ("sdxl", {"label_emb.0.0.weight": (1280, 2816)}),
        ("sdxl_refiner", {"label_emb.0.0.weight": (1536, 2560)}),
        ("sd3_medium", {"joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}),
        ("flux_schnell", {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}),
    ],
)
def test_a_file_of_the_published_sizes_needs_no_configuration(
    tmp_path: Path, layout: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    names = {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}
    assert layout_of(tmp_path / "x.safetensors", names) == CONFIGS / layout


@pytest.mark.parametrize(
    ("part", "weights"),
    [
        ("sd1/unet", 859_520_964),
        ("sdxl/unet", 2_567_463_684),
        ("flux_dev/transformer", 11_901_408_320),
        ("sd1/vae", 83_653_863),
        ("sd1/text_encoder", 123_060_480),
        ("sd3_medium/text_encoder_3", 4_762_310_656),
    ],
)
def test_shipped_configurations_have_the_published_numbers_of_weights(
    part: str, weights: int
) -> None:
    module = empty(Part("network", CONFIGS / part, CONFIGS / part))
    assert sum(each.numel() for each in module.parameters()) == weights


def test_every_layout_is_shipped_with_its_parts() -> None:
    roles = {name: [part.role for part in described(CONFIGS / name)] for name in SHIPPED}
    assert roles["sd1"] == ["network", "clip_l", "vae"]
    assert roles["sd2"] == ["network", "clip_h", "vae"]
    assert roles["sdxl_refiner"] == ["network", "clip_g", "vae"]
    assert roles["sd35_large"] == ["network", "clip_l", "clip_g", "t5", "vae"]
    assert roles["flux_dev"] == ["network", "clip_l", "t5", "vae"]


def test_the_shipped_tokenizer_is_clips() -> None:
    words = tokenizer(Part("clip_l", Path("x"), Path("x")))
    text = words("a photo of a cat, Straße 42")["input_ids"]
    assert text[:7] == [49406, 320, 1125, 539, 320, 2368, 267]
    assert len(words) == 49408
    assert tokenizer(Part("clip_g", Path("x"), Path("x"))).pad_token_id == 0


def test_t5_without_a_tokenizer_says_where_it_belongs() -> None:
    with pytest.raises(UnsupportedModel, match="'t5xxl.config/tokenizer' beside it"):
        tokenizer(Part("t5", Path("t5xxl.safetensors"), Path("x")))


def test_a_tokenizer_alone_beside_a_file_leaves_its_layout(tmp_path: Path) -> None:
    """T5's tokenizer beside a whole FLUX.1 is found, and the configuration is the shipped one."""
    names = {
        "model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(1),
        "text_encoders.t5xxl.transformer.shared.weight": torch.zeros(1),
    }
    save_file(names, tmp_path / "whole.safetensors")
    (tmp_path / "whole.config" / "tokenizer").mkdir(parents=True)
    found = read_checkpoint(tmp_path / "whole.safetensors")
    assert found.network.config == CONFIGS / "flux_schnell" / "transformer"
    assert [part.tokenizer for part in found.texts] == [tmp_path / "whole.config" / "tokenizer"]


def test_a_file_of_another_size_says_what_does_not_fit(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    names = unet_names(weights(folder / "checkpoints/tiny_sd2/unet"))
    sign = {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 1024)}
    held = {f"model.diffusion_model.{n}": v.contiguous() for n, v in (names | sign).items()}
    save_file(held, tmp_path / "checkpoints" / "odd.safetensors")
    (found,) = Renderer(installed([tmp_path])).render([Job(txt2img("odd"))])
    assert found.fidelity.label == "refused"
    assert "holds no text encoder" in found.fidelity.reasons[0]


# --- LoRA files and embeddings ------------------------------------------------------------------


def test_an_embedding_stands_in_the_place_of_words(
    folder: Path, tmp_path: Path, models: Any
) -> None:
    """The vectors of two letters, learned as they are, are these two letters."""
    copy_models(folder, tmp_path, "tiny_sd15", "tiny_sdxl")
    words = Library(models).encoders(Clip("tiny_sdxl", family="sdxl"))
    ids = words["clip_l"].tokenize("ab")[0].ids[1:3]
    held = {r: e.model.get_input_embeddings().weight[list(ids)].clone() for r, e in words.items()}
    save_file(held, tmp_path / "embeddings" / "letters.safetensors")
    renderer = Renderer(installed([tmp_path]))

    def image(text: str) -> bytes:
        return one(renderer, txt2img("tiny_sdxl", prompt=text, steps=2)).tobytes()

    plain = image("c ab d")
    assert image("c embedding:letters d") == plain
    assert image("c embedding:letters.safetensors, d") == image("c ab , d")
    assert image("c (embedding:letters:1.3) d") == image("c (ab:1.3) d")
    missing = txt2img("tiny_sdxl", prompt="c embedding:nothing d", steps=2)
    assert "'nothing' is not installed" in fidelity(missing, installed([tmp_path])).reasons[0]
    assert one(renderer, missing).tobytes() == image("c d")


def test_a_changed_embedding_is_read_again(folder: Path, tmp_path: Path) -> None:
    copy_models(folder, tmp_path, "tiny_sd15")
    renderer, images = Renderer(installed([tmp_path])), []
    for seed in (1, 2):
        vectors = torch.randn((3, 32), generator=torch.Generator().manual_seed(seed))
        save_file({"emb_params": vectors}, tmp_path / "embeddings" / "new.safetensors")
        renderer = renderer if images else Renderer(installed([tmp_path]))
        images.append(
            one(renderer, txt2img("tiny_sd15", prompt="a embedding:new", steps=1)).tobytes()
        )
    assert images[0] != images[1]


def copy_models(folder: Path, to: Path, *names: str) -> None:
    (to / "embeddings").mkdir()
    for name in names:
        shutil.copytree(folder / "checkpoints" / name, to / "checkpoints" / name)


def test_a_lora_of_a_transformer_is_that_of_peft(folder: Path, tmp_path: Path) -> None:
    pipeline = FluxPipeline.from_pretrained(folder / "checkpoints" / "tiny_flux")
    copy_models(folder, tmp_path, "tiny_flux")
    adapter = lora_weights(
        pipeline.transformer, ["to_q", "to_k", "proj_mlp", "ff.net.2", "to_add_out"]
    )
    (tmp_path / "loras").mkdir()
    FluxPipeline.save_lora_weights(
        tmp_path / "loras", transformer_lora_layers=adapter, weight_name="new.safetensors"
    )
    pipeline.load_lora_weights(tmp_path / "loras" / "new.safetensors")
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    model = Model("tiny_flux", (LoraUse("new", 0.7),))
    found = dict(Library(installed([tmp_path])).network(model).named_parameters())
    for name, value in pipeline.transformer.named_parameters():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    workflow = custom()
    workflow["lora"] = node(
        "LoraLoaderModelOnly", model=["ckpt", 0], lora_name="new", strength_model=0.7
    )
    workflow["guider"]["inputs"]["model"] = ["lora", 0]
    plain, changed = (value_of(installed([tmp_path]), w, "sample") for w in (custom(), workflow))
    assert not torch.equal(plain.samples, changed.samples)


def test_a_kohya_file_changes_both_encoders_of_a_single_file(folder: Path, tmp_path: Path) -> None:
    """lora_te1 and lora_te2, and a UNet by the original names, on a model of the original names."""
    shutil.copytree(folder / "checkpoints" / "files", tmp_path / "checkpoints")
    generator = torch.Generator().manual_seed(3)
    held: dict[str, Tensor] = {}
    places = (
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te2_text_model_encoder_layers_1_mlp_fc1",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_v",
        "lora_unet_middle_block_0_in_layers_2",
    )
    sizes = ((32, 32), (32, 64), (64, 16), (32, 32))
    for place, (width, out) in zip(places, sizes, strict=True):
        wide = (3, 3) if place.endswith("in_layers_2") else ()
        narrow = (1, 1) if wide else ()
        held[f"{place}.lora_down.weight"] = torch.randn((2, width, *wide), generator=generator)
        held[f"{place}.lora_up.weight"] = torch.randn((out, 2, *narrow), generator=generator)
        held[f"{place}.alpha"] = torch.tensor(1.0)
    (tmp_path / "loras").mkdir()
    save_file(held, tmp_path / "loras" / "kohya.safetensors")
    found = installed([tmp_path])
    workflow = with_lora("tiny_sdxl", "kohya", 1.0, 1.0)
    label = fidelity(workflow, found)
    assert label.label == "exact", label.reasons
    library, use = Library(found), (LoraUse("kohya", 1.0),)
    plain = library.encoders(Clip("tiny_sdxl", family="sdxl"))
    names = {"clip_l": "layers.0.self_attn.q_proj.weight", "clip_g": "layers.1.mlp.fc1.weight"}
    before = {role: parameter(plain[role].model, name).clone() for role, name in names.items()}
    after = library.encoders(Clip("tiny_sdxl", use, family="sdxl"))
    for role, place in (("clip_l", places[0]), ("clip_g", places[1])):
        added = held[f"{place}.lora_up.weight"] @ held[f"{place}.lora_down.weight"] / 2
        torch.testing.assert_close(parameter(after[role].model, names[role]), before[role] + added)
    assert one(Renderer(found), workflow).size == (64, 64)


def parameter(module: Any, end: str) -> Tensor:
    (found,) = (value for name, value in module.named_parameters() if name.endswith(end))
    return found


def test_a_locon_in_three_parts_is_the_three_convolutions_in_turn() -> None:
    down, mid, up = torch.randn(2, 3, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(5, 2, 1, 1)
    place = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = {f"{place}.lora_{n}.weight": v for n, v in (("down", down), ("mid", mid), ("up", up))}
    weight = "down_blocks.0.resnets.0.conv1.weight"
    found = match(tensors, {"unet": [weight]})
    assert not found.unknown
    changed = change(found.pairs["unet"][weight], tensors, torch.zeros(5, 3, 3, 3), 1.0)
    x = torch.randn(1, 3, 6, 6)
    convolve = torch.nn.functional.conv2d
    expected = convolve(convolve(convolve(x, down), mid), up)
    torch.testing.assert_close(convolve(x, changed), expected, rtol=1e-4, atol=1e-4)
