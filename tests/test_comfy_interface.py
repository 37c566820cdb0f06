"""ComfyUI's interface format: what its browser side does with a file, done here."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from corpus import corpus
from language_toys import KNOWN, txt2img

from flowdesign.comfy import Imported, from_json, to_api, to_ui
from flowdesign.comfy.importing import graph_of
from flowdesign.comfy.interface import resolve
from flowdesign.workflow import MAX_NODES, bind, canonical

PAIRS = Path(__file__).parent / "data" / "comfyui"


def ui_with(change: Any) -> Imported:
    """Import the interface export of the smallest workflow after a change to it."""
    ui = to_ui(canonical(bind(txt2img(), "a red star", 7)))
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


@pytest.mark.parametrize("mode", [2, 4])
def test_a_reroute_passes_on_what_it_gets_whatever_its_mode(mode: int) -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        insert(ui, passing("Reroute", "LATENT", mode=mode), "LATENT")

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

    lost, missing = ui_with(change).problems
    assert (lost.code, missing.code) == ("link_lost", "required_input_missing")
    assert (
        lost.message
        == "What is linked to 'latent_image' is lost: its links lead round in a circle."
    )


def test_a_long_chain_of_reroutes_costs_its_length() -> None:
    """Every input of a node hangs on the same chain of reroutes: each is followed once."""
    count = MAX_NODES
    many = 256  # inputs of one node: more are not read
    nodes: list[dict[str, Any]] = [
        {"id": i, "type": "Reroute", "inputs": [{"link": i}]} for i in range(1, count)
    ]
    inputs = [{"name": f"x{i}", "link": count} for i in range(many)]
    nodes.append({"id": count, "type": "SaveImage", "inputs": inputs})
    links = [[i, i - 1, 0, i, 0, "*"] for i in range(1, count + 1)]
    started = time.process_time()
    (first, *_) = from_json({"nodes": nodes, "links": links}, KNOWN).problems
    assert first.code == "link_lost" and "the file has no node '0'" in first.message
    assert time.process_time() - started < 2


def test_what_is_not_known_is_named() -> None:
    def unknown(ui: dict[str, Any], types: dict[str, Any]) -> None:
        types["KSampler"]["type"] = "KSamplerWithNoise"

    (problem,) = ui_with(unknown).problems
    assert "Unknown node type 'KSamplerWithNoise'. Did you mean 'KSampler" in problem.message


# --- subgraphs -----------------------------------------------------------------------------------


def link(number: int, origin: tuple[int, int], target: tuple[int, int]) -> dict[str, Any]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return dict(zip(names, (number, *origin, *target), strict=True))


def enclose(ui: dict[str, Any], node: dict[str, Any], kind: str) -> dict[str, Any]:
    """Put a node into a subgraph of its own; in its place stands an instance, which is returned."""
    inner = json.loads(json.dumps(node)) | {"id": 3}
    slots = inner["inputs"]
    links = [link(at, (-10, at), (3, at)) for at, _ in enumerate(slots)]
    for at, each in enumerate(slots):
        each["link"] = at
    links += [link(100 + at, (3, at), (-20, at)) for at, _ in enumerate(inner["outputs"])]
    names = [{"name": f"in {each['name']}"} for each in slots]
    definition = {"id": kind, "nodes": [inner], "links": links, "inputs": names}
    ui.setdefault("definitions", {}).setdefault("subgraphs", []).append(definition)
    for each, name in zip(node["inputs"], names, strict=True):
        each |= name
    node["inputs"].reverse()  # they are told apart by their names
    node |= {"type": kind, "widgets_values": []}
    return node


def test_subgraphs_are_opened_however_deep_they_are() -> None:
    def once(ui: dict[str, Any], types: dict[str, Any]) -> None:
        enclose(ui, types["KSampler"], "a-b-c")

    def twice(ui: dict[str, Any], types: dict[str, Any]) -> None:
        once(ui, types)
        enclose(ui, types["KSampler"], "d-e-f")

    ui = to_ui(canonical(bind(txt2img(), "a red star", 7)))
    number = next(node["id"] for node in ui["nodes"] if node["type"] == "KSampler")
    for change, name in ((once, f"{number}:3"), (twice, f"{number}:3:3")):
        assert canonical(ui_with(change).workflow or {}) == GOOD.workflow
        copy = json.loads(json.dumps(ui))
        change(copy, {each["type"]: each for each in copy["nodes"]})
        graph, problems = resolve(copy)
        assert graph[name]["class_type"] == "KSampler" and not problems
        assert [name, 0] in graph[next(k for k in graph if graph[k]["class_type"] == "VAEDecode")][
            "inputs"
        ].values()


def opened(change: Any) -> dict[str, Any]:
    """The inputs of the KSampler that is left after a change to the smallest workflow."""
    ui = to_ui(canonical(bind(txt2img(), "a red star", 7)))
    change(ui, {each["type"]: each for each in ui["nodes"]})
    graph, problems = resolve(ui)
    assert not problems
    (found,) = [each for each in graph.values() if each["class_type"] == "KSampler"]
    return dict(found["inputs"])


def test_promoted_widgets_have_the_values_of_the_instance() -> None:
    def proxies(ui: dict[str, Any], types: dict[str, Any]) -> None:
        instance = enclose(ui, types["KSampler"], "a-b-c")
        instance["properties"] = {"proxyWidgets": [["3", "steps"], [3, "seed"]]}
        instance["widgets_values"] = [17, 99]

    def nested(ui: dict[str, Any], types: dict[str, Any]) -> None:
        proxies(ui, types)
        instance = enclose(ui, types["KSampler"], "d-e-f")
        inner = ui["definitions"]["subgraphs"][-1]["nodes"][0]
        inner["widgets_values"] = [17, 99]
        instance["properties"] = {"proxyWidgets": [["3", "3: seed"]]}
        instance["widgets_values"] = [100]

    def of_inputs(ui: dict[str, Any], types: dict[str, Any]) -> None:
        seed = {"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": None}
        types["KSampler"]["inputs"].append(seed)
        instance = enclose(ui, types["KSampler"], "a-b-c")
        instance["properties"] = {"proxyWidgets": [["3", "steps"]]}
        instance["widgets_values"] = [5, 18]

    plain = opened(lambda ui, types: None)
    assert opened(proxies) == plain | {"steps": 17, "seed": 99}
    assert opened(nested) == plain | {"steps": 17, "seed": 100}
    assert opened(of_inputs) == plain | {"seed": 5, "steps": 18}


def test_a_subgraph_that_is_bypassed_or_muted_is_not_opened() -> None:
    def bypassed(ui: dict[str, Any], types: dict[str, Any]) -> None:
        new = passing("LatentUpscaleBy", "LATENT", widgets_values=["area", 2.0])
        insert(ui, new, "LATENT")
        enclose(ui, new, "a-b-c")["mode"] = 4

    def muted(ui: dict[str, Any], types: dict[str, Any]) -> None:
        enclose(ui, types["VAEDecode"], "a-b-c")["mode"] = 2

    assert ui_with(bypassed) == GOOD
    assert [p.code for p in ui_with(muted).problems] == ["required_input_missing"]


def test_subgraphs_without_an_end_are_told() -> None:
    def inside_itself(ui: dict[str, Any], types: dict[str, Any]) -> None:
        enclose(ui, types["VAEDecode"], "a-b-c")
        ui["definitions"]["subgraphs"][0]["nodes"][0]["type"] = "a-b-c"

    def by_two(ui: dict[str, Any], types: dict[str, Any]) -> None:
        inside_itself(ui, types)
        nodes = ui["definitions"]["subgraphs"][0]["nodes"]
        nodes.append(nodes[0] | {"id": 4})

    assert ui_with(inside_itself).problems[0].code == "unsupported_subgraph"
    assert [p.code for p in ui_with(by_two).problems] == ["too_many_nodes"]


def test_many_instances_of_a_large_subgraph_cost_little() -> None:
    """A definition is read once: a small file must not become hours of work."""
    links = [link(at, (1, 0), (2, 0)) for at in range(20_000)]
    definition = {"id": "a-b-c", "nodes": [{"id": 1, "type": "Reroute"}], "links": links}
    nodes = [{"id": at, "type": "a-b-c"} for at in range(MAX_NODES // 2)]
    ui = {"nodes": nodes, "links": [], "definitions": {"subgraphs": [definition]}}
    started = time.process_time()
    assert resolve(ui) == ({}, [])
    assert time.process_time() - started < 2


def test_a_group_node_has_its_nodes_values_one_after_the_other() -> None:
    def group(ui: dict[str, Any], types: dict[str, Any]) -> None:
        """The sampler and, behind it, a node that makes the image larger, in one."""
        sampler = types["KSampler"]
        scale = {
            "type": "LatentUpscaleBy", "widgets_values": ["area", 1.5],
            "inputs": [{"name": "samples", "type": "LATENT"}],
            "outputs": [{"name": "LATENT", "type": "LATENT"}],
        }  # fmt: skip
        first = {name: sampler[name] for name in ("type", "widgets_values", "outputs")}
        first["inputs"] = [{**each, "link": None} for each in sampler["inputs"]]
        defined = {"nodes": [first, scale], "links": [[0, 0, 1, 0, 7, "LATENT"]]}
        ui["extra"] = {"groupNodes": {"Both": defined}}
        sampler |= {
            "type": "workflow>Both",
            "widgets_values": [*sampler["widgets_values"], "bislerp", 2.0],
        }

    ui = to_ui(canonical(bind(txt2img(), "a red star", 7)))
    before, _ = resolve(json.loads(json.dumps(ui)))
    group(ui, {each["type"]: each for each in ui["nodes"]})
    graph, problems = resolve(ui)
    key = next(k for k, each in before.items() if each["class_type"] == "KSampler")
    assert not problems and graph[f"{key}:0"] == before[key]
    inputs = {"upscale_method": "bislerp", "scale_by": 2.0, "samples": [f"{key}:0", 0]}
    assert graph[f"{key}:1"] == {"class_type": "LatentUpscaleBy", "inputs": inputs}
    decode = next(each for each in graph.values() if each["class_type"] == "VAEDecode")
    assert decode["inputs"]["samples"] == [f"{key}:1", 0]


def test_what_is_set_is_got_by_its_name() -> None:
    def change(ui: dict[str, Any], types: dict[str, Any]) -> None:
        getter = passing("GetNode", "LATENT", widgets_values=["latent"])
        insert(ui, getter, "LATENT")
        setter = passing("SetNode", "LATENT", widgets_values=["latent"]) | {"id": 98}
        setter["inputs"], getter["inputs"] = getter["inputs"], []
        ui["nodes"].append(setter)

    assert ui_with(change) == GOOD


@pytest.mark.parametrize("path", sorted(PAIRS.glob("*.ui.json")), ids=lambda path: path.name)
def test_interface_files_give_their_api_files(path: Path) -> None:
    """Hand-made pairs: what a browser would post for the file as it is."""
    expected = json.loads(path.with_name(path.name.replace(".ui.", ".api.")).read_text("utf-8"))
    assert resolve(json.loads(path.read_text("utf-8"))) == (expected, [])


def test_there_are_hand_made_pairs() -> None:
    assert len(list(PAIRS.glob("*.ui.json"))) >= 4


DIFFERENT = {
    "stable_cascade__stable_cascade__inpaint_controlnet": "its two chunks are of different graphs: in the "
    "one that was executed there is no group node",
}
BUTTONS = ("choose file to upload", "upload")  # what some API files say of a button


def test_import_against_real_pairs() -> None:
    """A corpus of X.ui.json files beside their X.api.json, where a developer has one."""
    different = {}
    pairs = sorted(corpus("comfyui_examples").glob("*.ui.json"))
    for path in pairs:
        name = path.name.removesuffix(".ui.json")
        api = json.loads(path.with_name(f"{name}.api.json").read_text("utf-8"))
        found, _ = resolve(json.loads(path.read_text("utf-8")))
        if (ours := _bare(found)) != (theirs := _bare(api)):
            different[name] = {
                key: (ours.get(key), theirs.get(key))
                for key in ours.keys() | theirs.keys()
                if ours.get(key) != theirs.get(key)
            }
    assert different.keys() <= DIFFERENT.keys(), different
    assert len(pairs) - len(different) >= 88


def test_seeds_of_real_files_come_back_from_every_form() -> None:
    """Those of later passes too: most people's files hold one seed for each."""
    several = 0
    for path in sorted(corpus("comfyui_examples").glob("*.ui.json")):
        value = json.loads(path.read_text("utf-8"))
        first = from_json(value, KNOWN)
        if first.workflow is None:
            continue
        bound = bind(first.workflow, first.prompt, first.seed)
        assert _seeds(bound).items() <= _seeds(resolve(value)[0]).items(), path.name
        for again in (to_api(bound, KNOWN), to_ui(bound, KNOWN)):
            other = from_json(json.loads(json.dumps(again)), KNOWN)
            assert other.workflow is not None
            assert canonical(bind(other.workflow, other.prompt, other.seed)) == canonical(bound)
        several += len(_seeds(bound)) > 1
    assert several >= 12


def _seeds(graph: dict[str, Any]) -> dict[str, Any]:
    names = ("seed", "noise_seed")
    found = {key: [each["inputs"].get(name) for name in names] for key, each in graph.items()}
    return {key: seeds for key, seeds in found.items() if seeds != [None, None]}


def _bare(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph without what is no part of it."""
    return {
        key: {
            "class_type": each["class_type"],
            "inputs": {name: v for name, v in each["inputs"].items() if name not in BUTTONS},
        }
        for key, each in graph.items()
    }


@pytest.mark.parametrize(
    "names", [("prompt",), ("output",), ("extra_data", "extra_pnginfo", "workflow")]
)
def test_what_a_browser_posts_is_opened(names: tuple[str, ...]) -> None:
    """A request, what the console gives, and the texts of an image: what was executed is before the rest."""
    bound = canonical(bind(txt2img(), "a red star", 7))
    value: dict[str, Any] = to_ui(bound) if "workflow" in names else to_api(bound)
    for name in reversed(names):
        value = {name: value}
    for each in (value, value | {"client_id": "x"}, value | {"workflow": {"nodes": []}}):
        assert from_json(each, KNOWN).prompt == "a red star"
        assert len(graph_of(each)[0]) == len(bound)
