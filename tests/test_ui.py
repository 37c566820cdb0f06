"""The page without a server: the cards, and what the buttons do."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from studio_toys import ToyFidelity, ToyPolicies, ToyPolicy, ToyRenderer, toy_studio
from test_studio import BAD_FILES, txt2img
from waiting import until

from flowdesign.catalog import known_assets
from flowdesign.designs import restore, takes_prompt
from flowdesign.request import MAX_SEED, Request
from flowdesign.studio import Designed, Rendered, Studio
from flowdesign.ui import build_app, cards, style
from flowdesign.ui.design_settings import GUIDED, UNGUIDED, read_seed
from flowdesign.ui.gate import Gate
from flowdesign.ui.keeping import Keeping
from flowdesign.ui.playground import BESIDE, Playground
from flowdesign.ui.shared import SharedStore

POLICIES: Any = ToyPolicies(ToyPolicy())
PAGE: Any = SimpleNamespace(session_hash="page-1", headers={}, client=None)
OTHER: Any = SimpleNamespace(session_hash="page-2", headers={}, client=None)


def ready(studio: Studio) -> "Future[Studio]":
    opening: Future[Studio] = Future()
    opening.set_result(studio)
    return opening


def page(studio: Studio) -> Playground:
    with gr.Blocks():
        keeping = Keeping(SharedStore(), Gate())
        return Playground(ready(studio), keeping, known_assets(), studio.policies)  # type: ignore[arg-type]


def ask(view: Playground, prompt: str = "a red star", count: float = 2, seed: str = "7") -> Any:
    return view.ask_design(PAGE, prompt, count, seed, *chosen())


def chosen(
    random: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    policy: str = "mine",
    scale: float = 1.0,
    beside: bool = False,
    free: bool = False,
) -> tuple[Any, ...]:
    """The settings after the seed."""
    return random, temperature, top_p, False, policy, scale, beside, free


# --- cards


def results(tmp_path: Path, prompt: str = "a red star") -> tuple[Designed, Rendered]:
    designed, rendered = toy_studio(tmp_path).design(Request(prompt, 1, seed=3))
    assert isinstance(designed, Designed) and isinstance(rendered, Rendered)
    return designed, rendered


def test_a_finished_card_has_image_words_graph_and_three_files(tmp_path: Path) -> None:
    _, event = results(tmp_path)
    card = cards.rendered(event)
    assert f'src="gradio_api/file={event.image}"' in card
    assert event.design.description in card and "<svg" in card and "Exact" in card
    assert re.findall(r'download="([^"]+)"', card) == [
        "flowdesign-3-1.png",
        "flowdesign-3-1.api.json",
        "flowdesign-3-1.ui.json",
    ]


def test_cards_escape_the_prompt(tmp_path: Path) -> None:
    designed, rendered = results(tmp_path, '"><img src=x onerror=alert(1)>')
    for card in (cards.designed(designed), cards.rendered(rendered), cards.stopped(designed)):
        assert "<img src=x" not in card


def test_problems_of_a_file_are_listed_and_escaped(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text('{"1": {"class_type": "<b>KSamplr", "inputs": {}}}', encoding="utf-8")
    card = cards.restored(restore(file, known_assets()), "<b>w.json")
    assert "<b>" not in card and "<li>" in card and "KSampl" in card


# --- what the buttons do


def test_designing_fills_a_slot_after_the_other(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    asked = ask(view)
    assert asked[view.settings.seed] == "7" and not asked[view.go]["interactive"]
    seen = [[slot for slot in view.slots if slot in update] for update in view.work(PAGE)]
    first, second = view.slots[:2]
    # Each is said, rendered, and then scored.
    assert seen == [[], *[[first]] * 3, *[[second]] * 3, []]


def test_the_end_says_the_seed_and_frees_the_button(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    ask(view)
    *_, last = view.work(PAGE)
    assert "2 designs for seed 7" in last[view.status] and last[view.go]["interactive"]


def test_a_random_seed_is_shown(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    asked = view.ask_design(PAGE, "a red star", 1, "7", *chosen(random=True))
    assert asked[view.settings.seed] != "7" and 0 <= int(asked[view.settings.seed]) < 2**32


class BrokenPolicy(ToyPolicy):
    """Says one sentence, then meets a fault of its own."""

    def sample_stream(self, *request: Any, **options: Any) -> Any:
        yield from super().sample_stream(request[0], 1, *request[2:], **options)
        raise RuntimeError("the cache is too short")


def test_a_fault_of_the_policy_is_told_and_the_page_can_be_used_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    view = page(toy_studio(tmp_path, policy=BrokenPolicy()))
    ask(view)
    *_, last = view.work(PAGE)
    assert "The design failed: the cache is too short" in last[view.status]
    assert last[view.go]["interactive"] and not last[view.stop]["interactive"]
    assert "Traceback" in caplog.text and "the cache is too short" in caplog.text
    assert not view.tasks._tasks
    assert view.go in ask(view)


def test_a_fault_in_the_middle_of_a_render_ends_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = toy_studio(tmp_path)

    def broken(*_: Any) -> Any:
        raise KeyError

    monkeypatch.setattr(studio, "_render_one", broken)
    view = page(studio)
    ask(view)
    *_, last = view.work(PAGE)
    assert "The design failed: KeyError" in last[view.status]
    assert "KeyError" in last[view.slots[0]]


def test_an_output_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("a file where the folder should be")
    view = page(toy_studio(output))
    ask(view, count=1)
    *_, card, last = view.work(PAGE)
    assert "could not be written" in card[view.slots[0]]
    assert last[view.go]["interactive"]


@pytest.mark.parametrize(
    ("count", "temperature", "words"),
    [
        (None, 1.0, "1 to 8"),
        (2.5, 1.0, "1 to 8"),
        (float("nan"), 1.0, "1 to 8"),
        (2, None, "0 to 2"),
    ],
)
def test_numbers_that_are_none_are_told(
    tmp_path: Path, count: Any, temperature: Any, words: str
) -> None:
    view = page(toy_studio(tmp_path))
    asked = view.ask_design(PAGE, "a red star", count, None, *chosen(temperature=temperature))
    assert words in asked[view.status]


@pytest.mark.parametrize(
    ("prompt", "seed", "words"),
    [
        ("", "1", "empty"),
        ("x" * 10_000, "1", "10,000 characters"),
        ("a star", "seven", "whole number"),
        ("a star", "-1", "whole number"),
        ("a star", "9" * 20, "whole number"),
        ("a star", "9" * 5000, "whole number"),
    ],
)
def test_bad_requests_are_told_beside_the_prompt(
    tmp_path: Path, prompt: str, seed: str, words: str
) -> None:
    view = page(toy_studio(tmp_path))
    asked = ask(view, prompt, seed=seed)
    assert set(asked) == {view.status}
    assert words in asked[view.status] and 'role="alert"' in asked[view.status]
    assert list(view.work(PAGE)) == [{view.status: gr.skip()}]  # nothing was begun


def test_cancelling_stops_only_this_page(tmp_path: Path) -> None:
    renderer = ToyRenderer(pause=0.01, steps=100_000)
    view = page(toy_studio(tmp_path, renderer=renderer))
    ask(view, count=4)
    view.ask_design(OTHER, "a blue heart", 1, "1", *chosen())
    seen: list[Any] = []
    runner = threading.Thread(target=lambda: seen.extend(view.work(PAGE)))
    runner.start()
    until(lambda: renderer.steps_done > 0)
    assert list(view.cancel(PAGE)) == [view.stop]  # the work says how it ended
    runner.join(timeout=30)
    assert not runner.is_alive()
    assert "Stopped after 0 designs" in seen[-1][view.status]
    assert "Stopped" in seen[-1][view.slots[0]] and seen[-1][view.go]["interactive"]
    renderer.steps = 10
    assert len(list(view.work(OTHER))) > 2


def test_cancelling_in_the_queue_means_that_nothing_starts(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    view = page(toy_studio(tmp_path, renderer=renderer))
    ask(view)
    stopped = view.cancel(PAGE)
    assert "Stopped after 0 designs" in stopped[view.status] and stopped[view.go]["interactive"]
    assert list(view.work(PAGE)) == [{view.status: gr.skip()}]
    assert renderer.renders == 0


def rendering(view: Playground, renderer: ToyRenderer) -> Iterator[Any]:
    """The page's work on four designs, of which one is rendered."""
    ask(view, count=4)
    work = view.work(PAGE)
    while renderer.renders < 1:
        next(work)
    return work


def test_a_page_that_goes_away_stops_its_work(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    view = page(toy_studio(tmp_path, renderer=renderer))
    work = rendering(view, renderer)
    view.leave(PAGE)
    list(work)
    assert renderer.renders == 1
    assert not view.tasks._tasks


def test_a_closed_generator_leaves_no_task(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    ask(view)
    work: Iterator[Any] = view.work(PAGE)
    next(work)
    work.close()  # type: ignore[attr-defined]
    assert not view.tasks._tasks


def test_pressing_design_twice_asks_once(tmp_path: Path) -> None:
    policy = ToyPolicy()
    view = page(toy_studio(tmp_path, policy=policy))
    ask(view)
    work = view.work(PAGE)
    next(work)
    assert ask(view) == {view.status: gr.skip()}
    assert list(view.work(PAGE)) == [{view.status: gr.skip()}]
    list(work)
    assert len(policy.prompts) == 1


def test_work_waits_for_the_models_and_can_be_cancelled_meanwhile() -> None:
    with gr.Blocks():
        view = Playground(Future(), Keeping(SharedStore(), Gate()), policies=POLICIES)
    ask(view)
    work = view.work(PAGE)
    assert "loading" in next(work)[view.status]
    view.cancel(PAGE)
    (last,) = work
    assert "Stopped after 0 designs" in last[view.status]


def test_models_that_cannot_be_loaded_are_told(tmp_path: Path) -> None:
    opening: Future[Studio] = Future()
    opening.set_exception(FileNotFoundError("No policy in checkpoints/policy_sft"))
    with gr.Blocks():
        view = Playground(opening, Keeping(SharedStore(), Gate()), policies=POLICIES)
    ask(view)
    *_, last = view.work(PAGE)
    assert "No policy" in last[view.status] and last[view.go]["interactive"]


def test_a_dropped_file_restores_prompt_workflow_and_seed(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    _, event = results(tmp_path, "a fox 🦊")
    opened = view.open_file(str(event.image))
    assert (opened[view.prompt], opened[view.settings.seed], opened[view.settings.random]) == (
        "a fox 🦊",
        "3",
        False,
    )
    assert "<svg" in opened[view.restored_view] and opened[view.file] is None
    asked = view.ask_render(opened[view.restored], "a fox 🦊", "3", PAGE)
    assert view.slots[0] in asked
    *_, last = view.work(PAGE)
    assert "1 design for seed 3" in last[view.status]


def test_a_restored_workflow_is_rendered_with_a_long_prompt(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    long = "a fox, " * 2_000
    file = tmp_path / "w.json"
    file.write_text(json.dumps(txt2img(n2__text=long)), encoding="utf-8")
    opened = view.open_file(str(file))
    assert opened[view.prompt] == long
    view.ask_render(opened[view.restored], long, "3", PAGE)
    assert "1 design for seed 3" in list(view.work(PAGE))[-1][view.status]
    refused = view.ask_render(opened[view.restored], "x" * 20_001, "3", PAGE)
    assert "at most 20,000" in refused[view.status]


def test_a_workflow_with_texts_of_its_own_needs_no_prompt(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    file = tmp_path / "w.json"
    file.write_text(json.dumps(txt2img(n6__samples=["4", 0])), encoding="utf-8")
    opened = view.open_file(str(file))
    workflow = opened[view.restored]
    assert workflow is not None and not takes_prompt(workflow)
    assert "prompt above is not used" in opened[view.restored_view]
    view.ask_render(workflow, "", "3", PAGE)
    assert "1 design" in list(view.work(PAGE))[-1][view.status]


def test_what_a_file_would_render_like_is_told(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path)
    studio.renderer.told = ToyFidelity("approximate", ("bf16 weights",))
    view = page(studio)
    file = tmp_path / "w.json"
    file.write_text(json.dumps(txt2img()), encoding="utf-8")
    shown = view.open_file(str(file))[view.restored_view]
    assert "Approximate" in shown and "bf16 weights" in shown and "fd-node-bad" not in shown


def test_a_file_that_cannot_be_rendered_is_drawn_with_its_problems_at_their_nodes(
    tmp_path: Path,
) -> None:
    workflow = txt2img()
    workflow["6"]["class_type"] = "VAEDecodeLoud"
    workflow["4"]["class_type"] = "EmptyLatentSound"
    file = tmp_path / "w.json"
    file.write_text(json.dumps(workflow), encoding="utf-8")
    view = page(toy_studio(tmp_path))
    shown = view.open_file(str(file))[view.restored_view]
    assert shown.count("fd-node-bad") == 2 and "Refused" in shown
    marked = shown.split("<g ")
    (loud,) = [part for part in marked if ">VAEDecodeLoud<" in part]
    assert "fd-node-bad" in loud and "<title>" in loud and "fd-fault" in loud
    assert shown.count("fd-wire") == 9
    file.write_text(json.dumps(txt2img(n5__steps=-1)), encoding="utf-8")
    shown = view.open_file(str(file))[view.restored_view]
    (sampler,) = [part for part in shown.split("<g ") if ">KSampler<" in part]
    assert shown.count("fd-node-bad") == 1 and "fd-node-bad" in sampler and "steps" in sampler


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_answered_in_words(tmp_path: Path, name: str) -> None:
    file_name, data = BAD_FILES[name]
    file = tmp_path / file_name
    file.write_bytes(data)
    view = page(toy_studio(tmp_path))
    opened = view.open_file(str(file))
    assert opened[view.restored] is None and not opened[view.render_it]["visible"]
    assert "<li>" in opened[view.restored_view]
    assert "alert" in opened[view.status]


def test_render_without_a_restored_workflow_is_told(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    assert "no restored workflow" in view.ask_render(None, "x", "1", PAGE)[view.status]


def test_seeds_are_exact_beyond_javascript() -> None:
    assert read_seed(f" {MAX_SEED} ") == MAX_SEED


# --- the page as a whole


def test_guidance_is_offered_where_there_are_two_policies(tmp_path: Path) -> None:
    settings = page(toy_studio(tmp_path)).settings
    assert (settings.scale.minimum, settings.scale.maximum) == (-1, 10)
    for name, guided, words in (("mine", True, GUIDED), ("start", False, UNGUIDED)):
        found = settings.choose(name)
        assert found[settings.scale]["interactive"] is guided
        assert found[settings.scale]["info"] == words
        assert found[settings.beside]["interactive"] is guided
    assert found[settings.beside]["value"] is False
    listed = settings.refresh("gone")[settings.policy]
    assert (listed["choices"], listed["value"]) == (["mine", "start"], "mine")
    assert settings.refresh("start")[settings.policy]["value"] == "start"


def test_three_stand_side_by_side_and_the_third_is_guided(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    asked = view.ask_design(PAGE, "a red star", 2, "7", *chosen(scale=2.5, beside=True))
    assert asked[view.results]["elem_classes"] == [BESIDE]
    shown: dict[int, str] = {}
    for update in view.work(PAGE):
        shown |= {place: update[slot] for place, slot in enumerate(view.slots) if slot in update}
    for place, card in shown.items():
        assert ("s = 0, before GRPO", "s = 1, after GRPO", "s = 2.5, guided")[place % 3] in card
    assert len(shown) == 6
    plain = view.ask_design(PAGE, "a red star", 8, "7", *chosen(beside=False))
    assert plain[view.results]["elem_classes"] == []


def test_side_by_side_shows_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    view.ask_design(PAGE, "a red star", 8, "7", *chosen(beside=True))
    assert list(view.work(PAGE))[-1][view.status].count("12 designs") == 1


def test_moving_the_slider_designs_again_with_the_same_chance(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    assert view.ask_at_scale(PAGE, "a red star", 1, "", *chosen(scale=2.0)) == {
        view.status: gr.skip()
    }
    shown = {}
    for scale in (2.0, 3.0, -1.0):
        asked = view.ask_at_scale(PAGE, "a red star", 1, "7", *chosen(random=True, scale=scale))
        assert asked[view.settings.seed] == "7" and view.slots[0] not in asked
        assert asked[view.slots[1]] == ""  # of more designs than these
        for update in view.work(PAGE):
            shown[scale] = update.get(view.slots[0]) or shown.get(scale)
    said = {scale: card.split("<code>")[1] for scale, card in shown.items()}
    assert said[2.0] == said[3.0] != said[-1.0]


def test_a_design_that_gives_way_to_the_slider_does_not_say_that_it_stopped(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    view = page(toy_studio(tmp_path, renderer=renderer))
    first = rendering(view, renderer)
    view.ask_at_scale(PAGE, "a red star", 1, "7", *chosen(scale=2.0))
    assert all(view.status not in update for update in first) and renderer.renders == 1
    assert "1 design for seed 7" in list(view.work(PAGE))[-1][view.status]


def test_a_policy_that_is_not_there_is_told(tmp_path: Path) -> None:
    view = page(toy_studio(tmp_path))
    asked = view.ask_design(PAGE, "a red star", 1, "7", *chosen(policy="gone"))
    assert "Unknown policy &#x27;gone&#x27;" in asked[view.status]
    view.ask_design(PAGE, "a red star", 1, "7", *chosen(policy="start", scale=4.0, beside=True))
    assert "start" in "".join(str(one) for one in view.work(PAGE))  # its scale does not count


def test_only_designing_and_labelling_are_public_endpoints(tmp_path: Path) -> None:
    app = build_app(ready(toy_studio(tmp_path)))
    public = [fn.api_name for fn in app.fns.values() if fn.api_visibility == "public"]
    assert sorted(public) == ["design", "label_answer", "label_deal", "label_undo"]


def test_one_studio_serves_one_page_at_a_time(tmp_path: Path) -> None:
    app = build_app(ready(toy_studio(tmp_path)))
    long = [fn for fn in app.fns.values() if fn.concurrency_id == "studio"]
    assert len(long) == 5 and all(fn.concurrency_limit == 1 for fn in long)


def test_the_look_needs_no_network() -> None:
    assert not re.search(r"https?://|@import", style.css() + style.head())
    assert not style.theme()._stylesheets
