"""The Ablation tab in a real browser: from a link to a grid, its files and back, on any screen."""

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ablation_toys import studio
from studio_toys import ToyRenderer
from test_browser import overflow
from waiting import until

from flowdesign.catalog import known_assets

pytestmark = pytest.mark.browser

GO, CANCEL, STATUS, PLAN = "#fd-ab-go", "#fd-ab-cancel", "#fd-ab-status", "#fd-ab-plan"
LINK = "?tab=ablation&prompts=a+red+star%0Aa+blue+heart&x=guidance&x_values=0-2+%5B5%5D&seeds=1-2"
MADE = ".fd-cell img"


@pytest.fixture(scope="module")
def renderer() -> ToyRenderer:
    return ToyRenderer()


@pytest.fixture(scope="module")
def address(
    serve: Callable[..., str], served_folder: Path, renderer: ToyRenderer,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:  # fmt: skip
    root = tmp_path_factory.mktemp("policies")
    made = studio(served_folder, root=root, renderer=renderer)
    return serve(made, known_assets())


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Follow a link to the tab; fails the test when the page reports an error."""
    contexts, faults = [], []

    def start(address: str, query: str = LINK, width: int = 1280, height: int = 900) -> Any:
        size = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=size, accept_downloads=True))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{address}/{query}")
        page.wait_for_selector(f"{PLAN} p")
        return page

    yield start
    for context in contexts:
        context.close()
    assert not faults


def wait_for(page: Any, place: str, words: str) -> None:
    page.locator(place).filter(has_text=words).wait_for()


def test_a_link_becomes_a_grid_that_can_be_stopped_exported_and_restored(
    address: str, visit: Callable[..., Any], renderer: ToyRenderer, tmp_path: Path
) -> None:
    page = visit(address)
    assert page.input_value("#fd-ab-prompts textarea") == "a red star\na blue heart"
    assert page.input_value("#fd-ab-x-values input, #fd-ab-x-values textarea") == "0-2 [5]"
    wait_for(page, PLAN, "20 cells (5 × 2, 2 times)")

    renderer.pause = 0.05  # a cell takes half a second
    page.locator("#fd-ab-prompts textarea").focus()
    page.keyboard.press("Control+Enter")
    page.locator(MADE).nth(1).wait_for()  # they come one after the other
    assert page.locator(MADE).count() < 20
    page.keyboard.press("Escape")
    wait_for(page, STATUS, "Stopped after")
    rest = page.get_by_text("not made")
    until(lambda: page.locator(MADE).count() + rest.count() == 20)  # cards follow the status
    kept = page.locator(MADE).count()
    assert 2 <= kept < 20

    renderer.pause = 0.0
    page.click(GO)  # what was finished is not made again
    wait_for(page, STATUS, f"20 of 20 cells, {kept} of them made before")
    assert page.locator(MADE).count() == 20 and renderer.renders <= 21
    assert page.locator("#fd-ab-curves figure").count() == 5
    wait_for(page, PLAN, "All are there already")
    page.locator(".fd-cell summary").first.click()
    assert "<ckpt:" in page.inner_text(".fd-cell")

    page.click("#fd-ab-export")
    with page.expect_download() as download:
        page.get_by_role("link", name="Zip").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert len(packed.namelist()) == 4 + 20

    page.fill("#fd-ab-seeds input, #fd-ab-seeds textarea", "nine")
    wait_for(page, PLAN, "'nine' is no number and no range")
    page.click(GO)
    wait_for(page, STATUS, "'nine' is no number and no range")
    assert page.locator(MADE).count() == 20 and "Traceback" not in page.content()
    page.fill("#fd-ab-seeds input, #fd-ab-seeds textarea", "9")
    wait_for(page, PLAN, "10 cells (5 × 2)")
    link = page.get_by_role("link", name="Link to this setting").get_attribute("href")
    again = visit(address, link)
    wait_for(again, PLAN, "10 cells (5 × 2)")
    assert again.input_value("#fd-ab-seeds input, #fd-ab-seeds textarea") == "9"


def test_a_phone_shows_two_readable_columns(address: str, visit: Callable[..., Any]) -> None:
    page = visit(address, f"{LINK}&__theme=dark", width=390, height=844)
    page.click(GO)
    wait_for(page, STATUS, "20 of 20 cells")
    boxes = [page.locator(".fd-cell").nth(index).bounding_box() for index in range(3)]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]  # two beside each other
    assert boxes[0]["x"] == boxes[2]["x"] and all(box["width"] >= 150 for box in boxes)
    assert overflow(page) <= 0
    size = page.locator(".fd-ab-scores").first.evaluate("e => getComputedStyle(e).fontSize")
    assert float(re.sub("px", "", size)) >= 12.5
    for target in (GO, CANCEL):
        assert page.locator(target).bounding_box()["height"] >= 40
