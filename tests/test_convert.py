"""Workflows from one form to another, by the command line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from language_toys import KNOWN, txt2img
from PIL import Image
from toys import every_model

from flowdesign import __main__, comfy
from flowdesign import convert as conversion
from flowdesign.comfy import from_json, png_info, to_api, to_ui
from flowdesign.convert import convert
from flowdesign.tokens import encode, parse_sentence
from flowdesign.workflow import bind, canonical

BOUND = canonical(bind(txt2img(), "a red star", 7))


@pytest.fixture(params=["api", "ui", "png"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The smallest workflow in each of the forms in which it comes."""
    if request.param == "png":
        path = tmp_path / "image.png"
        Image.new("RGB", (8, 8)).save(path, pnginfo=png_info(canonical(txt2img()), "a red star", 7))
        return path
    path = tmp_path / f"{request.param}.json"
    path.write_text(json.dumps({"api": to_api, "ui": to_ui}[request.param](BOUND)))
    return path


def plain(graph: dict[str, Any]) -> dict[str, Any]:
    return {k: {n: v for n, v in each.items() if n != "_meta"} for k, each in graph.items()}


def test_every_form_leads_to_every_other(file: Path) -> None:
    api = convert(file, "api", KNOWN)
    assert plain(json.loads(api.text)) == plain(to_api(BOUND)) and not api.problems
    ui = convert(file, "ui", KNOWN)
    assert from_json(json.loads(ui.text), KNOWN) == comfy.read_file(file, KNOWN)
    assert not ui.problems
    sentence = convert(file, "sentence", KNOWN)
    assert parse_sentence(sentence.text) == encode(BOUND).tokens and not sentence.problems


def test_from_the_interface_and_back_changes_nothing(tmp_path: Path) -> None:
    path, value = tmp_path / "a.json", to_ui(BOUND)
    for form in ("api", "ui", "api", "ui"):
        path.write_text(json.dumps(value))
        value = json.loads(convert(path, form, KNOWN).text)
    assert value == to_ui(BOUND)


@pytest.mark.parametrize("form", ["api", "ui", "sentence", "diffusers", "report"])
def test_half_a_letter_is_no_fault(tmp_path: Path, form: str) -> None:
    """JSON may hold half of a surrogate pair, as where a text was cut; nobody can print that."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(to_api(canonical(bind(txt2img(), "a red \ud83e", 7)))))
    assert convert(path, form, KNOWN).text.encode()


@pytest.mark.parametrize(
    "nodes", [[], [{"id": 1, "type": "Note"}], [{"id": 1, "type": "A", "mode": 2}]]
)
def test_a_file_in_which_nothing_runs_is_told(tmp_path: Path, nodes: list[Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"nodes": nodes}))
    made = convert(path, "api", KNOWN)
    assert not made.text and [each.code for each in made.problems] == ["prompt_no_outputs"]


def test_what_is_lost_is_told_and_the_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ui = to_ui(BOUND)
    node = {
        "id": 90,
        "type": "SomebodysNode",
        "widgets_values": [1, 2],
        "inputs": [],
        "outputs": [],
    }
    ui["nodes"].append(node)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ui))
    assert __main__.main(["convert", str(path), "--to", "api"]) == 1
    said = capsys.readouterr()
    assert "90" in json.loads(said.out) and "SomebodysNode" in said.err
    ui["nodes"][-1]["inputs"] = [{"name": name, "widget": {"name": name}} for name in ("a", "b")]
    path.write_text(json.dumps(ui))
    assert __main__.main(["convert", str(path), "--to", "api"]) == 0
    assert json.loads(capsys.readouterr().out)["90"]["inputs"] == {"a": 1, "b": 2}
    assert __main__.main(["convert", str(path), "--to", "sentence"]) == 1
    said = capsys.readouterr()
    assert not said.out and "Unknown node type 'SomebodysNode'" in said.err


def broken(kind: str) -> dict[str, Any]:
    """The smallest workflow in the editor's format, with one link that leads nowhere."""
    ui = to_ui(BOUND)
    sampler = next(each for each in ui["nodes"] if each["type"] == "KSampler")
    (slot,) = [each for each in sampler["inputs"] if each["name"] == "latent_image"]
    link = next(each for each in ui["links"] if each[0] == slot["link"])
    if kind == "link":
        slot["link"] = 77
    elif kind == "node":
        link[1] = 88
    else:
        link[1] = 90
        getter = {"id": 90, "type": "GetNode", "widgets_values": ["the latent"], "outputs": []}
        ui["nodes"].append(getter)
    return ui


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("link", "the file has no link 77."),
        ("node", "the file has no node '88'."),
        ("name", "nothing is set under the name 'the latent'."),
    ],
)
def test_a_link_that_leads_nowhere_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, why: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(broken(kind)))
    assert __main__.main(["convert", str(path), "--to", "api"]) == 1
    said = capsys.readouterr()
    assert "KSampler" in said.out and f"What is linked to 'latent_image' is lost: {why}" in said.err


def test_nodes_that_no_output_needs_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decode = next(key for key in BOUND if BOUND[key]["class_type"] == "VAEDecode")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(to_api(BOUND | {"90": BOUND[decode]})))
    assert __main__.main(["convert", str(path), "--to", "ui"]) == 1
    said = capsys.readouterr()
    assert len(json.loads(said.out)["nodes"]) == len(BOUND)
    assert said.err == "not_needed 90: The node 'VAEDecode' is left out: no output needs it.\n"


def test_values_between_two_words_are_told(tmp_path: Path) -> None:
    graph = to_api(canonical(bind(txt2img(sampler__steps=9), "a red star", 7)))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(graph))
    found = convert(path, "sentence", KNOWN)
    assert found.text and found.problems and "9" in found.problems[0].message


def test_a_report_says_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = to_api(BOUND) | {
        "80": {"class_type": "ControlNetLoader", "inputs": {}},
        "81": {"class_type": "SomebodysNode", "inputs": {}},
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(graph))
    text = convert(path, "report", KNOWN).text
    assert "9 nodes of 8 classes" in text
    assert "1 of ComfyUI that it does not render: ControlNetLoader" in text
    assert "1 of nobody that it knows: SomebodysNode" in text and "cannot be rendered here" in text


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\x89PNG\r\n\x1a\n", b'{"1": {}}'])
@pytest.mark.parametrize("form", conversion.FORMS)
def test_what_is_no_workflow_is_told(tmp_path: Path, content: bytes, form: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    found = convert(path, form, KNOWN)
    assert found.problems and (form == "report") == bool(found.text)


def test_a_missing_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["convert", "none.json", "--to", "api"]) == 2
    assert "There is no file none.json" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["api", "ui", "sentence", "diffusers", "report"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_may_lack_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, encoding: str
) -> None:
    path, prompt = tmp_path / "é.json", "a rosé star ☆ \U0001f600"
    monkeypatch.setenv("FLOWDESIGN_MODELS", str(every_model(tmp_path / "models")))
    path.write_text(json.dumps(to_api(canonical(bind(txt2img(), prompt, 7)))))
    printed = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", printed)
    __main__.main(["convert", str(path), "--to", form])
    __main__.main(["validate", str(path), "--json"])
    __main__.main(["validate", str(tmp_path / "é.txt")])
    printed.flush()
    found = printed.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]
    assert form != "diffusers" or prompt.encode("ascii", "backslashreplace").decode() in found


def test_a_report_names_the_dates_that_only_a_browser_writes(tmp_path: Path) -> None:
    path, bound = tmp_path / "a.json", to_ui(BOUND)
    saver = next(each for each in bound["nodes"] if each["type"] == "SaveImage")
    saver["widgets_values"] = ["%date:yyyy-MM-dd%/%KSampler.seed%"]
    path.write_text(json.dumps(bound))
    report = convert(path, "report", KNOWN)
    assert "'%date:yyyy-MM-dd%' stays as it is" in report.text and not report.problems
    assert '"%date:yyyy-MM-dd%/7"' in convert(path, "api", KNOWN).text


def test_seeds_that_a_browser_rounds_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for seed, told in ((2**53, []), (2**64 - 1, ["18446744073709552000"])):
        path.write_text(json.dumps(to_api(canonical(bind(txt2img(), "a red star", seed)))))
        found = convert(path, "ui", KNOWN)
        assert str(seed) in found.text and len(found.problems) == len(told)
        assert all(each in found.problems[0].message for each in told)
        assert not convert(path, "api", KNOWN).problems
