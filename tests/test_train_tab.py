"""The Train tab without a browser: what it shows, what its buttons do, and who may press them."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import train_toys
from train_toys import ToyConfig, finished, launcher, reaches, toy

from flowdesign import lease, runs
from flowdesign.access import AccessConfig, Person
from flowdesign.ui import train_keeping, train_view
from flowdesign.ui.critics import Critics
from flowdesign.ui.gate import Gate
from flowdesign.ui.train import Place, Train
from flowdesign.ui.train_launch import Launcher
from flowdesign.ui.train_runs import (
    Launch,
    Run,
)

# Gradio looks for a package that only Spaces have, to reload changed files there.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*hot-reloading in Spaces")
OWNER, VISITOR = Person("owner"), Person("visitor")
TOY, OTHER = train_toys.kinds()


def tab(start: Launcher, space: bool = False) -> Train:
    with gr.Blocks(), gr.Tabs(), gr.Tab("Train") as where:
        return Train(start, Gate(AccessConfig(space=space)), where, Critics())


# --- the tab


def test_the_tab_shows_what_the_folders_say(start: Launcher) -> None:
    finished(start.book.root, "one")
    finished(start.book.root, "two", "rises")
    view = tab(start)
    names = [part.name.value for part in view.new.parts]
    shown = view.arrive(OWNER, Place(), *names)
    assert "No run is at work" in shown[view.machine]
    assert shown[view.place].opened == "two"  # the newest
    assert 'data-run="one"' in shown[view.list] and "finished" in shown[view.list]
    assert "score, mean" in shown[view.figures] and "0.75" in shown[view.figures]
    assert "Report of two" in shown[view.report]
    assert "--shape rises" in shown[view.options]
    assert "finished after step 6 of 6" in shown[view.log]
    assert "Nothing has been deleted" in shown[view.actions.trash]
    other = view.press(OWNER, shown[view.place], "one")
    assert other[view.place].opened == "one" and "Report of one" in other[view.report]


def test_a_second_look_sends_only_what_has_changed(start: Launcher) -> None:
    finished(start.book.root, "one")
    view = tab(start)
    shown = view.show(OWNER, Place("one"))
    again = view.look(OWNER, Place("one"), shown[view.marks])
    assert again == {view.marks: gr.skip()}
    train_keeping.write_notes(start.book, "one", "new")
    third = view.look(OWNER, Place("one"), shown[view.marks])
    assert set(third) == {view.marks, view.head}
    train_keeping.delete(start.book, "one")  # by another visitor
    fourth = view.look(OWNER, Place("one"), third[view.marks])
    assert "is not here any more" in fourth[view.head] and fourth[view.curves] == ""


def test_runs_are_compared_in_one_chart(start: Launcher) -> None:
    finished(start.book.root, "one")
    finished(start.book.root, "two", "rises")
    view = tab(start)
    shown = view.press(OWNER, Place("one"), "one two")
    assert shown[view.place].ticked == ("two",)
    chart = shown[view.curves].split("<figure")[1]
    assert chart.count("<polyline") == 4 and "one member 0" in chart and "two member 1" in chart
    assert '<th scope="row">shape</th><td>rises</td><td>falls</td>' in shown[view.options]
    assert ">steps</th>" not in shown[view.options]  # they are the same
    back = view.press(OWNER, shown[view.place], "one")
    assert back[view.place].ticked == ()


def test_starting_from_the_form_opens_the_run(start: Launcher) -> None:
    view = tab(start)
    part = view.new.parts[0]
    values = [one.value for one in part.form.inputs]
    shown = part.begin(OWNER, Place(), (), *values)
    assert shown[view.place].opened == "toy-1" and shown[view.tabs].selected == "runs"
    assert shown[part.name] == "toy-2"  # the next one
    reaches(start, "toy-1", "finished")
    values[0] = "toy-1"
    taken = part.begin(OWNER, Place(), (), *values)
    assert "already" in taken[part.said] and view.place not in taken
    values[list(ToyConfig.model_fields).index("steps")] = 0
    bad = part.begin(OWNER, Place(), (), *values)
    assert bad[part.command] == "" and "nothing was started" in bad[part.said]
    assert bad[part.wrong] == ("steps",)


def test_a_preset_goes_on_from_the_newest_run_of_another(start: Launcher) -> None:
    part = tab(start).new.parts[0]
    base = part.form.fields["base"]
    assert part.fill("Further")[base] == ""  # there is none yet
    for name in ("older", "newer"):
        finished(start.book.root, name)
    finished(start.book.root, "longer", steps=7)
    assert part.fill("Further")[base] == "newer" and part.fill("Long")[base] == ""


def test_what_a_run_needs_and_is_not_there_is_told_at_its_option(start: Launcher) -> None:
    part = tab(start).new.parts[0]
    values = [one.value for one in part.form.inputs]
    place = list(ToyConfig.model_fields).index("base")
    values[place] = "gone"
    told = part.begin(OWNER, Place(), (), *values)
    assert "nothing was started" in told[part.said] and told[part.wrong] == ("base",)
    assert "There is no state in 'gone'" in told[part.form.fields["base"]]["info"]
    values[place] = finished(start.book.root, "there").name
    assert part.check((), *values)[part.wrong] == ()
    with lease.hold(start.book.root, "elsewhere"):  # what waits may go on from what comes before it
        start.enqueue(part.form.kind, toy("soon"))
        values[place] = "soon"
        assert part.check((), *values)[part.wrong] == ()


def test_a_busy_machine_offers_to_queue(start: Launcher) -> None:
    with lease.hold(start.book.root, "elsewhere"):
        view = tab(start)
        part = view.new.parts[0]
        values = [one.value for one in part.form.inputs]
        told = part.begin(OWNER, Place(), (), *values)
        assert "Run &#x27;elsewhere&#x27; is at work" in told[part.said]
        assert told[part.queue]["visible"] is True
        waits = part.wait(OWNER, Place(), (), *values)
        assert "place 1" in waits[view.head] and waits[part.queue]["visible"] is False
        assert waits[view.actions.stop]["visible"] is True
        finished_ = finished(start.book.root, "half")
        runs.replace_text(
            finished_ / "status.json",
            (finished_ / "status.json").read_text().replace("finished", "stopped"),
        )
        again = view.actions.do_resume(OWNER, Place("half"))
        assert again[view.actions.queue]["visible"] is True
        view.actions.do_queue(OWNER, Place("half"))
        assert start.book.get("half").place == 2


def test_actions_tell_what_is_in_the_way(start: Launcher) -> None:
    view = tab(start)
    actions = view.actions
    for told in (
        actions.do_stop(OWNER, Place()),
        actions.do_end(OWNER, None),
        actions.do_resume(OWNER, Place("nowhere")),
        actions.do_rename(OWNER, Place(), "x"),
        actions.do_delete(OWNER, Place()),
        actions.do_note(OWNER, Place(), "x"),
        actions.do_undo(OWNER, Place(), ""),
    ):
        assert 'role="alert"' in told[actions.said]
    finished(start.book.root, "mine")
    kept = actions.do_rename(OWNER, Place("mine"), "a b")
    assert all(panel not in kept for panel in actions.panels)  # what was typed stays in sight


def test_delete_asks_and_undo_brings_back(start: Launcher) -> None:
    finished(start.book.root, "mine")
    view = tab(start)
    actions = view.actions
    asked = actions.ask_delete(Place("mine"))
    assert "Delete the run &#x27;mine&#x27;?" in asked[actions.question]
    gone = actions.do_delete(OWNER, Place("mine"))
    assert gone[actions.undo]["visible"] and "mine" in gone[actions.trash]
    back = actions.do_undo(OWNER, Place(), gone[actions.token])
    assert back[view.place].opened == "mine" and start.book.get("mine").state == "finished"
    renamed = actions.do_rename(OWNER, Place("mine"), " yours ")
    assert renamed[view.place].opened == "yours"


def test_a_visitor_may_look_and_press_nothing(start: Launcher) -> None:
    finished(start.book.root, "mine")
    view = tab(start, space=True)
    shown = view.arrive(VISITOR, Place(), *[part.name.value for part in view.new.parts])
    assert shown[view.new.parts[0].start]["interactive"] is False
    assert shown[view.actions.delete] == gr.update(visible=True, interactive=False)
    assert "finished" in shown[view.head]


def test_a_damaged_queue_is_told_on_the_page(start: Launcher) -> None:
    start.book.root.mkdir()
    (start.book.root / "queue.json").write_text("{")
    view = tab(start)
    assert "queue.json cannot be read" in view.show(OWNER, Place())[view.machine]
    assert "queue.json cannot be read" in view.look(OWNER, Place(), {})[view.machine]
    part = view.new.parts[0]
    told = part.begin(OWNER, Place(), (), *[one.value for one in part.form.inputs])
    assert "queue.json cannot be read" in told[part.said]
    assert "unknown" not in part.expected.value  # costs do not depend on it


def test_texts_of_a_run_are_escaped() -> None:
    evil = "<script>x</script>"
    run = Run(evil, Path("x"), TOY, "failed", 1, 2, evil, launch=Launch("toy", evil))
    shown = [
        train_view.machine([run], {}),
        train_view.run_list([run], evil, [evil]),
        train_view.head(run, None, evil, evil),
        train_view.table({evil: {evil: [evil]}}),
        train_view.options(evil, {evil: evil}, {evil: {evil: evil}, "b": {}}),
        train_view.trash([train_keeping.Trashed(evil, evil, 0.0, 1)], True),
        train_view.gone(evil),
        train_view.log(evil),
    ]
    assert all("<script" not in text for text in shown)


def test_the_interface_imports_no_trainer() -> None:
    import subprocess
    import sys

    code = (
        "import sys, flowdesign.ui.train; heavy = ['flowdesign.sft', 'flowdesign.zoo',"
        " 'flowdesign.collect', 'flowdesign.reward.training']; assert not"
        " [name for name in heavy if name in sys.modules]"
    )
    root = Path(train_toys.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# --- over Gradio's endpoints


def test_strangers_start_stop_and_delete_nothing_over_http(
    tmp_path: Path, served_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for every handler of the page is in test_gate_http.py."""
    from conftest import free_port
    from fake_space import Caller, enter_space, likely_values
    from studio_toys import toy_studio

    from flowdesign.ui import build_app, launch

    enter_space(monkeypatch)
    token = "a-token-that-nobody-guesses"
    gate = Gate(AccessConfig(admin_token=token, space=True, login=True))
    start = launcher(tmp_path / "runs")
    finished(start.book.root, "mine")
    opening: Future[Any] = Future()
    opening.set_result(toy_studio(served_folder))
    app = build_app(opening, gate=gate, launcher=start)
    app.api_open = True
    port = free_port()
    options: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True, "ssr_mode": False}
    launch(app, server_name="127.0.0.1", server_port=port, **options)
    try:
        ours = [
            fn
            for fn in app.fns.values()
            if fn.fn is not None and gate.declared[fn.fn] in ("run", "delete")
            and fn.fn.__module__.startswith("flowdesign.ui.train")
        ]  # fmt: skip
        names = {fn.name for fn in ours}
        assert {"begin", "wait", "do_stop", "do_resume", "do_delete", "bring_back"} <= names
        before = sorted(path.name for path in start.book.root.rglob("*"))
        for fn in ours:
            answer = Caller(f"http://127.0.0.1:{port}").post(fn, likely_values(fn))
            assert "Only people named by the owner" in str(answer.get("error")), fn.name
        assert sorted(path.name for path in start.book.root.rglob("*")) == before
        (begin,) = [fn for fn in ours if fn.name == "begin"][:1]
        known = Caller(f"http://127.0.0.1:{port}", headers={"x-flowdesign-token": token})
        values = [getattr(block, "value", None) for block in begin.inputs]
        values = [
            None if isinstance(b, gr.State) else v
            for b, v in zip(begin.inputs, values, strict=True)
        ]
        assert "error" not in known.post(begin, values)
        done = reaches(start, "toy-1", "finished")
        assert done.launch is not None and done.launch.who == "admin"
    finally:
        app.close(verbose=False)
