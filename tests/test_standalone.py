"""Scripts for diffusers: they compile, stand alone, and make the renderer's image where they say so."""

import ast
import importlib.util
import json
import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from test_single_files import part_file
from tiny_models import WIDTH
from tiny_workflows import node, one, pixels, txt2img, with_lora

from flowdesign import __main__
from flowdesign.catalog import SAMPLERS, UNSPOKEN_SAMPLERS, Installed, installed
from flowdesign.designs import make_design, write_files
from flowdesign.nodes import NODES
from flowdesign.render import Renderer
from flowdesign.render.checkpoint import described
from flowdesign.render.files import CONFIGS
from flowdesign.render.tokenizers import END, MERGES, padding_of, tokenizer
from flowdesign.standalone import loading, write_script
from flowdesign.standalone.copying import copied, merged
from flowdesign.standalone.schedulers import STOCK
from flowdesign.standalone.statements import STATEMENTS
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence, workflow_of
from flowdesign.workflow import Workflow, bind

PROMPT, SEED = "two red stars", 7
STANDARD = set(sys.stdlib_module_names) | {"__future__"}
ALLOWED = STANDARD | {
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "PIL",
    "safetensors",
    "spandrel",
}
SENTENCES = 240
CHECK = [
    sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", "--no-cache",
]  # fmt: skip

PLAIN = (
    "<ckpt:mini_flat> <lora:none> <clip_skip:none> <vae:none> <freeu:none> <pag:none> <prefix:none> "
    "<concat:none> <negative:none> <size:64x64> <sampler:{sampler}> <scheduler:{scheduler}> "
    "<steps:{steps}> <cfg:4> <end>"
)
HIRES = (
    "<ckpt:mini_flat> <lora:flat_dusk> <strength:0.8> <lora:none> <clip_skip:-3> <vae:mini_vae_soft> "
    "<freeu:none> <pag:none> <prefix:crisp> <concat:none> <negative:blurry> <size:64x64> "
    "<sampler:euler> <scheduler:karras> <steps:6> <cfg:4> <pass:latent> <method:bislerp> <scale:2> "
    "<model:mini_outline> <sampler:dpmpp_2m> <scheduler:beta> <steps:4> <cfg:1> <denoise:0.5> "
    "<upscaler:mini_2x> <end>"
)
SHARED = (
    "<ckpt:mini_night> <lora:none> <clip_skip:none> <vae:none> <freeu:light> <pag:1> <prefix:none> "
    "<concat:clean> <negative:zero> <size:64x64> <sampler:heun> <scheduler:normal> <steps:6> <cfg:3> "
    "<pass:refine> <model:mini_striped> <switch:0.5> <cfg:2> <pass:pixel> <resize:lanczos> <scale:1.25> "
    "<model:base> <sampler:euler_ancestral> <scheduler:sgm_uniform> <steps:4> <cfg:2> <denoise:0.4> <end>"
)


@pytest.fixture(scope="module")
def here() -> Installed:
    return installed()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def bar(self: Any, iterable: Any = None, total: int | None = None) -> Any:
        self._progress_bar_config = {"disable": True}
        return progress(self, iterable, total)

    progress = DiffusionPipeline.progress_bar
    monkeypatch.setattr(DiffusionPipeline, "progress_bar", bar)


def said(text: str) -> Workflow:
    workflow = workflow_of(text)
    assert workflow is not None, text
    return workflow


@contextmanager
def without_flowdesign() -> Iterator[None]:
    """As on a machine where the package is not installed."""
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    path, arguments = list(sys.path), sys.argv
    sys.path[:] = [place for place in path if not (Path(place or ".") / "flowdesign").is_dir()]
    try:
        assert importlib.util.find_spec("flowdesign") is None
        yield
    finally:
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules |= held
        sys.path[:], sys.argv = path, arguments


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "flowdesign"


def run(text: str, place: Path) -> Image.Image:
    """Run a script as python does, and give the image that it writes."""
    script, image = place / "script.py", place / "image.png"
    script.write_text(text)
    with without_flowdesign():
        sys.argv = [str(script), str(image)]
        runpy.run_path(str(script), run_name="__main__")
    with Image.open(image) as opened:
        return opened.copy()


@lru_cache(maxsize=2)
def renderer_of(models: Installed) -> Renderer:
    return Renderer(models)


def differences(workflow: Workflow, models: Installed, place: Path, prompt: str = PROMPT) -> Any:
    """How far the script's pixels are from the renderer's, and the script's header."""
    text = write_script(workflow, prompt, SEED, models).text
    found = pixels(run(text, place))
    expected = pixels(one(renderer_of(models), bind(workflow, prompt, SEED)))
    assert found.shape == expected.shape and found.std() > 1
    return np.abs(found - expected), ast.get_docstring(ast.parse(text)) or ""


def test_every_sentence_gives_a_script_that_stands_alone(here: Installed, tmp_path: Path) -> None:
    language, chance = Automaton(VOCABULARY, here), random.Random(5)
    for number in range(SENTENCES):
        workflow = decode(random_sentence(language, chance)).workflow
        assert workflow is not None
        made = write_script(workflow, PROMPT, number, here)
        assert not made.problems
        tree = ast.parse(made.text)
        compile(tree, "script", "exec")
        origins = {
            name.partition(".")[0]
            for each in ast.walk(tree)
            if isinstance(each, ast.Import | ast.ImportFrom)
            for name in ([each.module or ""] if isinstance(each, ast.ImportFrom) else
                         [alias.name for alias in each.names])
        }  # fmt: skip
        assert origins <= ALLOWED
        samplers = {n["inputs"].get("sampler_name") for n in workflow.values()} - {None}
        header = ast.get_docstring(tree) or ""
        if any(STOCK[name].differs for name in samplers):
            assert "Approximate, for these reasons:" in header
        assert ("spandrel" in made.text) == ("UpscaleModelLoader" in str(workflow))
        (tmp_path / f"script_{number}.py").write_text(made.text)
    # No name is used that is not defined, none is imported in vain.
    done = subprocess.run([*CHECK, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[:2000]


@pytest.mark.parametrize("sentence", [HIRES, SHARED])
def test_an_exact_script_makes_the_renderers_image(
    here: Installed, tmp_path: Path, sentence: str
) -> None:
    distance, header = differences(said(sentence), here, tmp_path)
    assert "Exact: the image is the one that ComfyUI" in header and "Approximate" not in header
    assert distance.max() <= 1 and (distance == 0).mean() > 0.97


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "lcm", "uni_pc"])
def test_samplers_on_training_levels(models: Installed, tmp_path: Path, sampler: str) -> None:
    workflow = txt2img("tiny_mini", "{prompt}", sampler_name=sampler, scheduler="simple", seed=0)
    distance, header = differences(workflow, models, tmp_path)
    assert ("Approximate" in header) == (sampler == "uni_pc")
    assert distance.max() <= 1 and (distance == 0).mean() > 0.99


@pytest.mark.parametrize(("apart", "said"), [(4234, "+ 4235"), (2**64 - 5, "- 4"), (0, "+ 1")])
def test_later_passes_keep_their_seeds(
    models: Installed, tmp_path: Path, apart: int, said: str
) -> None:
    workflow = txt2img("tiny_mini", "{prompt}", seed=0)
    again = {"latent_image": ["sample", 0], "denoise": 0.5, "seed": apart}
    workflow["again"] = node("KSampler", **workflow["sample"]["inputs"] | again)
    workflow["decode"]["inputs"]["samples"] = ["again", 0]
    assert f"seed=(SEED {said}) % 2**64" in write_script(workflow, PROMPT, SEED, models).text
    distance, _ = differences(workflow, models, tmp_path)
    assert distance.max() <= 1 and (distance == 0).mean() > 0.99


@pytest.mark.parametrize("sampler", ["dpmpp_sde", "lcm", "res_multistep"])
def test_an_approximate_script_says_why(models: Installed, tmp_path: Path, sampler: str) -> None:
    workflow = txt2img("tiny_mini", "{prompt}", sampler_name=sampler, scheduler="karras", seed=0)
    distance, header = differences(workflow, models, tmp_path)
    reasons = header.partition("Approximate, for these reasons:")[2]
    assert f"pass 1: {sampler} with karras" in reasons and distance.max() > 0


@pytest.mark.parametrize(
    ("checkpoint", "prompt"),
    [("tiny_sd15", "a red star, " * 30), ("tiny_sdxl", "a (red:1.3) star")],
)
def test_weights_and_long_prompts_are_encoded_as_in_comfyui(
    models: Installed, tmp_path: Path, checkpoint: str, prompt: str
) -> None:
    distance, header = differences(
        txt2img(checkpoint, "{prompt}", seed=0), models, tmp_path, prompt
    )
    assert "Approximate" not in header
    assert distance.max() <= 1 and (distance == 0).mean() > 0.99


@pytest.fixture(scope="module")
def every_family(families: Path) -> Installed:
    return installed([families])


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("tiny_sd2", PROMPT),
        ("tiny_sd2", "a (red:1.3) star, " * 20),
        ("files/tiny_sd15", PROMPT),
        ("files/tiny_sd2", "a (red:1.3) star"),
        ("files/tiny_sdxl", PROMPT),
    ],
)
def test_single_files_and_sd2_are_loaded(
    every_family: Installed, tmp_path: Path, name: str, prompt: str
) -> None:
    workflow = txt2img(name, "{prompt}", seed=0)
    if "sd2" in name:  # the last layer that its files have is the one before the last
        workflow["skip"] = node("CLIPSetLastLayer", clip=["ckpt", 1], stop_at_clip_layer=-3)
        workflow["no"]["inputs"]["clip"] = ["skip", 0]
    distance, header = differences(workflow, every_family, tmp_path, prompt)
    assert "Approximate" not in header
    assert distance.max() <= 1 and (distance == 0).mean() > 0.99


def test_a_pipeline_of_a_single_file_may_be_perturbed_and_have_loras(
    every_family: Installed, tmp_path: Path
) -> None:
    workflow = with_lora("files/tiny_sd15", "tiny_lora", 0.7, -0.4)
    workflow["sample"]["inputs"]["seed"] = 0
    workflow["pag"] = node("PerturbedAttentionGuidance", model=["lora", 0], scale=2.0)
    workflow["sample"]["inputs"]["model"] = ["pag", 0]
    distance, _ = differences(workflow, every_family, tmp_path)
    assert distance.max() <= 2 and (distance == 0).mean() > 0.99


def test_a_vae_in_a_single_file_is_loaded(families: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    part_file(families, "tiny_sdxl", "vae", tmp_path / "vae" / "one")
    models = installed([families, tmp_path])
    workflow = txt2img("tiny_sd15", "{prompt}", seed=0)
    workflow["vae"] = node("VAELoader", vae_name="one")
    workflow["decode"]["inputs"]["vae"] = ["vae", 0]
    distance, header = differences(workflow, models, tmp_path)
    assert "Approximate" not in header and distance.max() <= 1


@pytest.mark.parametrize("name", ["tiny_sd15", "files/tiny_sd2", "tiny_sdxl"])
def test_embeddings_are_loaded(families: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "embeddings").mkdir()
    vectors = torch.randn((3, WIDTH), generator=torch.Generator().manual_seed(1))
    held = {"clip_l": vectors, "clip_g": -vectors} if "xl" in name else {"emb_params": vectors}
    save_file(held, tmp_path / "embeddings" / "new.safetensors")
    models = installed([families, tmp_path])
    workflow = txt2img(name, "{prompt}", seed=0)
    prompt = "a star, embedding:new, (embedding:new:1.2) embedding:none"
    distance, header = differences(workflow, models, tmp_path, prompt)
    assert "'none' is not installed" in header
    assert distance.max() <= 1 and (distance == 0).mean() > 0.99
    plain = pixels(one(renderer_of(models), bind(workflow, "a star,", SEED)))
    assert np.abs(plain - pixels(one(renderer_of(models), bind(workflow, prompt, SEED)))).max() > 1


def test_clips_words_come_from_the_shipped_file_or_from_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for part in described(CONFIGS / "sdxl")[1:3]:
        ours, theirs = tokenizer(part), loading.words_of(str(MERGES), padding_of(part))
        for text in ("", "A red star, on white: déjà vu 日本"):
            assert ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert ours.pad_token_id == theirs.pad_token_id
    asked = []
    monkeypatch.setattr(
        loading.AutoTokenizer,
        "from_pretrained",
        lambda name, **options: asked.append((name, options)),
    )
    loading.words_of("/nowhere", "!")
    assert asked == [("openai/clip-vit-large-patch14", {"pad_token": "!"})]


def test_a_script_tells_the_sizes_of_a_published_model(tmp_path: Path) -> None:
    """Only what tells the layout is in this file: a whole one has gigabytes."""
    (tmp_path / "checkpoints").mkdir()
    names = {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (1, 768),
             "first_stage_model.x": (1,), "cond_stage_model.transformer.x": (1,)}  # fmt: skip
    held = {name: torch.zeros(shape) for name, shape in names.items()}
    save_file(held, tmp_path / "checkpoints" / "photo.safetensors")
    text = write_script(txt2img("photo", "{prompt}"), PROMPT, SEED, installed([tmp_path])).text
    found = subprocess.run([*CHECK, _written(text, tmp_path)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert "'block_out_channels': [320, 640, 1280, 1280]" in text
    script = runpy.run_path(str(tmp_path / "script.py"))
    words, ours = script["words_of"](str(MERGES), END), tokenizer(described(CONFIGS / "sd1")[1])
    assert words(PROMPT)["input_ids"] == ours(PROMPT)["input_ids"]


def test_what_no_script_loads_is_told_in_words(
    families: Path, every_family: Installed, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(workflow: Workflow, models: Installed = every_family) -> str:
        made = write_script(workflow, PROMPT, SEED, models)
        assert not made.text
        return made.problems[0].message

    assert "StableDiffusion3Pipeline; only SD 1, SD 2 and SDXL" in refused(txt2img("tiny_sd3"))
    assert "FluxPipeline; only" in refused(txt2img("files/tiny_flux"))
    workflow = txt2img("tiny_sd2")
    workflow["skip"] = node("CLIPSetLastLayer", clip=["ckpt", 1], stop_at_clip_layer=-1)
    workflow["yes"]["inputs"]["clip"] = ["skip", 0]
    assert "files of SD 2 leave out" in refused(workflow)
    lacking = tmp_path / "checkpoints" / "lacking.safetensors"
    lacking.parent.mkdir()
    held = load_file(families / "checkpoints/files/tiny_sd15.safetensors")
    save_file({n: v for n, v in held.items() if not n.startswith("first_stage")}, lacking)
    shutil.copytree(families / "checkpoints/files/tiny_sd15.config", lacking.with_suffix(".config"))
    assert "the file has no vae" in refused(txt2img("lacking"), installed([tmp_path]))
    monkeypatch.setenv("FLOWDESIGN_MODELS", str(families))
    (tmp_path / "w.json").write_text(json.dumps(txt2img("tiny_sd3")))
    assert __main__.main(["convert", str(tmp_path / "w.json"), "--to", "diffusers"]) == 1
    said_of = capsys.readouterr()
    assert not said_of.out and "only SD 1, SD 2 and SDXL" in said_of.err


def test_loras_have_a_strength_for_the_model_and_one_for_the_text(
    models: Installed, tmp_path: Path
) -> None:
    workflow = with_lora("tiny_sd15", "tiny_lora", 0.7, -0.4)
    workflow["sample"]["inputs"]["seed"] = 0
    workflow["skip"] = node("CLIPSetLastLayer", clip=["lora", 1], stop_at_clip_layer=-2)
    workflow["yes"]["inputs"]["clip"] = ["skip", 0]
    distance, header = differences(workflow, models, tmp_path)
    assert "Approximate" not in header
    assert distance.max() <= 1 and (distance == 0).mean() > 0.99


def test_averaged_texts_are_exact_and_areas_are_named(models: Installed, tmp_path: Path) -> None:
    workflow = txt2img("tiny_sdxl", "{prompt}", seed=0)
    workflow["both"] = node(
        "ConditioningAverage", conditioning_to=["yes", 0], conditioning_from=["no", 0],
        conditioning_to_strength=0.6,
    )  # fmt: skip
    workflow["sample"]["inputs"]["positive"] = ["both", 0]
    distance, header = differences(workflow, models, tmp_path)
    assert "Approximate" not in header and distance.max() <= 1
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    workflow["part"] = node("ConditioningSetArea", conditioning=["both", 0], **area)
    workflow["sample"]["inputs"]["positive"] = ["part", 0]
    text = " ".join(write_script(workflow, PROMPT, SEED, models).text.split())
    assert "ConditioningSetArea lets a text count in a part of the image" in text


def test_a_node_that_no_script_can_say_is_a_problem(
    models: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = {name: row for name, row in STATEMENTS.items() if name != "VAEDecode"}
    monkeypatch.setattr("flowdesign.standalone.script.STATEMENTS", rest)
    made = write_script(txt2img("tiny_sd15"), PROMPT, SEED, models)
    assert not made.text and "(VAEDecode) cannot be written" in made.problems[0].message


def test_combined_texts_and_a_small_cfg_are_named(models: Installed) -> None:
    workflow = txt2img("tiny_sd15", cfg=0.5)
    workflow["both"] = node(
        "ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["no", 0]
    )
    workflow["sample"]["inputs"]["positive"] = ["both", 0]
    text = write_script(workflow, PROMPT, SEED, models).text
    header = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    assert "ConditioningCombine averages the predictions" in header
    assert "a cfg of 0.5 is below 1" in header


def test_what_has_no_row_is_refused_by_name(models: Installed) -> None:
    assert STATEMENTS.keys() <= NODES.keys()
    workflow = txt2img("tiny_sd15")
    workflow["led"] = node("FluxGuidance", conditioning=["yes", 0], guidance=3.5)
    workflow["sample"]["inputs"]["positive"] = ["led", 0]
    found = write_script(workflow, PROMPT, SEED, models)
    assert not found.text
    assert "'led' (FluxGuidance) cannot be written" in found.problems[0].message


def test_every_sampler_has_a_row() -> None:
    assert STOCK.keys() == {*SAMPLERS, *UNSPOKEN_SAMPLERS}


def test_a_strange_prompt_stays_a_text(models: Installed, tmp_path: Path) -> None:
    prompt = 'a """ \\ \' {prompt} \n star'
    text = write_script(txt2img("tiny_sd15", "{prompt}"), prompt, SEED, models).text
    assert runpy.run_path(str(_written(text, tmp_path)))["PROMPT"] == prompt


def _written(text: str, place: Path) -> Path:
    path = place / "script.py"
    path.write_text(text)
    return path


def test_the_command_line_prints_a_script_from_a_png(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = said(PLAIN.format(sampler="euler", scheduler="normal", steps=4))
    design = make_design(plain, PROMPT, SEED)
    png, _, _ = write_files(tmp_path, "a", design, Image.new("RGB", (8, 8)), "exact", [])
    assert __main__.main(["convert", str(png), "--to", "diffusers"]) == 0
    printed = capsys.readouterr().out
    assert f"PROMPT = {PROMPT!r}" in printed and f"SEED = {SEED}" in printed
    broken = tmp_path / "broken.json"
    broken.write_text((tmp_path / "a.api.json").read_text().replace("mini_flat", "mini_flt"))
    assert __main__.main(["convert", str(broken), "--to", "diffusers"]) == 1
    said_of = capsys.readouterr()
    assert not said_of.out and "Did you mean 'mini_flat'?" in said_of.err


def test_copies_bring_what_they_need() -> None:
    found = copied({"flowdesign.render.resize": ["bislerp"]})
    assert "NEARLY_PARALLEL = 1e-5" in found.source and "def _slerp" in found.source
    assert "lanczos" not in found.source and "import torch" in found.imports
    assert merged(["import b", "from a import y", "from a import x"])[2:] == [
        "import b", "from a import x, y",
    ]  # fmt: skip
    with pytest.raises(KeyError):
        copied({"flowdesign.render.resize": ["nothing"]})
