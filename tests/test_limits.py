"""Answers and work are bounded: a file of any size gives a short answer, a render has an end."""

import json
from typing import Any

import pytest
from language_toys import KNOWN, node, txt2img

from flowdesign.comfy import from_json
from flowdesign.ui.cards import restored
from flowdesign.workflow import MAX_ID, MAX_NODES, Problem, Workflow, limited, total, validate
from flowdesign.workflow.graph import DependencyCycle
from flowdesign.workflow.limits import MAX_STEPS, MAX_WORK
from flowdesign.workflow.problems import MAX_PROBLEMS

# --- how much is rendered ------------------------------------------------------------------------


def codes(workflow: Workflow) -> list[str]:
    return [problem.code for problem in validate(workflow, KNOWN)]


@pytest.mark.parametrize("denoise", [1e-9, 5e-324, 0.007])
def test_a_tiny_denoise_plans_too_many_steps(denoise: float) -> None:
    """ComfyUI's schedule has steps / denoise entries, of which the last are taken."""
    (problem,) = validate(txt2img(sampler__denoise=denoise), KNOWN)
    assert (problem.code, problem.node, problem.input) == ("too_many_steps", "sampler", "denoise")
    assert f"8 steps at denoise {denoise:g} are the last of a schedule" in problem.message
    assert len(problem.message) < 200


@pytest.mark.parametrize("denoise", [0, 0.0, 0.008, 0.3, 1])
def test_a_usual_denoise_is_allowed(denoise: float) -> None:
    assert codes(txt2img(sampler__denoise=denoise)) == []


def passes(side: int, *steps: int, batch: int = 1) -> Workflow:
    """A workflow with one sampler behind the other, all of one size."""
    workflow = txt2img(latent__width=side, latent__height=side, latent__batch_size=batch)
    before = "latent"
    for at, count in enumerate(steps):
        inputs = workflow["sampler"]["inputs"] | {"steps": count, "latent_image": [before, 0]}
        before = "sampler" if at == len(steps) - 1 else f"pass{at}"
        workflow[before] = node("KSampler", **inputs)
    return workflow


def test_large_and_long_is_refused() -> None:
    (problem,) = validate(passes(2048, 1000), KNOWN)
    assert problem.code == "too_much_sampling"
    assert "4,194 million pixels (steps x pixels)" in problem.message
    assert "at most 1,048 million" in problem.message
    assert codes(passes(1024, 30, batch=4) | {}) == []
    assert codes(passes(1024, 400, batch=4)) == ["too_much_sampling"]


def test_real_models_at_usual_sizes_are_allowed() -> None:
    assert codes(passes(1024, 50, 50, 50)) == []
    assert codes(passes(2048, 30)) == []
    assert codes(passes(64, MAX_STEPS)) == [] and codes(passes(1024, MAX_STEPS)) == []
    assert MAX_WORK == MAX_STEPS * 1024**2


def half(start: int, end: int) -> Workflow:
    workflow = passes(2048, 400)
    inputs = workflow["sampler"]["inputs"]
    kept = {name: inputs[name] for name in inputs if name not in ("seed", "denoise")}
    workflow["sampler"] = node(
        "KSamplerAdvanced", **kept, noise_seed=0, add_noise="enable", start_at_step=start,
        end_at_step=end, return_with_leftover_noise="disable",
    )  # fmt: skip
    return workflow


def test_only_the_steps_that_are_taken_count() -> None:
    assert codes(half(0, 10_000)) == ["too_much_sampling"]
    assert codes(half(300, 10_000)) == codes(half(0, 100)) == codes(half(500, 10)) == []


# --- how much is answered ------------------------------------------------------------------------


def size(problems: Any) -> int:
    return sum(len(problem.message) + len(problem.node) for problem in problems)


def test_a_file_of_too_many_entries_is_one_problem() -> None:
    for value in ({"nodes": [0] * 200_001}, {str(i): 0 for i in range(200_001)}):
        (problem,) = from_json(value, KNOWN).problems
        assert problem.code == "too_many_nodes" and "at most 500" in problem.message


def test_notes_do_not_count_as_nodes() -> None:
    notes = [{"id": i, "type": "Note"} for i in range(2 * MAX_NODES)]
    (problem,) = from_json({"nodes": notes}, KNOWN).problems
    assert problem.code == "prompt_no_outputs"


def crowd(**inputs: Any) -> Workflow:
    """As many samplers as are allowed, in a chain, each with several faults."""
    last = MAX_NODES - 3
    chain = {
        str(i): node("KSampler", **inputs, latent_image=[str(i + 1) if i < last else "no", 0])
        for i in range(last + 1)
    }
    return chain | {
        "image": node("VAEDecode", samples=["0", 0], vae=["no", 0]),
        "save": node("SaveImage", images=["image", 0], filename_prefix="x"),
    }


def test_at_most_fifty_problems_are_listed_and_the_rest_is_counted() -> None:
    for value in (crowd(), crowd(steps=0, cfg=-1), {"nodes": [0] * MAX_NODES}):
        for problems in (from_json(value, KNOWN).problems, validate(value, KNOWN)):
            if len(problems) > 1:
                assert len(problems) == MAX_PROBLEMS + 1
                rest = total(problems) - MAX_PROBLEMS
                assert problems[-1].message == f"And {rest} more problems."
    assert total(validate(crowd(), KNOWN)) == (MAX_NODES - 2) * 9 + 2


def test_faults_of_structure_are_listed_first() -> None:
    values = [Problem("value_not_in_list", str(i), "", "x") for i in range(60)]
    cycle = Problem("dependency_cycle", "1", "", "y")
    assert limited([*values, cycle])[0] == cycle
    assert limited(values[:50]) == values[:50]
    assert limited([*values[:3], cycle]) == [*values[:3], cycle]


def test_a_limited_list_can_be_limited_again() -> None:
    first = limited([Problem("value_not_in_list", str(i), "", "x") for i in range(500)])
    again = limited(first, 20)
    assert (len(again), total(again)) == (21, 500)
    assert again[-1].message == "And 480 more problems."
    assert limited(first) == first


def test_long_ids_and_long_cycles_make_short_messages() -> None:
    name = "a" * 10**6
    loop = {
        name: node("LatentUpscaleBy", samples=[name, 0], upscale_method="area", scale_by=1.0),
        "b" * MAX_ID: node("VAEDecode", samples=["b" * MAX_ID, 0], vae=["loader", 2]),
    }
    assert size(validate(txt2img(sampler__latent_image=[name, 0]) | loop, KNOWN)) < 1000
    assert size(validate(txt2img(sampler__model=[name, 0]), KNOWN)) < 1000
    interface = {"nodes": [{"id": name, "type": "KSampler"}, {"id": 1, "type": name}]}
    assert size(from_json(interface, KNOWN).problems) < 2000
    chain = (*(f"{'c' * 190}{i}" for i in range(300)), "c" * 190)
    assert len(str(DependencyCycle(chain))) < 1000
    assert "\n" not in str(DependencyCycle(("a\nb", "c", "a\nb")))


def test_the_page_lists_twenty_problems() -> None:
    from flowdesign.designs import Restored

    problems = tuple(Problem("value_not_in_list", str(i), "", "x") for i in range(500))
    for given in (problems, tuple(limited(problems))):
        page = restored(Restored(None, "", None, "", given), "w.json")
        assert "500 problems with this file" in page and page.count("<li>") == 21
        assert "<li>And 480 more problems.</li>" in page
    assert json.dumps([vars(problem) for problem in limited(problems)])
