"""Every family end to end on a tiny model of its real structure, against diffusers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfyui_rules import refusals
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from tiny_families import FLOW_STEPS, custom, flow_graph, value_of
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
)
from torch import Tensor

from flowdesign import comfy
from flowdesign.render import Job, Renderer, fidelity
from flowdesign.render.checkpoint import read_checkpoint
from flowdesign.render.levels import FlowLevels, NoiseLevels
from flowdesign.render.sigmas import denoising_levels, schedule
from flowdesign.tokens import NotInLanguage, encode
from flowdesign.workflow import (
    Workflow,
    bind,
    describe,
    unbind,
    validate,
    workflow_hash,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(families: Path) -> Path:
    """The tiny models of all families, as folders and as single files."""
    return families


def truncated(latents: Tensor, vae: Any) -> np.ndarray:
    with torch.no_grad():
        decoded = vae.decode(latents).sample
    scaled = 255.0 * (decoded / 2 + 0.5).clamp(0, 1)
    return scaled[0].permute(1, 2, 0).numpy().astype(np.uint8).astype(int)


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999


def noise(channels: int) -> Tensor:
    return torch.randn((1, channels, 8, 8), generator=torch.Generator().manual_seed(SEED))


# --- against diffusers --------------------------------------------------------------------------


@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_a_scheduler_of_its_own_gives_no_more_levels_than_steps(
    models: Any, denoise: float
) -> None:
    """A KSampler's ddim_uniform has 30 levels for 28 steps; ComfyUI's BasicScheduler cuts them."""
    workflow = txt2img("tiny_sd2", "x", scheduler="ddim_uniform", steps=28)
    workflow["levels"] = node(
        "BasicScheduler", model=["ckpt", 0], scheduler="ddim_uniform", steps=28, denoise=denoise
    )
    levels = value_of(models, workflow, "levels").values
    assert len(levels) == 28 + 1 and levels[-1] == 0
    if denoise == 1:
        found = read_checkpoint(models.path("checkpoints", "tiny_sd2")).levels
        assert torch.equal(levels, schedule("ddim_uniform", found, 28)[1:])


def test_sd2_is_the_pipeline_of_diffusers(folder: Path, models: Any) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "checkpoints" / "tiny_sd2")
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True, final_sigmas_type="zero"
    )
    latents = pipeline(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=CFG,
        height=64, width=64, latents=noise(4), output_type="latent",
    ).images  # fmt: skip
    workflow = txt2img("tiny_sd2", sampler_name="dpmpp_2m")
    agree(pixels(one(Renderer(models), workflow)), truncated(latents / 0.18215, pipeline.vae))
    assert read_checkpoint(folder / "checkpoints" / "tiny_sd2").prediction == "v_prediction"


def test_sd2_has_no_last_layer_to_read(renderer: Renderer) -> None:
    def skipping(layer: int) -> Workflow:
        workflow = txt2img("tiny_sd2", steps=2)
        workflow["skip"] = node("CLIPSetLastLayer", clip=["ckpt", 1], stop_at_clip_layer=layer)
        for text in ("yes", "no"):
            workflow[text]["inputs"]["clip"] = ["skip", 0]
        return workflow

    plain = one(renderer, txt2img("tiny_sd2", steps=2)).tobytes()
    assert one(renderer, skipping(-2)).tobytes() == plain
    assert one(renderer, skipping(-3)).tobytes() != plain
    (refused,) = renderer.render([Job(skipping(-1))])
    assert "-2 is the last that they have" in refused.fidelity.reasons[0]


@pytest.mark.parametrize("told", [False, True])
@torch.no_grad()
def test_the_refiner_is_told_sizes_and_scores(folder: Path, models: Any, told: bool) -> None:
    """Euler over Karras levels, written out with diffusers' modules."""
    from diffusers import StableDiffusionXLImg2ImgPipeline

    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(
        folder / "checkpoints" / "tiny_refiner"
    )

    def encode(text: str) -> tuple[Tensor, Tensor]:
        ids = pipeline.tokenizer_2(text, padding="max_length", max_length=77, return_tensors="pt")
        out = pipeline.text_encoder_2(ids.input_ids, output_hidden_states=True)
        return out.hidden_states[-2], out.text_embeds

    (yes, pooled_yes), (no, pooled_no) = encode(PROMPT), encode(NEGATIVE)
    numbers = [[64.0, 64, 0, 0, 2.5], [64.0, 64, 0, 0, 6]]
    if told:
        numbers = [[96.0, 80, 0, 0, 2], [96.0, 80, 0, 0, 7]]
    added = {
        "text_embeds": torch.cat([pooled_no, pooled_yes]),
        "time_ids": torch.tensor(numbers),
    }
    levels = NoiseLevels()
    sigmas = denoising_levels("karras", levels, STEPS).tolist()
    x = noise(4) * math.sqrt(1 + sigmas[0] ** 2)
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        both = torch.cat([x, x]) / math.sqrt(1 + sigma**2)
        out = pipeline.unet(
            both, levels.timestep(sigma), torch.cat([no, yes]), added_cond_kwargs=added
        ).sample
        x = x + (out[:1] + CFG * (out[1:] - out[:1])) * (following - sigma)
    workflow = txt2img("tiny_refiner")
    if told:
        for name, score in (("no", 2.0), ("yes", 7.0)):
            inputs = workflow[name]["inputs"] | {"ascore": score, "width": 80, "height": 96}
            workflow[name] = node("CLIPTextEncodeSDXLRefiner", **inputs)
    agree(pixels(one(Renderer(models), workflow)), truncated(x / 0.13025, pipeline.vae))


def test_sdxl_reads_a_text_for_each_encoder_and_sizes(renderer: Renderer) -> None:
    plain = one(renderer, txt2img("tiny_sdxl", steps=2)).tobytes()

    def told(text_g: str, **changed: Any) -> bytes:
        workflow = txt2img("tiny_sdxl", steps=2)
        sizes = {"width": 64, "height": 64, "target_width": 64, "target_height": 64} | changed
        workflow["yes"] = node(
            "CLIPTextEncodeSDXL", clip=["ckpt", 1], crop_w=0, crop_h=0, text_g=text_g,
            text_l=PROMPT, **sizes,
        )  # fmt: skip
        return one(renderer, workflow).tobytes()

    assert told(PROMPT) == plain
    assert len({plain, told("a blue circle"), told(PROMPT, width=80)}) == 3


def test_sd3_is_the_pipeline_of_diffusers(folder: Path, models: Any) -> None:
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder / "checkpoints" / "tiny_sd3")
    latents = pipeline(
        PROMPT, negative_prompt=NEGATIVE, guidance_scale=CFG, num_inference_steps=FLOW_STEPS,
        sigmas=np.linspace(1, 1 / FLOW_STEPS, FLOW_STEPS), height=64, width=64,
        latents=noise(16), max_sequence_length=77, output_type="latent",
    ).images  # fmt: skip
    found = value_of(models, flow_graph("tiny_sd3"), "sample").samples
    torch.testing.assert_close(found * 1.5305 - 0.0609 * 1.5305, latents, rtol=1e-4, atol=1e-4)


def test_flux_is_the_pipeline_of_diffusers(folder: Path, models: Any) -> None:
    pipeline = FluxPipeline.from_pretrained(folder / "checkpoints" / "tiny_flux")
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=math.exp(1.15))
    packed = FluxPipeline._pack_latents(noise(16), 1, 16, 8, 8)
    latents = pipeline(
        PROMPT, guidance_scale=2.5, num_inference_steps=FLOW_STEPS, height=64, width=64,
        sigmas=np.linspace(1, 1 / FLOW_STEPS, FLOW_STEPS), latents=packed,
        max_sequence_length=256, output_type="latent",
    ).images  # fmt: skip
    expected = FluxPipeline._unpack_latents(latents, 64, 64, 8)
    found = value_of(models, custom(), "sample").samples
    torch.testing.assert_close(found * 0.3611 - 0.1159 * 0.3611, expected, rtol=1e-4, atol=1e-4)


# --- flow-matching models -------------------------------------------------------------------------


def test_a_split_flow_is_one_run(models: Any) -> None:
    """A latent that is handed on with noise is scaled, and scaled back where it goes on."""
    workflow = flow_graph("tiny_sd3")
    whole = value_of(models, workflow, "sample").samples
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2}
    then = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 10000}
    workflow["first"] = advanced(workflow, "sample", return_with_leftover_noise="enable", **first)
    workflow["sample"] = advanced(
        workflow, "sample", return_with_leftover_noise="disable", latent_image=["first", 0], **then
    )
    found = value_of(models, workflow, "sample").samples
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_a_ksampler_is_its_parts(models: Any) -> None:
    parts = custom()
    whole = value_of(models, parts, "sample").samples
    assert torch.equal(value_of(models, parts, "sample", 1).samples, whole)  # it ends at 0
    single = flow_graph("tiny_flux", cfg=1.0)
    single["told"] = parts["told"]
    single["sample"]["inputs"]["positive"] = ["told", 0]
    assert torch.equal(value_of(models, single, "sample").samples, whole)
    parts["guider"] = node(
        "CFGGuider", model=["ckpt", 0], positive=["told", 0], negative=["yes", 0], cfg=1.0
    )
    assert torch.equal(value_of(models, parts, "sample").samples, whole)
    parts["custom"] = node(
        "SamplerCustom", model=["ckpt", 0], add_noise=True, noise_seed=SEED, cfg=1.0,
        positive=["told", 0], negative=["yes", 0], sampler=["name", 0], sigmas=["levels", 0],
        latent_image=["empty", 0],
    )  # fmt: skip
    assert torch.equal(value_of(models, parts, "custom").samples, whole)


def test_guidance_and_shift_change_flux(models: Any) -> None:
    plain = value_of(models, custom(), "sample").samples
    other = custom()
    other["told"]["inputs"]["guidance"] = 5.0
    assert not torch.equal(value_of(models, other, "sample").samples, plain)
    widgets = {"max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024}
    for sides, same in ((1024, True), (512, False)):
        shifted = custom()
        shifted["shift"] = node(
            "ModelSamplingFlux", model=["ckpt", 0], **widgets | {"width": sides, "height": sides}
        )
        shifted["levels"]["inputs"]["model"] = ["shift", 0]
        found = value_of(models, shifted, "levels").values
        assert torch.allclose(found, value_of(models, custom(), "levels").values) == same


def test_a_shift_for_another_family_is_refused(models: Any) -> None:
    workflow = flow_graph("tiny_flux")
    workflow["shift"] = node("ModelSamplingSD3", model=["ckpt", 0], shift=3.0)
    workflow["sample"]["inputs"]["model"] = ["shift", 0]
    (found,) = Renderer(models).render([Job(workflow)])
    assert "ModelSamplingSD3 is for models of the family sd3" in found.fidelity.reasons[0]


@pytest.mark.parametrize(
    ("sampler", "label"), [("euler_ancestral", "approximate"), ("dpmpp_sde", "refused")]
)
def test_samplers_of_flows_are_told_before(models: Any, sampler: str, label: str) -> None:
    workflow = flow_graph("tiny_sd3", sampler_name=sampler)
    found = fidelity(workflow, models)
    assert found.label == label
    if label == "refused":
        assert "flow-matching" in found.reasons[0] and "euler_ancestral" in found.reasons[0]
    else:
        assert one(Renderer(models), workflow).size == (64, 64)


def test_a_latent_of_odd_sides_is_rendered(models: Any) -> None:
    workflow = flow_graph("tiny_sd3")
    workflow["empty"]["inputs"] |= {"width": 72, "height": 56}
    assert one(Renderer(models), workflow).size == (72, 56)


def test_flow_levels_are_those_of_diffusers() -> None:
    levels = FlowLevels(3.0)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20))
    torch.testing.assert_close(denoising_levels("simple", levels, 20), scheduler.sigmas)
    scheduler.set_timesteps(20)
    torch.testing.assert_close(denoising_levels("normal", levels, 20), scheduler.sigmas)


def test_a_last_step_without_signal() -> None:
    """Its level is finite, ComfyUI's, and all levels are those of diffusers but the last."""
    from diffusers import EulerDiscreteScheduler

    theirs = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )  # fmt: skip
    alphas = theirs.alphas_cumprod[:-1].double()
    found = NoiseLevels(zero_snr=True)
    torch.testing.assert_close(
        found.table[:-1], ((1 - alphas) / alphas).sqrt().float(), rtol=2e-3, atol=1e-4
    )
    assert found.largest == pytest.approx(4518.76, rel=1e-5)


# --- the language of graphs ---------------------------------------------------------------------


def test_graphs_in_parts_are_bound_exported_and_read_again(models: Any) -> None:
    workflow = custom()
    assert not validate(workflow, models)
    workflow["yes"]["inputs"]["text"] = "{prompt}"
    bound = bind(workflow, "a red star", 11)
    assert bound["noise"]["inputs"]["noise_seed"] == 11
    assert unbind(bound) == (bind(workflow, "{prompt}", 0), "a red star", 11)
    for exported in (comfy.to_api(bound), comfy.to_ui(bound)):
        read = comfy.from_json(exported, models)
        assert not read.problems
        assert (read.prompt, read.seed) == ("a red star", 11)
        assert workflow_hash(read.workflow) == workflow_hash(unbind(bound)[0])
    assert not refusals(comfy.to_api(bound))
    words = describe(workflow)
    assert "tiny_flux" in words and "4 steps of euler/simple at cfg 1" in words


def test_graphs_in_parts_are_no_part_of_the_language(models: Any) -> None:
    with pytest.raises(NotInLanguage):
        encode(bind(custom(), "{prompt}", 0), models)


def test_too_much_sampling_is_told_of_parts_as_well(models: Any) -> None:
    workflow = custom()
    workflow["levels"]["inputs"]["steps"] = 1001
    assert [problem.code for problem in validate(workflow, models)] == ["too_many_steps"]
