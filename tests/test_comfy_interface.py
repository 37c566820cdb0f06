"""ComfyUI's interface format: what its browser side does with a file, done here."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from corpus import corpus
from language_toys import KNOWN, txt2img

from flowdesign.comfy import Imported, from_json
from flowdesign.comfy import to_ui as ui_of
from flowdesign.comfy.interface import resolve
from flowdesign.nodes import NODES
from flowdesign.workflow import MAX_NODES, bind, canonical

PAIRS = Path(__file__).parent / "data" / "comfyui"


def ui_with(change: Any) -> Imported:
    """Import the interface export of the smallest workflow after a change to it."""
    ui = ui_of(canonical(bind(txt2img(), "a red star", 7)))
    change(ui, {each["type"]: each for each in ui["nodes"]})
    return from_json(ui, KNOWN)


def insert(ui: dict[str, Any], new: dict[str, Any], socket: str) -> None:
    """Put a node into the link that ends in the first input of a type."""
    link = next(each for each in ui["links"] if each[5] == socket)
    link_id = len(ui["links"]) + 1
    ui["links"].append([link_id, new["id"], 0, link[3], link[4], socket])
    target = next(each for each in ui["nodes"] if each["id"] == link[3])
    target["inputs"][link[4]]["link"] = link_id
    new["inputs"][0]["link"], link[3], link[4] = link[0], new["id"], 0
    ui["nodes"].append(new)


def passing(class_type: str, socket: str, **more: Any) -> dict[str, Any]:
    slot = {"name": "x", "type": socket, "link": None}
    out = {"name": "x", "type": socket, "links": []}
    return {"id": 99, "type": class_type, "inputs": [slot], "outputs": [out], **more}


GOOD = Imported(canonical(txt2img()), "a red star", 7)


def test_reroutes_are_followed_and_notes_dropped() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        insert(ui, passing("Reroute", "LATENT"), "LATENT")
        ui["nodes"].append({"id": 100, "type": "Note", "widgets_values": ["hello"]})
        ui["nodes"].append({"id": 101, "type": "MarkdownNote"})

    assert ui_with(change) == GOOD


def test_a_bypassed_node_passes_on_what_has_its_type() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        new = passing("LatentUpscaleBy", "LATENT", mode=4, widgets_values=["area", 2.0])
        insert(ui, new, "LATENT")

    assert ui_with(change) == GOOD


def test_a_muted_node_is_gone_and_its_dependants_lack_an_input() -> None:
    imported = ui_with(lambda ui, types: types["EmptyLatentImage"].update(mode=2))
    assert [(p.code, p.input) for p in imported.problems] == [
        ("required_input_missing", "latent_image")
    ]


def test_a_primitive_is_inlined_into_a_converted_widget() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        types["KSampler"]["inputs"].append(
            {"name": "seed", "type": "INT", "link": 500, "widget": {"name": "seed"}}
        )
        ui["links"].append([500, 77, 0, types["KSampler"]["id"], 4, "INT"])
        primitive = {"id": 77, "type": "PrimitiveNode", "widgets_values": [12, "fixed"]}
        ui["nodes"].append(primitive)

    assert ui_with(change) == Imported(GOOD.workflow, "a red star", 12)


@pytest.mark.parametrize("control", [[], ["randomize"], [True], [False]])
def test_old_files_have_other_values_after_the_seed(control: list[Any]) -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        types["KSampler"]["widgets_values"][1:2] = control

    assert ui_with(change) == GOOD


def test_values_that_are_missing_are_defaults_and_wrapped_ones_unwrapped() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        del types["KSampler"]["widgets_values"][-1]  # denoise
        types["SaveImage"]["widgets_values"] = {"filename_prefix": "FlowDesign"}
        types["EmptyLatentImage"]["widgets_values"][0] = {"__value__": 64}

    assert ui_with(change) == GOOD


def test_links_may_be_objects() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        ui["links"] = [dict(zip(names, link, strict=True)) for link in ui["links"]]

    assert ui_with(change) == GOOD


def test_a_loop_of_reroutes_ends() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        new = passing("Reroute", "LATENT")
        insert(ui, new, "LATENT")
        new["inputs"][0]["link"] = len(ui["links"])

    assert ui_with(change).problems[0].code == "required_input_missing"


def test_a_long_chain_of_reroutes_costs_its_length() -> None:
    """Every input of a node hangs on the same chain of reroutes: each is followed once."""
    count = MAX_NODES
    nodes: list[dict[str, Any]] = [
        {"id": i, "type": "Reroute", "inputs": [{"link": i}]} for i in range(1, count)
    ]
    inputs = [{"name": f"x{i}", "link": count} for i in range(count)]
    nodes.append({"id": count, "type": "SaveImage", "inputs": inputs})
    links = [[i, i - 1, 0, i, 0, "*"] for i in range(1, count + 1)]
    started = time.process_time()
    assert from_json({"nodes": nodes, "links": links}, KNOWN).problems
    assert time.process_time() - started < 2


def test_what_is_not_read_is_named() -> None:
    def subgraph(ui: dict[str, Any], types: dict[str, Any]) -> None:
        ui["definitions"] = {"subgraphs": [{"id": "a-b-c", "nodes": []}]}
        types["VAEDecode"]["type"] = "a-b-c"

    def unknown(ui: dict[str, Any], types: dict[str, Any]) -> None:
        types["KSampler"]["type"] = "KSamplerWithNoise"

    assert [p.code for p in ui_with(subgraph).problems][0] == "unsupported_subgraph"
    (problem,) = ui_with(unknown).problems
    assert "Unknown node type 'KSamplerWithNoise'. Did you mean 'KSampler" in problem.message


@pytest.mark.parametrize("path", sorted(PAIRS.glob("*.ui.json")), ids=lambda path: path.name)
def test_interface_files_give_their_api_files(path: Path) -> None:
    """Hand-made pairs: what a browser would post for the file as it is."""
    expected = json.loads(path.with_name(path.name.replace(".ui.", ".api.")).read_text("utf-8"))
    assert resolve(json.loads(path.read_text("utf-8"))) == (expected, [])


def test_there_are_hand_made_pairs() -> None:
    assert len(list(PAIRS.glob("*.ui.json"))) >= 4


def test_import_against_real_pairs() -> None:
    """A corpus of X.ui.json files beside their X.api.json, where a developer has one."""
    compared = 0
    for path in sorted(corpus("comfyui_examples").glob("*.ui.json")):
        api = json.loads(path.with_name(path.name.replace(".ui.", ".api.")).read_text("utf-8"))
        found, problems = resolve(json.loads(path.read_text("utf-8")))
        if any(problem.code == "unsupported_subgraph" for problem in problems):
            continue
        for key, each in api.items():
            if each["class_type"] in NODES and key in found:
                given = {k: v for k, v in found[key]["inputs"].items() if k in each["inputs"]}
                assert given == each["inputs"], (path.name, key)
                compared += 1
    assert compared > 100
