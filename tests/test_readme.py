"""The README is true: its tree is the package, and its commands exist."""

import re

from readme_tree import BLOCK, README, tree

from flowdesign.__main__ import parser

TEXT = README.read_text(encoding="utf-8")


def test_the_file_tree_is_current() -> None:
    found = BLOCK.search(TEXT)
    assert found is not None
    assert found[1] == tree(), "rewrite it with: python tests/readme_tree.py"


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"python -m flowdesign (\w+)", TEXT))
    known = re.findall(r"^    (\w+)(?:  |$)", parser().format_help(), re.MULTILINE)
    assert named <= set(known), sorted(named - set(known))
    assert {"design", "render", "validate", "zoo", "sft", "collect"} <= named


def test_every_picture_and_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
