"""What the renderer promises: the same bytes, nothing twice, stopping at once, honest labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_workflows import STEPS, node, one, pixels, txt2img, with_lora

from flowdesign.catalog import Installed, installed
from flowdesign.render import Cancelled, Job, Refused, Renderer, fidelity
from flowdesign.workflow import bind

torch.set_num_threads(1)


# --- promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m_sde", "uni_pc"])
def test_the_same_bytes_alone_and_among_others(models: Installed, name: str) -> None:
    jobs = [
        Job(txt2img("tiny_mini", prompt, seed=seed, sampler_name=name))
        for prompt, seed in [("a red star", 1), ("blue", 2), ("two circle on white", 3)]
    ]
    together = [result.images[0].tobytes() for result in Renderer(models).render(jobs)]
    alone = [one(Renderer(models), job.workflow).tobytes() for job in jobs]
    assert together == alone


def test_batched_calls_differ_by_at_most_one_step_of_a_pixel(models: Installed) -> None:
    workflow = txt2img("tiny_mini", "{prompt}")
    prompts, seeds = ["a red star", "blue", "two circle"] * 2, list(range(6))
    many = Renderer(models).render_many(workflow, prompts, seeds, batch=4)
    for image, prompt, seed in zip(many, prompts, seeds, strict=True):
        alone = one(Renderer(models), bind(workflow, prompt, seed))
        assert np.abs(pixels(image) - pixels(alone)).max() <= 1


def test_batched_jobs_say_so(models: Installed) -> None:
    jobs = [Job(txt2img("tiny_mini", seed=seed)) for seed in (1, 2)]
    first, second = Renderer(models, batch=2).render(jobs)
    assert first.fidelity.label == second.fidelity.label == "approximate"
    assert "batch" in first.fidelity.reasons[0]


def test_render_many_needs_as_many_seeds_as_prompts(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        renderer.render_many(txt2img("tiny_mini"), ["a", "b"], [1])


def test_nothing_is_computed_twice(renderer: Renderer) -> None:
    workflow = txt2img("tiny_mini")
    first, second = renderer.render([Job(workflow), Job(workflow)])
    assert (first.nodes_run, first.nodes_cached) == (len(workflow), 0)
    assert (second.nodes_run, second.nodes_cached) == (0, len(workflow))
    assert first.images[0].tobytes() == second.images[0].tobytes()


def test_a_change_at_the_end_keeps_what_came_before(renderer: Renderer) -> None:
    workflow = txt2img("tiny_mini")
    one(renderer, workflow)
    changed = {name: node(each["class_type"], **each["inputs"]) for name, each in workflow.items()}
    changed["sample"]["inputs"]["steps"] = STEPS + 1
    (result,) = renderer.render([Job(changed)])
    assert result.nodes_run == 3  # sampler, decoder, output


def test_names_of_nodes_do_not_matter_to_the_cache(renderer: Renderer) -> None:
    workflow = txt2img("tiny_mini")
    one(renderer, workflow)
    renamed = {
        f"x{name}": node(
            each["class_type"],
            **{
                n: [f"x{v[0]}", v[1]] if isinstance(v, list) else v
                for n, v in each["inputs"].items()
            },
        )
        for name, each in workflow.items()
    }
    (result,) = renderer.render([Job(renamed)])
    assert result.nodes_run == 0


def test_a_small_cache_forgets_but_renders_the_same(models: Installed) -> None:
    small = Renderer(models, cache_bytes=10_000)
    first = one(small, txt2img("tiny_mini"))
    assert small._cache.bytes <= 10_000
    assert one(small, txt2img("tiny_mini")).tobytes() == first.tobytes()


def test_cancel_stops_within_one_step(renderer: Renderer) -> None:
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8

    with pytest.raises(Cancelled):
        list(renderer.render([Job(txt2img("tiny_mini", steps=500))], cancel))
    assert asked == 9
    assert one(renderer, txt2img("tiny_mini"))  # and the renderer works on


# --- labels --------------------------------------------------------------------------------------


def test_a_plain_workflow_is_exact(models: Installed) -> None:
    for checkpoint in ("tiny_sd15", "tiny_sdxl", "tiny_mini"):
        assert fidelity(txt2img(checkpoint), models).label == "exact"


def test_a_lora_for_another_model_is_approximate_and_says_why(models: Installed) -> None:
    found = fidelity(with_lora("tiny_mini", "tiny_lora", 1.0, 1.0), models)
    assert found.label == "approximate"
    assert "tiny_lora" in found.reasons[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sampler_name": "eulr"}, "Did you mean 'euler'"),
        ({"scheduler": "karas"}, "Did you mean 'karras'"),
        ({"steps": 0}, "steps"),
    ],
)
def test_a_refusal_says_why(renderer: Renderer, change: dict[str, Any], reason: str) -> None:
    (result,) = renderer.render([Job(txt2img("tiny_mini", **change))])
    assert result.fidelity.label == "refused"
    assert reason in " ".join(result.fidelity.reasons)
    assert not result.images
    with pytest.raises(Refused, match=reason):
        renderer.render_many(txt2img("tiny_mini", **change), ["a"], [1])


@pytest.mark.parametrize("name", ["tiny_mni", "../../etc/passwd", "/etc/passwd"])
def test_an_unknown_checkpoint_is_refused(renderer: Renderer, name: str) -> None:
    (result,) = renderer.render([Job(txt2img(name))])
    assert result.fidelity.label == "refused"


def test_a_refused_job_does_not_stop_the_others(models: Installed) -> None:
    jobs = [Job(txt2img("nothing")), Job(txt2img("tiny_mini")), Job({})]
    labels = [result.fidelity.label for result in Renderer(models, batch=3).render(jobs)]
    assert labels == ["refused", "exact", "refused"]


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_pickle_is_refused_unopened(folder: Path, tmp_path: Path, part: str) -> None:
    copy = tmp_path / "checkpoints" / "pickled"
    shutil.copytree(folder / "checkpoints" / "tiny_sd15", copy)
    for weights in (copy / part).glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    found = Renderer(installed([tmp_path]))
    (result,) = found.render([Job(txt2img("pickled"))])
    assert result.fidelity.label == "refused"
    assert "safetensors" in result.fidelity.reasons[0]


def test_latents_of_another_model_are_refused(renderer: Renderer) -> None:
    workflow = txt2img("tiny_mini")
    workflow["other"] = node("CheckpointLoaderSimple", ckpt_name="tiny_sd15")
    workflow["decode"]["inputs"]["vae"] = ["other", 2]
    (result,) = renderer.render([Job(workflow)])
    assert result.fidelity.label == "refused"
    assert "16 channels" in result.fidelity.reasons[0]


def test_a_changed_file_is_not_served_from_the_cache(folder: Path, tmp_path: Path) -> None:
    for kind in ("checkpoints", "loras"):
        shutil.copytree(folder / kind, tmp_path / kind)
    renderer = Renderer(installed([tmp_path]))
    workflow = with_lora("tiny_mini", "mini_lora", 1.0, 1.0)
    before = one(renderer, workflow)
    shutil.copy(
        folder / "loras" / "tiny_lora.safetensors", tmp_path / "loras/mini_lora.safetensors"
    )
    assert one(renderer, workflow).tobytes() != before.tobytes()
