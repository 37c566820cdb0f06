"""The Train tab in a real browser: start, watch, stop, resume, compare, delete, on any screen.

The runs are toys in processes of their own, which take seconds.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_toys import toy_studio
from test_browser import contrast, overflow
from train_toys import ToyConfig, finished, kinds, reaches

from flowdesign import runs
from flowdesign.access import AccessConfig
from flowdesign.ui.gate import Gate
from flowdesign.ui.train_launch import Launcher

pytestmark = pytest.mark.browser

TOY = kinds()[0]
Visit = Callable[..., Any]


@pytest.fixture
def start(start: Launcher) -> Launcher:
    """Starts toys in a folder with two finished runs, one of them shipped."""
    finished(start.book.root, "shipped", steps=4)
    finished(start.book.root, "done", "rises")
    return start


@pytest.fixture
def address(serve: Callable[..., str], served_folder: Path, start: Launcher) -> str:
    start.watch()
    return serve(toy_studio(served_folder), launcher=start)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visit]:
    """Open the Train tab; fails the test when the page reports an error or a request fails."""
    contexts, faults = [], []

    def begin(address: str, query: str = "", width: int = 1280, height: int = 900) -> Any:
        size = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=size))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda got: faults.append(got.url) if got.status >= 500 else None)
        page.goto(address + "/" + query)
        open_tab(page)
        return page

    yield begin
    for context in contexts:
        context.close()
    assert not faults


def open_tab(page: Any) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()
    page.wait_for_selector("#fd-run-head article")


def says(page: Any, place: str, words: str) -> None:
    """Wait until a part of the page says something."""
    page.wait_for_function(
        f"document.querySelector({json.dumps(place)})?.innerText.includes({json.dumps(words)})"
    )


def new_run(page: Any, **fields: Any) -> None:
    """Fill in the form of a new toy and press Start."""
    page.get_by_role("tab", name="New run").click()
    for name, value in fields.items():
        page.fill(f"#fd-toy-{name} :is(input, textarea)", str(value))
        page.keyboard.press("Tab")
    words = " ".join(f"--{name} {value}" for name, value in fields.items())
    command(page, words)
    page.click("#fd-start-toy")


def command(page: Any, words: str) -> None:
    page.wait_for_function(
        "document.querySelector('#fd-command-toy textarea').value"
        f" === {json.dumps('python -m flowdesign toy ' + words)}"
    )


def test_a_run_is_started_watched_stopped_and_resumed(
    address: str, visit: Visit, start: Launcher
) -> None:
    page = visit(address)
    new_run(page, run="mine", steps=3000)
    says(page, "#fd-run-head", "mine")
    says(page, "#fd-run-head", "running")
    says(page, "#fd-machine", "mine is at step")
    page.wait_for_selector("#fd-run-curves polyline")
    before = page.get_attribute("#fd-run-curves polyline", "points")
    page.wait_for_function(
        "document.querySelector('#fd-run-curves polyline').getAttribute('points')"
        f" !== {json.dumps(before)}"
    )  # it is live
    page.reload()  # the page knows nothing, the folders know all
    open_tab(page)
    says(page, "#fd-run-head", "mine")
    page.wait_for_selector("#fd-run-curves polyline")
    other = visit(address)  # a second visitor
    says(other, "#fd-run-head", "mine")
    other.click("#fd-run-stop")
    says(page, "#fd-run-head", "stopped")
    stopped = start.book.get("mine").step
    page.click("#fd-run-resume")
    says(page, "#fd-run-head", "running")
    page.wait_for_function(
        f"document.querySelector('#fd-run-head progress').value * 3000 > {stopped + 1}"
    )
    page.click("#fd-run-stop")
    says(page, "#fd-run-head", "stopped")
    steps = [row["step"] for row in runs.read_metrics(start.book.root / "mine")]
    assert steps == list(range(len(steps)))


def test_the_second_run_queues_and_starts_by_itself(
    address: str, visit: Visit, start: Launcher
) -> None:
    start.start(TOY, ToyConfig(run="first", steps=5000))
    page = visit(address)
    new_run(page, run="second", steps=3)
    says(page, "#fd-new-said-toy", "Run 'first' is at work")
    page.click("#fd-queue-toy")
    says(page, "#fd-run-head", "place 1 in the queue")
    says(page, "#fd-machine", "In the queue: second")
    page.close()  # nobody looks
    start.stop("first")
    reaches(start, "second", "finished")


def test_a_killed_run_shows_crashed_and_its_last_lines(
    address: str, visit: Visit, start: Launcher
) -> None:
    start.start(TOY, ToyConfig(run="mine", steps=5000))
    page = visit(address)
    says(page, "#fd-run-head", "running")
    start.end_now("mine")
    says(page, "#fd-run-head", "crashed")
    says(page, "#fd-run-head .fd-log", "Step(index=")
    says(page, "#fd-run-head", "signal 9")
    page.click("#fd-run-resume")
    says(page, "#fd-run-head", "running")


def test_a_wrong_value_is_marked_and_stays(address: str, visit: Visit) -> None:
    page = visit(address)
    page.get_by_role("tab", name="New run").click()
    page.fill("#fd-toy-steps input", "0")
    page.keyboard.press("Tab")
    page.wait_for_selector("#fd-toy-steps.fd-wrong")
    says(page, "#fd-toy-steps", "greater than or equal to 1")
    page.click("#fd-start-toy")
    says(page, "#fd-new-said-toy", "nothing was started")
    assert page.input_value("#fd-toy-steps input") == "0"
    page.fill("#fd-toy-steps input", "12")
    command(page, "--run toy-1 --steps 12")
    assert page.locator(".fd-wrong").count() == 0
    page.get_by_label("Long").check()
    command(page, "--run toy-1 --steps 2000 --pause 0.05")
    says(page, "#fd-expect-toy", "Time")


def test_curves_tell_values_by_pointer_and_by_key(address: str, visit: Visit) -> None:
    page = visit(address)
    page.click("[data-run=done]")
    says(page, "#fd-run-head", "done")
    plot = page.locator("#fd-run-curves .fd-plot").first
    plot.hover(position={"x": 2, "y": 20})
    figure = page.locator("#fd-run-curves figure").first
    assert figure.locator("output").inner_text() == "step 1"
    assert figure.locator("[data-last-value]").first.inner_text() == "1"
    page.mouse.move(0, 0)
    assert figure.locator("output").inner_text() == ""
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert figure.locator("output").inner_text() == "step 5"


def test_two_runs_are_compared(address: str, visit: Visit) -> None:
    page = visit(address)
    page.click("[data-run=done]")
    page.check("[data-compare=shipped]")
    says(page, "#fd-run-curves", "shipped member 1")
    assert page.locator("#fd-run-curves figure").first.locator("polyline").count() == 4
    page.get_by_role("button", name="Options").click()
    says(page, "#fd-run-options", "Differs")
    page.uncheck("[data-compare=shipped]")
    page.wait_for_function(
        "document.querySelectorAll('#fd-run-curves figure')[0].querySelectorAll('polyline').length == 2"
    )


def test_rename_notes_delete_and_undo(address: str, visit: Visit, start: Launcher) -> None:
    page = visit(address)
    page.click("[data-run=shipped]")
    says(page, "#fd-run-head", "read only")
    assert not page.is_visible("#fd-run-delete") and not page.is_visible("#fd-run-rename")
    page.click("[data-run=done]")
    says(page, "#fd-run-head", "done")
    page.click("#fd-run-note")
    page.fill("#fd-run-text textarea", "the best\nof all")
    page.get_by_role("button", name="Save").click()
    says(page, "#fd-run-head .fd-notes", "the best")
    page.click("#fd-run-rename")
    page.fill("#fd-run-name :is(input, textarea)", "a b")
    page.keyboard.press("Enter")
    says(page, "#fd-run-said", "letters, digits")
    page.fill("#fd-run-name :is(input, textarea)", "best")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-run=best]")
    page.click("#fd-run-delete")
    says(page, "#fd-ask-run-delete", "Delete the run 'best'?")
    page.click("#fd-run-sure")
    says(page, "#fd-run-said", "Deleted best")
    assert [run.name for run in start.book.all()] == ["shipped"]
    page.click("#fd-run-undo")
    says(page, "#fd-run-head", "best")
    assert start.book.get("best").state == "finished"


def test_the_trash_survives_a_reload(address: str, visit: Visit, start: Launcher) -> None:
    page = visit(address)
    page.click("[data-run=done]")
    page.click("#fd-run-delete")
    page.click("#fd-run-sure")
    says(page, "#fd-run-said", "Deleted done")
    page.reload()
    open_tab(page)
    page.get_by_role("tab", name="Trash").click()
    page.get_by_role("button", name="Bring back done").click()
    says(page, "#fd-trash-said", "done is back")
    assert start.book.get("done").state == "finished"


def test_the_keyboard_alone_starts_and_stops_a_run(
    address: str, visit: Visit, start: Launcher
) -> None:
    page = visit(address)
    page.get_by_role("tab", name="New run").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#fd-toy-steps input")
    page.focus("#fd-toy-steps input")
    page.keyboard.press("Control+a")
    page.keyboard.type("4000")
    command(page, "--run toy-1 --steps 4000")
    for _ in range(25):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "fd-start-toy":
            break
    page.keyboard.press("Enter")
    says(page, "#fd-run-head", "running")
    page.focus("[data-run=toy-1]")
    page.wait_for_timeout(5000)  # the list is drawn anew, and the focus stays
    assert page.evaluate("document.activeElement.dataset.run") == "toy-1"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "fd-run-stop":
            break
    page.keyboard.press("Enter")
    says(page, "#fd-run-head", "stopped")


@pytest.mark.parametrize("width, theme", [(390, "dark"), (1280, "light")])
def test_it_fits_and_can_be_read(address: str, visit: Visit, width: int, theme: str) -> None:
    page = visit(address, f"?__theme={theme}", width)
    page.click("[data-run=done]")
    page.wait_for_selector("#fd-run-curves polyline")
    assert overflow(page) <= 0
    for place in (
        "#fd-run-head h3",
        ".fd-key span",
        ".fd-ticks span",
        ".fd-figures td",
        ".fd-chip",
    ):
        assert contrast(page, place) >= 4.5, place
    page.get_by_role("tab", name="New run").click()
    page.wait_for_selector("#fd-start-toy")
    assert overflow(page) <= 0
    assert contrast(page, ".fd-expect small") >= 4.5


def test_a_visitor_of_a_space_sees_and_cannot_press(
    serve: Callable[..., str], served_folder: Path, start: Launcher, visit: Visit
) -> None:
    gate = Gate(AccessConfig(space=True))
    page = visit(serve(toy_studio(served_folder), launcher=start, gate=gate))
    page.click("[data-run=done]")
    says(page, "#fd-run-head", "finished")
    assert page.is_disabled("#fd-run-delete") and page.is_disabled("#fd-run-rename")
    page.get_by_role("tab", name="New run").click()
    assert page.is_disabled("#fd-start-toy")
