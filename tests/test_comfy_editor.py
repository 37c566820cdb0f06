"""What ComfyUI's editor does before it sends a workflow: bypassed nodes, promoted widgets, nodes of its own."""

from typing import Any

import pytest
from language_toys import KNOWN, txt2img

from flowdesign.comfy import from_json, to_api, to_ui
from flowdesign.comfy.bypass import Bypass
from flowdesign.comfy.interface import resolve
from flowdesign.comfy.kinds import NOTES
from flowdesign.workflow import bind, canonical


def bypassed(inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    """A bypassed node with inputs of these types, all linked; of None, to nothing."""
    slots = [{"type": kind, "link": at} for at, kind in enumerate(inputs)]
    return {"mode": 4, "inputs": slots, "outputs": [{"type": kind} for kind in outputs]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "slot", "wanted", "chosen"),
    [
        (["A", "A"], ["A"], 0, "A", 0),
        (["A", "B", "B"], ["X", "X", "B"], 2, "B", 2),  # of the same number
        (["A", "B"], ["B"], 0, "B", 1),  # else of the same type
        (["A", "B"], ["C"], 0, "C", None),
        (["A", "B"], ["A", "B"], 1, "*", 1),  # whoever takes anything gets the same number
        (["A"], ["A", "B"], 1, "*", 0),
        (["*"], ["*"], 0, "LATENT", 0),
        (["IMAGE,MASK"], ["IMAGE"], 0, "IMAGE", 0),
        (["A", "IMAGE"], ["IMAGE"], 0, "IMAGE,MASK", 1),
        (["A", "MASK", "MASK,IMAGE"], ["IMAGE,MASK"], 0, "IMAGE", 2),
        (["A", "STRING"], ["COMBO,STRING"], 0, "string", 1),
        (["A", "B"], ["B"], 0, None, 1),
        ([], ["A"], 0, "*", None),
        ([3, ["A"]], [0], 0, ["A"], 1),
    ],
)
def test_a_bypassed_output_passes_on_one_input(
    inputs: list[Any], outputs: list[Any], slot: int, wanted: Any, chosen: int | None
) -> None:
    assert Bypass(bypassed(inputs, outputs), slot).input(wanted) == chosen


def through(node: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The inputs of a node that hangs on output 0 of a bypassed one, whose inputs hang on node 1."""
    sources = [[at, 1, at, 2, at, "*"] for at in range(9)]
    nodes = [
        {"id": 1, "type": "Source"}, node | {"id": 2, "type": "Between"},
        {"id": 3, "type": "Target", "inputs": [{"name": "x", "type": wanted, "link": 90}]},
    ]  # fmt: skip
    graph, problems = resolve({"nodes": nodes, "links": [*sources, [90, 2, 0, 3, 0, "*"]]})
    assert not problems
    return dict(graph["3"]["inputs"])


def test_what_is_passed_on_is_linked() -> None:
    assert through(bypassed(["A", "IMAGE,MASK"], ["IMAGE"]), "IMAGE") == {"x": ["1", 1]}
    node = bypassed(["CONDITIONING", "CONDITIONING"], ["CONDITIONING"])
    node["inputs"][0]["link"] = None
    assert through(node, "CONDITIONING") == {}, "the first is chosen, and nothing is linked to it"


def test_bypassed_nodes_that_hang_on_each_other_end() -> None:
    slots = {"mode": 4, "outputs": [{"type": "A"}]}
    nodes = [
        {"id": at, "type": "Between", "inputs": [{"type": "A", "link": 3 - at}]} | slots
        for at in (1, 2)
    ]
    nodes.append({"id": 3, "type": "T", "inputs": [{"name": "x", "type": "A", "link": 1}]})
    links = [[1, 1, 0, 2, 0, "A"], [2, 2, 0, 1, 0, "A"]]
    graph, (problem,) = resolve({"nodes": nodes, "links": links})
    assert graph["3"]["inputs"] == {} and "round in a circle" in problem.message


# --- promoted widgets ----------------------------------------------------------------------------


def promoted(pairs: list[Any] | str, values: list[Any], **more: Any) -> dict[str, Any]:
    """The inputs of an EmptyLatentImage, node 3 of a subgraph whose instance promotes widgets."""
    inner = {"id": 3, "type": "EmptyLatentImage", "widgets_values": [512, 640, 2], "inputs": []}
    instance = {
        "id": 1, "type": "s", "properties": {"proxyWidgets": pairs}, "widgets_values": values, **more,
    }  # fmt: skip
    definition = {"id": "s", "nodes": [inner, *more.get("beside", [])], "links": []}
    definition |= more.get("definition", {})
    value = {"nodes": [instance], "links": [], "definitions": {"subgraphs": [definition]}}
    graph, problems = resolve(value)
    assert not problems
    return dict(graph["1:3"]["inputs"])


OWN = {"width": 512, "height": 640, "batch_size": 2}


def test_what_is_no_input_is_promoted_in_vain() -> None:
    pairs = [["3", "control_after_generate"], ["3", "$$canvas-image-preview"], ["3", "height"]]
    assert promoted(pairs, ["randomize", "x", 96]) == OWN | {"height": 96}


def test_promoted_widgets_may_be_listed_in_a_text() -> None:
    assert promoted('[["3", "height"], ["3", "width"]]', [96, 64]) == OWN | {
        "height": 96,
        "width": 64,
    }
    for bad in ("[[", "7", "[" * 100_000, '{"3": "height"}'):
        assert promoted(bad, [96]) == OWN


def test_a_promoted_widget_without_a_value_keeps_its_own() -> None:
    assert promoted([["3", "width"], ["3", "height"]], [None, 96]) == OWN | {"height": 96}
    assert promoted([["3", "width"]], []) == OWN


def test_a_promoted_primitive_has_the_value_of_the_instance() -> None:
    primitive = {"id": 4, "type": "PrimitiveNode", "widgets_values": [64, "fixed"]}
    inner = {
        "id": 3, "type": "EmptyLatentImage", "widgets_values": [512, 640, 2],
        "inputs": [{"name": "width", "type": "INT", "link": 1, "widget": {"name": "width"}}],
    }  # fmt: skip
    definition = {
        "nodes": [inner, primitive],
        "links": [dict(zip(NAMES, (1, 4, 0, 3, 0), strict=True))],
    }
    assert promoted([["4", "value"]], [128], definition=definition) == OWN | {"width": 128}
    assert promoted([], [], definition=definition) == OWN | {"width": 64}


NAMES = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def test_an_input_that_an_instance_leaves_out_takes_no_other_link() -> None:
    """New files list only what is linked, so an input's number says nothing where it has a name."""
    inner = {
        "id": 3, "type": "EmptyLatentImage", "widgets_values": [512, 640, 2],
        "inputs": [
            {"name": name, "type": "INT", "link": at, "widget": {"name": name}}
            for at, name in enumerate(("width", "height"))
        ],
    }  # fmt: skip
    definition = {
        "id": "s", "nodes": [inner], "inputs": [{"name": "width"}, {"name": "height"}],
        "links": [dict(zip(NAMES, (at, -10, at, 3, at), strict=True)) for at in range(2)],
    }  # fmt: skip
    instance = {"id": 1, "type": "s", "inputs": [{"name": "height", "type": "INT", "link": 7}]}
    number = {"id": 2, "type": "PrimitiveInt", "widgets_values": [96]}
    value = {
        "nodes": [instance, number], "links": [[7, 2, 0, 1, 0, "INT"]],
        "definitions": {"subgraphs": [definition]},
    }  # fmt: skip
    assert resolve(value)[0]["1:3"]["inputs"] == OWN | {"height": ["2", 0]}


# --- nodes of the editor, and old names ----------------------------------------------------------


def test_nodes_that_are_there_for_people_are_dropped() -> None:
    bound = canonical(bind(txt2img(), "a red star", 7))
    ui = to_ui(bound)
    plain = from_json(ui, KNOWN)
    ui["nodes"] += [
        {"id": 90 + at, "type": kind, "widgets_values": ["x"], "outputs": [{"type": "*"}]}
        for at, kind in enumerate(sorted(NOTES))
    ]
    assert {"Fast Groups Bypasser (rgthree)", "Label (rgthree)", "Bookmark (rgthree)"} <= NOTES
    assert from_json(ui, KNOWN) == plain and not plain.problems


def test_a_class_is_found_by_its_old_name() -> None:
    """ComfyUI wrote a space behind the name once; it takes only the one without today."""
    base = canonical(bind(txt2img(), "a red star", 7))
    texts = [key for key, each in base.items() if each["class_type"] == "CLIPTextEncode"]
    sampler = next(key for key, each in base.items() if each["class_type"] == "KSampler")
    average = {
        "class_type": "ConditioningAverage",
        "inputs": {
            "conditioning_to": [texts[0], 0], "conditioning_from": [texts[1], 0],
            "conditioning_to_strength": 0.5,
        },
    }  # fmt: skip
    base[sampler]["inputs"]["positive"] = ["90", 0]
    today = base | {"90": average}
    expected = from_json(to_api(today), KNOWN)
    assert expected.workflow is not None and not expected.problems
    old = base | {"90": {**average, "class_type": "ConditioningAverage "}}
    ui = to_ui(today)
    for each in ui["nodes"]:
        each["type"] += " " * (each["type"] == "ConditioningAverage")
    for value in (old, {"prompt": old}, ui):
        found = from_json(value, KNOWN)
        assert found.problems == () and found.workflow == expected.workflow
        bound = bind(found.workflow or {}, "a red star", 7)
        assert to_api(bound, KNOWN)["90"]["class_type"] == "ConditioningAverage"
