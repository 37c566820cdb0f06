"""The Ablation tab without a browser: what its buttons do, and what it shows."""

import re
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from ablation_toys import studio
from studio_toys import ToyPolicies, ToyPolicy, ToyRenderer

from flowdesign.ablation.running import Cells
from flowdesign.ablation.setting import Setting
from flowdesign.catalog import known_assets
from flowdesign.policies import Known
from flowdesign.studio import Studio
from flowdesign.ui import build_app
from flowdesign.ui.ablation import SLOTS, Ablation
from flowdesign.ui.ablation_form import UNGUIDED
from flowdesign.ui.gate import Gate
from flowdesign.ui.tasks import Tasks

START = Path("start")
PAGE: Any = SimpleNamespace(session_hash="page-1", headers={}, client=None, query_params={})
OTHER: Any = SimpleNamespace(session_hash="page-2", headers={}, client=None, query_params={})


@cache
def built(guided: bool) -> Ablation:
    """The tab's components. Gradio takes a second of the processor for a page, so they are shared."""
    policies: Any = SimpleNamespace(
        all=lambda: [Known("mine", Path("mine"), START if guided else None)]
    )
    with gr.Blocks():
        return Ablation(Future(), Gate(), known_assets(), policies)


def page(made: Studio | None) -> Ablation:
    """The tab around a studio, as new; around one that is still opening for None."""
    policies: Any = made.policies if made else ToyPolicies(ToyPolicy())
    view = built(any(one.start for one in policies.all()))
    view.opening, view.policies, view.form.policies = Future(), policies, policies
    if made:
        view.opening.set_result(made)
    view.cells, view.tasks = Cells(view.cells.scoring), Tasks()
    view._grids.clear()
    return view


def values(**setting: Any) -> list[Any]:
    """What the form's components hold."""
    usual = {"prompts": "a red star", "x_values": "0-1 [3]", "y": "seed", "seeds": "1-2"}
    return list((Setting().model_dump() | usual | setting).values())


def make(view: Ablation, **setting: Any) -> list[Any]:
    view.ask(PAGE, *values(**setting))
    return list(view.work(PAGE))


def shown(view: Ablation, updates: list[Any]) -> dict[Any, Any]:
    """All that the page shows in the end."""
    return {place: value for update in updates for place, value in update.items()}


def grid(view: Ablation, updates: list[Any]) -> str:
    found = shown(view, updates)
    return "".join(found.get(slot, "") for slot in view.slots)


def test_before_the_start_the_page_says_how_many_cells_and_how_long(tmp_path: Path) -> None:
    made = studio(tmp_path)
    view = page(made)
    told = view.look(*values())
    assert "6 cells (3 × 2)" in told and "shows with the first cell" in told
    assert "3 × 1, 2 times" in view.look(*values(y="none"))
    made.pace.said(1, 2.0)
    made.pace.drew(3.0)
    assert "about 30 s." in view.look(*values())
    make(view, seeds="1")
    told = view.look(*values())
    assert "3 cells there already; about" in told
    make(view)
    assert "All are there already." in view.look(*values())
    link = re.search(r'href="([^"]+)"', told)
    assert link and link[1].startswith("?tab=ablation&amp;prompts=a+red+star")


def test_while_models_load_the_plan_is_shown_without_a_time() -> None:
    view = page(None)
    told = view.look(*values(x="temperature", policy=""))
    assert "6 cells" in told and "once the models are loaded" in told


def test_cells_come_one_after_the_other_and_stay(tmp_path: Path) -> None:
    view = page(studio(tmp_path))
    asked = view.ask(PAGE, *values())
    assert asked[view.slots[0]].count("fd-busy") == 3 and not asked[view.go]["interactive"]
    updates = list(view.work(PAGE))
    counts = [grid(view, updates[: n + 1]).count("<img") for n in range(len(updates))]
    assert counts == [0, 1, 2, 3, 4, 5, 6, 6]
    last = updates[-1]
    assert "6 of 6 cells." in last[view.status] and last[view.save]["interactive"]
    assert last[view.go]["interactive"] and not last[view.stop]["interactive"]
    assert last[view.curves].count("<figure") == 5 and "fd-band" in last[view.curves]
    assert "guidance s" in last[view.curves]
    again = make(view)
    assert "6 of them made before" in again[-1][view.status]


def test_a_cell_shows_image_sentence_and_three_scores(tmp_path: Path) -> None:
    made = studio(tmp_path)
    view = page(made)
    shown_ = grid(view, make(view, x="none", seeds="1", best_of=4))
    assert re.search(r'<img src="gradio_api/file=[^"]+\.png" alt="seed 1: [^"]+"', shown_)
    assert all(f"<dt>{name}</dt>" in shown_ for name in ("true", "predicted", "strict"))
    assert "&lt;ckpt:" in shown_ and "Best of 4 by the lower bound" in shown_


def test_many_rows_share_the_places(tmp_path: Path) -> None:
    view = page(studio(tmp_path))
    found = make(view, x="none", seeds=f"1-{2 * SLOTS + 1}")
    assert grid(view, found).count("<img") == 2 * SLOTS + 1
    smaller = make(view, x="none", seeds="1")
    asked = view.ask(PAGE, *values(x="none", seeds="1"))
    assert all(asked[slot] == "" for slot in view.slots[1:])
    assert grid(view, smaller).count("<img") == 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"prompts": ""}, "There is no prompt"),
        ({"x_values": "0-x"}, "is no number and no range"),
        ({"best_of": None}, "best_of"),
        ({"x": "ckpt", "x_values": "<b>"}, "no checkpoint"),
        ({"fixed": "<img src=x>"}, "fixes no choice"),
    ],
)
def test_bad_input_is_told_and_nothing_is_lost(
    tmp_path: Path, setting: dict[str, Any], words: str
) -> None:
    view = page(studio(tmp_path))
    make(view)
    asked = view.ask(PAGE, *values(**setting))
    assert list(asked) == [view.status] and words in asked[view.status]
    told = view.look(*values(**setting))
    assert words in told and "fd-is-bad" in told
    for text in (told, asked[view.status]):
        assert "<b>" not in text and "<img" not in text and "Traceback" not in text
    assert view.files in view.export(PAGE)


def test_cancelling_keeps_the_finished_cells_and_their_curves(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    view = page(studio(tmp_path, renderer=renderer))
    view.ask(PAGE, *values())
    work = view.work(PAGE)
    seen = [next(work), next(work), next(work)]
    assert list(view.cancel(PAGE)) == [view.stop]  # the work says how it ended
    seen += work
    stopped = seen[-1]
    assert "Stopped after 2 of 6 cells" in stopped[view.status]
    assert grid(view, seen).count("<img") == 2 and grid(view, seen).count("not made") == 4
    assert "fd-busy" not in grid(view, seen)
    assert "<figure" in stopped[view.curves] and stopped[view.save]["interactive"]
    assert renderer.renders == 2
    assert "2 of them made before" in make(view)[-1][view.status] and renderer.renders == 6


def test_closing_the_page_stops_its_work_and_forgets_its_grid(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    view = page(studio(tmp_path, renderer=renderer))
    view.ask(PAGE, *values())
    work = view.work(PAGE)
    next(work)
    next(work)
    view.leave(PAGE)
    assert all(view.slots[0] not in update for update in work)
    assert renderer.renders == 1 and not view.tasks._tasks
    assert "There is no grid yet" in view.export(PAGE)[view.status]


def test_pages_have_grids_of_their_own(tmp_path: Path) -> None:
    view = page(studio(tmp_path))
    make(view)
    assert "There is no grid yet" in view.export(OTHER)[view.status]
    made = view.export(PAGE)[view.files]
    assert [name for name in ("Contact sheet", "CSV", "Zip") if f">{name}</a>" in made] == [
        "Contact sheet", "CSV", "Zip",
    ]  # fmt: skip
    assert "nothing to stop" in view.cancel(OTHER)[view.status]


def test_a_second_press_while_the_grid_is_made_changes_nothing(tmp_path: Path) -> None:
    view = page(studio(tmp_path))
    view.ask(PAGE, *values())
    work = view.work(PAGE)
    next(work)
    assert view.ask(PAGE, *values(seeds="9")) == {view.status: gr.skip()}
    assert "6 of 6 cells" in list(work)[-1][view.status]


def test_a_fault_is_told_and_the_finished_cells_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Tired(ToyPolicy):
        def sample_stream(self, prompt: str, n: int, seed: int, *rest: Any, **more: Any) -> Any:
            if seed == 2:
                raise RuntimeError("the cache is too short")
            return super().sample_stream(prompt, n, seed, *rest, **more)

    view = page(studio(tmp_path, policy=Tired()))
    updates = make(view)
    assert "The grid failed: the cache is too short" in updates[-1][view.status]
    # Three of the first seed, and scale 0 of the second, where the toy speaks with another one.
    assert grid(view, updates).count("<img") == 4 and updates[-1][view.go]["interactive"]
    assert grid(view, updates).count("not made") == 2
    assert "Traceback" in caplog.text and not view.tasks._tasks


def test_without_a_policy_of_grpo_the_tab_says_so_and_starts_with_another_axis(
    tmp_path: Path,
) -> None:
    view = page(studio(tmp_path, guided=False))
    assert view.form.fields["x"].value == "temperature" and "grpo" in UNGUIDED
    assert UNGUIDED in view.form.note.value
    told = view.look(*values())
    assert "No policy that GRPO improved is here yet" in told
    assert "6 of 6 cells" in make(view, x="temperature")[-1][view.status]
    guided = page(studio(tmp_path / "guided"))
    assert guided.form.fields["x"].value == "guidance" and guided.form.note.value == ""


def test_without_the_grammar_validity_falls_and_failures_say_why(tmp_path: Path) -> None:
    view = page(studio(tmp_path, policy=ToyPolicy(broken=[0])))
    updates = make(view, free=True)
    assert grid(view, updates).count("Not a workflow") == 6
    assert "6 without an image" in updates[-1][view.status]
    assert re.search(r"<b>valid</b>", updates[-1][view.curves])


def test_another_axis_shows_an_example_and_prompts_need_none(tmp_path: Path) -> None:
    form = page(studio(tmp_path)).form
    box = form.fields["x_values"]
    assert form.choose("x", "cfg")[box]["value"] == "1-5"
    prompts = form.choose("x", "prompt")[box]
    assert not prompts["interactive"] and prompts["placeholder"] == "the prompts above"


def test_a_link_restores_the_form_and_opens_the_tab(tmp_path: Path) -> None:
    view = page(studio(tmp_path))
    tabs: Any = "the tabs"
    restore = view._opener(tabs)
    query = {
        "tab": "ablation", "prompts": "a\nb", "x": "cfg", "x_values": "1-5", "y": "seed",
        "policy": "gone", "free": "True", "best_of": "4", "__theme": "dark",
    }  # fmt: skip
    found = restore(SimpleNamespace(query_params=query))
    fields = view.form.fields
    assert found[tabs]["selected"] == "ablation"
    assert (found[fields["prompts"]], found[fields["x"]]) == ("a\nb", "cfg")
    assert found[fields["x_values"]]["value"] == "1-5" and found[fields["free"]] is True
    assert found[fields["best_of"]] == 4 and not found[fields["y_values"]]["interactive"]
    assert ("gone", "gone") in found[fields["policy"]]["choices"]  # and the plan says so
    assert "Unknown policy" in view.look(*values(policy="gone"))
    bad = restore(SimpleNamespace(query_params={"tab": "ablation", "x": "colour"}))
    assert "The link cannot be restored. Unknown axis" in bad[view.status]
    assert restore(SimpleNamespace(query_params={"__theme": "dark"})) == {view.status: gr.skip()}


def test_every_handler_of_the_tab_is_declared(tmp_path: Path) -> None:
    opening: Future[Studio] = Future()
    gate = Gate()
    app = build_app(opening, known_assets(), gate, policies=studio(tmp_path).policies)  # type: ignore[arg-type]
    assert gate.undeclared(app) == []
