"""ComfyUI's files: exports a server accepts, round trips, and any file whatever as input."""

import json
import random
from typing import Any

import pytest
from comfyui_rules import RULES, refusals
from hypothesis import given, settings
from language_toys import (
    KNOWN,
    SEED,
    STRANGE,
    listed,
    mutate,
    node,
    plain,
    random_workflows,
    txt2img,
)
from test_workflow import JSON

from flowdesign.comfy import Imported, from_json, from_text
from flowdesign.comfy import to_api as api_of
from flowdesign.comfy import to_ui as ui_of
from flowdesign.comfy.interface import resolve
from flowdesign.nodes import MAX_SEED
from flowdesign.workflow import Workflow, bind, canonical, nodes_of, validate

WORKFLOWS = random_workflows(150, seed=11)
BOUND = [bind(workflow, "a red star", SEED + i) for i, workflow in enumerate(WORKFLOWS)]


# --- exports -------------------------------------------------------------------------------------


def test_a_server_accepts_the_api_export() -> None:
    for workflow in BOUND:
        api = json.loads(json.dumps(api_of(workflow)))
        assert refusals(api) == []
        assert plain(api) == listed(workflow)


def test_the_rules_of_the_tests_do_refuse() -> None:
    for changes in (
        {"steps": 0},
        {"cfg": 4},
        {"steps": 4.0},
        {"scheduler": "x"},
        {"model": ["image", 0]},
    ):
        api = api_of(txt2img(**{f"sampler__{name}": value for name, value in changes.items()}))
        assert refusals(api)


def test_the_interface_export_is_a_whole_graph() -> None:
    for workflow in BOUND[:50]:
        check_interface(json.loads(json.dumps(ui_of(workflow))), listed(workflow))


def check_interface(ui: dict[str, Any], workflow: Workflow) -> None:
    """Ids, links in both directions, and the values by position."""
    by_id = {each["id"]: each for each in ui["nodes"]}
    assert ui["version"] == 0.4
    assert ui["last_node_id"] == max(by_id) and len(by_id) == len(workflow)
    assert ui["last_link_id"] == len(ui["links"])
    for link, origin, slot, target, place, socket in ui["links"]:
        out, into = by_id[origin]["outputs"][slot], by_id[target]["inputs"][place]
        assert link in out["links"] and into["link"] == link
        assert out["type"] == into["type"] == socket
        assert by_id[origin]["pos"][0] < by_id[target]["pos"][0]
    assert sum(len(o["links"]) for n in ui["nodes"] for o in n["outputs"]) == len(ui["links"])
    for each in ui["nodes"]:
        rule = RULES[each["type"]]
        values = [i.name for i in rule.inputs if i.type in ("INT", "FLOAT", "STRING", "COMBO")]
        if each["type"] in ("KSampler", "KSamplerAdvanced"):
            values.insert(1 + next(i for i, v in enumerate(values) if "seed" in v), "control")
        given = dict(zip(values, each["widgets_values"], strict=True))
        assert given.pop("control", "fixed") == "fixed"
        assert given == {k: workflow[str(each["id"])]["inputs"][k] for k in given}
    check_layout(ui)


def check_layout(ui: dict[str, Any]) -> None:
    """No two nodes overlap."""
    boxes = [(*each["pos"], *each["size"]) for each in ui["nodes"]]
    for i, (x, y, wide, high) in enumerate(boxes):
        for x2, y2, wide2, high2 in boxes[:i]:
            assert x + wide <= x2 or x2 + wide2 <= x or y + high <= y2 or y2 + high2 <= y


def test_both_exports_come_back_as_they_were() -> None:
    for index, (unbound, bound) in enumerate(zip(WORKFLOWS, BOUND, strict=True)):
        expected = Imported(unbound, "a red star", SEED + index)
        assert from_json(json.loads(json.dumps(api_of(bound))), KNOWN) == expected
        assert from_json(json.loads(json.dumps(ui_of(bound))), KNOWN) == expected
        assert resolve(ui_of(bound)) == (listed(bound), [])


def test_ids_that_are_no_numbers_are_renumbered_for_the_interface() -> None:
    ui = ui_of(bind(txt2img(), "x", 1))
    assert resolve(ui)[0] == canonical(bind(txt2img(), "x", 1))
    assert from_json(ui, KNOWN) == Imported(canonical(txt2img()), "x", 1)


def test_ids_that_no_browser_can_hold_are_renumbered() -> None:
    for name in ("9" * 16, "9" * 5_000, "007", "\u0663", "-1"):
        text = json.dumps(txt2img()).replace('"loader"', json.dumps(name))
        assert resolve(ui_of(json.loads(text)))[0] == canonical(txt2img())


def test_renumbering_keeps_equal_nodes_apart() -> None:
    """With an empty prompt both texts are empty, and only one of them is the prompt."""
    imported = from_json(ui_of(bind(txt2img(), "", 1)), KNOWN)
    assert imported == Imported(canonical(txt2img()), "", 1)


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "invalid_prompt"),
        ([1, 2], "invalid_prompt"),
        ("text", "invalid_prompt"),
        ({}, "prompt_no_outputs"),
        ({"hello": "world"}, "invalid_prompt"),
        ({"nodes": []}, "prompt_no_outputs"),
        ({"nodes": [1, {"id": 1}, {"id": [], "type": "KSampler"}]}, "invalid_prompt"),
        (txt2img(sampler__latent_image=["sampler", 0]), "dependency_cycle"),
        (txt2img(loader__ckpt_name="sd_xl_base_1.0.safetensors"), "value_not_in_list"),
        (txt2img(loader__ckpt_name="../../etc/passwd"), "value_not_in_list"),
        (txt2img(latent__width=16384, latent__height=16384), "too_many_pixels"),
        (txt2img(latent__width=10**9), "value_bigger_than_max"),
        (txt2img(sampler__seed=-1), "value_smaller_than_min"),
    ],
)
def test_bad_json_is_a_problem(value: object, code: str) -> None:
    imported = from_json(value, KNOWN)
    assert imported.problems[0].code == code
    structural = code in ("invalid_prompt", "prompt_no_outputs", "dependency_cycle")
    assert (imported.workflow is None) == structural
    assert 0 <= imported.seed <= MAX_SEED


def test_text_that_is_no_json_is_a_problem() -> None:
    assert from_text("{'a'", KNOWN).problems[0].code == "invalid_json"
    assert from_text("", KNOWN).problems[0].code == "invalid_json"
    assert from_text("[" * 200_000, KNOWN).problems[0].message == "The JSON is nested too deeply."
    assert from_text("9" * 5_000, KNOWN).problems


@pytest.mark.parametrize(
    "wrap",
    [
        lambda api: {"prompt": api},
        lambda api: {"prompt": api, "client_id": "x"},
        lambda api: {"workflow": api},
        lambda api: {"prompt": "a red star", "seed": 7, "workflow": ui_of(api)},
    ],
)
def test_a_workflow_inside_a_request_or_record_is_found(wrap: Any) -> None:
    imported = from_json(wrap(api_of(bind(txt2img(), "a red star", 7))), KNOWN)
    assert (imported.prompt, imported.seed, imported.problems) == ("a red star", 7, ())
    assert imported.workflow is not None and canonical(imported.workflow) == canonical(txt2img())


def test_nodes_may_have_the_names_of_a_record() -> None:
    for name in ("prompt", "workflow"):
        workflow = txt2img()
        other = "prompt" if name == "prompt" else "loader"
        text = json.dumps(workflow).replace(f'"{other}"', f'"{name}"')
        assert from_text(text, KNOWN).problems == ()


def test_file_names_may_carry_their_suffix() -> None:
    imported = from_json(txt2img(loader__ckpt_name="mini_flat.safetensors"), KNOWN)
    assert imported == Imported(txt2img())


def test_what_is_undeclared_or_unneeded_is_left_out() -> None:
    workflow = txt2img(sampler__extra=1) | {"stray": node("VAEDecode", samples=["nowhere", 0])}
    assert from_json(workflow, KNOWN) == Imported(txt2img())


def test_a_record_with_a_bad_prompt_or_seed_keeps_its_workflow() -> None:
    for record in ({"prompt": 5}, {"seed": "x"}, {"seed": -1}, {"seed": True}, {"seed": 2**64}):
        imported = from_json({"workflow": txt2img(), "prompt": "p", **record}, KNOWN)
        assert imported.workflow == txt2img()
        assert [problem.code for problem in imported.problems] == ["invalid_record"]


def test_import_survives_5_000_mutated_files() -> None:
    rng = random.Random(1)
    originals: list[Any] = [api_of(BOUND[0]), *(ui_of(bound) for bound in BOUND[:30]), txt2img()]
    originals += [{"prompt": "p", "seed": 1, "workflow": WORKFLOWS[1]}, ui_of(BOUND[2])]
    texts, good = [json.dumps(each) for each in originals], 0
    for _ in range(5_000):
        imported = from_json(mutate(rng.choice(texts), rng), KNOWN)
        assert (imported.workflow is not None) or imported.problems
        if not imported.problems:
            assert imported.workflow is not None
            assert validate(imported.workflow, KNOWN) == []
            bound = bind(imported.workflow, imported.prompt, imported.seed)
            good += 1
            if good % 10 == 0:
                assert from_json(ui_of(bound), KNOWN).problems == ()
    assert 300 < good < 4_500
    for strange in STRANGE:
        assert from_json(strange, KNOWN).problems
        assert from_json({"nodes": strange, "links": strange}, KNOWN).problems
        assert from_json({"workflow": strange, "prompt": strange}, KNOWN).problems


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_import_survives_any_json(value: object) -> None:
    assert from_json(value, KNOWN).problems


def test_every_sampler_of_an_export_keeps_its_seed() -> None:
    for bound in BOUND[:20]:
        again = plain(api_of(bound))
        for key in nodes_of(bound, "KSampler"):
            assert again[key]["inputs"]["seed"] >= SEED
