"""Node declarations, against the rules that a ComfyUI server has."""

import json

import pytest
from comfyui_rules import RULES
from corpus import corpus

from flowdesign.catalog import KINDS
from flowdesign.nodes import NODE_TYPES, NODES, SOCKETS, WIDGETS, NodeType


def test_declarations_are_consistent() -> None:
    assert len(NODES) == len(NODE_TYPES)
    for declared in NODE_TYPES:
        assert declared.tooltip and declared.category
        assert declared.is_output == (not declared.outputs)
        assert all(socket in SOCKETS for socket in declared.outputs)
        assert len({each.name for each in declared.inputs}) == len(declared.inputs)


@pytest.mark.parametrize("declared", NODE_TYPES, ids=lambda each: each.class_type)
def test_inputs_are_consistent(declared: NodeType) -> None:
    for each in declared.inputs:
        assert each.type in (*SOCKETS, *WIDGETS)
        if each.type in ("INT", "FLOAT"):
            assert each.min is not None and each.max is not None
            assert each.min <= each.default <= each.max
            assert all(each.min <= value <= each.max for value in each.bins)
            assert all(
                type(value) is {"INT": int, "FLOAT": float}[each.type] for value in each.bins
            )
        if each.type == "COMBO":
            assert bool(each.options) != (each.kind in KINDS)
            assert set(each.bins) <= set(each.options)
        for preset in declared.presets.values():
            assert set(preset) == {each.name for each in declared.widgets}


@pytest.mark.parametrize("declared", NODE_TYPES, ids=lambda each: each.class_type)
def test_declarations_are_those_of_comfyui(declared: NodeType) -> None:
    rule = RULES[declared.class_type]
    assert [each.name for each in declared.inputs] == [each.name for each in rule.inputs]
    assert declared.outputs == rule.outputs
    for ours, theirs in zip(declared.inputs, rule.inputs, strict=True):
        assert ours.type == theirs.type
        assert ours.required != theirs.optional
        assert (ours.min, ours.max) == (theirs.low, theirs.high)
        assert set(ours.options) <= set(theirs.options)
        assert ours.control == (ours.name in ("seed", "noise_seed"))


@pytest.mark.slow
def test_every_node_is_rendered() -> None:
    from flowdesign.render import OPERATIONS

    assert set(OPERATIONS) == set(NODES)


def test_an_unknown_input_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="KSampler has no input 'stepz'"):
        NODES["KSampler"].input("stepz")


def test_declarations_against_a_schema_file() -> None:
    """The schemas of a real ComfyUI, {"nodes": {class: {"inputs": [...]}}}, where there are some."""
    schemas = json.loads(corpus("node_schemas.json").read_text("utf-8"))["nodes"]
    assert set(NODES) <= set(schemas)
    for class_type, schema in schemas.items():
        declared = NODES.get(class_type)
        if declared is None:
            continue
        assert [o["type"] for o in schema["outputs"]] == list(declared.outputs)
        assert schema.get("output_node", False) == declared.is_output
        assert [i["name"] for i in schema["inputs"]] == [i.name for i in declared.inputs]
        for theirs, ours in zip(schema["inputs"], declared.inputs, strict=True):
            assert theirs["type"] == ours.type
            assert (theirs.get("min"), theirs.get("max")) == (ours.min, ours.max)
            assert theirs.get("control_after_generate", False) == ours.control
            assert set(ours.options) <= set(theirs.get("options", ()))
            if "default" in theirs:
                assert theirs["default"] == ours.default
