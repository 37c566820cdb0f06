"""ComfyUI's files: exports a server accepts, round trips, and any file whatever as input."""

import json
import os
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from comfyui_rules import RULES, refusals
from hypothesis import given, settings
from language_toys import KNOWN, STRANGE, mutate, node, random_workflows, txt2img
from PIL import Image
from test_workflow import JSON

from flowdesign import __version__
from flowdesign.comfy import Imported, from_json, from_text, png_info, read_file, read_png
from flowdesign.comfy import to_api as api_of
from flowdesign.comfy import to_ui as ui_of
from flowdesign.comfy.interface import resolve
from flowdesign.comfy.png import MAX_FILE
from flowdesign.nodes import MAX_SEED, NODES
from flowdesign.workflow import Workflow, bind, canonical, nodes_of, validate

SEED = 2**63 + 11
WORKFLOWS = random_workflows(150, seed=11)
BOUND = [bind(workflow, "a red star", SEED + i) for i, workflow in enumerate(WORKFLOWS)]


def plain(api: dict[str, Any]) -> Workflow:
    """An API graph without titles."""
    return {k: {"class_type": n["class_type"], "inputs": n["inputs"]} for k, n in api.items()}


# --- exports -------------------------------------------------------------------------------------


def test_a_server_accepts_the_api_export() -> None:
    for workflow in BOUND:
        api = json.loads(json.dumps(api_of(workflow)))
        assert refusals(api) == []
        assert plain(api) == workflow


def test_the_rules_of_the_tests_do_refuse() -> None:
    for changes in (
        {"steps": 0},
        {"cfg": 4},
        {"steps": 4.0},
        {"scheduler": "x"},
        {"model": ["image", 0]},
    ):
        api = api_of(txt2img(**{f"sampler__{name}": value for name, value in changes.items()}))
        assert refusals(api)


def test_the_interface_export_is_a_whole_graph() -> None:
    for workflow in BOUND[:50]:
        check_interface(json.loads(json.dumps(ui_of(workflow))), workflow)


def check_interface(ui: dict[str, Any], workflow: Workflow) -> None:
    """Ids, links in both directions, and the values by position."""
    by_id = {each["id"]: each for each in ui["nodes"]}
    assert ui["version"] == 0.4
    assert ui["last_node_id"] == max(by_id) and len(by_id) == len(workflow)
    assert ui["last_link_id"] == len(ui["links"])
    for link, origin, slot, target, place, socket in ui["links"]:
        out, into = by_id[origin]["outputs"][slot], by_id[target]["inputs"][place]
        assert link in out["links"] and into["link"] == link
        assert out["type"] == into["type"] == socket
        assert by_id[origin]["pos"][0] < by_id[target]["pos"][0]
    assert sum(len(o["links"]) for n in ui["nodes"] for o in n["outputs"]) == len(ui["links"])
    for each in ui["nodes"]:
        rule = RULES[each["type"]]
        values = [i.name for i in rule.inputs if i.type in ("INT", "FLOAT", "STRING", "COMBO")]
        if each["type"] in ("KSampler", "KSamplerAdvanced"):
            values.insert(1 + next(i for i, v in enumerate(values) if "seed" in v), "control")
        given = dict(zip(values, each["widgets_values"], strict=True))
        assert given.pop("control", "fixed") == "fixed"
        assert given == {k: workflow[str(each["id"])]["inputs"][k] for k in given}
    check_layout(ui)


def check_layout(ui: dict[str, Any]) -> None:
    """No two nodes overlap."""
    boxes = [(*each["pos"], *each["size"]) for each in ui["nodes"]]
    for i, (x, y, wide, high) in enumerate(boxes):
        for x2, y2, wide2, high2 in boxes[:i]:
            assert x + wide <= x2 or x2 + wide2 <= x or y + high <= y2 or y2 + high2 <= y


def test_both_exports_come_back_as_they_were() -> None:
    for index, (unbound, bound) in enumerate(zip(WORKFLOWS, BOUND, strict=True)):
        expected = Imported(unbound, "a red star", SEED + index)
        assert from_json(json.loads(json.dumps(api_of(bound))), KNOWN) == expected
        assert from_json(json.loads(json.dumps(ui_of(bound))), KNOWN) == expected
        assert resolve(ui_of(bound)) == (bound, [])


def test_ids_that_are_no_numbers_are_renumbered_for_the_interface() -> None:
    ui = ui_of(bind(txt2img(), "x", 1))
    assert resolve(ui)[0] == canonical(bind(txt2img(), "x", 1))
    assert from_json(ui, KNOWN) == Imported(canonical(txt2img()), "x", 1)


def test_ids_that_no_browser_can_hold_are_renumbered() -> None:
    for name in ("9" * 16, "9" * 5_000, "007", "\u0663", "-1"):
        text = json.dumps(txt2img()).replace('"loader"', json.dumps(name))
        assert resolve(ui_of(json.loads(text)))[0] == canonical(txt2img())


def test_renumbering_keeps_equal_nodes_apart() -> None:
    """With an empty prompt both texts are empty, and only one of them is the prompt."""
    imported = from_json(ui_of(bind(txt2img(), "", 1)), KNOWN)
    assert imported == Imported(canonical(txt2img()), "", 1)


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "invalid_prompt"),
        ([1, 2], "invalid_prompt"),
        ("text", "invalid_prompt"),
        ({}, "prompt_no_outputs"),
        ({"hello": "world"}, "invalid_prompt"),
        ({"nodes": []}, "prompt_no_outputs"),
        ({"nodes": [1, {"id": 1}, {"id": [], "type": "KSampler"}]}, "invalid_prompt"),
        (txt2img(sampler__latent_image=["sampler", 0]), "dependency_cycle"),
        (txt2img(loader__ckpt_name="sd_xl_base_1.0.safetensors"), "value_not_in_list"),
        (txt2img(loader__ckpt_name="../../etc/passwd"), "value_not_in_list"),
        (txt2img(latent__width=16384, latent__height=16384), "too_many_pixels"),
        (txt2img(latent__width=10**9), "value_bigger_than_max"),
        (txt2img(sampler__seed=-1), "value_smaller_than_min"),
    ],
)
def test_bad_json_is_a_problem(value: object, code: str) -> None:
    imported = from_json(value, KNOWN)
    assert imported.problems[0].code == code
    structural = code in ("invalid_prompt", "prompt_no_outputs", "dependency_cycle")
    assert (imported.workflow is None) == structural
    assert 0 <= imported.seed <= MAX_SEED


def test_text_that_is_no_json_is_a_problem() -> None:
    assert from_text("{'a'", KNOWN).problems[0].code == "invalid_json"
    assert from_text("", KNOWN).problems[0].code == "invalid_json"
    assert from_text("[" * 200_000, KNOWN).problems[0].message == "The JSON is nested too deeply."
    assert from_text("9" * 5_000, KNOWN).problems


@pytest.mark.parametrize(
    "wrap",
    [
        lambda api: {"prompt": api},
        lambda api: {"prompt": api, "client_id": "x"},
        lambda api: {"workflow": api},
        lambda api: {"prompt": "a red star", "seed": 7, "workflow": ui_of(api)},
    ],
)
def test_a_workflow_inside_a_request_or_record_is_found(wrap: Any) -> None:
    imported = from_json(wrap(api_of(bind(txt2img(), "a red star", 7))), KNOWN)
    assert (imported.prompt, imported.seed, imported.problems) == ("a red star", 7, ())
    assert imported.workflow is not None and canonical(imported.workflow) == canonical(txt2img())


def test_nodes_may_have_the_names_of_a_record() -> None:
    for name in ("prompt", "workflow"):
        workflow = txt2img()
        other = "prompt" if name == "prompt" else "loader"
        text = json.dumps(workflow).replace(f'"{other}"', f'"{name}"')
        assert from_text(text, KNOWN).problems == ()


def test_file_names_may_carry_their_suffix() -> None:
    imported = from_json(txt2img(loader__ckpt_name="mini_flat.safetensors"), KNOWN)
    assert imported == Imported(txt2img())


def test_what_is_undeclared_or_unneeded_is_left_out() -> None:
    workflow = txt2img(sampler__extra=1) | {"stray": node("VAEDecode", samples=["nowhere", 0])}
    assert from_json(workflow, KNOWN) == Imported(txt2img())


def test_a_record_with_a_bad_prompt_or_seed_keeps_its_workflow() -> None:
    for record in ({"prompt": 5}, {"seed": "x"}, {"seed": -1}, {"seed": True}, {"seed": 2**64}):
        imported = from_json({"workflow": txt2img(), "prompt": "p", **record}, KNOWN)
        assert imported.workflow == txt2img()
        assert [problem.code for problem in imported.problems] == ["invalid_record"]


def test_import_survives_5_000_mutated_files() -> None:
    rng = random.Random(1)
    originals: list[Any] = [api_of(BOUND[0]), *(ui_of(bound) for bound in BOUND[:30]), txt2img()]
    originals += [{"prompt": "p", "seed": 1, "workflow": WORKFLOWS[1]}, ui_of(BOUND[2])]
    texts, good = [json.dumps(each) for each in originals], 0
    for _ in range(5_000):
        imported = from_json(mutate(rng.choice(texts), rng), KNOWN)
        assert (imported.workflow is not None) or imported.problems
        if not imported.problems:
            assert imported.workflow is not None
            assert validate(imported.workflow, KNOWN) == []
            bound = bind(imported.workflow, imported.prompt, imported.seed)
            good += 1
            if good % 10 == 0:
                assert from_json(ui_of(bound), KNOWN).problems == ()
    assert 300 < good < 4_500
    for strange in STRANGE:
        assert from_json(strange, KNOWN).problems
        assert from_json({"nodes": strange, "links": strange}, KNOWN).problems
        assert from_json({"workflow": strange, "prompt": strange}, KNOWN).problems


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_import_survives_any_json(value: object) -> None:
    assert from_json(value, KNOWN).problems


# --- the interface format ------------------------------------------------------------------------


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
    """Every input of a node hangs on the same 8000 reroutes: followed each time, it took minutes."""
    count = 8_000
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


def test_import_against_real_pairs() -> None:
    """FLOWDESIGN_COMFYUI_EXAMPLES names a folder of X.ui.json files beside their X.api.json."""
    folder = os.environ.get("FLOWDESIGN_COMFYUI_EXAMPLES", "")
    if not folder:
        pytest.skip("FLOWDESIGN_COMFYUI_EXAMPLES names no folder of pairs")
    compared = 0
    for path in sorted(Path(folder).glob("*.ui.json")):
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


# --- PNG -----------------------------------------------------------------------------------------


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
        assert read_png(path, KNOWN) == read_file(path, KNOWN)
        assert read_png(path, KNOWN) == Imported(WORKFLOWS[0], prompt, SEED)


def test_the_chunks_are_comfyuis_and_our_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", WORKFLOWS[3], "a red star", fidelity="exact")
    with Image.open(path) as image:
        chunks = {name: json.loads(text) for name, text in image.info.items()}
    assert set(chunks) == {"prompt", "workflow", "flowdesign"}
    bound = bind(WORKFLOWS[3], "a red star", SEED)
    assert plain(chunks["prompt"]) == bound and refusals(chunks["prompt"]) == []
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
    assert read_png(path, KNOWN) == Imported(txt2img(), "a red star", 7)


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
    "a jpeg": (lambda: b"\xff\xd8\xff\xe0", "not a PNG"),
    "empty": (lambda: b"", "not a PNG"),
    "large": (lambda: png()[:8] + bytes(MAX_FILE), "larger than 20 MB"),
}


@pytest.mark.parametrize("name", list(BAD_PNGS))
def test_a_bad_png_is_a_clear_problem(tmp_path: Path, name: str) -> None:
    make, message = BAD_PNGS[name]
    path = tmp_path / "bad.png"
    path.write_bytes(make())
    imported = read_png(path, KNOWN)
    assert imported.workflow is None
    assert message in imported.problems[0].message
    assert read_file(path, KNOWN).problems


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path, "\0", "x" * 5_000):
        for reader in (read_png, read_file):
            assert reader(path, KNOWN).problems[0].code == "unreadable_file"


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


def test_every_sampler_of_an_export_keeps_its_seed() -> None:
    for bound in BOUND[:20]:
        again = plain(api_of(bound))
        for key in nodes_of(bound, "KSampler"):
            assert again[key]["inputs"]["seed"] >= SEED
