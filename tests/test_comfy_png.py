"""PNG files that carry their workflow: written, read, and every damaged one survived."""

import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from comfyui_rules import refusals
from language_toys import KNOWN, SEED, listed, plain, random_workflows, txt2img
from PIL import Image

from flowdesign import __version__
from flowdesign.comfy import Imported, png_info, read_file, read_graph
from flowdesign.comfy import to_api as api_of
from flowdesign.comfy import to_ui as ui_of
from flowdesign.comfy.png import MAX_FILE
from flowdesign.convert import convert
from flowdesign.designs import restore
from flowdesign.workflow import Workflow, bind, nodes_of, unbind

WORKFLOWS = random_workflows(10, seed=11)
BOUND = [bind(workflow, "a red star", SEED + i) for i, workflow in enumerate(WORKFLOWS)]


def saved(path: Path, workflow: Workflow, prompt: str, **extra: Any) -> Path:
    info = png_info(workflow, prompt, SEED, extra)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    "prompt", ["a red star", "", "crisp, a star", "日本 🦊 \0 \ud800", "x" * 10_000]
)
def test_a_png_restores_prompt_workflow_and_seed(tmp_path: Path, prompt: str) -> None:
    for name, workflow in (("a", WORKFLOWS[0]), ("b", bind(WORKFLOWS[0], prompt, SEED))):
        path = saved(tmp_path / f"{name}.png", workflow, prompt, scores={"strict": 1.0})
        assert read_file(path, KNOWN) == Imported(WORKFLOWS[0], prompt, SEED)


def test_a_png_restores_the_seeds_of_later_passes(tmp_path: Path) -> None:
    workflow = next(each for each in BOUND if len(nodes_of(each, "KSampler")) > 1)
    workflow = json.loads(json.dumps(workflow))
    workflow[nodes_of(workflow, "KSampler")[1]]["inputs"]["seed"] = 4242
    unbound, prompt, seed = unbind(workflow)
    for name, given in (("a", unbound), ("b", workflow)):
        info = png_info(given, prompt, seed)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", pnginfo=info)
        found = read_file(tmp_path / f"{name}.png", KNOWN)
        assert found == Imported(unbound, prompt, seed)
        assert bind(found.workflow or {}, prompt, seed) == workflow


def test_the_chunks_are_comfyuis_and_our_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", WORKFLOWS[3], "a red star", fidelity="exact")
    with Image.open(path) as image:
        chunks = {name: json.loads(text) for name, text in image.info.items()}
    assert set(chunks) == {"prompt", "workflow", "flowdesign"}
    bound = bind(WORKFLOWS[3], "a red star", SEED)
    assert plain(chunks["prompt"]) == listed(bound) and refusals(chunks["prompt"]) == []
    assert chunks["workflow"] == json.loads(json.dumps(ui_of(bound)))
    record = chunks["flowdesign"]
    assert set(record) == {
        "prompt", "seed", "sentence", "workflow", "scores", "fidelity", "renderer", "version",
    }  # fmt: skip
    assert (record["prompt"], record["seed"]) == ("a red star", SEED)
    assert record["workflow"] == WORKFLOWS[3]
    assert record["version"] == __version__
    assert record["sentence"].startswith("<ckpt:") and record["fidelity"] == "exact"


def test_a_workflow_outside_the_language_has_no_sentence(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", txt2img(against__text="bad hands"), "x")
    with Image.open(path) as image:
        assert json.loads(image.info["flowdesign"])["sentence"] == ""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, width: int = 1, height: int = 1) -> bytes:
    """A PNG of one pixel with more chunks."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + chunk(b"IEND", b"")


API = json.dumps(api_of(bind(txt2img(), "a red star", 7))).encode()


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"tEXt", b"prompt\0" + API),
        chunk(b"zTXt", b"prompt\0\0" + zlib.compress(API)),
        chunk(b"iTXt", b"prompt\0\0\0en\0\0" + API),
        chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(API)),
        chunk(b"tEXt", b"flowdesign\0{") + chunk(b"tEXt", b"prompt\0" + API),
        chunk(b"tEXt", b"Comment\0hello") + chunk(b"tEXt", b"prompt\0" + API),
    ],
)
def test_every_kind_of_text_chunk_is_read(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(text))
    assert read_file(path, KNOWN) == Imported(txt2img(), "a red star", 7)


def bomb(kind: bytes, head: bytes) -> bytes:
    """A chunk that inflates to 64 MB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    return chunk(kind, head + packed)


BAD_PNGS = {
    "zip bomb": (lambda: png(bomb(b"zTXt", b"prompt\0\0")), "larger than 4 MB"),
    "international bomb": (lambda: png(bomb(b"iTXt", b"workflow\0\1\0\0\0")), "larger than 4 MB"),
    "long text": (lambda: png(chunk(b"tEXt", b"prompt\0" + b"x" * 5 * 2**20)), "larger than 4 MB"),
    "long plain": (lambda: png(chunk(b"iTXt", b"prompt\0\0\0\0\0" + b"x" * 5 * 2**20)), "larger"),
    "damaged": (lambda: png(chunk(b"zTXt", b"prompt\0\0nonsense")), "damaged"),
    "wide": (lambda: png(width=60_000, height=60_000), "claims 60000x60000 pixels"),
    "many chunks": (lambda: png(*[chunk(b"tIME", b"")] * 10_001), "more than 10000 chunks"),
    "no text": (lambda: png(), "carries no workflow"),
    "cut short": (lambda: png()[:30], "carries no workflow"),
    "only a signature": (lambda: png()[:8], "carries no workflow"),
    "other text": (lambda: png(chunk(b"tEXt", b"prompt\0hello")), "not JSON"),
    "no keyword": (lambda: png(chunk(b"tEXt", b"prompt"), chunk(b"iTXt", b"prompt\0")), "not JSON"),
    "long together": (
        lambda: png(
            *[chunk(b"tEXt", b"%s\0" % k + b"x" * 3 * 2**20) for k in (b"prompt", b"workflow")]
        ),
        "more than 4 MB of text",
    ),
    "settings": (lambda: png(chunk(b"tEXt", b"parameters\0a cat")), "settings of another program"),
    "a jpeg": (lambda: b"\xff\xd8\xff\xe0", "This is a JPEG image"),
    "a webp": (lambda: b"RIFF\0\0\0\0WEBP", "This is a WebP image"),
    "no text at all": (
        lambda: b"\x80abc",
        "neither a PNG nor a JSON file. Give the PNG as ComfyUI",
    ),
    "many lists": (
        lambda: b"[" + b"[]," * 200_000 + b"1]",
        "has 200001 lists and objects; at most",
    ),
    "long json": (lambda: b'{"a": "' + b"x" * 2**22 + b'"}', "more than 4 MB of text"),
    "empty": (lambda: b"", "not JSON"),
    "large": (lambda: png()[:8] + bytes(MAX_FILE), "larger than 20 MB"),
}


@pytest.mark.parametrize("name", list(BAD_PNGS))
def test_a_bad_png_is_a_clear_problem(tmp_path: Path, name: str) -> None:
    make, message = BAD_PNGS[name]
    path = tmp_path / "bad.png"
    path.write_bytes(make())
    imported, (graph, problems) = read_file(path, KNOWN), read_graph(path)
    assert imported.workflow is None and not imported.graph and graph == {}
    assert message in imported.problems[0].message and message in problems[0].message


def test_a_chunk_that_is_no_workflow_is_passed_over(tmp_path: Path) -> None:
    """Other programs keep a prompt in words where ComfyUI keeps what was executed."""
    path = tmp_path / "a.png"
    workflow = json.dumps(ui_of(BOUND[0])).encode()
    path.write_bytes(
        png(chunk(b"tEXt", b"prompt\0a cat"), chunk(b"tEXt", b"workflow\0" + workflow))
    )
    graph, problems = read_graph(path)
    assert read_file(path, KNOWN).workflow == WORKFLOWS[0]
    assert len(graph) == len(BOUND[0]) and not problems
    for form, told in (
        ("api", set()),
        ("ui", {"value_moved"}),
    ):  # the seed is one that a browser rounds
        found = convert(path, form, KNOWN)
        assert found.text and {each.code for each in found.problems} == told
    refused = ui_of(BOUND[0])
    refused["nodes"].append({"id": 900, "type": "SomebodysNode"})
    workflow = json.dumps(refused).encode()
    path.write_bytes(
        png(chunk(b"tEXt", b"prompt\0a cat"), chunk(b"tEXt", b"workflow\0" + workflow))
    )
    lines = convert(path, "report", KNOWN).text.splitlines()
    assert lines[0].startswith(f"{len(BOUND[0]) + 1} nodes of ")
    assert lines[-2] == "It cannot be rendered here:" and "SomebodysNode" in lines[-1]


def test_what_is_refused_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several chunks without a workflow, the first with nodes says what is wrong with them."""
    path = tmp_path / "a.png"
    api = json.dumps({"1": {"class_type": "SomebodysNode", "inputs": {}}}).encode()
    path.write_bytes(png(chunk(b"tEXt", b"flowdesign\0{}"), chunk(b"tEXt", b"prompt\0" + api)))
    found = read_file(path, KNOWN)
    assert found.graph == json.loads(api) and "SomebodysNode" in found.problems[0].message
    read = []
    monkeypatch.setattr("flowdesign.comfy.png._bytes", lambda path: read.append(path) or data)
    data = path.read_bytes()
    restored = restore(path, KNOWN)
    assert restored.nodes == found.graph and restored.problems == found.problems
    assert read == [path], "a file is read once"


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path, "\0", "x" * 5_000):
        assert read_file(path, KNOWN).problems[0].code == "unreadable_file"


def test_mutated_pngs_never_raise(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.png", WORKFLOWS[5], "a red star").read_bytes()
    rng, path = random.Random(0), tmp_path / "b.png"
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken[: rng.randint(0, 2 * len(broken))])
        imported = read_file(path, KNOWN)
        assert imported.workflow is not None or imported.problems


def test_json_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_bytes(b"\xef\xbb\xbf" + API)
    assert read_file(path, KNOWN) == Imported(txt2img(), "a red star", 7)
    path.write_text(json.dumps(ui_of(BOUND[0])), encoding="utf-8")
    assert read_file(path, KNOWN).workflow == WORKFLOWS[0]


def test_what_a_server_noted_on_a_node_is_no_part_of_it(tmp_path: Path) -> None:
    """ComfyUI writes NaN there, which no browser reads."""
    graph = api_of(BOUND[0])
    noted = {key: {**node, "is_changed": [float("nan")]} for key, node in graph.items()}
    (tmp_path / "a.json").write_text(json.dumps(noted), encoding="utf-8")
    made = convert(tmp_path / "a.json", "api", KNOWN)
    assert "NaN" not in made.text and json.loads(made.text) == graph and not made.problems


def test_texts_of_other_programs_may_be_utf_8(tmp_path: Path) -> None:
    text = json.dumps(api_of(bind(WORKFLOWS[0], "ein grüner Stern ★", SEED)), ensure_ascii=False)
    for raw, prompt in (
        (text.encode(), "ein grüner Stern ★"),
        (text.replace("★", "").encode("latin-1"), "ein grüner Stern "),
    ):
        for kind, body in ((b"tEXt", raw), (b"zTXt", b"\0" + zlib.compress(raw))):
            data = chunk(kind, b"prompt\0" + body)
            (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
            assert read_file(tmp_path / "a.png", KNOWN).prompt == prompt
