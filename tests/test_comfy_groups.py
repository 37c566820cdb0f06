"""Group nodes of older files of ComfyUI's interface: whose their values, inputs and outputs are."""

import json
from typing import Any

import pytest
from corpus import corpus

from flowdesign.comfy.interface import resolve


def link(number: int, origin: tuple[int, int], target: tuple[int, int]) -> list[Any]:
    return [number, *origin, *target, "*"]


def node(kind: str, inputs: str = "", outputs: str = "", **more: Any) -> dict[str, Any]:
    """A node with sockets "name:TYPE" or widgets that are inputs, "name:TYPE:w"."""
    slots = []
    for name, socket, *widget in (each.split(":") for each in inputs.split()):
        slots.append({"name": name, "type": socket, "link": None})
        slots[-1] |= {"widget": {"name": name}} if widget else {}
    found = [{"name": each, "type": each} for each in outputs.split()]
    return {"type": kind, "inputs": slots, "outputs": found, **more}


def sized(**more: Any) -> dict[str, Any]:
    """An empty latent image with its width and height converted to inputs."""
    widgets = {"widgets_values": [1024, 640, 1], **more}
    return node("EmptyLatentImage", "width:INT:w height:INT:w", "LATENT", **widgets)


PRIMITIVES = {  # as several of ComfyUI's examples define it: the height first
    "nodes": [
        node("PrimitiveNode", "", "INT", title="height"),
        node("PrimitiveNode", "", "INT", title="width"),
        sized(),
    ],
    "links": [[1, 0, 2, 0, 34, "INT"], [0, 0, 2, 1, 35, "INT"]],
    "external": [[0, 0, "INT"], [1, 0, "INT"], [2, 0, "LATENT"]],
}


def opened(group: dict[str, Any], instance: dict[str, Any], *others: Any) -> dict[str, Any]:
    """The API graph of an instance, node 5, of a group; others are nodes, and links as lists."""
    nodes = [{"id": 5, "type": "workflow>G", **instance}]
    nodes += [each for each in others if isinstance(each, dict)]
    links = [each for each in others if isinstance(each, list)]
    graph, problems = resolve(
        {"nodes": nodes, "links": links, "extra": {"groupNodes": {"G": group}}}
    )
    assert not problems
    return graph


def test_a_primitive_inside_has_a_value_outside_and_what_it_gives_has_none() -> None:
    instance = {"widgets_values": [768, "fixed", 1280, "fixed", 4]}
    reader = node("VAEDecode", "samples:LATENT height:INT") | {"id": 6}
    reader["inputs"][0]["link"], reader["inputs"][1]["link"] = 1, 2
    graph = opened(PRIMITIVES, instance, reader, link(1, (5, 2), (6, 0)), link(2, (5, 0), (6, 1)))
    assert graph["5:2"]["inputs"] == {"width": 1280, "height": 768, "batch_size": 4}
    assert graph["6"]["inputs"] == {"samples": ["5:2", 0]}


def test_the_definition_of_real_files_gives_the_same() -> None:
    value = json.loads((corpus("comfyui_examples") / "flux2__flux2_example.ui.json").read_text())
    group = value["extra"]["groupNodes"]["EmptyLatentImage"]
    graph = opened(group, {"widgets_values": [768, "fixed", 1280, "fixed", 4]})
    assert graph["5:2"]["inputs"] == {"width": 1280, "height": 768, "batch_size": 4}


def test_a_converted_widget_comes_last_and_takes_what_is_linked_outside() -> None:
    scale = node("LatentUpscaleBy", "samples:LATENT", "LATENT", widgets_values=["area", 1.5])
    group = {"nodes": [sized(), scale], "links": [[0, 0, 1, 0, 7, "LATENT"]]}
    values = {"widgets_values": [3, "bislerp", 2.0, 640, 320]}
    graph = opened(group, values)
    assert graph["5:0"]["inputs"] == {"batch_size": 3, "width": 640, "height": 320}
    assert graph["5:1"]["inputs"] == {
        "upscale_method": "bislerp", "scale_by": 2.0, "samples": ["5:0", 0],
    }  # fmt: skip
    instance = node("", "width:INT:w height:INT:w") | values | {"type": "workflow/G"}
    instance["inputs"][0]["link"] = 1
    number = node("PrimitiveInt", "", "INT", widgets_values=[896]) | {"id": 7}
    graph = opened(group, instance, number, link(1, (7, 0), (5, 0)))
    assert graph["5:0"]["inputs"] == {"batch_size": 3, "width": ["7", 0], "height": 320}


def test_a_widget_that_an_instance_made_an_input_is_found_by_its_name() -> None:
    group = {"nodes": [sized(), sized(title="Other")], "links": []}
    instance = node("", "Other_batch_size:INT:w width:INT:w")
    instance["inputs"][0] |= {"name": "Other batch_size", "link": 1}
    instance |= {"type": "workflow/G", "widgets_values": [3, 4, 640, 320, 64, 32]}
    number = node("PrimitiveInt", "", "INT", widgets_values=[2]) | {"id": 7}
    graph = opened(group, instance, number, link(1, (7, 0), (5, 0)))
    assert graph["5:0"]["inputs"] == {"batch_size": 3, "width": 640, "height": 320}
    assert graph["5:1"]["inputs"] == {"batch_size": ["7", 0], "width": 64, "height": 32}


def test_what_is_not_visible_has_no_place() -> None:
    """A socket and an output that a person has hidden; the value of a hidden widget stays."""
    sampler = node(
        "KSampler", "model:MODEL positive:CONDITIONING latent_image:LATENT", "LATENT",
        widgets_values=[1, "fixed", 20, 8, "euler", "normal", 1],
    )  # fmt: skip
    decode = node("VAEDecode", "samples:LATENT vae:VAE", "IMAGE")
    config = {
        "0": {"input": {"positive": {"visible": False}, "steps": {"visible": False}}},
        "1": {"output": {"0": {"visible": False}}},
    }
    group = {"nodes": [sampler, decode], "links": [[0, 0, 1, 0, 7, "LATENT"]], "config": config}
    group["config"]["0"]["output"] = {"0": {"visible": True}}
    instance = node("", "model:MODEL latent:LATENT vae:VAE") | {"type": "workflow/G"}
    for slot, each in enumerate(instance["inputs"]):
        each["link"] = slot
    instance["widgets_values"] = [9, "randomize", 30, 7, "heun", "karras", 0.5]
    loader = node("Loader", "", "MODEL VAE LATENT") | {"id": 7}
    after = node("Preview", "a:LATENT b:IMAGE") | {"id": 8}
    after["inputs"][0]["link"], after["inputs"][1]["link"] = 3, None
    ends = [link(0, (7, 0), (5, 0)), link(1, (7, 2), (5, 1)), link(2, (7, 1), (5, 2))]
    graph = opened(group, instance, loader, after, *ends, link(3, (5, 0), (8, 0)))
    assert graph["5:0"]["inputs"] == {
        "seed": 9, "steps": 30, "cfg": 7, "sampler_name": "heun", "scheduler": "karras",
        "denoise": 0.5, "model": ["7", 0], "latent_image": ["7", 2],
    }  # fmt: skip
    assert graph["5:1"]["inputs"] == {"samples": ["5:0", 0], "vae": ["7", 1]}
    assert graph["8"]["inputs"] == {"a": ["5:0", 0]}


def test_a_choice_from_a_list_has_a_filter_and_a_text_has_nothing_behind_it() -> None:
    sampler = node("KSamplerSelect", "sampler_name:COMBO:w", "SAMPLER", widgets_values=["euler"])
    text = node("CLIPTextEncode", "clip:CLIP text:STRING:w", "CONDITIONING", widgets_values=[""])
    group = {
        "nodes": [
            node("PrimitiveNode", "", "COMBO"), sampler, node("PrimitiveNode", "", "STRING"), text,
            node("EmptyLatentImage", "", "LATENT", widgets_values=[64, 64, 1]),
        ],
        "links": [[0, 0, 1, 0, 1, "COMBO"], [2, 0, 3, 1, 2, "STRING"]],
    }  # fmt: skip
    graph = opened(group, {"widgets_values": ["heun", "fixed", "", "a star", 8, 16, 2]})
    assert graph["5:1"]["inputs"] == {"sampler_name": "heun"}
    assert graph["5:3"]["inputs"] == {"text": "a star"}
    assert graph["5:4"]["inputs"] == {"width": 8, "height": 16, "batch_size": 2}


def test_a_group_in_a_group_has_its_part_of_the_values() -> None:
    inner = {"nodes": [node("EmptyLatentImage", "", "LATENT", widgets_values=[64, 64, 1])]}
    within = node("workflow/Inner", "", "LATENT", widgets_values=[64, 64, 1])
    scale = node("LatentUpscaleBy", "samples:LATENT", "LATENT", widgets_values=["area", 1.5])
    outer = {"nodes": [within, scale], "links": [[0, 0, 1, 0, 7, "LATENT"]]}
    instance = {"id": 5, "type": "workflow/Outer", "widgets_values": [8, 16, 2, "bislerp", 2.0]}
    extra = {"groupNodes": {"Inner": inner, "Outer": outer}}
    graph, problems = resolve({"nodes": [instance], "links": [], "extra": extra})
    assert not problems
    assert graph["5:0:0"]["inputs"] == {"width": 8, "height": 16, "batch_size": 2}
    assert graph["5:1"]["inputs"]["scale_by"] == 2.0
    assert graph["5:1"]["inputs"]["samples"] == ["5:0:0", 0]


@pytest.mark.parametrize("strange", [None, 3, "x", [None], [{}], [[0]], {"0": []}])
def test_a_strange_group_is_read_without_an_exception(strange: Any) -> None:
    for name in ("nodes", "links", "external", "config"):
        group = {**PRIMITIVES, name: strange}
        for values in (strange, [1, 2, 3]):
            nodes = [{"id": 5, "type": "workflow/G", "widgets_values": values}]
            resolve({"nodes": nodes, "links": strange, "extra": {"groupNodes": {"G": group}}})
