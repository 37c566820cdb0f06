"""What lies in models folders: whole or broken, of which family, and what is remembered of it."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowdesign import __main__, comfy, provenance
from flowdesign.catalog import MODELS, installed
from flowdesign.detection import Detected, detect, detect_folder
from flowdesign.headers import BrokenFile, read_header
from flowdesign.inventory import Entry, entries
from flowdesign.provenance import HashMemory, ModelHashes
from flowdesign.tokens import workflow_of
from flowdesign.workflow import bind, validate

Shapes = Mapping[str, tuple[int, ...]]
LDM = {"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}
TEXTS = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
SENTENCE = (
    "<ckpt:mini_flat> <lora:flat_dusk> <strength:0.8> <lora:none> <clip_skip:none> <vae:mini_vae> "
    "<freeu:none> <pag:none> <prefix:none> <concat:none> <negative:none> <size:64x64> <sampler:euler> "
    "<scheduler:karras> <steps:4> <cfg:4> <upscaler:mini_2x> <end>"
)


def write(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> Path:
    """A whole file of zeros with these tensors, in as few bytes as the format allows."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    place = 0
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [place, place + count]}
        place += count
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + place)  # sparse: a large model takes no room
    return path


FAMILIES: list[tuple[Shapes, str, str]] = [
    (LDM | {TEXTS: (640, 768)}, "checkpoint", "SD 1.5"),
    (LDM | {TEXTS: (640, 1024)}, "checkpoint", "SD 2"),
    (LDM | {TEXTS: (640, 2048)}, "checkpoint", "SDXL"),
    (LDM | {TEXTS: (768, 1280)}, "checkpoint", "SDXL refiner"),
    (
        LDM | {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)},
        "checkpoint",
        "SD3.5",
    ),
    (
        {"double_blocks.0.img_attn.qkv.weight": (9216, 3072), "single_blocks.0.linear1.weight": (9, 9)},
        "diffusion model",
        "FLUX.1",
    ),
    ({"down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048)},
     "diffusion model", "SDXL"),
    ({"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 768),
      "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.alpha": ()},
     "LoRA", "SD 1.5"),
    ({"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (8, 2048)},
     "LoRA", "SDXL"),
    ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (8, 3072)}, "LoRA", "FLUX.1"),
    ({"transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight": (8, 1536)}, "LoRA", "SD3.5"),
    ({"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.conv_in.weight": (128, 3, 3, 3)},
     "VAE", "SD 1.5, SD 2 or SDXL"),
    ({"decoder.conv_in.weight": (512, 16, 3, 3), "encoder.conv_in.weight": (128, 3, 3, 3)},
     "VAE", "SD3.5 or FLUX.1"),
    ({"emb_params": (4, 768)}, "embedding", "SD 1.5"),
    ({"clip_g": (2, 1280), "clip_l": (2, 768)}, "embedding", "SDXL"),
    ({"text_model.embeddings.token_embedding.weight": (49408, 768)}, "text encoder", "CLIP-L"),
    ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "text encoder", "T5"),
    ({"conv_first.weight": (64, 3, 3, 3), "conv_last.weight": (3, 64, 3, 3)}, "upscale model", "any"),
    ({"something.else": (3,)}, "unknown", "unknown"),
    ({}, "unknown", "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "holds", "family"), FAMILIES)
def test_families_are_told_from_names_and_shapes(shapes: Shapes, holds: str, family: str) -> None:
    assert detect(shapes) == Detected(holds, family)


def test_real_files_are_told_as_well(folder: Path) -> None:
    found = {
        each.name: each for each in entries(installed([folder]), ModelHashes(installed([folder])))
    }
    assert {name: each.holds for name, each in found.items()} == {
        "tiny_mini": "checkpoint", "tiny_sd15": "checkpoint", "tiny_sdxl": "checkpoint",
        "mini_lora.safetensors": "LoRA", "tiny_lora.safetensors": "LoRA", "tiny_kl": "VAE",
        "tiny_vae": "VAE", "tiny_2x.safetensors": "upscale model",
    }  # fmt: skip
    assert detect_folder(MODELS / "checkpoints" / "mini_flat") == Detected(
        "checkpoint", "miniature"
    )


def broken_files(place: Path) -> dict[str, Path]:
    whole = write(place / "whole.safetensors", {"a.weight": (2, 3)})
    raw = whole.read_bytes()
    files = {
        "short": raw[:-1],
        "long": raw + b"x",
        "header": raw[:40],
        "empty": b"",
        "pickle": b"\x80\x02}q\x00." * 4,
        "zip": b"PK\x03\x04" + b"\0" * 40,
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "json": struct.pack("<Q", 5) + b"{nope",
        "list": struct.pack("<Q", 2) + b"[]",
        "shape": raw.replace(b"[2, 3]", b"[2, 9]"),
        "negative": raw.replace(b"[0, 6]", b"[9, 6]"),
    }
    for name, content in files.items():
        (place / f"{name}.safetensors").write_bytes(content)
    return {name: place / f"{name}.safetensors" for name in files}


def test_a_broken_file_is_named_with_its_reason(tmp_path: Path) -> None:
    reasons = {}
    for name, path in broken_files(tmp_path).items():
        with pytest.raises(BrokenFile) as fault:
            read_header(path)
        reasons[name] = str(fault.value)
    for name in ("short", "header", "empty"):
        assert "is truncated" in reasons[name]
    assert "by its header it has" in reasons["short"] and "is damaged" in reasons["long"]
    for name in ("pickle", "zip"):
        assert "a pickle, which can run code" in reasons[name]
    for name in ("text", "json", "list"):
        assert "is no safetensors file" in reasons[name]
    for name in ("shape", "negative"):
        assert "do not agree" in reasons[name]
    assert read_header(tmp_path / "whole.safetensors").shapes == {"a.weight": (2, 3)}


@pytest.mark.parametrize("length", [0x80, 0x180, 19280, 19280 + 2**16])  # "\x80", and "PK"
def test_a_whole_file_is_no_pickle_for_the_length_of_its_header(
    tmp_path: Path, length: int
) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header + b"\0" * 4)
    assert path.read_bytes().startswith((b"\x80", b"\x80\x01", b"PK"))
    assert read_header(path).shapes == {"a": (1,)}
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BrokenFile, match="is truncated"):
        read_header(path)


def test_a_file_that_was_mended_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": (4,)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(BrokenFile):
        read_header(path)
    path.write_bytes(whole)
    assert read_header(path).shapes == {"a": (4,)}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder as people have them."""
    write(tmp_path / "checkpoints/sdxl/photo.safetensors", LDM | {TEXTS: (640, 2048)},
          {"modelspec.license": "openrail++"})  # fmt: skip
    write(tmp_path / "loras/photo.safetensors", LDM | {TEXTS: (640, 768)})  # in the wrong folder
    write(tmp_path / "unet/flux.safetensors", FAMILIES[5][0])
    (tmp_path / "upscale_models").mkdir()
    (tmp_path / "upscale_models/4x-UltraSharp.pth").write_bytes(b"PK")
    (tmp_path / "checkpoints/half.safetensors").write_bytes(b"\1\0\0")
    monkeypatch.setenv("FLOWDESIGN_DATA", str(tmp_path / "data"))
    return tmp_path


def by_name(shelf: Path, **options: Any) -> dict[str, Entry]:
    models = installed([shelf])
    return {f"{e.kind}/{e.name}": e for e in entries(models, ModelHashes(models), **options)}


def test_the_list_says_family_licence_and_what_is_broken(shelf: Path) -> None:
    found = by_name(shelf)
    photo = found["checkpoints/sdxl/photo.safetensors"]
    assert (photo.family, photo.holds, photo.licence) == ("SDXL", "checkpoint", "openrail++")
    assert found["diffusion_models/flux.safetensors"].family == "FLUX.1"
    assert found["loras/photo.safetensors"].holds == "checkpoint"
    assert "a pickle" in found["upscale_models/4x-UltraSharp.pth"].fault
    assert "is truncated" in found["checkpoints/half.safetensors"].fault
    assert len(found) == 5


def test_hashes_are_read_once(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads: list[Path] = []
    hash_of: Callable[[Path], str] = provenance._hash

    def counted(path: Path) -> str:
        reads.append(path)
        return hash_of(path)

    monkeypatch.setattr(provenance, "_hash", counted)
    monkeypatch.setattr("flowdesign.inventory.SOON", 0)
    assert not any(each.hash for each in by_name(shelf).values()) and not reads
    first = by_name(shelf, every_hash=True)
    assert len(reads) == 3 and all(each.hash for each in first.values() if not each.fault)
    assert by_name(shelf) == first and len(reads) == 3  # another process would find them as well
    changed = write(shelf / "checkpoints/sdxl/photo.safetensors", LDM | {TEXTS: (641, 2048)})
    again = by_name(shelf, every_hash=True)
    assert reads[3:] == [changed]
    name = "checkpoints/sdxl/photo.safetensors"
    assert again[name].hash != first[name].hash


def test_a_memory_that_cannot_be_kept_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    memory = HashMemory(tmp_path / "file" / "hashes.json")
    memory.put(tmp_path, (), "abc")
    assert memory.get(tmp_path, ()) is None
    damaged = HashMemory(tmp_path / "file")
    assert damaged.get(tmp_path, ()) is None


def test_the_command_lists_as_text_and_json(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["models", str(shelf)]) == 0
    text = capsys.readouterr().out
    assert "openrail++" in text and "SD 1.5 checkpoint" in text
    assert "4x-UltraSharp.pth  not loaded: it is a pickle" in text
    assert __main__.main(["models", str(shelf), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folders"] == [str(shelf)] and len(found["models"]) == 5
    assert __main__.main(["models", str(shelf / "absent")]) == 2
    assert "There is no models folder" in capsys.readouterr().err


def test_a_missing_or_broken_file_is_answered_and_never_swapped(shelf: Path) -> None:
    models = installed([shelf])
    workflow = workflow_of(SENTENCE)
    assert workflow is not None
    loader = next(n for n, each in workflow.items() if "ckpt_name" in each["inputs"])
    for name, words in (
        ("old/photo_v1.safetensors", "Did you mean 'sdxl/photo'?"),
        ("half.safetensors", "the checkpoint 'half.safetensors' is truncated"),
    ):
        workflow[loader]["inputs"]["ckpt_name"] = name
        told = [p.message for p in validate(workflow, models) if p.input == "ckpt_name"]
        assert len(told) == 1 and words in told[0]
        found = comfy.from_json(comfy.to_api(bind(workflow, "a star", 1), models), models)
        assert found.workflow is not None
        assert name in {each["inputs"].get("ckpt_name") for each in found.workflow.values()}


def test_exports_name_files_as_comfyui_lists_them_and_both_forms_are_read() -> None:
    workflow = workflow_of(SENTENCE)
    assert workflow is not None
    models = installed()
    api = comfy.to_api(bind(workflow, "a star", 1), models)
    names = {value for each in api.values() for name, value in each["inputs"].items()
             if name in ("ckpt_name", "lora_name", "vae_name", "model_name")}  # fmt: skip
    assert names == {"mini_flat", "flat_dusk.safetensors", "mini_vae", "mini_2x.safetensors"}
    ui = comfy.to_ui(bind(workflow, "a star", 1), models)
    assert "mini_2x.safetensors" in str(ui) and "flat_dusk.safetensors" in str(ui)
    bare = {key: {**each, "inputs": {n: v.removesuffix(".safetensors") if isinstance(v, str) else v
                                     for n, v in each["inputs"].items()}}
            for key, each in api.items()}  # fmt: skip
    read = [comfy.from_json(form, models) for form in (api, ui, bare)]
    assert read[0] == read[1] == read[2] and not read[0].problems
    assert read[0].workflow == workflow
