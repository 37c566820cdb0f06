"""The miniature's own codec inside diffusers' folders: saved, loaded again, and rendered with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from tiny_models import tiny_codec
from tiny_workflows import PROMPT, SEED, node, one, pixels, txt2img, with_lora

from flowdesign.catalog import ROOT, Installed
from flowdesign.render import Renderer, fidelity
from flowdesign.render.codec import PatchCodec

torch.set_num_threads(1)


# --- alone ---------------------------------------------------------------------------------------


def pictures(count: int, seed: int) -> torch.Tensor:
    coarse = torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")


@torch.no_grad()
def test_the_components_reconstruct_what_they_were_fitted_to() -> None:
    codec = tiny_codec(correction=0.0)
    seen, unseen = pictures(64, 1), pictures(8, 2)
    latents = codec.encode(unseen).latent_dist.mode()
    assert latents.shape == (8, 16, 4, 4)
    assert float((codec.decode(latents).sample - unseen).square().mean()) < 0.02 * unseen.var()
    scaled = codec.encode(seen).latent_dist.sample() * codec.config.scaling_factor
    assert abs(float(scaled.std()) - 1) < 1e-3


@torch.no_grad()
def test_the_codec_is_saved_and_loaded(tmp_path: Path) -> None:
    codec = tiny_codec()
    codec.save_pretrained(tmp_path)
    again = PatchCodec.from_pretrained(tmp_path)
    assert again.config.scaling_factor == codec.config.scaling_factor != 1
    latents = torch.randn((2, 16, 8, 4), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.decode(latents).sample, codec.decode(latents).sample)
    assert codec.decode(latents).sample.shape == (2, 3, 64, 32)


# --- in a pipeline of diffusers ------------------------------------------------------------------


def test_a_pipeline_names_the_module_of_the_codec(folder: Path) -> None:
    index = json.loads((folder / "checkpoints/tiny_mini/model_index.json").read_text("utf-8"))
    assert index["vae"] == ["flowdesign.render.codec", "PatchCodec"]
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder / "checkpoints" / "tiny_mini")
    assert isinstance(pipeline.vae, PatchCodec) and pipeline.vae_scale_factor == 8


PROGRAM = """
from diffusers import StableDiffusionXLPipeline
try:
    StableDiffusionXLPipeline.from_pretrained(FOLDER)
except ValueError as error:
    assert "import flowdesign.render.codec before calling" in str(error), error
else:
    raise AssertionError("loaded without the import")
import flowdesign.render.codec
StableDiffusionXLPipeline.from_pretrained(FOLDER)
"""


@pytest.mark.slow
def test_another_program_needs_one_import(folder: Path) -> None:
    """diffusers runs no module that a folder merely names, so the program has to import it."""
    program = f"FOLDER = {str(folder / 'checkpoints' / 'tiny_mini')!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- in the renderer -----------------------------------------------------------------------------


def test_an_image_is_what_the_codec_makes_of_the_latent(renderer: Renderer, folder: Path) -> None:
    """The loop of diffusers is compared in test_render; here, that the decoder is this one."""
    workflow = txt2img("tiny_mini")
    image = one(renderer, workflow)
    assert image.size == (64, 64) and len(np.unique(pixels(image))) > 20
    workflow["other"] = node("VAELoader", vae_name="tiny_vae")
    workflow["decode"]["inputs"]["vae"] = ["other", 0]
    other = one(renderer, workflow)
    workflow["other"]["inputs"]["vae_name"] = "tiny_kl"
    assert len({each.tobytes() for each in (image, other, one(renderer, workflow))}) == 3


@torch.no_grad()
def test_encoding_and_decoding_in_a_workflow_is_the_codec(renderer: Renderer, folder: Path) -> None:
    workflow = txt2img("tiny_mini")
    workflow["back"] = node("VAEEncode", pixels=["decode", 0], vae=["ckpt", 2])
    workflow["again"] = node("VAEDecode", samples=["back", 0], vae=["ckpt", 2])
    first = pixels(one(renderer, workflow)) / 255
    workflow["save"]["inputs"]["images"] = ["again", 0]
    codec = PatchCodec.from_pretrained(
        folder / "checkpoints" / "tiny_mini" / "vae", torch_dtype=torch.float32
    )
    given = torch.tensor(first).float().permute(2, 0, 1)[None] * 2 - 1
    made = codec.decode(codec.encode(given).latent_dist.mode()).sample
    expected = (255 * (made / 2 + 0.5).clamp(0, 1))[0].permute(1, 2, 0).numpy()
    assert np.abs(pixels(one(renderer, workflow)) - expected).max() < 4  # the input was rounded


def test_hires_in_latent_and_pixel_space(renderer: Renderer) -> None:
    second = {"denoise": 0.5, "seed": SEED + 1}
    for enlarge in (
        {"big": node("LatentUpscaleBy", samples=["sample", 0], upscale_method="bislerp", scale_by=1.5)},
        {
            "more": node("ImageScaleBy", image=["decode", 0], upscale_method="lanczos", scale_by=1.5),
            "big": node("VAEEncode", pixels=["more", 0], vae=["ckpt", 2]),
        },
    ):  # fmt: skip
        workflow = txt2img("tiny_mini") | enlarge
        inputs = workflow["sample"]["inputs"] | {"latent_image": ["big", 0]} | second
        workflow["again"] = node("KSampler", **inputs)
        workflow["end"] = node("VAEDecode", samples=["again", 0], vae=["ckpt", 2])
        workflow["save"] = node("SaveImage", images=["end", 0], filename_prefix="x")
        assert one(renderer, workflow).size == (96, 96)


def test_a_lora_changes_the_image(renderer: Renderer) -> None:
    plain = one(renderer, txt2img("tiny_mini")).tobytes()
    tuned = one(renderer, with_lora("tiny_mini", "mini_lora", 1.0, 1.0)).tobytes()
    assert plain != tuned == one(renderer, with_lora("tiny_mini", "mini_lora", 1, 1)).tobytes()


# --- what is said about it -----------------------------------------------------------------------


def test_exact_says_that_comfyui_cannot_load_the_model(
    models: Installed, renderer: Renderer
) -> None:
    note = "ComfyUI cannot load 'tiny_mini' itself: it does not know its image codec and tokenizer"
    found = fidelity(txt2img("tiny_mini", PROMPT), models)
    assert (found.label, found.reasons) == ("exact", (note,))
    assert renderer.fidelity(txt2img("tiny_mini")) == found
    assert fidelity(txt2img("tiny_sdxl"), models).reasons == ()
    assert fidelity(txt2img("tiny_sd15"), models).reasons == ()


def test_the_note_comes_after_the_reasons(models: Installed) -> None:
    found = Renderer(models, dtype=torch.bfloat16).fidelity(txt2img("tiny_mini"))
    assert found.label == "approximate"
    assert ["bfloat16" in reason for reason in found.reasons] == [True, False]
