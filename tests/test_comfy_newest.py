"""The newest form of ComfyUI's interface files: values are named, and only inputs that are linked are listed."""

from typing import Any

import pytest
from test_comfy_templates import templates

from flowdesign.comfy.interface import resolve
from flowdesign.comfy.scopes import Scope, open_file
from flowdesign.comfy.widgets import is_known, is_named, named_values, values_of

OWN = {"width": 512, "height": 640, "batch_size": 2}
ENDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
NAMES = ("width", "size", "batch_size")  # of the subgraph's inputs


def inside(kind: str = "EmptyLatentImage") -> dict[str, Any]:
    """A subgraph with one node, node 3: each of its inputs is a widget of that node."""
    inputs = [
        {"name": name, "type": "INT", "link": at, "widget": {"name": name}}
        for at, name in enumerate(OWN)
    ]
    inner = {"id": 3, "type": kind, "widgets_values": [*OWN.values()], "inputs": inputs}
    return {
        "id": "s", "nodes": [inner], "inputs": [{"name": name} for name in NAMES],
        "links": [dict(zip(ENDS, (at, -10, at, 3, at), strict=True)) for at in range(3)],
    }  # fmt: skip


def found(instance: dict[str, Any], *definitions: dict[str, Any]) -> dict[str, Any]:
    """The inputs of the one node that is left of a file with an instance and a node that gives a number."""
    nodes = [{"id": 1, "type": "s"} | instance, {"id": 2, "type": "Number"}]
    value = {"nodes": nodes, "links": [[7, 2, 0, 1, 0, "INT"]]}
    graph, problems = resolve(value | {"definitions": {"subgraphs": list(definitions)}})
    assert not problems
    (key,) = graph.keys() - {"2"}
    return dict(graph[key]["inputs"])


def listed(name: str, link: int | None = None) -> dict[str, Any]:
    return {"name": name, "type": "INT", "link": link, "widget": {"name": name}}


@pytest.mark.parametrize("inputs", [[], [listed("batch_size")], [*map(listed, NAMES)]])
def test_values_of_an_instance_are_in_the_order_of_its_subgraph(inputs: list[Any]) -> None:
    """In a PNG an instance lists the inputs that are linked, and those with a label of their own."""
    expected = {"width": 64, "height": 96, "batch_size": 4}
    assert found({"inputs": inputs, "widgets_values": [64, 96, 4]}, inside()) == expected


def test_an_input_with_a_link_has_a_value_too() -> None:
    instance = {"inputs": [listed("size", 7)], "widgets_values": [64, 96, 4]}
    assert found(instance, inside()) == {"width": 64, "height": ["2", 0], "batch_size": 4}


def test_an_instance_names_its_values() -> None:
    named = {"batch_size": 4, "width": 64}
    expected = {"width": 64, "height": 640, "batch_size": 4}
    assert found({"widgets_values_named": named}, inside()) == expected
    instance = {"widgets_values_named": named, "widgets_values": [8, 128]}
    assert found(instance, inside()) == {"width": 128, "height": 640, "batch_size": 8}


def test_a_promoted_widget_may_be_two_subgraphs_down() -> None:
    outer = {"id": "outer", "nodes": [{"id": 5, "type": "s", "inputs": []}], "links": []}
    pairs = [["5", "width", "3"], ["5", "width", "4"], ["5", "height", "3"]]
    instance = {
        "type": "outer", "properties": {"proxyWidgets": pairs}, "widgets_values": [64, 72, 96],
    }  # fmt: skip
    assert found(instance, outer, inside()) == {"width": 64, "height": 96, "batch_size": 2}


def test_a_subgraph_may_be_defined_within_another() -> None:
    outer = {
        "id": "outer", "nodes": [{"id": 5, "type": "s", "widgets_values": [64, 96, 4]}], "links": [],
        "definitions": {"subgraphs": [inside()]},
    }  # fmt: skip
    assert found({"type": "outer"}, outer) == {"width": 64, "height": 96, "batch_size": 4}


def test_a_node_names_its_values() -> None:
    node = {
        "id": 1, "type": "Nobody's",
        "widgets_values": ["a", 512, 5, "fixed", "fixed", 2],
        "widgets_values_named": {
            "mode": "a", "mode.width": 512, "seed": 4, "control_after_generate": "fixed",
            "fixed": "fixed", "count": 2,
        },
    }  # fmt: skip
    graph, problems = resolve({"nodes": [node], "links": []}, names=True)
    expected = {"mode": "a", "mode.width": 512, "seed": 5, "count": 2}
    assert graph["1"]["inputs"] == expected and not problems


def test_a_known_class_knows_what_is_where_if_names_and_values_do_not_fit() -> None:
    node = {
        "id": 1, "type": "LoadImage", "widgets_values": ["a.png", "image"],
        "widgets_values_named": {"image": "a.png", "upload": "image"},
    }  # fmt: skip
    assert resolve({"nodes": [node], "links": []})[0]["1"]["inputs"] == {"image": "a.png"}
    node["widgets_values"] = ["b.png", None, None]
    assert resolve({"nodes": [node], "links": []})[0]["1"]["inputs"] == {"image": "b.png"}


@pytest.mark.parametrize(
    ("names", "values", "expected"),
    [
        (["a", "b"], [1, 2], {"a": 1, "b": 2}),
        (
            ["a", "b"],
            [1, 2, "image", None],
            {"a": 1, "b": 2},
        ),  # what stands at the end is a button's
        (["texture_seed", "b"], [1, "randomize", True], {"texture_seed": 1, "b": True}),
        (["seed", "b"], [1, True], {"seed": 1, "b": True}),
        (["a", "b"], [1, 2, 3], None),
        ([], [1], None),
    ],
)
def test_values_are_named_only_if_all_are(names: Any, values: Any, expected: Any) -> None:
    """A file lists all widgets of a node, or those that became inputs: then the others have no names."""
    node = {
        "id": 1, "type": "Nobody's", "widgets_values": values, "inputs": [*map(listed, names)],
    }  # fmt: skip
    graph, problems = resolve({"nodes": [node], "links": []}, names=True)
    assert graph["1"]["inputs"] == (expected or {})
    assert [each.code for each in problems] == ["unnamed_values"] * (expected is None)


def test_older_and_newer_files_of_a_class_that_grew() -> None:
    for values in ([0.5], [0.5, True]):
        node = {"id": 1, "type": "CFGNorm", "widgets_values": values}
        found = resolve({"nodes": [node], "links": []})[0]["1"]["inputs"]
        assert (
            list(found.values()) == values and list(found) == ["strength", "pre_cfg"][: len(values)]
        )


def test_a_list_that_is_a_value_is_no_link() -> None:
    """The API format wraps it; a server takes a bare one for a link and refuses the workflow."""
    node = {
        "id": 1, "type": "Colours", "widgets_values": [["1", 0], "x"],
        "inputs": [listed("colours"), listed("text")],
    }  # fmt: skip
    graph, _ = resolve({"nodes": [node], "links": []})
    assert graph["1"]["inputs"] == {"colours": {"__value__": ["1", 0]}, "text": "x"}


def test_every_named_value_of_the_templates_arrives() -> None:
    """By place, without the names, they come to the same."""
    count = 0
    for name, value in templates():
        opened = instances(open_file(value, []))
        for instance, given in opened:
            said = named_values(instance)
            if said is not None:
                assert given == {each: v for each, v in said.items() if v is not None}, name
                count += 1
        for graph in (value, *(value.get("definitions") or {}).get("subgraphs", [])):
            for node in graph["nodes"]:
                node.pop("widgets_values_named", None)
        by_place = instances(open_file(value, []))
        assert [given for _, given in by_place] == [given for _, given in opened], name
    assert count > 50


def instances(scope: Scope) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The subgraph nodes of a file with the values of their own widgets."""
    among = [(dict(each.instance), dict(each.given)) for each in scope.inside.values()]
    return among + [found for each in scope.inside.values() for found in instances(each)]


def test_the_names_that_files_give_are_those_that_are_known_here() -> None:
    """Of every class that is known, by place and by name; a widget that only shows something may be listed."""
    count = 0
    for name, value in templates():
        for graph in (value, *(value.get("definitions") or {}).get("subgraphs", [])):
            for node in graph["nodes"]:
                plain = {k: v for k, v in node.items() if k != "widgets_values_named"}
                if named_values(node) is None or not is_known(plain) or is_named(plain) is False:
                    continue
                if node["type"] in (
                    "LoadAudio",
                    "SaveAudioAdvanced",
                ):  # lists, or misnames, its player's
                    continue
                assert values_of(node) == values_of(plain), (name, node["type"])
                count += 1
    assert count > 1_500
