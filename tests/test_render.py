"""The renderer on tiny random models: against loops written out with diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny_workflows import (
    CFG,
    NEGATIVE,
    PROMPT,
    SEED,
    STEPS,
    advanced,
    node,
    one,
    pixels,
    txt2img,
    with_lora,
)
from torch import Tensor

from flowdesign.catalog import Installed
from flowdesign.nodes import NODE_TYPES
from flowdesign.render import OPERATIONS, Job, Renderer
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.sigmas import denoising_levels
from flowdesign.workflow import Workflow

torch.set_num_threads(1)
LEVELS = NoiseLevels()


# --- against diffusers ---------------------------------------------------------------------------


def truncated(latents: Tensor, vae: Any) -> np.ndarray:
    with torch.no_grad():
        decoded = vae.decode(latents).sample
    scaled = 255.0 * (decoded / 2 + 0.5).clamp(0, 1)
    return scaled[0].permute(1, 2, 0).numpy().astype(np.uint8).astype(int)


def euler_loop(
    predict: Callable[[Tensor, int], tuple[Tensor, Tensor]], channels: int, v_prediction: bool
) -> Tensor:
    """Euler over Karras levels with guidance, written out; returns the scaled latents."""
    sigmas = denoising_levels("karras", LEVELS, STEPS).tolist()
    noise = torch.randn((1, channels, 8, 8), generator=torch.Generator().manual_seed(SEED))
    x = noise * math.sqrt(1 + sigmas[0] ** 2)
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        scaled = x / math.sqrt(1 + sigma**2)
        no, yes = predict(scaled, LEVELS.timestep(sigma))
        output = no + CFG * (yes - no)
        eps = output
        if v_prediction:  # eps = sqrt(a) v + sqrt(1 - a) x_scaled, a = 1 / (1 + sigma^2)
            eps = (output + sigma * scaled) / math.sqrt(1 + sigma**2)
        x = x + eps * (following - sigma)
    return x


@torch.no_grad()
def test_sd15_is_the_loop_written_with_diffusers(renderer: Renderer, folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "checkpoints" / "tiny_sd15")

    def encode(text: str) -> Tensor:
        ids = pipeline.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
        return pipeline.text_encoder(ids.input_ids).last_hidden_state

    yes, no = encode(PROMPT), encode(NEGATIVE)

    def predict(x: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        both = pipeline.unet(torch.cat([x, x]), timestep, torch.cat([no, yes])).sample
        return both[:1], both[1:]

    expected = truncated(euler_loop(predict, 4, False) / 0.18215, pipeline.vae)
    found = pixels(one(renderer, txt2img("tiny_sd15")))
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999


@torch.no_grad()
def test_the_miniature_layout_is_the_loop_written_with_diffusers(
    renderer: Renderer, folder: Path
) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder / "checkpoints" / "tiny_mini", torch_dtype=torch.float32
    )

    def encode(text: str) -> tuple[Tensor, Tensor]:
        tokenizer = pipeline.tokenizer_2
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = [tokenizer.bos_token_id, *words]
        ids += [tokenizer.eos_token_id] * (77 - len(ids))
        out = pipeline.text_encoder_2(torch.tensor([ids]), output_hidden_states=True)
        return out.hidden_states[-2], out.text_embeds

    (yes, pooled_yes), (no, pooled_no) = encode(PROMPT), encode(NEGATIVE)
    added = {
        "text_embeds": torch.cat([pooled_no, pooled_yes]),
        "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
    }

    def predict(x: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        both = pipeline.unet(
            torch.cat([x, x]), timestep, torch.cat([no, yes]), added_cond_kwargs=added
        ).sample
        return both[:1], both[1:]

    scaling = pipeline.vae.config.scaling_factor
    expected = truncated(euler_loop(predict, 16, True) / scaling, pipeline.vae)
    found = pixels(one(renderer, txt2img("tiny_mini")))
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999


def xl_pipeline(folder: Path) -> Any:
    """The pipeline with the flags that agree with ComfyUI for dpmpp_2m and karras."""
    from diffusers import DPMSolverMultistepScheduler

    pipeline = StableDiffusionXLPipeline.from_pretrained(folder / "checkpoints" / "tiny_sdxl")
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True, final_sigmas_type="zero"
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_sdxl_is_the_pipeline_of_diffusers(renderer: Renderer, folder: Path) -> None:
    """dpmpp_2m with karras is the one pair that agrees by flags, so the pipeline itself can run."""
    pipeline = xl_pipeline(folder)
    latents = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=CFG,
        height=64,
        width=64,
        latents=torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEED)),
        output_type="latent",
    ).images
    expected = truncated(latents / 0.13025, pipeline.vae)
    found = pixels(one(renderer, txt2img("tiny_sdxl", sampler_name="dpmpp_2m")))
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize("strength", [0.6, 1.0, -0.5])
def test_a_lora_of_the_miniature_is_that_of_peft(
    models: Installed, folder: Path, strength: float
) -> None:
    """Every weight, against the adapter that diffusers loads and fuses."""
    from flowdesign.render.models import Library
    from flowdesign.render.values import LoraUse, Model

    unet = Library(models).network(Model("tiny_mini", (LoraUse("mini_lora", strength),)))
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder / "checkpoints" / "tiny_mini", torch_dtype=torch.float32
    )
    before = {name: value.clone() for name, value in pipeline.unet.named_parameters()}
    pipeline.load_lora_weights(folder / "loras" / "mini_lora.safetensors")
    pipeline.fuse_lora(lora_scale=strength)
    pipeline.unload_lora_weights()
    fused = dict(pipeline.unet.named_parameters())
    changed = [name for name, value in fused.items() if not torch.equal(value, before[name])]
    assert any("time_emb_proj" in name for name in changed)
    assert any("add_embedding" in name for name in changed)
    assert any("conv1" in name for name in changed)
    for name, value in unet.named_parameters():
        torch.testing.assert_close(value, fused[name], rtol=1e-5, atol=1e-6)


def test_model_and_clip_have_strengths_of_their_own(renderer: Renderer) -> None:
    images = {
        (a, b): pixels(one(renderer, with_lora("tiny_sd15", "tiny_lora", a, b))).tobytes()
        for a in (0.0, 1.0)
        for b in (0.0, 1.0)
    }
    assert len(set(images.values())) == 4
    assert images[0.0, 0.0] == pixels(one(renderer, txt2img("tiny_sd15"))).tobytes()


def test_a_lora_leaves_no_trace(renderer: Renderer, models: Installed) -> None:
    one(renderer, with_lora("tiny_mini", "mini_lora", 1.0, 1.0))
    after = one(renderer, txt2img("tiny_mini"))
    assert after.tobytes() == one(Renderer(models), txt2img("tiny_mini")).tobytes()


def test_chained_loras_add_up(models: Installed) -> None:
    from flowdesign.render.models import Library
    from flowdesign.render.values import LoraUse, Model

    twice = (LoraUse("mini_lora", 0.4), LoraUse("mini_lora", 0.6))
    chained = Library(models).network(Model("tiny_mini", twice))
    single = Library(models).network(Model("tiny_mini", (LoraUse("mini_lora", 1.0),)))
    for a, b in zip(chained.parameters(), single.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# --- nodes ---------------------------------------------------------------------------------------


def test_the_table_has_every_node_that_is_rendered() -> None:
    assert {each.class_type for each in NODE_TYPES} == set(OPERATIONS)


def test_two_halves_of_euler_are_one_run(renderer: Renderer) -> None:
    workflow = txt2img("tiny_sd15")
    whole = pixels(one(renderer, workflow))
    first = advanced(
        workflow,
        "sample",
        add_noise="enable",
        start_at_step=0,
        end_at_step=3,
        return_with_leftover_noise="enable",
    )
    second = advanced(
        workflow,
        "sample",
        add_noise="disable",
        start_at_step=3,
        end_at_step=10000,
        return_with_leftover_noise="disable",
        latent_image=["first", 0],
    )
    split = workflow | {"first": first, "sample": second}
    assert np.abs(pixels(one(renderer, split)) - whole).max() <= 1


def test_denoise_0_changes_nothing(renderer: Renderer) -> None:
    workflow = txt2img("tiny_sd15")
    again = dict(workflow)
    again["again"] = node(
        "KSampler", **(workflow["sample"]["inputs"] | {"latent_image": ["sample", 0], "denoise": 0})
    )
    again["decode"] = node("VAEDecode", samples=["again", 0], vae=["ckpt", 2])
    assert one(renderer, again).tobytes() == one(renderer, workflow).tobytes()


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "bislerp"])
def test_hires_in_latents(renderer: Renderer, method: str) -> None:
    workflow = txt2img("tiny_mini")
    workflow["large"] = node(
        "LatentUpscaleBy", samples=["sample", 0], upscale_method=method, scale_by=1.5
    )
    second = {"latent_image": ["large", 0], "denoise": 0.5, "seed": SEED + 1}
    workflow["again"] = node("KSampler", **(workflow["sample"]["inputs"] | second))
    workflow["decode"]["inputs"]["samples"] = ["again", 0]
    assert one(renderer, workflow).size == (96, 96)


def test_hires_in_pixels_with_an_upscaler(renderer: Renderer) -> None:
    workflow = txt2img("tiny_mini")
    workflow["up"] = node("UpscaleModelLoader", model_name="tiny_2x")
    workflow["twice"] = node("ImageUpscaleWithModel", upscale_model=["up", 0], image=["decode", 0])
    workflow["less"] = node(
        "ImageScaleBy", image=["twice", 0], upscale_method="lanczos", scale_by=0.75
    )
    workflow["encode"] = node("VAEEncode", pixels=["less", 0], vae=["ckpt", 2])
    second = {"latent_image": ["encode", 0], "denoise": 0.4, "seed": SEED + 1}
    workflow["again"] = node("KSampler", **(workflow["sample"]["inputs"] | second))
    workflow["end"] = node("VAEDecode", samples=["again", 0], vae=["ckpt", 2])
    workflow["save"]["inputs"]["images"] = ["end", 0]
    assert one(renderer, workflow).size == (96, 96)


def patched(class_type: str, **widgets: float) -> Workflow:
    workflow = txt2img("tiny_sd15")
    workflow["patch"] = node(class_type, model=["ckpt", 0], **widgets)
    workflow["sample"]["inputs"]["model"] = ["patch", 0]
    return workflow


@pytest.mark.parametrize(
    "changed",
    [
        patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
        patched("PerturbedAttentionGuidance", scale=3.0),
    ],
)
def test_a_patch_changes_the_image_and_leaves_no_trace(
    renderer: Renderer, models: Installed, changed: Workflow
) -> None:
    patched_image = one(renderer, changed)
    plain = one(renderer, txt2img("tiny_sd15"))
    assert patched_image.tobytes() != plain.tobytes()
    assert plain.tobytes() == one(Renderer(models), txt2img("tiny_sd15")).tobytes()


def test_neutral_patches_change_nothing(renderer: Renderer) -> None:
    plain = pixels(one(renderer, txt2img("tiny_sd15")))
    for workflow in (
        patched("FreeU_V2", b1=1.0, b2=1.0, s1=1.0, s2=1.0),
        patched("PerturbedAttentionGuidance", scale=0.0),
    ):
        assert np.abs(pixels(one(renderer, workflow)) - plain).max() <= 1


def test_cfg_1_does_not_ask_the_negative(renderer: Renderer) -> None:
    workflow = txt2img("tiny_sd15", cfg=1.0)
    other = txt2img("tiny_sd15", cfg=1.0)
    other["no"]["inputs"]["text"] = "something else"
    assert one(renderer, workflow).tobytes() == one(renderer, other).tobytes()


def test_a_text_behind_a_text_and_zeros(renderer: Renderer) -> None:
    workflow = txt2img("tiny_sd15")
    plain = one(renderer, workflow).tobytes()
    workflow["both"] = node(
        "ConditioningConcat", conditioning_to=["yes", 0], conditioning_from=["no", 0]
    )
    workflow["zero"] = node("ConditioningZeroOut", conditioning=["no", 0])
    workflow["sample"]["inputs"] |= {"positive": ["both", 0], "negative": ["zero", 0]}
    assert one(renderer, workflow).tobytes() != plain


def test_a_batch_of_latents_is_several_images(renderer: Renderer) -> None:
    workflow = txt2img("tiny_mini")
    workflow["empty"]["inputs"]["batch_size"] = 3
    (result,) = renderer.render([Job(workflow)])
    assert len(result.images) == 3
    assert len({image.tobytes() for image in result.images}) == 3
