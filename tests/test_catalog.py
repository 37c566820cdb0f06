"""The catalogue: rows, the listing of models folders, and names that lead nowhere else."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowdesign import catalog
from flowdesign.catalog import (
    ASSETS,
    FAMILIES,
    KINDS,
    CatalogError,
    Installed,
    UnknownAsset,
    installed,
    known_assets,
    suggest,
)
from flowdesign.tokens import VOCABULARY, Automaton

EMPTY = (2).to_bytes(8, "little") + b"{}"  # a safetensors file without a tensor


def test_the_language_loads_no_torch() -> None:
    code = (
        "import sys, flowdesign.comfy, flowdesign.tokens\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'gradio', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=catalog.ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_rows_are_consistent() -> None:
    assert len({(row.kind, row.name) for row in ASSETS}) == len(ASSETS)
    checkpoints = {row.name: row for row in ASSETS if row.kind == "checkpoints"}
    for row in ASSETS:
        assert row.kind in KINDS
        assert row.about and row.licence
        assert row.family in (*FAMILIES, "any")
        assert (row.kind == "loras") == bool(row.base)
        assert (row.kind == "upscale_models") == (row.scale > 1)
        assert not row.base or checkpoints[row.base].family == row.family
    assert all(row.native_size and row.family in FAMILIES for row in checkpoints.values())


def test_families_sample_whole_latents() -> None:
    for family in FAMILIES.values():
        for side in (side for size in family.sizes for side in size):
            assert side % family.multiple == 0
            assert side <= family.max_sampling <= family.max_image


def test_tables_begin_with_the_choice_against() -> None:
    assert catalog.PREFIXES[0] == catalog.NEGATIVES[0] == ""
    for table in (catalog.PREFIXES, catalog.NEGATIVES, catalog.SAMPLERS, catalog.SCHEDULERS):
        assert len(set(table)) == len(table)


def test_scan_finds_what_comfyui_lists(tmp_path: Path) -> None:
    deep = "/".join("abcdefghi")
    for name in (
        "ae.sft",
        "ae.safetensors",
        "Photo.SAFETENSORS",
        f"{deep}/x.SFT",
        f"{deep}/j/y.sft",
    ):
        path = tmp_path / "vae" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(EMPTY)
    found = installed([tmp_path])
    assert found.names("vae") == ("Photo.SAFETENSORS", f"{deep}/x.SFT", "ae", "ae.sft")
    for name, listed in (("ae", "ae.safetensors"), ("ae.sft", "ae.sft")):
        assert found.listed("vae", name) == listed
        assert found.path("vae", name) == tmp_path / "vae" / listed
    (tmp_path / "vae" / "Photo.SAFETENSORS").write_bytes(b"")
    assert "is truncated" in installed([tmp_path]).why_broken("vae", "Photo.SAFETENSORS")


def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "loras" / name).mkdir(parents=True)
        (tmp_path / "loras" / name / "x.safetensors").write_bytes(EMPTY)
    (tmp_path / "loras/a/b").symlink_to(tmp_path / "loras/b")
    (tmp_path / "loras/b/a").symlink_to(tmp_path / "loras/a")
    (tmp_path / "loras/b/top").symlink_to(tmp_path / "loras")
    assert installed([tmp_path]).names("loras") == ("a/b/x", "a/x", "b/a/x", "b/x")


def test_scan_finds_folders_and_safetensors_in_order(tmp_path: Path) -> None:
    _diffusers(tmp_path / "checkpoints" / "zebra")
    _diffusers(tmp_path / "checkpoints" / "mini_night")
    _diffusers(tmp_path / "checkpoints" / "mini_flat")
    for name in ("own.safetensors", "pickle.ckpt", ".hidden.safetensors", "sub/deep.safetensors"):
        path = tmp_path / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(EMPTY)
    found = installed([tmp_path])
    assert found.names("checkpoints") == ("mini_flat", "mini_night", "own", "sub/deep", "zebra")
    assert found.path("checkpoints", "own") == tmp_path / "checkpoints" / "own.safetensors"
    assert found.path("checkpoints", "zebra") == tmp_path / "checkpoints" / "zebra"
    assert found.names("loras") == ()
    assert list(found.broken("checkpoints")) == ["pickle.ckpt"]
    assert "a pickle, which can run code" in found.why_broken("checkpoints", "pickle.ckpt")


def test_older_names_of_folders_are_read(tmp_path: Path) -> None:
    for place in ("unet/a", "diffusion_models/b", "clip/c", "text_encoders/d"):
        path = (tmp_path / place).with_suffix(".safetensors")
        path.parent.mkdir()
        path.write_bytes(EMPTY)
    found = installed([tmp_path])
    assert found.names("diffusion_models") == ("a", "b")
    assert found.names("text_encoders") == ("c", "d")


def test_files_are_listed_with_their_suffix_and_folders_without(tmp_path: Path) -> None:
    _diffusers(tmp_path / "checkpoints" / "sub" / "folder")
    (tmp_path / "checkpoints" / "sub" / "file.safetensors").write_bytes(EMPTY)
    found = installed([tmp_path])
    assert found.listed("checkpoints", "sub/file") == "sub/file.safetensors"
    assert found.listed("checkpoints", "sub/folder") == "sub/folder"
    assert found.listed("checkpoints", "absent") == "absent"
    assert known_assets().listed("loras", "flat_dusk") == "flat_dusk.safetensors"


def test_what_is_broken_is_never_said(tmp_path: Path) -> None:
    shutil.copytree(catalog.MODELS, tmp_path / "models")
    whole = tmp_path / "models" / "loras" / "flat_dusk.safetensors"
    whole.write_bytes(whole.read_bytes()[:-1])
    unet = tmp_path / "models/checkpoints/mini_night/unet/diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes()[:1000])
    found = installed([tmp_path / "models"])
    words = {word for state in _states(found) for word in state}
    assert {"<ckpt:mini_flat>", "<lora:night_crowd>"} <= words
    assert not words & {"<lora:flat_dusk>", "<ckpt:mini_night>", "<model:mini_night>"}
    with pytest.raises(UnknownAsset):
        found.path("loras", "flat_dusk")
    assert "is truncated" in found.why_broken("loras", "flat_dusk.safetensors")
    assert "unet/diffusion_pytorch_model.safetensors is" in found.why_broken(
        "checkpoints", "mini_night"
    )


def _states(models: Installed) -> Iterator[list[str]]:
    """The words that may follow, at every point of many random sentences."""
    language, chance = Automaton(VOCABULARY, models), random.Random(1)
    for _ in range(30):
        state = language.start()
        while not language.done(state):
            allowed = language.allowed(state)
            yield [VOCABULARY.tokens[token] for token in allowed]
            state = language.advance(state, chance.choice(allowed))


def test_the_first_folder_wins_and_more_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "loras").mkdir(parents=True)
        (tmp_path / place / "loras" / "both.safetensors").write_bytes(EMPTY)
    both = installed([tmp_path / "a", tmp_path / "b"])
    assert both.path("loras", "both").is_relative_to(tmp_path / "a")
    monkeypatch.setenv("FLOWDESIGN_MODELS", f"{tmp_path / 'b'}{os.pathsep}{tmp_path / 'a'}")
    assert installed().path("loras", "both").is_relative_to(tmp_path / "b")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "", "mini_flat/../x"])
def test_a_name_never_becomes_a_path(name: str, tmp_path: Path) -> None:
    _diffusers(tmp_path / "checkpoints" / "mini_flat")
    with pytest.raises(UnknownAsset, match="Unknown checkpoint"):
        installed([tmp_path]).path("checkpoints", name)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownAsset, match="Unknown checkpoint 'mini_flt'. Did you mean 'mini_flat'"
    ):
        known_assets().path("checkpoints", "mini_flt")
    with pytest.raises(CatalogError, match="Did you mean 'loras'"):
        known_assets().names("lora")


def test_suggestions() -> None:
    assert suggest("eulr", ("euler", "ddim")) == "Did you mean 'euler'? Known: euler, ddim."
    assert suggest("KSAMPLER", ("KSampler",)).startswith("Did you mean 'KSampler'?")
    assert suggest("zzz", ("euler",)) == "Known: euler."
    names = ("sdxl/crystal_v2", "sd15/other")
    assert "Did you mean 'sdxl/crystal_v2'?" in suggest("Old Stuff\\crystal_v1.safetensors", names)
    assert suggest("a", ()) == "None is known here."
    assert suggest("x" * 10**6, (str(i) for i in range(100))).endswith(", ....")


def test_nothing_is_installed_where_there_is_no_folder(tmp_path: Path) -> None:
    assert all(installed([tmp_path / "absent"]).names(kind) == () for kind in KINDS)


def _diffusers(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
