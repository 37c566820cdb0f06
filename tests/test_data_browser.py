"""The Data tab in a real browser: looking, filtering, opening, deleting, importing, on any screen."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from data_toys import filled, picture, png_bytes, toy_workflow
from studio_toys import toy_studio
from test_browser import contrast, overflow

from flowdesign.access import AccessConfig
from flowdesign.catalog import known_assets
from flowdesign.ui.gate import Gate
from flowdesign.ui.shared import SharedStore

pytestmark = pytest.mark.browser

COUNT = 130  # records: three pages
TILES, RECORD, FOUND = ".fd-tile", "#fd-record article", "#fd-found"
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedStore]:
    """The store that the page shows; tests that change it put it back as it was."""
    folder = tmp_path_factory.mktemp("records")
    filled(folder, COUNT).close()
    shared = SharedStore(folder)
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def address(serve: Callable[..., str], served_folder: Path, records: SharedStore) -> str:
    return serve(toy_studio(served_folder), known_assets(), records=records)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visit]:
    """Open the Data tab; fails the test when the page reports an error or a request fails."""
    contexts, faults = [], []

    def start(address: str, query: str = "", width: int = 1280, height: int = 900) -> Any:
        size = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=size, accept_downloads=True))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda got: faults.append(got.url) if got.status >= 500 else None)
        page.goto(address + "/" + query)
        page.get_by_role("tab", name="Data").click()
        page.wait_for_selector(f"{TILES}, .fd-start")
        return page

    yield start
    for context in contexts:
        context.close()
    assert not faults


def found(page: Any, words: str) -> None:
    script = f"document.querySelector('{FOUND}').innerText.includes({json.dumps(words)})"
    page.wait_for_function(script)


def upload(page: Any, file: Path) -> None:
    """Choose a file to import; what is listed then has name and ending in two elements."""
    page.set_input_files("#fd-import input[type=file]", file)
    page.locator("#fd-import .file-preview").filter(has_text=file.stem).wait_for()


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


# --- looking


def test_tiles_are_shown_and_pages_follow(address: str, visit: Visit) -> None:
    page = visit(address)
    found(page, f"1 to 48 of {COUNT} records")
    page.wait_for_function(
        "document.querySelector('.fd-tile img') && document.querySelector('.fd-tile img').naturalWidth"
    )
    assert page.locator(TILES).count() == 48
    page.click("#fd-page-after")
    found(page, "49 to 96")
    page.click("#fd-page-after")
    found(page, f"97 to {COUNT}")
    assert page.is_disabled("#fd-page-after")
    page.click("#fd-page-before")
    found(page, "49 to 96")


def test_filters_narrow_and_clearing_brings_all_back(address: str, visit: Visit) -> None:
    page = visit(address)
    choose(page, "Source", "playground (43)")
    found(page, "of 43 records")
    page.fill("#fd-find input, #fd-find textarea", "no such words anywhere")
    page.get_by_text("No record matches").wait_for()
    page.click("#fd-clear")
    found(page, f"of {COUNT} records")
    page.fill("#fd-find input, #fd-find textarea", "no such words again")
    page.get_by_text("No record matches").wait_for()
    page.click("#fd-clear")
    choose(page, "Split", "test (")
    page.wait_for_function(
        "[...document.querySelectorAll('.fd-tile em')].length =="
        " document.querySelectorAll('.fd-tile').length"
    )
    assert set(page.locator(".fd-tile em").all_inner_texts()) == {"test"}


def test_a_record_opens_with_image_workflow_scores_and_files(
    address: str, visit: Visit, tmp_path: Path
) -> None:
    page = visit(address)
    page.locator(f"{TILES}:has(img) > button").first.click()
    page.wait_for_selector(RECORD)
    page.wait_for_function("document.querySelector('#fd-record img').naturalWidth == 64")
    assert page.locator("#fd-record svg").count() == 1 and not page.is_visible("#fd-tiles")
    assert "scene_soft" in page.inner_text(RECORD) and "Split of the prompt" in page.inner_text(
        RECORD
    )
    for link, key in (("PNG", None), ("ComfyUI API JSON", None), ("ComfyUI UI JSON", "nodes")):
        with page.expect_download() as download:
            page.locator("#fd-record a.fd-get").get_by_text(link, exact=True).click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG") if link == "PNG" else json.loads(data)
        assert key is None or json.loads(data)[key]


def test_the_keyboard_alone_opens_steps_and_closes(address: str, visit: Visit) -> None:
    page = visit(address)
    first = page.locator(f"{TILES} > button").first
    number = first.get_attribute("data-record")
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(RECORD)
    page.wait_for_function("document.activeElement.matches('#fd-record article')")
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"Record {int(number) - 1}", exact=True).wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_text(f"Record {number}", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector(RECORD, state="detached")
    page.wait_for_function(f"document.activeElement.dataset.record == '{number}'")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.get_by_text("1 ticked").wait_for()


def test_charts_draw_when_they_are_opened_and_follow_the_filter(address: str, visit: Visit) -> None:
    page = visit(address)
    page.get_by_role("tab", name="Charts").click()
    page.wait_for_selector(".fd-panel")
    assert page.locator(".fd-chart").count() == 2
    choose(page, "Component", "sampler")
    page.locator(".fd-panel th", has_text="euler").first.wait_for()
    choose(page, "Category", "counting")
    page.wait_for_function("document.querySelectorAll('.fd-panel').length <= 2")
    page.get_by_role("tab", name="Import").click()
    page.wait_for_selector("#fd-import")
    page.wait_for_selector("#fd-find", state="hidden")


# --- changing


def test_ticks_stay_over_pages_and_deleting_is_asked_and_undone(
    address: str, visit: Visit, records: SharedStore
) -> None:
    page = visit(address)
    page.locator("input[data-tick]").nth(0).check()
    page.click("#fd-page-after")
    found(page, "49 to 96")
    page.locator("input[data-tick]").nth(3).check()
    page.get_by_text("2 ticked").wait_for()
    page.click("#fd-page-before")
    found(page, "1 to 48")
    assert page.locator("input[data-tick]").nth(0).is_checked()
    page.click("#fd-delete")
    page.get_by_text("Delete 2 records?").wait_for()
    page.get_by_role("button", name="Keep them").click()
    page.wait_for_selector("#fd-sure", state="hidden")
    assert records().find().total == COUNT
    page.click("#fd-delete")
    page.click("#fd-sure")
    page.get_by_text("Deleted 2 records.").wait_for()
    found(page, f"of {COUNT - 2} records")
    page.click("#fd-undo")
    page.get_by_text("2 records brought back").wait_for()
    found(page, f"of {COUNT} records")
    assert records().find().total == COUNT


def test_nothing_ticked_is_told(address: str, visit: Visit) -> None:
    page = visit(address)
    for button in ("#fd-score", "#fd-export", "#fd-delete"):
        page.click(button)
        page.get_by_text("Tick some records first").wait_for()


def test_scoring_shows_its_progress_and_its_result(
    address: str, visit: Visit, records: SharedStore
) -> None:
    page = visit(address)
    page.click("[data-tick-all]")
    page.get_by_text("48 ticked").wait_for()
    page.click("#fd-score")
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_text("records scored by scene_strict, scene_soft, sharpness").wait_for()
    assert "scene_strict" in records().options().scorers
    page.get_by_role("button", name="Put away").click()
    page.wait_for_selector(".fd-jobs", state="detached")


def test_an_export_is_made_and_downloaded(address: str, visit: Visit, tmp_path: Path) -> None:
    page = visit(address)
    page.get_by_label("all that match").check()
    page.click("#fd-export")
    page.get_by_role("button", name="Make the file").click()
    link = page.get_by_role("link", name="Download (")
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "records.zip")
    assert (tmp_path / "records.zip").read_bytes().startswith(b"PK")


def test_a_picture_is_imported_and_bad_files_are_told(
    address: str, visit: Visit, records: SharedStore, tmp_path: Path
) -> None:
    workflow, _ = toy_workflow(7)
    image = png_bytes(picture("a red star", 1), workflow, "a star that was imported")
    (tmp_path / "star.png").write_bytes(image)
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    page = visit(address)
    page.get_by_role("tab", name="Import").click()
    upload(page, tmp_path / "torn.zip")
    page.click("#fd-import-go")
    page.get_by_text("not a zip file that can be read").wait_for()
    page.get_by_role("button", name="Clear").first.click()
    upload(page, tmp_path / "star.png")
    page.fill("#fd-import-name input, #fd-import-name textarea", "my year")
    page.click("#fd-import-go")
    page.get_by_text("1 record new").wait_for()
    page.get_by_role("tab", name="Browse").click()
    found(page, f"of {COUNT + 1} records")
    (new,) = records().find(limit=1).rows
    assert (new.prompt, new.source) == ("a star that was imported", "import:my year")
    records().delete([new.id or 0], "test")
    records().purge()


def test_a_design_is_kept_by_itself_at_home(
    serve: Callable[..., str], served_folder: Path, visit: Visit, tmp_path: Path
) -> None:
    address = serve(toy_studio(served_folder), known_assets(), records=SharedStore(tmp_path))
    page = visit(address)
    page.get_by_text("No records yet").wait_for()
    page.get_by_role("tab", name="Import").click()
    page.wait_for_selector("#fd-import-go", state="visible")
    page.get_by_role("tab", name="Browse").click()
    page.get_by_role("tab", name="Playground").click()
    page.fill("#fd-count input[type=number]", "1")
    page.fill("#fd-prompt textarea", "a red star")
    page.click("#fd-design")
    page.get_by_text("Kept as record 1").wait_for()
    page.get_by_role("tab", name="Data").click()
    page.wait_for_selector(TILES)
    found(page, "1 to 1 of 1 records")


def test_on_a_space_a_visitor_looks_and_changes_nothing(
    serve: Callable[..., str], served_folder: Path, visit: Visit, records: SharedStore
) -> None:
    gate = Gate(AccessConfig(space=True))
    address = serve(toy_studio(served_folder), known_assets(), gate=gate, records=records)
    before = records().find().total
    page = visit(address)
    assert page.is_disabled("#fd-delete") and page.is_disabled("#fd-score")
    page.get_by_role("tab", name="Import").click()
    assert not page.is_visible("#fd-folder")
    page.get_by_role("tab", name="Playground").click()
    page.fill("#fd-count input[type=number]", "1")
    page.fill("#fd-prompt textarea", "a red star")
    page.click("#fd-design")
    page.get_by_text("1 design for seed").wait_for()
    assert (
        not page.get_by_text("Kept as record").count() and not page.locator("[data-keep]").count()
    )
    assert records().find().total == before


# --- screens


def test_a_phone_sees_everything_without_sideways_scrolling(address: str, visit: Visit) -> None:
    page = visit(address, width=390, height=844)
    assert overflow(page) <= 0
    assert page.locator(f"{TILES} > button").first.bounding_box()["y"] < 844  # at once in sight
    assert not page.is_visible("#fd-filter [aria-label=Source]")
    page.click("#fd-more button")
    page.wait_for_selector("#fd-filter [aria-label=Source]", state="visible")
    assert overflow(page) <= 0
    for target in ("#fd-page-after", "#fd-delete"):
        assert page.locator(target).bounding_box()["height"] >= 40
    page.locator(f"{TILES} > button").first.click()
    page.wait_for_selector(RECORD)
    assert overflow(page) <= 0
    page.click("#fd-back")
    for name in ("Charts", "Import", "Weights"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
        assert overflow(page) <= 0, name


@pytest.mark.parametrize("query", ["?__theme=light", "?__theme=dark"])
def test_texts_are_readable(address: str, visit: Visit, query: str) -> None:
    page = visit(address, query)
    for selector in (
        "#fd-find span",
        ".fd-tile p",
        ".fd-tile-foot",
        "#fd-delete",
        "[data-tick-all]",
    ):
        assert contrast(page, selector) >= 4.5, selector
    page.locator(f"{TILES}:has(img) > button").first.click()
    page.wait_for_selector(RECORD)
    for selector in (".fd-facts dt", ".fd-facts dd", ".fd-scores th", ".fd-record h4"):
        assert contrast(page, selector) >= 4.5, selector
    page.click("#fd-back")
    page.get_by_role("tab", name="Charts").click()
    page.wait_for_selector(".fd-panel")
    for selector in (".fd-panel h4", ".fd-panel td:last-child", ".fd-chart figcaption", ".fd-ends"):
        assert contrast(page, selector) >= 4.5, selector
