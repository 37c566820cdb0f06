"""The endpoint /design, called as a program calls it: answers, faults, and clients that go away."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from studio_toys import ToyPolicy, ToyRenderer, stands_still, toy_studio

from flowdesign.studio import Studio
from flowdesign.ui import build_app, tasks

SLOW = {"pause": 0.05, "steps": 400}  # a render of 20 seconds


def endpoint(opening: "Future[Studio]") -> Callable[..., Iterator[list[dict[str, Any]]]]:
    """The function behind /design."""
    app = build_app(opening)
    (found,) = (fn.fn for fn in app.fns.values() if fn.api_name == "design")
    return found


def opened(studio: Studio) -> "Future[Studio]":
    opening: Future[Studio] = Future()
    opening.set_result(studio)
    return opening


def test_the_designs_so_far_come_one_by_one(tmp_path: Path) -> None:
    design = endpoint(opened(toy_studio(tmp_path)))
    answers = list(design("a red star", 2, 7, 1.0))
    assert list(dict.fromkeys(len(found) for found in answers if found)) == [1, 2]
    assert set(answers[-1][0]) == {
        "workflow", "description", "sentence", "fidelity", "reasons", "seconds", "image",
    }  # fmt: skip
    assert Path(answers[-1][1]["image"]["path"]).is_file()


def test_closing_stops_the_work(tmp_path: Path) -> None:
    renderer = ToyRenderer(**SLOW)
    answers: Any = endpoint(opened(toy_studio(tmp_path, renderer=renderer)))("a red star", 4)
    started = time.monotonic()
    assert next(answers) == []  # a sign of life while the first design is being made
    answers.close()
    assert time.monotonic() - started < 5
    assert stands_still(renderer, within=3)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (("", 1, 0, 1.0), "prompt is empty"),
        (("x", None, 0, 1.0), "1 to 8"),
        (("x", 1, 0, float("inf")), "temperature"),
    ],
)
def test_bad_requests_are_told(tmp_path: Path, request_: Any, words: str) -> None:
    with pytest.raises(gr.Error, match=words):
        list(endpoint(opened(toy_studio(tmp_path)))(*request_))


def test_models_that_cannot_be_loaded_are_told() -> None:
    opening: Future[Studio] = Future()
    opening.set_exception(TimeoutError("the hub does not answer"))
    with pytest.raises(gr.Error, match=r"could not be loaded: the hub does not answer"):
        list(endpoint(opening)("a red star"))


def test_while_models_load_the_client_can_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowdesign.ui.api.TICK", 0.01)
    monkeypatch.setattr(tasks, "TICK", 0.01)
    answers: Any = endpoint(Future())("a red star")
    assert [next(answers) for _ in range(3)] == [[], [], []]
    answers.close()


def test_a_fault_is_told_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ToyPolicy):
        def sample_stream(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("the cache is too short")
            yield

    with pytest.raises(gr.Error, match="The design failed: the cache is too short"):
        list(endpoint(opened(toy_studio(tmp_path, policy=Broken())))("a red star"))
    assert "Traceback" in caplog.text


# --- over the network


def ask(address: str, count: int) -> str:
    """Call /design as curl would; the address of its answer."""
    place = f"{address}/gradio_api/call/design"
    asked = ["a red star", count, 7, 1.0, "mine", 1.0, 1.0]
    event = httpx.post(place, json={"data": asked}).json()["event_id"]
    return f"{place}/{event}"


def test_a_program_gets_the_designs_with_their_files(
    serve: Callable[..., str], served_folder: Path
) -> None:
    address = serve(toy_studio(served_folder))
    answer = httpx.get(ask(address, 2), timeout=60).text
    event, data = answer.strip().split("\n")[-2:]
    assert event == "event: complete"
    (designs,) = json.loads(data.removeprefix("data: "))
    assert len(designs) == 2
    image = httpx.get(designs[0]["image"]["url"])
    assert image.content.startswith(b"\x89PNG")


def test_a_client_that_leaves_stops_its_work(
    serve: Callable[..., str], served_folder: Path
) -> None:
    renderer = ToyRenderer(**SLOW)
    address = serve(toy_studio(served_folder, renderer=renderer))
    with httpx.stream("GET", ask(address, 4), timeout=60) as answer:
        for _ in answer.iter_lines():
            if renderer.steps_done:
                break
    assert stands_still(renderer, within=8)  # not until the renders are over, after 80 seconds
    assert renderer.renders == 1
