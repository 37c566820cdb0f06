"""The Label tab in a real browser: keys, reload, back button, two tabs, small and dark."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_toys import toy_studio
from test_browser import contrast, overflow
from votes_toys import SECRET, fill

from flowdesign.access import AccessConfig
from flowdesign.records import Store, Vote
from flowdesign.ui.gate import Gate
from flowdesign.ui.shared import SharedStore
from flowdesign.workflow import describe

pytestmark = pytest.mark.browser

LABEL, SIDES = ".fd-label", "[data-side] img"


class Served:
    """A served app, its records, and what pages do with it."""

    def __init__(
        self, serve: Callable[..., str], studio: Any, folder: Path, gate: Gate | None = None
    ) -> None:
        self.records = SharedStore(folder)
        self.address = serve(studio, records=self.records, gate=gate)

    @property
    def store(self) -> Store:
        return self.records()

    @property
    def votes(self) -> list[Vote]:
        return list(self.store.votes())


@pytest.fixture(scope="module")
def app(
    serve: Callable[..., str], served_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    found = Served(serve, toy_studio(served_folder), tmp_path_factory.mktemp("label"))
    fill(found.store, [f"a red star number {n}" for n in range(30)], 6)
    return found


@pytest.fixture
def context(chromium: Any) -> Iterator[Any]:
    """One browser of one person; fails the test when a page asks another host or has an error."""
    faults: list[str] = []
    found = chromium.new_context(viewport={"width": 1280, "height": 900})
    found.on("weberror", lambda error: faults.append(str(error.error)))
    local = ("http://127.0.0.1", "data:", "blob:")
    found.on("request", lambda one: None if one.url.startswith(local) else faults.append(one.url))
    yield found
    found.close()
    assert not faults


def open_tab(page: Any, address: str, query: str = "") -> Any:
    """Open the page at the Label tab and wait for a question, or for why there is none."""
    page.goto(f"{address}/{query}")
    page.get_by_role("tab", name="Label").click()
    page.wait_for_function("document.querySelector('.fd-label')?.dataset.state !== 'loading'")
    page.wait_for_function(
        "document.querySelector('.fd-label').dataset.state === 'empty' ||"
        f" [...document.querySelectorAll('{SIDES}')].some(image => image.naturalWidth)"
    )
    return page


def token(page: Any) -> str:
    """The token of the question on show."""
    found: str = page.get_attribute(LABEL, "data-token")
    return found


def press(page: Any, key: str) -> str:
    """Press a key and wait for another question; gives the token of the one that was on show."""
    before = token(page)
    page.keyboard.press(key)
    changed(page, before)
    return before


def changed(page: Any, before: str) -> None:
    page.wait_for_function(
        f"document.querySelector('{LABEL}').dataset.token !== {json.dumps(before)}"
    )


def status(page: Any, words: str) -> None:
    page.wait_for_function(
        f"document.querySelector('[data-status]').innerText.includes({json.dumps(words)})"
    )


# --- keys


def test_every_key_of_a_pair_does_what_its_button_says(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    buttons = {"left": "1←Left", "tie": "0Tie", "right": "Right→2", "skip": "sSkip"}
    for choice, shown in buttons.items():
        words = page.inner_text(f".fd-poll button[data-answer={choice}]:not(.fd-side)")
        assert re.sub(r"\s", "", words) == shown
    keys = {
        "1": "left",
        "ArrowLeft": "left",
        "2": "right",
        "ArrowRight": "right",
        "0": "tie",
        "s": "skip",
    }
    cast = {press(page, key): choice for key, choice in keys.items()}
    stored = {vote.token: vote.choice for vote in app.votes}
    assert {one: stored[one] for one in cast} == cast


def test_the_workflow_shows_only_after_the_vote(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    answers: list[str] = []
    page.on("response", lambda one: answers.append(one.text()) if "label_" in one.url else None)
    page.reload()
    open_tab(page, app.address)
    assert page.inner_text("[data-reveal]") == ""
    assert SECRET not in page.content()
    assert answers and not [one for one in answers if "mini_" in one or "KSampler" in one]
    cast = press(page, "1")
    (vote,) = [one for one in app.votes if one.token == cast]
    shown = page.inner_text("[data-reveal]")
    for record in (vote.left, vote.right):
        assert describe(app.store.get(record).workflow) in shown
    assert "Your choice: left" in shown
    first, _ = page.locator("[data-reveal] details").all()
    first.locator("summary").click()
    first.locator("svg").wait_for()
    assert first.locator("svg text").count() > 5


def test_undo_brings_the_pair_back_on_the_same_sides(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    prompt = page.inner_text("[data-prompt]")
    cast = press(page, "1")
    (vote,) = [one for one in app.votes if one.token == cast]
    press(page, "u")
    status(page, "Taken back")
    assert page.inner_text("[data-prompt]") == prompt
    assert cast not in {one.token for one in app.votes}
    again = press(page, "2")
    (second,) = [one for one in app.votes if one.token == again]
    assert (second.left, second.right, second.choice) == (vote.left, vote.right, "right")
    assert second.mode == "again"


def test_ratings_have_keys_of_their_own(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    before = token(page)
    page.click("[data-kind=rating]")
    changed(page, before)
    assert page.locator("[data-side]:visible").count() == 1
    cast = {press(page, key): int(key) for key in "54321"}
    stored = {one.token: one.stars for one in app.store.ratings()}
    assert {one: stored[one] for one in cast} == cast
    press(page, "s")
    press(page, "u")
    press(page, "u")
    assert len(set(cast) & {one.token for one in app.store.ratings()}) == 4
    press(page, "3")
    before = token(page)
    page.click("[data-kind=pair]")
    changed(page, before)
    press(page, "1")


def test_keys_typed_elsewhere_are_no_votes(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    before, count = token(page), len(app.votes)
    page.keyboard.press("Control+1")
    page.keyboard.press("9")
    page.get_by_role("tab", name="Playground").click()
    page.fill("#fd-prompt textarea", "1 2 0 s u")
    page.keyboard.press("1")
    page.get_by_role("tab", name="About").click()
    page.keyboard.press("1")
    page.get_by_role("tab", name="Label").click()
    time.sleep(0.5)
    assert token(page) == before
    assert len(app.votes) == count
    press(page, "ArrowLeft")  # the click left the focus on the tab
    assert page.locator(LABEL).is_visible()


def test_the_keyboard_alone_is_enough(app: Served, context: Any) -> None:
    page = context.new_page()
    page.goto(app.address)
    page.get_by_role("tab", name="Label").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{LABEL}[data-token]")
    page.keyboard.press("g")
    assert page.locator("#fd-guidelines").is_visible()
    page.keyboard.press("g")
    assert not page.locator("#fd-guidelines").is_visible()
    press(page, "2")
    seen = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        seen |= set(page.evaluate("document.activeElement.innerText").split())
    assert {"Compare", "Rate", "Guidelines", "Left", "Tie", "Right", "Undo", "Skip"} <= seen


def test_guidelines_are_one_click_away(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    page.click("[data-guide]")
    assert "The prompt first" in page.inner_text("#fd-guidelines")


# --- nothing lost, nothing doubled


def test_a_reload_and_the_back_button_go_on_where_it_was(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    count = len(app.votes)
    cast = press(page, "1")
    shown = token(page)
    page.reload()
    open_tab(page, app.address)
    assert token(page) == shown
    page.goto("about:blank")
    page.go_back()
    page.get_by_role("tab", name="Label").click()
    page.wait_for_selector(f"{LABEL}[data-token]")
    assert token(page) == shown
    press(page, "2")
    assert len(app.votes) == count + 2
    press(page, "u")
    press(page, "u")  # also what was answered before the reload
    assert len(app.votes) == count
    assert cast not in {one.token for one in app.votes}


def test_two_tabs_have_questions_of_their_own(app: Served, context: Any) -> None:
    one, two = (open_tab(context.new_page(), app.address) for _ in range(2))
    count = len(app.votes)
    assert token(one) != token(two)
    cast = [press(page, key) for page, key in ((one, "1"), (two, "2"), (one, "0"), (two, "0"))]
    assert len(set(cast)) == 4
    mine = app.votes[count:]
    assert sorted(vote.token for vote in mine) == sorted(cast)
    assert len({vote.rater for vote in mine}) == 1


def test_the_same_question_in_two_tabs_counts_once(app: Served, context: Any) -> None:
    one = open_tab(context.new_page(), app.address)
    with context.expect_page() as opened:
        one.evaluate("window.open(location.href)")  # as "duplicate this tab" does
    two = open_tab(opened.value, app.address)
    two.evaluate(
        f"sessionStorage.setItem('fd-label', {json.dumps(one.evaluate('sessionStorage.getItem(`fd-label`)'))})"
    )
    open_tab(two, app.address)
    assert token(one) == token(two)
    count = len(app.votes)
    cast = press(one, "1")
    press(two, "2")
    status(two, "had your answer already: left")
    assert [(v.token, v.choice) for v in app.votes[count:]] == [(cast, "left")]


def test_a_fast_rater_loses_and_doubles_nothing(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    count = len(app.votes)
    for _ in range(10):  # a key that is pressed before the next pair shows is no vote on it
        before = token(page)
        for _ in range(4):
            page.keyboard.press("1")
        changed(page, before)
    time.sleep(1)
    mine = app.votes[count:]
    assert len({vote.token for vote in mine}) == len(mine) >= 10
    assert int(page.inner_text("[data-figure=visit]")) == len(mine)


def test_a_lost_connection_is_told_and_the_vote_arrives_later(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    count, before = len(app.votes), token(page)
    lost = []

    def lose(route: Any) -> None:
        lost.append(route)
        if len(lost) == 1:
            route.abort()  # it never arrived
        elif len(lost) == 2:
            route.fetch()  # it arrived, but the reply was lost
            route.abort()
        else:
            route.continue_()

    page.route("**/run/label_answer", lose)
    page.keyboard.press("1")
    status(page, "not stored yet")
    changed(page, before)
    assert [vote.token for vote in app.votes[count:]] == [before]
    assert page.inner_text("[data-figure=visit]") == "1"
    assert page.inner_text("[data-status]") == ""
    page.unroute("**/run/label_answer")
    press(page, "2")


def test_who_enters_the_admin_token_may_vote_on_a_space(
    serve: Callable[..., str], served_folder: Path, context: Any, tmp_path: Path
) -> None:
    """The login belongs to the page, so the script has to say which page it is."""
    gate = Gate(AccessConfig(space=True, voting="writers", admin_token="a token of the owner's"))
    app = Served(serve, toy_studio(served_folder), tmp_path, gate=gate)
    fill(app.store, ["a red star"], 4)
    page = open_tab(context.new_page(), app.address)
    assert "cannot vote here" in page.inner_text("[data-notice]")
    page.fill("#fd-token input", "a token of the owner's")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{LABEL}[data-token]", timeout=20_000)
    page.mouse.click(5, 5)
    press(page, "1")
    assert [vote.rater.partition(":")[0] for vote in app.votes] == ["admin"]


def test_the_next_pair_is_loaded_before_it_is_shown(app: Served, context: Any) -> None:
    page = open_tab(context.new_page(), app.address)
    loaded(page, 4)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/label/" in one.url else None)
    press(page, "1")
    shown = token(page)
    loaded(page, 6)
    assert asked  # the pair after the next
    assert not [url for url in asked if shown in url]


def loaded(page: Any, count: int) -> None:
    """Wait until so many blind images have been loaded."""
    found = "performance.getEntriesByType('resource').filter(one => one.name.includes('/label/'))"
    page.wait_for_function(f"{found}.length >= {count}")


# --- looks


def test_a_phone_sees_the_whole_question_without_scrolling(app: Served, chromium: Any) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = open_tab(context.new_page(), app.address)
    assert overflow(page) <= 0
    for target in (
        "[data-answer=left]:not(.fd-side)",
        "[data-answer=tie]",
        "[data-answer=skip]",
        "[data-undo]",
    ):
        box = page.locator(target).bounding_box()
        assert box["height"] >= 40
        assert box["y"] + box["height"] <= 844
    left, right = (page.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert abs(left["y"] - right["y"]) < 1 and left["x"] < right["x"]
    press(page, "1")
    for fold in page.locator("[data-reveal] summary").all():
        fold.click()
    page.wait_for_function("document.querySelectorAll('[data-reveal] svg').length === 2")
    page.click("[data-guide]")
    assert overflow(page) <= 0
    page.click("[data-kind=rating]")
    page.wait_for_selector(".fd-stars:visible")
    assert overflow(page) <= 0
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_is_readable(app: Served, context: Any, theme: str) -> None:
    page = open_tab(context.new_page(), app.address, f"?__theme={theme}")
    press(page, "1")
    page.click("[data-guide]")
    for selector in TEXTS:
        assert contrast(page, selector) >= 4.5, selector


TEXTS = (
    "[data-prompt]", "[data-caption]", ".fd-answers kbd", ".fd-answers b", "[data-undo]",
    "[data-kind=pair]", "[data-kind=rating]", "[data-guide]", ".fd-standing dt", ".fd-standing dd",
    ".fd-standing small", "#fd-guidelines li", ".fd-reveal .fd-say", ".fd-reveal summary",
)  # fmt: skip


def test_an_empty_store_says_what_to_do_and_begins_by_itself(
    serve: Callable[..., str], served_folder: Path, context: Any, tmp_path: Path
) -> None:
    app = Served(serve, toy_studio(served_folder), tmp_path)
    page = open_tab(context.new_page(), app.address)
    assert "flowdesign collect" in page.inner_text("[data-notice]")
    assert not page.locator("[data-answer=left]").first.is_visible()
    fill(app.store, ["a red star"], 3)
    page.wait_for_selector(f"{LABEL}[data-token]", timeout=20_000)
    press(page, "1")
