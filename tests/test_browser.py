"""The page in a real browser: the main job end to end, by mouse, by keyboard, small and dark.

The end-to-end test runs with toy parts and, once they are trained, with the shipped policy and models,
as its name says; the others use toy parts, so that they take seconds.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from shipped import needs_models, needs_policy
from studio_toys import ToyPolicy, ToyRenderer, stands_still, toy_studio
from test_studio import BAD_FILES, txt2img

from flowdesign.catalog import known_assets
from flowdesign.studio import Studio, open_studio

pytestmark = pytest.mark.browser

PROMPT, SEED = "#fd-prompt textarea", "#fd-seed input"
DESIGN, CANCEL, STATUS = "#fd-design", "#fd-cancel", "#fd-status"
IMAGES = ".fd-card img"


class Toys:
    """A served toy studio, with its parts at hand."""

    def __init__(self, serve: Callable[..., str], folder: Path) -> None:
        self.policy, self.renderer = ToyPolicy(), ToyRenderer()
        studio = toy_studio(folder, policy=self.policy, renderer=self.renderer)
        self.address = serve(studio, known_assets())

    def pace(self, pause: float, steps: int = 10) -> None:
        """How long a render takes from now on."""
        self.renderer.pause, self.renderer.steps = pause, steps


@pytest.fixture(scope="module")
def served(serve: Callable[..., str], served_folder: Path) -> Toys:
    return Toys(serve, served_folder)


@pytest.fixture
def toys(served: Toys) -> Toys:
    served.pace(0)
    return served


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open the page; fails the test when it asks another host or reports an error."""
    contexts, faults = [], []

    def watch(page: Any) -> None:
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if away(request.url) else 0)

    def away(url: str) -> bool:
        return not url.startswith(("http://127.0.0.1", "data:", "blob:"))

    def start(address: str, query: str = "", width: int = 1280, height: int = 900) -> Any:
        size = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=size, accept_downloads=True))
        page = contexts[-1].new_page()
        watch(page)
        page.goto(address + "/" + query)
        page.wait_for_selector(PROMPT)
        page.wait_for_function("document.querySelector('#fd-state').innerText.includes('Ready')")
        return page

    yield start
    for context in contexts:
        context.close()
    assert not faults


def designs(page: Any, count: int, seconds: float = 30) -> None:
    """Wait until at least so many images are loaded."""
    page.wait_for_function(
        f"[...document.querySelectorAll('{IMAGES}')].filter(i => i.naturalWidth).length >= {count}",
        timeout=seconds * 1000,
    )


def set_count(page: Any, count: int) -> None:
    page.fill("#fd-count input[type=number]", str(count))
    page.keyboard.press("Tab")


def wait_status(page: Any, words: str, seconds: float = 10) -> None:
    script = f"document.querySelector('{STATUS}').innerText.includes({json.dumps(words)})"
    page.wait_for_function(script, timeout=seconds * 1000)


def overflow(page: Any) -> int:
    """How many pixels the page is wider than the window."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return wide


# --- the main job


@pytest.fixture(
    scope="module",
    params=["toys", pytest.param("shipped", marks=[pytest.mark.slow, needs_policy, needs_models])],
)
def address(request: pytest.FixtureRequest, serve: Callable[..., str], served_folder: Path) -> str:
    """The app with these parts, warm."""
    if request.param == "toys":
        toys: Toys = request.getfixturevalue("served")
        toys.pace(0)
        return toys.address
    opening: Future[Studio] = Future()
    opening.set_result(open_studio(served_folder))
    return serve(opening)


def ask_for_two(page: Any) -> None:
    """Ask a fresh page for two designs and wait for them. How soon they come: bench design."""
    set_count(page, 2)
    page.fill(PROMPT, "a red circle left of a blue square, flat style")
    page.click(DESIGN)
    wait_status(page, "2 designs", seconds=120)
    designs(page, 2)


def test_from_a_prompt_to_an_image_to_a_file_and_back(
    address: str, visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit(address)
    ask_for_two(page)
    seed = page.input_value(SEED)
    saved = []
    for link in page.locator(".fd-card").first.locator("a.fd-get").all():
        with page.expect_download() as download:
            link.click()
        saved.append(tmp_path / download.value.suggested_filename)
        download.value.save_as(saved[-1])
    png, api, ui = saved
    assert json.loads(ui.read_text("utf-8"))["nodes"]
    with Image.open(png) as image:
        assert {"prompt", "workflow", "flowdesign"} <= set(image.info)
    for file in (png, api):
        page.reload()
        page.wait_for_selector(PROMPT)
        page.set_input_files("#fd-drop input[type=file]", file)
        wait_status(page, "Restored")
        assert page.input_value(PROMPT) == "a red circle left of a blue square, flat style"
        assert page.input_value(SEED) == seed
        assert page.locator("#fd-restored svg").count() == 1
    page.click("#fd-render")
    designs(page, 1, seconds=60)
    with Image.open(png) as image:
        wide: int = page.locator(IMAGES).evaluate("image => image.naturalWidth")
        assert wide == image.width


# --- ways of use


def test_the_keyboard_alone_is_enough(toys: Toys, visit: Callable[..., Any]) -> None:
    page = visit(toys.address)
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"  # ready to type
    page.keyboard.type("a green tree")
    page.keyboard.press("Control+Enter")
    designs(page, 4)
    page.wait_for_selector(f"{DESIGN}:enabled")  # a moment after the last image and its score
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "fd-design"
    page.keyboard.press("Enter")
    wait_status(page, "4 designs")
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate(
            "(e => e.id || e.getAttribute('aria-label') || e.innerText)(document.activeElement)"
        )
        seen.add(str(here).strip())
    assert {"Click to upload or drop files", "ComfyUI API JSON"} <= seen
    assert "Workflow of design 1, scrolls sideways" in seen


@pytest.mark.slow
@needs_policy
@needs_models
def test_arrow_keys_on_the_guidance_slider_design_again(
    serve: Callable[..., str], served_folder: Path, visit: Callable[..., Any]
) -> None:
    """Also by keyboard the slider is live: once the keys rest, there is a design at the new scale."""
    opening: Future[Studio] = Future()
    opening.set_result(open_studio(served_folder))
    page = visit(serve(opening))
    set_count(page, 1)
    page.fill(PROMPT, "a red star, outline style")
    page.click(DESIGN)
    wait_status(page, "1 design", seconds=120)
    page.focus("#fd-guidance input[type=range]")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".fd-scale:has-text('1.5')", timeout=60_000)


def test_escape_stops_the_work_within_a_second(toys: Toys, visit: Callable[..., Any]) -> None:
    toys.pace(0.05, steps=200)
    page = visit(toys.address)
    page.fill(PROMPT, "a red star")
    page.keyboard.press("Control+Enter")
    wait_status(page, "Rendering 1 of 4")
    before = toys.renderer.steps_done
    page.keyboard.press("Escape")
    wait_status(page, "Stopped after 0 designs")
    page.wait_for_selector(f"{DESIGN}:enabled")
    steps = toys.renderer.steps_done
    assert steps - before < 100  # the whole work is 800 steps, which take 40 s
    time.sleep(0.5)
    assert toys.renderer.steps_done <= steps + 1
    assert "Stopped" in page.inner_text(".fd-card")
    toys.pace(0)
    page.click(DESIGN)
    designs(page, 4)


def test_a_second_visitor_waits_in_line_and_sees_nothing_of_the_first(
    toys: Toys, visit: Callable[..., Any]
) -> None:
    toys.pace(0.05, steps=200)
    first, second = visit(toys.address), visit(toys.address)
    first.fill(PROMPT, "a quagga")
    first.click(DESIGN)
    wait_status(first, "Rendering 1 of 4")
    second.fill(PROMPT, "yours")
    second.click(DESIGN)
    wait_status(second, "Waiting")
    second.click(CANCEL)
    wait_status(second, "Stopped")
    assert second.locator(".fd-card").count() == 0
    second.click(DESIGN)
    toys.pace(0)
    first.click(CANCEL)
    designs(second, 4)
    assert "quagga" not in second.content()


def test_closing_the_page_stops_its_work(toys: Toys, visit: Callable[..., Any]) -> None:
    toys.pace(0.05, steps=4000)
    page = visit(toys.address)
    page.fill(PROMPT, "a red star")
    page.click(DESIGN)
    wait_status(page, "Rendering 1 of 4")
    page.close()
    assert stands_still(toys.renderer, within=60)  # the whole render takes 200 s


def test_a_phone_sees_everything_without_sideways_scrolling(
    toys: Toys, visit: Callable[..., Any]
) -> None:
    page = visit(toys.address, width=390, height=844)
    assert overflow(page) <= 0
    page.fill(PROMPT, "a" * 300)
    page.click(DESIGN)
    designs(page, 4)
    assert overflow(page) <= 0
    for target in (DESIGN, CANCEL, "a.fd-get"):
        assert page.locator(target).first.bounding_box()["height"] >= 40
    page.get_by_role("tab", name="About").click()
    assert overflow(page) <= 0


def test_dark_mode_is_dark_and_readable(toys: Toys, visit: Callable[..., Any]) -> None:
    page = visit(toys.address, "?__theme=dark")
    page.fill(PROMPT, "a red star")
    page.click(DESIGN)
    designs(page, 4)
    for selector in TEXTS:
        assert contrast(page, selector) >= 4.5, selector
    script = (
        f"() => {{ {LUMINANCE} return luminance(background(document.querySelector('#fd-top'))); }}"
    )
    assert page.evaluate(script) < 0.05


@pytest.mark.parametrize("query", ["", "?__theme=light"])
def test_light_mode_is_readable(toys: Toys, visit: Callable[..., Any], query: str) -> None:
    page = visit(toys.address, query)
    page.fill(PROMPT, "a red star")
    page.click(DESIGN)
    designs(page, 4)
    for selector in TEXTS:
        assert contrast(page, selector) >= 4.5, selector


TEXTS = (
    "h1", "[role=tab][aria-selected=true]", "label span", "#fd-guidance span", ".fd-caption",
    "#fd-design", ".fd-say", ".fd-chip.fd-ok", "a.fd-get", ".fd-tokens summary",
)  # fmt: skip
LUMINANCE = """
const parts = colour => colour.match(/[\\d.]+/g).map(Number);
const background = element => {
  for (let e = element; e; e = e.parentElement) {
    const [r, g, b, a = 1] = parts(getComputedStyle(e).backgroundColor);
    if (a > 0.5) return [r, g, b];
  }
  return [255, 255, 255];
};
const linear = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
"""


def contrast(page: Any, selector: str) -> float:
    """The contrast of an element's text (WCAG 2)."""
    script = f"""() => {{ {LUMINANCE}
      const e = document.querySelector({json.dumps(selector)});
      const [a, b] = [luminance(parts(getComputedStyle(e).color)), luminance(background(e))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }}"""
    ratio: float = page.evaluate(script)
    return ratio


# --- bad input


@pytest.mark.parametrize(
    ("prompt", "words"), [("", "prompt is empty"), ("x" * 10_000, "10,000 characters")]
)
def test_bad_prompts_are_told_beside_the_prompt(
    toys: Toys, visit: Callable[..., Any], prompt: str, words: str
) -> None:
    page = visit(toys.address)
    page.fill(PROMPT, prompt)
    page.click(DESIGN)
    wait_status(page, words)
    assert page.is_enabled(DESIGN)


def test_emoji_and_markup_are_only_text(toys: Toys, visit: Callable[..., Any]) -> None:
    page = visit(toys.address)
    prompt = "🦊 звезда <img src=x onerror=document.title='x'> ${document.title='x'} {{1}}"
    page.fill(PROMPT, prompt)
    page.click(DESIGN)
    designs(page, 4)
    assert page.title() == "FlowDesign"
    assert prompt in page.locator(IMAGES).first.get_attribute("alt")


def test_bad_files_are_told_and_the_page_goes_on(
    toys: Toys, visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit(toys.address)
    for number, (name, (kind, data)) in enumerate(BAD_FILES.items()):
        file = tmp_path / f"{number}-{kind}"
        file.write_bytes(data)
        page.set_input_files("#fd-drop input[type=file]", file)
        if data:
            page.get_by_text(f"From {file.name}").wait_for()
            assert page.locator("#fd-restored li").count() >= 1, name
            assert "Traceback" not in page.inner_text("#fd-restored")
    page.fill(PROMPT, "a red star")
    page.click(DESIGN)
    designs(page, 4)


def test_a_file_dropped_anywhere_on_the_page_is_restored(
    toys: Toys, visit: Callable[..., Any]
) -> None:
    page = visit(toys.address)
    page.evaluate(
        """text => { const data = new DataTransfer();
        data.items.add(new File([text], 'mine.json', {type: 'application/json'}));
        document.querySelector('h1').dispatchEvent(
          new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }""",
        json.dumps(txt2img()),
    )
    page.get_by_text("From mine.json").wait_for()


def test_files_outside_are_not_served(toys: Toys, visit: Callable[..., Any]) -> None:
    page = visit(toys.address)
    for path in ("/etc/passwd", "app.py", str(Path("app.py").resolve())):
        assert page.request.get(f"{toys.address}/gradio_api/file={path}").status == 403
