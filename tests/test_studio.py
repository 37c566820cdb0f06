"""The studio with toy parts: events, cancelling, failures, files, and the way back from a file."""

import json
import os
import struct
import threading
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from studio_toys import ToyFidelity, ToyPolicy, ToyRenderer, toy_studio

from flowdesign import __version__, comfy
from flowdesign.catalog import known_assets
from flowdesign.designs import restore, sweep
from flowdesign.request import MAX_PROMPT, BadRequest, Request, random_seed
from flowdesign.studio import Designed, Failed, Rendered, Stopped, render_file
from flowdesign.workflow import workflow_hash


def test_each_design_is_shown_before_its_image_and_in_order(tmp_path: Path) -> None:
    events = list(toy_studio(tmp_path).design(Request("a red star", 3, seed=5)))
    assert [type(event) for event in events] == [Designed, Rendered] * 3
    assert [event.index for event in events] == [0, 0, 1, 1, 2, 2]


def test_policies_side_by_side_have_equal_chance_and_stand_in_rows(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path)
    asked = Request("a red star", 2, seed=5, policy="mine", scale=2.5, beside=True)
    events = [event for event in studio.design(asked) if isinstance(event, Rendered)]
    assert [event.index for event in events] == [0, 1, 2, 3, 4, 5]
    assert [event.design.scale for event in events] == [0.0, 1.0, 2.5] * 2
    said = [event.design.sentence for event in events]
    assert said[1] == said[2] != said[0] and said[4] == said[5] != said[3]
    png = Image.open(events[2].image)
    record = json.loads(png.info["flowdesign"])
    assert (record["policy"], record["guidance"]) == ("mine", 2.5)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"policy": "gone"}, "Unknown policy"),
        ({"policy": "start", "scale": 2.0}, "no guidance"),
        ({"scale": 10.5}, "from -1 to 10"),
        ({"scale": float("nan")}, "from -1 to 10"),
        ({"scale": "2"}, "from -1 to 10"),
        ({"count": 5, "beside": True}, "at most 4 of each, not 5|at most 4 designs of each, not 5"),
    ],
)
def test_what_no_policy_can_do_is_told_before_any_work(
    tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        toy_studio(tmp_path).design(Request("a red star", **{"count": 1} | asked))


def test_the_first_image_does_not_wait_for_the_last_design(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    events = toy_studio(tmp_path, renderer=renderer).design(Request("a red star", 4))
    assert isinstance(next(events), Designed)
    assert isinstance(next(events), Rendered)
    assert renderer.renders == 1


def test_the_same_seed_gives_the_same_designs(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path)

    def workflows(seed: int) -> list[str]:
        events = studio.design(Request("a red star", 3, seed))
        return [workflow_hash(event.design.bound) for event in events if type(event) is Designed]

    assert workflows(1) == workflows(1)
    assert workflows(1) != workflows(2)


def test_every_result_carries_its_workflow(tmp_path: Path) -> None:
    (_, event) = toy_studio(tmp_path).design(Request('a "quoted" \\ {1} 🦊', 1, seed=9))
    assert isinstance(event, Rendered)
    assert json.loads(event.api.read_text("utf-8")) == comfy.to_api(event.design.bound)
    assert json.loads(event.ui.read_text("utf-8"))["version"] == 0.4
    for file in (event.image, event.api, event.ui):
        back = restore(file, known_assets())
        assert not back.problems, file
        assert back.seed == 9, file
        assert back.prompt == event.design.prompt, file
    with Image.open(event.image) as image:
        assert {"prompt", "workflow", "flowdesign"} <= set(image.info)


def test_a_restored_workflow_renders_again(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path)
    (_, first) = studio.design(Request("a red star", 1, seed=9))
    assert isinstance(first, Rendered)
    back = restore(first.image, known_assets())
    assert back.workflow is not None and back.seed is not None
    (_, again) = studio.render(back.workflow, back.prompt, back.seed)
    assert isinstance(again, Rendered)
    assert workflow_hash(again.design.bound) == workflow_hash(first.design.bound)


def test_a_failing_render_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path, renderer=ToyRenderer(faults=[1]))
    events = [e for e in studio.design(Request("a red star", 3)) if not isinstance(e, Designed)]
    assert [type(event) for event in events] == [Rendered, Failed, Rendered]
    assert isinstance(events[1], Failed) and "NaN" in events[1].reason


def test_files_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("a file where the folder should be")
    events = list(toy_studio(output).design(Request("a red star", 2)))
    assert [type(event) for event in events] == [Designed, Failed] * 2
    assert isinstance(events[1], Failed) and "could not be written" in events[1].reason


def test_the_record_in_the_png_says_what_rendered_it_and_how_near(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    renderer.told = ToyFidelity("approximate", ("bf16 weights",))
    (_, event) = toy_studio(tmp_path, renderer=renderer).design(Request("a red star", 1))
    assert isinstance(event, Rendered)
    with Image.open(event.image) as image:
        record = json.loads(image.info["flowdesign"])
    assert (record["fidelity"], record["reasons"]) == ("approximate", ["bf16 weights"])
    for name in ("torch", "diffusers"):
        assert f"{name} {version(name)}" in record["renderer"]
    assert f"flowdesign {__version__}" in record["renderer"]


def test_a_refused_workflow_says_why(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    renderer.told = ToyFidelity("refused", ("no sampler 'euler_x' here",))
    (_, event) = toy_studio(tmp_path, renderer=renderer).design(Request("a red star", 1))
    assert isinstance(event, Failed) and event.refused and "euler_x" in event.reason


def test_a_broken_sentence_does_not_stop_the_others(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path, policy=ToyPolicy(broken=[0]))
    events = list(studio.design(Request("a red star", 2)))
    assert [type(event) for event in events] == [Failed, Designed, Rendered]


@pytest.mark.parametrize("moment", ["designing", "rendering"])
def test_cancelling_stops_within_a_step(tmp_path: Path, moment: str) -> None:
    slow = 0.02 if moment == "rendering" else 0.0
    policy, renderer = ToyPolicy(pause=0.02 - slow), ToyRenderer(pause=slow, steps=1000)
    cancelled = threading.Event()
    events = toy_studio(tmp_path, policy=policy, renderer=renderer).design(
        Request("a red star", 8), cancelled.is_set
    )
    threading.Timer(0.1, cancelled.set).start()
    started = time.monotonic()
    assert isinstance(list(events)[-1], Stopped)
    assert time.monotonic() - started < 2  # a step takes 0.02 s; the rest is for a busy machine
    assert renderer.steps_done < 50


def test_closing_the_events_ends_the_work(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    studio = toy_studio(tmp_path, renderer=renderer)
    events = studio.design(Request("a red star", 4))
    next(events), next(events)
    events.close()  # type: ignore[attr-defined]
    assert renderer.renders == 1
    assert [type(e) for e in studio.design(Request("a red star", 1))] == [Designed, Rendered]


class GatedRenderer(ToyRenderer):
    """Says that it is busy, and stays so until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.go = threading.Event(), threading.Event()

    def render(self, jobs: Any, cancel: Any = None) -> Any:
        self.busy.set()
        self.go.wait(30)
        return super().render(jobs, cancel)


def test_a_second_thread_waits_and_can_be_cancelled_while_waiting(tmp_path: Path) -> None:
    renderer = GatedRenderer()
    studio = toy_studio(tmp_path, renderer=renderer)
    first = threading.Thread(target=lambda: list(studio.design(Request("a red star", 1))))
    first.start()
    assert renderer.busy.wait(30)
    asked = iter([False] * 3 + [True] * 100)
    (event,) = studio.design(Request("a red star", 1), lambda: next(asked))
    assert isinstance(event, Stopped)
    renderer.go.set()
    first.join()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(""), "empty"),
        (Request("  \n "), "empty"),
        (Request("x" * 10_000), f"10,000 characters; at most {MAX_PROMPT:,}"),
        (Request("x", count=0), "1 to 8"),
        (Request("x", count=10**9), "1 to 8"),
        (Request("x", count=None), "1 to 8"),  # type: ignore[arg-type]
        (Request("x", seed=-1), "whole number"),
        (Request("x", seed=2**64), "whole number"),
        (Request("x", temperature=float("nan")), "temperature"),
        (Request("x", temperature=1e9), "temperature"),
        (Request("x", top_p=0.0), "Top-p"),
        (Request("x", top_p=1.1), "Top-p"),
        (Request("x", top_p=float("nan")), "Top-p"),
        (Request(["x"]), "is a text"),  # type: ignore[arg-type]
        (Request("x", count="many"), "1 to 8"),  # type: ignore[arg-type]
        (Request("x", seed=1.5), "whole number"),  # type: ignore[arg-type]
        (Request("x", temperature={}), "temperature"),  # type: ignore[arg-type]
    ],
)
def test_requests_out_of_range_are_refused_in_words(
    tmp_path: Path, request_: Request, words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        toy_studio(tmp_path).design(request_)


@pytest.mark.parametrize(
    "prompt", ["🦊🌈", "красная звезда", "红色的星星", "نجمة", "a\x00b\ud800c", "{}$%s"]
)
def test_any_script_is_a_prompt(tmp_path: Path, prompt: str) -> None:
    events = list(toy_studio(tmp_path).design(Request(prompt, 1)))
    assert [type(event) for event in events] == [Designed, Rendered]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def txt2img(**changes: Any) -> dict[str, Any]:
    """A plain workflow; `changes` are `node__input` values."""
    workflow = {
        "1": node("CheckpointLoaderSimple", ckpt_name="mini_flat"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a red star"),
        "3": node("CLIPTextEncode", clip=["1", 1], text=""),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node(
            "KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0],
            latent_image=["4", 0], seed=1, steps=8, cfg=4.0, sampler_name="euler",
            scheduler="normal", denoise=1.0,
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="x"),
    }  # fmt: skip
    for name, value in changes.items():
        key, _, field = name.partition("__")
        workflow[key.removeprefix("n")]["inputs"][field] = value
    return workflow


def zip_bomb() -> bytes:
    """A PNG whose text chunk unpacks to 400 MB."""
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(b"a" * 2**20) for _ in range(400)) + packed.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    size = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", size),
            chunk(b"zTXt", b"prompt\0\0" + data),
            chunk(b"IDAT", pixels),
            chunk(b"IEND", b""),
        ]
    )


def wide_png() -> bytes:
    """A PNG that claims 60,000 x 60,000 pixels."""
    body = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + body))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + b"IHDR" + body + crc


def cycle() -> dict[str, Any]:
    return txt2img(n5__latent_image=["5", 0])


BAD_FILES: dict[str, tuple[str, bytes]] = {
    "empty": ("w.json", b""),
    "not json": ("w.json", b"{'a': 1"),
    "not utf-8": ("w.json", b"\xff\xfe\x00\x80"),
    "a number": ("w.json", b"7"),
    "a list": ("w.json", b"[1, 2]"),
    "not a graph": ("w.json", b'{"hello": "world"}'),
    "deep": ("w.json", b"[" * 200_000),
    "huge number": ("w.json", b'{"1": ' + b"9" * 10_000 + b"}"),
    "21 MB": ("w.json", b" " * (21 * 2**20)),
    "cycle": ("w.json", json.dumps(cycle()).encode()),
    "unknown checkpoint": ("w.json", json.dumps(txt2img(n1__ckpt_name="mini_flatt")).encode()),
    "path": ("w.json", json.dumps(txt2img(n1__ckpt_name="../../etc/passwd")).encode()),
    "absurd size": ("w.json", json.dumps(txt2img(n4__width=10**9, n4__height=-5)).encode()),
    "text as png": ("w.png", b"hello"),
    "png of nothing": ("w.png", b"\x89PNG\r\n\x1a\n"),
    "zip bomb": ("w.png", zip_bomb()),
    "wide png": ("w.png", wide_png()),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_told_in_words(tmp_path: Path, name: str) -> None:
    file_name, data = BAD_FILES[name]
    file = tmp_path / file_name
    file.write_bytes(data)
    started = time.monotonic()
    back = restore(file, known_assets())
    assert time.monotonic() - started < 5
    assert back.problems and not back.runnable
    for problem in back.problems:
        assert problem.message and "Traceback" not in problem.message
        assert len(problem.message) < 1000


def test_an_unknown_checkpoint_is_answered_with_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(txt2img(n1__ckpt_name="mini_flatt")), encoding="utf-8")
    assert any("mini_flat" in problem.message for problem in restore(file, known_assets()).problems)


def test_rendering_what_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot run"):
        toy_studio(tmp_path).render(txt2img(n1__ckpt_name="../../etc/passwd"), "a red star", 1)


def test_a_workflow_that_saves_more_images_says_so(tmp_path: Path) -> None:
    workflow = txt2img() | {"8": node("PreviewImage", images=["6", 0])}
    renderer = ToyRenderer(images=2)
    (_, event) = toy_studio(tmp_path, renderer=renderer).render(workflow, "a red star", 1)
    assert isinstance(event, Rendered) and event.saved == 2


@pytest.mark.slow
def test_a_file_is_rendered_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_models import write_tiny_models

    monkeypatch.setenv("FLOWDESIGN_MODELS", str(write_tiny_models(tmp_path / "models")))
    file = tmp_path / "w.json"
    file.write_text(json.dumps(txt2img(n1__ckpt_name="tiny_mini", n5__steps=2)), encoding="utf-8")
    made = render_file(file, "one red circle", 5, tmp_path / "out")
    assert made["fidelity"] in ("exact", "approximate")
    back = restore(Path(made["image"]))
    assert (back.prompt, back.seed, back.problems) == ("one red circle", 5, ())
    long = "one red circle, " * 1_200  # a workflow may have 20,000 characters of text
    made = render_file(file, long, 5, tmp_path / "out")
    assert restore(Path(made["image"])).prompt == long.strip()
    with pytest.raises(BadRequest, match="at most 20,000"):
        render_file(file, "x" * 20_001, 5, tmp_path / "out")
    file.write_text(json.dumps(txt2img(n1__ckpt_name="tiny")), encoding="utf-8")
    with pytest.raises(BadRequest, match="Did you mean 'tiny_mini'|Known: "):
        render_file(file, "one red circle", 5, tmp_path / "out")
    with pytest.raises(BadRequest, match="whole number"):
        file.write_text(json.dumps(txt2img(n1__ckpt_name="tiny_mini")), encoding="utf-8")
        render_file(file, "one red circle", -5, tmp_path / "out")


def test_old_results_are_swept(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    os.utime(old, (0, 0))
    sweep(tmp_path, 60)
    assert not old.exists() and new.exists()


def test_results_that_another_thread_sweeps_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    look = Path.stat

    def gone(path: Path, **options: Any) -> os.stat_result:
        """The folder "a" goes away after it was listed."""
        if path.name == "a":
            raise FileNotFoundError(path)
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", gone)
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    sweep(tmp_path, 60)
    monkeypatch.undo()
    assert not (tmp_path / "b").exists()


def test_drawn_seeds_differ() -> None:
    assert len({random_seed() for _ in range(100)}) == 100
