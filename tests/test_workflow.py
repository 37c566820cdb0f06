"""The workflow: total validation, canonical form, prompt and seed, the sentence for people."""

import copy
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_toys import KNOWN, STRANGE, mutate, node, random_workflows, txt2img

from flowdesign.catalog import PREFIXES, Installed, installed
from flowdesign.nodes import MAX_SEED
from flowdesign.workflow import (
    DependencyCycle,
    Problem,
    Workflow,
    bind,
    canonical,
    describe,
    nodes_of,
    sizes,
    topological_order,
    unbind,
    validate,
    with_seeds_by_rule,
    workflow_hash,
)


def codes(value: object, models: Installed = KNOWN) -> list[str]:
    return [problem.code for problem in validate(value, models)]


def only(value: object) -> Problem:
    (problem,) = validate(value, KNOWN)
    return problem


# --- validation ----------------------------------------------------------------------------------


def test_a_good_workflow_has_no_problems() -> None:
    assert validate(txt2img(), KNOWN) == []
    assert validate(bind(txt2img(), "a red star", 7), KNOWN) == []


@pytest.mark.parametrize("value", STRANGE[:-2], ids=lambda value: repr(value)[:20])
def test_what_is_no_graph_has_problems(value: object) -> None:
    assert validate(value, KNOWN)
    assert validate({"1": value}, KNOWN)
    assert validate(txt2img() | {"extra": value}, KNOWN)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"sampler__sampler_name": "eulr"}, "value_not_in_list", "Did you mean 'euler'?"),
        ({"loader__ckpt_name": "mini_flt"}, "value_not_in_list", "Did you mean 'mini_flat'?"),
        ({"loader__ckpt_name": "../../etc/passwd"}, "value_not_in_list", "unknown checkpoint"),
        ({"loader__ckpt_name": 3}, "invalid_input_type", "takes a name, not 3"),
        ({"sampler__steps": 0}, "value_smaller_than_min", "'steps' is 0; the least is 1"),
        ({"sampler__cfg": 101}, "value_bigger_than_max", "'cfg' is 101; the most is 100.0"),
        ({"sampler__steps": 10**400}, "invalid_input_type", "of at most 64 bits"),
        ({"sampler__steps": 1.5}, "invalid_input_type", "takes a whole number, not 1.5"),
        ({"sampler__seed": 2**64}, "invalid_input_type", "of at most 64 bits"),
        ({"sampler__seed": 2**64 - 1, "sampler__cfg": 1e308}, "value_bigger_than_max", "'cfg'"),
        ({"sampler__steps": True}, "invalid_input_type", "takes a whole number, not true"),
        ({"sampler__cfg": float("nan")}, "invalid_input_type", "takes a number, not nan"),
        ({"sampler__cfg": None}, "invalid_input_type", "takes a number, not null"),
        ({"prompt__text": 5}, "invalid_input_type", "takes a text, not 5"),
        ({"prompt__text": "x" * 20_001}, "value_bigger_than_max", "20001 characters"),
        ({"sampler__model": ["nowhere", 0]}, "bad_linked_input", "'nowhere', which does not exist"),
        ({"sampler__model": ["loader", 3]}, "bad_linked_input", "which has 3 outputs"),
        ({"sampler__model": ["loader", -1]}, "bad_linked_input", "output -1"),
        ({"sampler__model": ["loader"]}, "bad_linked_input", "not a link"),
        ({"sampler__model": "loader"}, "bad_linked_input", "takes a link to a MODEL"),
        ({"sampler__model": ["loader", 1]}, "return_type_mismatch", "(CheckpointLoaderSimple) is a CLIP"),
        ({"sampler__steps": ["latent", 0]}, "return_type_mismatch", "takes a INT"),
        ({"save__filename_prefix": "../x"}, "unsafe_path", "leaves the output folder"),
        ({"save__filename_prefix": "/etc/x"}, "unsafe_path", "leaves the output folder"),
        ({"latent__width": 16384, "latent__height": 16384}, "too_many_pixels", "too large"),
        ({"latent__batch_size": 4096}, "too_many_pixels", "64x64 x 4096 images is too large"),
        ({"latent__width": 20_000}, "value_bigger_than_max", "the most is 16384"),
        ({"sampler__steps": 9999}, "too_many_steps", "at most 1000"),
    ],
)  # fmt: skip
def test_each_fault_has_its_code_and_says_what_to_do(
    changes: dict[str, Any], code: str, message: str
) -> None:
    problems = validate(txt2img(**changes), KNOWN)
    assert problems[0].code == code
    assert message in problems[0].message
    assert "\n" not in problems[0].message and len(problems[0].message) < 1000


def test_the_place_of_a_fault_is_named() -> None:
    problem = only(txt2img(sampler__steps=0))
    assert (problem.node, problem.input) == ("sampler", "steps")
    assert problem.message.startswith("Node 'sampler' (KSampler): ")


def test_a_misspelt_input_is_recognised() -> None:
    workflow = txt2img()
    inputs = workflow["sampler"]["inputs"]
    inputs["stepz"] = inputs.pop("steps")
    assert "needs the input 'steps'. Was 'stepz' meant to be it?" in only(workflow).message


def test_an_unknown_node_type_is_answered_with_the_nearest() -> None:
    workflow = txt2img()
    workflow["sampler"]["class_type"] = "Ksampler"
    problem = only(workflow)
    assert problem.code == "invalid_prompt"
    assert "Did you mean 'KSampler'?" in problem.message


def test_a_cycle_is_written_as_a_chain() -> None:
    workflow = txt2img(
        sampler__latent_image=["back", 0],
    ) | {"back": node("VAEEncode", pixels=["image", 0], vae=["loader", 2])}
    problem = only(workflow)
    assert problem.code == "dependency_cycle"
    assert "sampler -> back -> image -> sampler" in problem.message
    assert codes(txt2img(sampler__latent_image=["sampler", 0])) == ["dependency_cycle"]
    with pytest.raises(DependencyCycle):
        topological_order(workflow)


def test_without_an_output_nothing_would_run() -> None:
    workflow = txt2img()
    del workflow["save"]
    assert codes(workflow) == ["prompt_no_outputs"]
    assert codes({}) == ["prompt_no_outputs"]


def test_what_no_output_needs_is_not_checked() -> None:
    stray = node("VAEDecode", samples=["nowhere", 0])
    loop = node("LatentUpscaleBy", samples=["loop", 0])
    workflow = txt2img() | {"stray": stray, "loop": loop}
    assert codes(workflow) == []
    assert canonical(workflow) == canonical(txt2img())
    assert nodes_of(workflow, "VAEDecode") == ["image"]
    bound = bind(workflow, "x", 1)
    assert unbind(bound)[1:] == ("x", 1)
    assert describe(workflow) == describe(txt2img())


def test_sizes_are_followed_through_the_workflow() -> None:
    chain = {
        f"up{i}": node("ImageScaleBy", image=[f"up{i - 1}" if i else "image", 0],
                       upscale_method="area", scale_by=8.0)
        for i in range(300)
    }  # fmt: skip
    problem = only(txt2img(save__images=["up299", 0]) | chain)
    assert problem.code == "too_many_pixels"
    assert problem.node == "up2"
    shrunk = txt2img(sampler__latent_image=["small", 0]) | {
        "small": node(
            "LatentUpscaleBy", samples=["latent", 0], upscale_method="area", scale_by=0.01
        )
    }
    assert "0x0 pixels are too few" in only(shrunk).message
    assert sizes(txt2img(latent__width=100))["save"][:2] == (96, 64)


def test_a_very_long_chain_is_refused_before_it_costs() -> None:
    workflow = txt2img() | {str(i): node("VAELoader", vae_name="mini_vae") for i in range(500)}
    assert codes(workflow) == ["too_many_nodes"]


def test_names_are_those_of_the_machine(tmp_path: Any) -> None:
    problem = validate(txt2img(), installed([tmp_path]))[0]
    assert problem.message.endswith("unknown checkpoint 'mini_flat'. No checkpoint is installed.")


def test_validation_survives_10_000_mutated_workflows() -> None:
    rng = random.Random(0)
    originals = [*random_workflows(100), txt2img(), bind(txt2img(), "a", 1)]
    texts = [json.dumps(each) for each in originals]
    started, faulty = time.process_time(), 0
    for _ in range(10_000):
        broken = mutate(rng.choice(texts), rng)
        problems = validate(broken, KNOWN)
        assert all(isinstance(problem, Problem) and problem.message for problem in problems)
        faulty += bool(problems)
        if not problems:  # then everything else must take it, too
            bind(unbind(canonical(broken))[0], "a", 1)
            assert describe(broken)
    assert faulty > 8_000
    assert time.process_time() - started < 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_validation_survives_any_json(value: object) -> None:
    assert validate(value, KNOWN)


# --- canonical form ------------------------------------------------------------------------------


def renamed(workflow: Workflow, rng: random.Random) -> Workflow:
    """The same workflow with other ids, in another order."""
    names = {old: f"n{rng.random()}" for old in workflow}
    entries = [
        (
            names[key],
            node(
                each["class_type"],
                **{
                    name: [names[value[0]], value[1]] if isinstance(value, list) else value
                    for name, value in reversed(each["inputs"].items())
                },
            ),
        )
        for key, each in workflow.items()
    ]
    rng.shuffle(entries)
    return dict(entries)


def test_ids_order_and_number_types_do_not_matter() -> None:
    rng = random.Random(1)
    for workflow in random_workflows(50):
        other = renamed(workflow, rng)
        assert canonical(other) == workflow
        assert workflow_hash(other) == workflow_hash(workflow)
        assert describe(other) == describe(workflow)
    assert workflow_hash(txt2img(sampler__cfg=4)) == workflow_hash(txt2img(sampler__cfg=4.0))
    assert workflow_hash(txt2img(sampler__steps=8.0)) == workflow_hash(txt2img())
    assert workflow_hash(txt2img(sampler__steps=9)) != workflow_hash(txt2img())


def test_equal_nodes_are_merged() -> None:
    twin = {"twin": node("CLIPTextEncode", text="", clip=["loader", 1])}
    workflow = txt2img(prompt__text="", sampler__positive=["twin", 0]) | twin
    assert len(canonical(workflow)) == len(txt2img()) - 1


def test_canonical_ids_follow_the_order_of_execution() -> None:
    for workflow in random_workflows(20):
        seen: set[str] = set()
        for index, (key, each) in enumerate(workflow.items()):
            assert key == str(index + 1)
            assert all(v[0] in seen for v in each["inputs"].values() if isinstance(v, list))
            seen.add(key)


# --- prompt and seed -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.integers(0, MAX_SEED), st.integers(0, 29))
def test_unbind_is_the_inverse_of_bind(prompt: str, seed: int, index: int) -> None:
    workflow = UNBOUND[index]
    bound = bind(workflow, prompt, seed)
    assert unbind(bound, prompt) == (workflow, prompt, seed)
    clear = not any(p and prompt.startswith(p) for p in PREFIXES) and "{prompt}" not in prompt
    if clear and not any(p.startswith(prompt) for p in PREFIXES):
        assert unbind(bound) == (workflow, prompt, seed)
    unbound, found, first = unbind(bound)
    if "{prompt}" not in prompt:
        assert bind(unbound, found, first) == bound


UNBOUND = random_workflows(30, seed=5)


def test_binding_copies_and_reads_no_format() -> None:
    workflow = txt2img()
    before = copy.deepcopy(workflow)
    bound = bind(workflow, "{0} {prompt} %s \\1 {", 3)
    assert workflow == before
    assert bound["prompt"]["inputs"]["text"] == "{0} {prompt} %s \\1 {"


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.0, True, "1"])
def test_a_seed_outside_the_range_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed"):
        bind(txt2img(), "x", seed)


def test_every_pass_that_adds_noise_has_its_own_seed() -> None:
    found = set()
    for workflow in random_workflows(200, seed=3):
        bound = bind(workflow, "x", MAX_SEED)
        seeds = [
            bound[key]["inputs"].get("seed", bound[key]["inputs"].get("noise_seed"))
            for key in topological_order(bound)
            if "Sampler" in bound[key]["class_type"]
        ]
        halves = len(nodes_of(bound, "KSamplerAdvanced"))
        assert seeds[0] == MAX_SEED
        if halves:
            assert seeds[1] == MAX_SEED  # the second half of a schedule adds no noise
        rest = seeds[2:] if halves else seeds[1:]
        assert rest == list(range(len(rest)))  # counting goes on from 0 after the largest
        found.add((len(seeds), halves))
    assert found == {(1, 0), (2, 0), (3, 0), (2, 2), (3, 2)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, MAX_SEED), min_size=5, max_size=5), st.integers(0, 29))
def test_seeds_of_later_passes_come_back(seeds: list[int], index: int) -> None:
    bound = bind(UNBOUND[index], "a red star", 0)
    passes = [key for key, each in bound.items() if "Sampler" in each["class_type"]]
    for key, seed in zip(passes, seeds, strict=False):
        inputs = bound[key]["inputs"]
        inputs["seed" if "seed" in inputs else "noise_seed"] = seed
    unbound, prompt, first = unbind(bound)
    assert bind(unbound, prompt, first) == bound
    assert first == seeds[0] and unbind(unbound, prompt) == (unbound, prompt, 0)
    assert unbind(bind(unbound, prompt, 5)) == (unbound, prompt, 5)  # they keep their distance
    assert validate(unbound, KNOWN) == []
    assert with_seeds_by_rule(unbound) == UNBOUND[index]


def two_passes(*seeds: int) -> Workflow:
    """A workflow of two passes with these seeds."""
    sampler = txt2img()["sampler"]["inputs"] | {"latent_image": ["sampler", 0], "denoise": 0.5}
    workflow = txt2img(image__samples=["more", 0]) | {"more": node("KSampler", **sampler)}
    workflow["prompt"]["inputs"]["text"] = "a red star"
    for name, seed in zip(("sampler", "more"), seeds, strict=True):
        workflow[name]["inputs"]["seed"] = seed
    return workflow


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((7, 8), "denoise 0.5"),
        ((7, 7), "denoise 0.5 with the first seed"),
        ((7, 4242), "denoise 0.5 with the first seed + 4,235"),
        ((7, 4), "denoise 0.5 with the first seed - 3"),
        ((0, 0), "denoise 0.5 with the first seed"),
        ((MAX_SEED, 0), "denoise 0.5"),
    ],
)
def test_seeds_that_do_not_follow_the_rule_are_said(seeds: tuple[int, int], said: str) -> None:
    workflow = two_passes(*seeds)
    unbound, prompt, first = unbind(workflow)
    assert bind(unbound, prompt, first) == workflow
    assert describe(unbound) == describe(workflow) and describe(unbound).endswith(said)
    plain = unbind(two_passes(7, 8))[0]
    assert (workflow_hash(unbound) == workflow_hash(plain)) == said.endswith("0.5")
    # A bound workflow, which its first seed tells from an unbound one, is given another seed.
    moved = bind(workflow if seeds[0] else unbound, prompt, 100)
    assert moved["more"]["inputs"]["seed"] == (100 + seeds[1] - seeds[0]) % (MAX_SEED + 1)


# --- the sentence for people ---------------------------------------------------------------------


def test_descriptions() -> None:
    assert describe(txt2img()) == "mini_flat, 64x64, 8 steps of euler/normal at cfg 4"
    patched = txt2img(
        sampler__model=["pag", 0], prompt__clip=["lora", 1], prompt__text="crisp, {prompt}",
        against__text="blurry", sampler__denoise=0.5,
    ) | {
        "lora": node(
            "LoraLoader", model=["loader", 0], clip=["loader", 1], lora_name="flat_dusk",
            strength_model=0.8, strength_clip=0.8,
        ),
        "pag": node("PerturbedAttentionGuidance", model=["lora", 0], scale=3.0),
    }  # fmt: skip
    assert describe(patched) == (
        "mini_flat with LoRA flat_dusk (0.8), perturbed attention (3), "
        'the prompt after "crisp", against "blurry", 64x64, '
        "8 steps of euler/normal at cfg 4 and denoise 0.5"
    )


def test_every_workflow_has_a_description_of_its_own() -> None:
    workflows = {workflow_hash(w): w for w in random_workflows(300, seed=9)}
    descriptions = {describe(workflow) for workflow in workflows.values()}
    assert len(descriptions) == len(workflows)
    assert all("\n" not in text and "{" not in text for text in descriptions)
