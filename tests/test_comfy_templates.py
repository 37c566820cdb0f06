"""ComfyUI's own templates, of many kinds and years: every one is read, with a report of what is in it."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowdesign.catalog import known_assets
from flowdesign.comfy import from_json
from flowdesign.comfy.interface import VIRTUAL, is_interface, resolve
from flowdesign.workflow import MAX_NODES

KNOWN = known_assets()


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    """The interface files of the package `comfyui-workflow-templates-json`."""
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    assert spec is not None and spec.submodule_search_locations
    for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and is_interface(value):
            yield path.stem, value


def test_every_template_is_read_with_a_report() -> None:
    read = 0
    for name, value in templates():
        graph, problems = resolve(value)
        imported = from_json(value, KNOWN)
        assert not problems, (name, problems[:2])
        assert imported.workflow is not None or imported.problems, name
        assert not {each["class_type"] for each in graph.values()} & VIRTUAL, name
        assert len(graph) <= MAX_NODES
        read += 1
    assert read >= 640


def test_links_lead_to_nodes_that_are_there() -> None:
    """What a link leads to is in the graph, whatever subgraphs, bypasses and reroutes are between."""
    links = 0
    for name, value in templates():
        graph, _ = resolve(value)
        for key, node in graph.items():
            for inner in node["inputs"].values():
                if isinstance(inner, list) and len(inner) == 2 and isinstance(inner[0], str):
                    links += 1
                    known = inner[0] in graph or not inner[0].replace(":", "").isdigit()
                    assert known, (name, key, inner)
    assert links > 5_000


@pytest.mark.parametrize("keyword", ["subgraphs", "proxyWidgets"])
def test_the_templates_have_what_is_hard(keyword: str) -> None:
    assert sum(keyword in json.dumps(value) for _, value in templates()) > 50
