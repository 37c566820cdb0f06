"""ComfyUI's output folders as records: known workflows, foreign ones, batches and what is no image."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from language_toys import SEED, plain, random_workflows, txt2img
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flowdesign import comfy
from flowdesign.records import Filter, RecordsError, Store, sha_of
from flowdesign.records.exchange import export, import_records
from flowdesign.records.history import import_history
from flowdesign.workflow import bind

WORKFLOWS = random_workflows(4, seed=5)


def save(path: Path, colour: int = 0, **chunks: Any) -> bytes:
    """A PNG with text chunks, as ComfyUI saves it."""
    info = PngInfo()
    for name, value in chunks.items():
        info.add_text(name, value if isinstance(value, str) else json.dumps(value))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path, pnginfo=info)
    return path.read_bytes()


def from_comfyui(number: int, prompt: str, seed: int) -> dict[str, Any]:
    """The chunks that a ComfyUI writes: no word of FlowDesign."""
    bound = bind(WORKFLOWS[number], prompt, seed)
    return {"prompt": comfy.to_api(bound), "workflow": comfy.to_ui(bound)}


def foreign(prompt: str = "a fox, 日本", seed: int = 42, second: int = 7) -> dict[str, Any]:
    """A graph of nodes that FlowDesign does not know, wired as people wire them."""
    return {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux.safetensors"}},
        "2": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "a", "clip_name2": "b"}},
        "3": {"class_type": "Text Multiline", "inputs": {"text": prompt}},
        "4": {"class_type": "Text Join", "inputs": {"delimiter": "", "text": ["3", 0]}},
        "5": {"class_type": "CLIPTextEncodeFlux", "inputs": {"clip": ["2", 0], "t5xxl": ["4", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 0], "text": "bad hands"}},
        "7": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["5", 0], "guidance": 3.5}},
        "8": {"class_type": "Seed (rgthree)", "inputs": {"seed": seed}},
        "9": {
            "class_type": "KSampler Special",
            "inputs": {"model": ["1", 0], "positive": ["7", 0], "negative": ["6", 0],
                       "seed": ["8", 0], "steps": 20, "cfg": 1.0, "sampler_name": "deis",
                       "scheduler": "beta57"},
            "is_changed": [math.nan],
        },
        "10": {"class_type": "Detailer", "inputs": {"image": ["9", 0], "seed": second}},
    }  # fmt: skip


def test_what_comfyui_saved_becomes_records(tmp_path: Path) -> None:
    output = tmp_path / "output"
    data = [
        save(output / "2026-01" / f"ComfyUI_{n}_.png", n, **from_comfyui(n, f"a red star {n}", SEED + n))
        for n in range(4)
    ]  # fmt: skip
    os.utime(output / "2026-01" / "ComfyUI_0_.png", (1_700_000_000, 1_700_000_000))
    with Store.open(tmp_path / "data") as store:
        done = import_history(store, [output])
        assert (done.files, done.records, done.new, done.foreign, done.skipped) == (4, 4, 4, 0, {})
        for number, record in enumerate(store.stream()):
            assert record.workflow == WORKFLOWS[number]
            assert (record.prompt, record.seed) == (f"a red star {number}", SEED + number)
            assert record.sentence.startswith("<ckpt:") and record.source == "import:output"
            assert record.image == sha_of(data[number]) and record.renderer == "ComfyUI"
            path = store.image_path(record.image)
            assert path is not None and path.read_bytes() == data[number]
        assert store.get(1).created == "2023-11-14T22:13:20Z"
        again = import_history(store, [output, output / "2026-01" / "ComfyUI_2_.png"])
        assert (again.files, again.new) == (5, 0) and store.count() == 4


def test_our_own_images_bring_their_scores(tmp_path: Path) -> None:
    extra = {
        "scores": {"exact": 0.75, "bad": "x", "worse": True, "n": math.nan}, "fidelity": "exact",
        "renderer": "flowdesign 0.1",
    }  # fmt: skip
    info = comfy.png_info(WORKFLOWS[0], "a red star", 5, extra)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with Store.open(tmp_path / "data") as store:
        import_history(store, [tmp_path / "a.png"], "mine")
        (record,) = store.stream()
    assert record.scores["exact"] == 0.75 and set(record.scores) == {"exact", "n"}
    assert (record.fidelity, record.renderer, record.source) == (
        "exact", "flowdesign 0.1", "import:mine",
    )  # fmt: skip


def test_a_foreign_graph_is_kept_and_its_prompt_and_seed_are_found(tmp_path: Path) -> None:
    graph = foreign()
    save(tmp_path / "in" / "a.png", prompt=graph, workflow={"nodes": "of the interface"})
    with Store.open(tmp_path / "data") as store:
        done = import_history(store, [tmp_path / "in"])
        assert (done.records, done.foreign) == (1, 1)
        (record,) = store.stream()
        assert (record.prompt, record.seed, record.sentence) == ("a fox, 日本", 42, "")
        assert (record.checkpoint, record.sampler) == ("flux.safetensors", "deis")
        assert record.workflow["3"]["inputs"]["text"] == "{prompt}"
        kept = json.loads(json.dumps(record.workflow).replace("{prompt}", "a fox, 日本"))
        kept["9"]["is_changed"] = graph["9"]["is_changed"] = []
        assert kept == graph
        before = (record.prompt, record.workflow, record.seed)
        export(store, tmp_path / "out")
    with Store.open(tmp_path / "other") as store:
        import_records(store, tmp_path / "out")
        (record,) = store.stream()
        assert (record.prompt, record.workflow, record.seed) == before


def test_one_foreign_workflow_is_in_one_split_whatever_its_prompts_and_seeds(
    tmp_path: Path,
) -> None:
    for number in range(30):
        graph = foreign(f"prompt {number}", 1000 + number, 77 * number)
        save(tmp_path / "in" / f"{number}.png", prompt=graph)
    with Store.open(tmp_path / "data") as store:
        import_history(store, [tmp_path / "in"])
        assert len(store.options().workflow_split) == 1 and store.count() == 30
        assert len(store.options().prompt_split) > 1


def test_the_images_of_a_batch_are_records_of_their_own(tmp_path: Path) -> None:
    chunks = from_comfyui(1, "a red star", 3)
    shas = {sha_of(save(tmp_path / "in" / f"{n}.png", n, **chunks)) for n in range(4)}
    with Store.open(tmp_path / "data") as store:
        import_history(store, [tmp_path / "in" / "2.png"])
        assert import_history(store, [tmp_path / "in"]).new == 3
        assert import_history(store, [tmp_path / "in"]).new == 0
        assert {record.image for record in store.stream()} == shas
        assert store.prompts() and store.prompts()[0].images == 4


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ({}, "carries no workflow"), ({"parameters": "steps: 20"}, "carries no workflow"),
        ({"prompt": "{"}, "can be read"), ({"prompt": "[]"}, "can be read"),
        ({"prompt": {}}, "can be read"), ({"prompt": {"1": 3}}, "can be read"),
        ({"workflow": {"nodes": []}}, "can be read"),
    ],
)  # fmt: skip
def test_images_without_a_workflow_are_counted(
    tmp_path: Path, chunks: dict[str, Any], reason: str
) -> None:
    save(tmp_path / "in" / "a.png", **chunks)
    save(tmp_path / "in" / "good.PNG", prompt=comfy.to_api(bind(txt2img(), "x", 1)))
    with Store.open(tmp_path / "data") as store:
        done = import_history(store, [tmp_path / "in"])
    assert done.new == 1
    ((told, count),) = done.skipped.items()
    assert count == 1 and reason in told


def test_what_is_no_whole_image_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    data = save(folder / "a.png", **from_comfyui(0, "x", 1))
    (folder / "b.png").write_bytes(data[: len(data) - 30])
    (folder / "c.png").write_bytes(b"GIF89a")
    (folder / "d.png").write_bytes(b"")
    flipped = bytearray(data)
    flipped[-40] ^= 255
    (folder / "e.png").write_bytes(bytes(flipped))
    (folder / "f.png").symlink_to(tmp_path / "nowhere")
    (folder / "notes.txt").write_text("x")
    (folder / "g.png").mkdir()
    with Store.open(tmp_path / "data") as store:
        done = import_history(store, [folder])
        assert (done.new, done.skipped) == (1, {"no PNG, or a damaged one": 4})
        with pytest.raises(RecordsError, match="There is no file or folder"):
            import_history(store, [tmp_path / "nowhere"])


@pytest.mark.parametrize(
    "graph",
    [
        {"1": {"class_type": "X", "inputs": {"positive": ["1", 0], "seed": ["1", 0]}}},
        {"1": {"class_type": "X"}, "2": {"class_type": ["a"], "inputs": []}, "3": "text"},
        {"1": {"class_type": "X", "inputs": {"positive": ["9", 0], "seed": -1, "steps": "many"}}},
        {"1": {"class_type": "X", "inputs": {"positive": ["2", 0], "seed": 2**64, "cfg": None}},
         "2": {"class_type": "Y", "inputs": {"text": ["1", 0], "value": "   "}}},
    ],
)  # fmt: skip
def test_odd_graphs_are_no_fault(tmp_path: Path, graph: dict[str, Any]) -> None:
    save(tmp_path / "in" / "a.png", prompt=graph)
    with Store.open(tmp_path / "data") as store:
        assert import_history(store, [tmp_path / "in"]).new == 1
        (record,) = store.stream()
        assert (record.prompt, record.seed) == ("", 0)


def test_a_known_workflow_with_models_that_are_not_here_is_no_foreign_one(tmp_path: Path) -> None:
    graph = comfy.to_api(bind(txt2img(loader__ckpt_name="dreamshaper_8.safetensors"), "a fox", 4))
    save(tmp_path / "in" / "a.png", prompt=graph)
    with Store.open(tmp_path / "data") as store:
        done = import_history(store, [tmp_path / "in"])
        (record,) = store.stream()
    assert (done.new, done.foreign) == (1, 0)
    assert (record.prompt, record.seed, record.sampler) == ("a fox", 4, "euler")
    assert record.checkpoint == "dreamshaper_8.safetensors"
    assert plain(record.workflow)["prompt"]["inputs"]["text"] == "{prompt}"
    assert Filter(checkpoint=record.checkpoint)
