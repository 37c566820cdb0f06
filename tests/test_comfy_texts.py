"""What ComfyUI's browser side takes out of texts before it sends them."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_toys import KNOWN, txt2img

from flowdesign.comfy import from_json, to_api, to_ui
from flowdesign.comfy.interface import resolve
from flowdesign.comfy.texts import as_sent, as_written
from flowdesign.workflow import MAX_TEXT, bind, canonical


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("a red star", "a red star"),
        ("a star // red\nin the sky", "a star \nin the sky"),
        ("a /* red\nor blue */star, /* big", "a star, /* big"),
        ("/* /* // red", "/* /* "),
        ("a // b /* c\nd */ e", "a \nd */ e"),
        ('{"a": {"b": 1}}', '"a": "b": 1'),
        (r"a \{red\} (star:1.2) \(moon\)", r"a {red} (star:1.2) \(moon\)"),
        ("a {red|blue} star {x} // by chance", "a {red|blue} star {x} "),
        ("a | b } c", "a | b } c"),
        ("ends in \\", "ends in \\"),
        ("{open", "open"),
        ("a {style} {prompt} // b", "a style {prompt} "),
        (7, 7),
    ],
)
def test_comments_and_braces_are_taken_out(written: Any, sent: Any) -> None:
    assert as_sent(written, "CLIPTextEncode") == sent
    for other in ("PrimitiveStringMultiline", "TextEncoderOfNobody"):
        assert as_sent(written, other) == written


@given(st.text("ab{}|\n/* ()"))
def test_what_is_written_is_sent(text: str) -> None:
    assert as_sent(as_written(text, "CLIPTextEncode"), "CLIPTextEncode") == text


def test_a_prompt_with_braces_comes_back_from_the_editor() -> None:
    for prompt in (
        "a {red|blue} star",
        "see http://a.b/c*d /* e",
        '{"style": "flat"}',
        r"a \(red\) star",
        r"\\{x}",
    ):
        bound = canonical(bind(txt2img(), prompt, 7))
        assert from_json(to_ui(bound), KNOWN).prompt == prompt
    assert resolve(to_ui(canonical(txt2img())))[0] == canonical(txt2img())


@pytest.mark.parametrize("part", ["/*", "//\n", "{", "\\", "/*/", "{|", "\\{"])
def test_long_texts_cost_their_length(part: str) -> None:
    """Many of the longest that are read; one that is longer stays as it is, for it is refused."""
    started = time.process_time()
    for at in range(100):
        as_sent(f"{at}{part * (MAX_TEXT // len(part) - 3)}", "CLIPTextEncode")
    assert time.process_time() - started < 2
    long = "{" * (4 * MAX_TEXT + 1)
    assert as_sent(long, "CLIPTextEncode") == long


def test_only_files_of_the_editor_have_comments() -> None:
    bound = canonical(bind(txt2img(), "a red star // big", 7))
    ui = to_ui(bound)
    ui["nodes"][1]["widgets_values"] = ["a red star // big"]
    assert from_json(ui, KNOWN).prompt == "a red star "
    assert from_json(to_api(bound), KNOWN).prompt == "a red star // big"
