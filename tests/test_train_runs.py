"""Runs as the Train tab starts, queues, stops, renames and deletes them: toys in processes of their own."""

import json
import os
import signal
from pathlib import Path

import gradio as gr
import pytest
import train_toys
from test_train_tab import tab
from train_toys import OtherConfig, finished, launcher, reaches, toy
from waiting import until

from flowdesign import lease, runs
from flowdesign.access import Person
from flowdesign.ui import train_keeping
from flowdesign.ui.train import Place
from flowdesign.ui.train_launch import Busy, Launcher
from flowdesign.ui.train_runs import (
    RunBook,
    TrainError,
    last_lines,
    read_launch,
)

OWNER, VISITOR = Person("owner"), Person("visitor")
TOY, OTHER = train_toys.kinds()
# --- what a run is, from its folder


def test_a_run_from_a_shell_is_known_by_its_options(tmp_path: Path) -> None:
    finished(tmp_path, "one", steps=4)
    found = RunBook(tmp_path, (OTHER, TOY)).get("one")
    assert (found.state, found.step, found.total) == ("finished", 4, 4)
    assert found.kind is TOY and not found.open and not found.resumable


def test_shipped_runs_of_this_project_are_read_only() -> None:
    book = RunBook()
    if not (book.root / "policy_sft" / "status.json").exists():
        pytest.skip("the shipped policy is not here")
    run = book.get("policy_sft")
    assert run.shipped and run.kind is not None and run.kind.name == "sft"
    assert not run.resumable
    before = sorted(run.folder.iterdir())
    for change in (
        lambda: train_keeping.rename(book, "policy_sft", "mine"),
        lambda: train_keeping.delete(book, "policy_sft"),
        lambda: train_keeping.write_notes(book, "policy_sft", "mine"),
        lambda: Launcher(book).resume("policy_sft"),
    ):
        with pytest.raises(TrainError, match="came with FlowDesign"):
            change()
    assert sorted(run.folder.iterdir()) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "running", "more": 1}', "null"])
def test_damaged_files_do_not_hide_the_other_runs(tmp_path: Path, text: str) -> None:
    finished(tmp_path, "sound")
    folder = finished(tmp_path, "hurt")
    for name in ("status.json", "launch.json", "config.json", "figures.json", "metrics.jsonl"):
        (folder / name).write_text(text)
    start = launcher(tmp_path)
    found = {run.name: run.state for run in start.book.all()}
    assert found["sound"] == "finished" and found["hurt"] == "failed"
    view = tab(start)
    shown = view.show(OWNER, Place("hurt"))
    assert "status.json cannot be read" in shown[view.head]


def test_an_unknown_run_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    finished(tmp_path, "sft-demo")
    with pytest.raises(TrainError, match="Did you mean 'sft-demo'"):
        RunBook(tmp_path, (TOY,)).get("sft-demp")
    for name in ("", "..", "../..", "/etc"):
        with pytest.raises(TrainError, match="no run"):
            RunBook(tmp_path, (TOY,)).get(name)


# --- starting, stopping, going on


def test_a_started_run_is_a_process_of_its_own_and_finishes(start: Launcher) -> None:
    start.start(TOY, toy("mine", steps=5), "alice")
    assert start.book.get("mine").state in ("starting", "running", "finished")
    run = reaches(start, "mine", "finished")
    assert (run.step, run.total) == (5, 5)
    assert run.launch is not None and (run.launch.kind, run.launch.who) == ("toy", "alice")
    assert "Step(index=4" in (run.folder / "output.txt").read_text()
    assert start.book.config(run) == toy("mine", steps=5)
    until(lambda: lease.holder(start.book.root) is None)
    status = runs.read_status(run.folder)
    assert status is not None and status.pid != os.getpid()


def test_stop_and_resume_lose_nothing(start: Launcher) -> None:
    start.start(TOY, toy("mine", steps=400, pause=0.02))
    until(lambda: start.book.get("mine").step > 3)
    assert start.book.get("mine").state == "running"
    assert os.getsid(runs.read_status(start.book.root / "mine").pid) != os.getsid(0)  # type: ignore[union-attr]
    start.stop("mine")
    run = reaches(start, "mine", "stopped")
    assert run.resumable and 3 < run.step < 400
    (run.folder / "config.json").write_text(
        toy("mine", steps=400, pause=0.0).model_dump_json()
    )  # an incidental option
    until(lambda: lease.holder(start.book.root) is None)
    start.resume("mine")
    done = reaches(start, "mine", "finished")
    assert [row["step"] for row in runs.read_metrics(done.folder)] == list(range(400))
    with pytest.raises(TrainError, match="cannot be resumed: it has finished"):
        start.resume("mine")
    with pytest.raises(TrainError, match="is not at work"):
        start.stop("mine")


def test_a_killed_run_shows_crashed_with_its_last_lines_and_goes_on(start: Launcher) -> None:
    start.start(TOY, toy("mine", steps=60, pause=0.05))
    until(lambda: start.book.get("mine").step > 6)
    status = runs.read_status(start.book.root / "mine")
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    run = reaches(start, "mine", "crashed")
    until(lambda: start.look() or start.book.get("mine").launch.code is not None)  # type: ignore[union-attr]
    view = tab(start)
    shown = view.show(OWNER, Place("mine"))
    assert "crashed" in shown[view.head] and "signal 9" in shown[view.head]
    # What a step says is printed after it is recorded, so the kill may have come in between.
    told = [f"Step(index={step}" in shown[view.head] for step in (run.step - 1, run.step - 2)]
    assert any(told)
    assert shown[view.actions.resume] == gr.update(visible=True, interactive=True)
    view.actions.do_resume(OWNER, Place("mine"))
    done = reaches(start, "mine", "finished")
    assert [row["step"] for row in runs.read_metrics(done.folder)] == list(range(60))
    assert done.launch is not None and done.launch.code is None


def test_a_run_that_breaks_says_why(start: Launcher) -> None:
    start.start(TOY, toy("mine", steps=9, fail_at=3))
    run = reaches(start, "mine", "failed")
    view = tab(start)
    head = view.show(OWNER, Place("mine"))[view.head]
    assert run.step == 3 and "ValueError: the toy broke" in head
    assert "the toy broke" in last_lines(run.folder, 5)


def test_a_run_that_never_begins_says_why(start: Launcher) -> None:
    start.start(TOY, toy("mine", steps=300))
    until(lambda: start.book.get("mine").step > 0)
    start.stop("mine")
    run = reaches(start, "mine", "stopped")
    until(lambda: lease.holder(start.book.root) is None)
    launch = read_launch(run.folder)
    assert launch is not None
    broken = Launcher(start.book, (*start.program[:-1], "/dev/null/nowhere"))
    broken.resume("mine")
    failed = reaches(start, "mine", "failed")
    assert "ended before it was under way" in failed.message and failed.resumable
    gone = Launcher(start.book, ("/no/such/program",))
    until(lambda: lease.holder(start.book.root) is None)
    with pytest.raises(TrainError, match="could not be started"):
        gone.resume("mine")
    assert lease.holder(start.book.root) is None


def test_a_run_that_is_starting_can_be_stopped(start: Launcher, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(600)")
    import sys

    never = Launcher(start.book, (sys.executable, str(slow)))
    never.start(TOY, toy("mine"))
    assert start.book.get("mine").state == "starting"
    never.stop("mine")
    run = reaches(start, "mine", "stopped")
    assert run.step == 0 and run.resumable


def test_end_now_kills_the_process(start: Launcher) -> None:
    start.start(TOY, toy("mine", steps=3, pause=300.0))
    until(lambda: start.book.get("mine").state == "running")
    start.stop("mine")
    assert reaches(start, "mine", "stopping").open
    start.end_now("mine")
    reaches(start, "mine", "crashed")
    until(lambda: lease.holder(start.book.root) is None)


def test_two_who_want_one_name_do_not_share_a_folder(start: Launcher) -> None:
    finished(start.book.root, "mine")
    before = (start.book.root / "mine" / "config.json").read_text()
    with pytest.raises(TrainError, match="There is a folder 'mine' already"):
        start.start(TOY, toy("mine"))
    with pytest.raises(TrainError, match="already"):
        start.enqueue(TOY, toy("mine"))
    assert (start.book.root / "mine" / "config.json").read_text() == before
    assert lease.waiting(start.book.root) == []
    assert start.book.free_name(TOY) == "toy-1"


# --- one machine


def test_the_second_is_told_and_queued_and_starts_when_the_first_ends(start: Launcher) -> None:
    start.start(TOY, toy("first", steps=2000, pause=0.02))
    until(lambda: start.book.get("first").step > 0)
    with pytest.raises(Busy, match="Run 'first' is at work on this machine"):
        start.start(TOY, toy("second", steps=3))
    assert not (start.book.root / "second").exists()
    assert start.enqueue(TOY, toy("second", steps=3), "bob") == 1
    assert start.enqueue(OTHER, OtherConfig(run="third"), "bob") == 2
    names = [(run.name, run.state, run.place) for run in start.book.all()]
    assert names == [("first", "running", 0), ("second", "queued", 1), ("third", "queued", 2)]
    start.look()
    assert start.book.get("second").state == "queued"
    start.stop("third")
    assert start.book.get("third").state == "stopped"
    start.stop("first")
    reaches(start, "first", "stopped")
    again = launcher(start.book.root)  # the app has been started anew, and no page is open
    until(lambda: lease.holder(start.book.root) is None)
    again.look()
    done = reaches(start, "second", "finished")
    assert done.launch is not None and done.launch.who == "bob"
    again.look()
    assert start.book.get("third").state == "stopped"


def test_nobody_jumps_the_queue(start: Launcher) -> None:
    start.enqueue(TOY, toy("first", steps=2))
    with pytest.raises(Busy, match="'first' is first in the queue"):
        start.start(TOY, toy("second"))
    start.look()
    reaches(start, "first", "finished")


def test_a_queued_run_whose_options_are_lost_does_not_hold_up_the_others(start: Launcher) -> None:
    start.enqueue(TOY, toy("broken"))
    start.enqueue(TOY, toy("gone"))
    start.enqueue(TOY, toy("sound", steps=2))
    (start.book.root / "broken" / "config.json").write_text('{"steps": 0}')
    lease.withdraw(start.book.root, "gone")
    train_keeping.delete(start.book, "gone")
    lease.enqueue(start.book.root, "gone")
    for _ in range(3):
        start.look()
    failed = start.book.get("broken")
    assert failed.state == "failed" and "options of 'broken' cannot be read" in failed.message
    reaches(start, "sound", "finished")


def test_the_thread_serves_the_queue_by_itself(start: Launcher) -> None:
    start.watch()
    start.watch()
    start.enqueue(TOY, toy("mine", steps=2))
    reaches(start, "mine", "finished")
    until(lambda: start.book.get("mine").launch.code == 0)  # type: ignore[union-attr]


# --- rename, notes, delete


def test_rename_moves_the_folder_and_its_curves(start: Launcher) -> None:
    finished(start.book.root, "old")
    train_keeping.rename(start.book, "old", "new")
    run = start.book.get("new")
    assert start.book.config(run).run == "new" and not (start.book.root / "old").exists()
    assert len(start.book.metrics.rows(run.folder)) == 6
    for bad in ("../up", ".hidden", "", "a b", "new"):
        with pytest.raises(TrainError):
            train_keeping.rename(start.book, "new", bad)
    finished(start.book.root, "user")
    path = start.book.root / "user" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": "new"}))
    with pytest.raises(TrainError, match="'user' builds on 'new'"):
        train_keeping.rename(start.book, "new", "newer")


def test_notes_stay_and_go(start: Launcher) -> None:
    folder = finished(start.book.root, "mine")
    train_keeping.write_notes(start.book, "mine", "  the <b>best</b> one \n")
    view = tab(start)
    assert "the &lt;b&gt;best&lt;/b&gt; one" in view.show(OWNER, Place("mine"))[view.head]
    with pytest.raises(TrainError, match="at most 10,000"):
        train_keeping.write_notes(start.book, "mine", "x" * 10_001)
    train_keeping.write_notes(start.book, "mine", "")
    assert not (folder / "notes.txt").exists()


def test_a_deleted_run_can_be_brought_back_as_it_was(start: Launcher) -> None:
    folder = finished(start.book.root, "mine")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    token = train_keeping.delete(start.book, "mine")
    assert not folder.exists() and start.book.all() == []
    (kept,) = train_keeping.trashed(start.book)
    assert kept.name == "mine" and kept.size == sum(len(data) for data in files.values())
    finished(start.book.root, "mine")
    with pytest.raises(TrainError, match="There is a new run 'mine'"):
        train_keeping.bring_back(start.book, token)
    second = train_keeping.delete(start.book, "mine")
    assert train_keeping.bring_back(start.book, token) == "mine"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    for lie in ("", "..", "../mine", "mine@1"):
        with pytest.raises(TrainError, match="not in the trash"):
            train_keeping.bring_back(start.book, lie)
    assert [one.token for one in train_keeping.trashed(start.book)] == [second]
    assert train_keeping.empty(start.book) == 1 and train_keeping.trashed(start.book) == []
    assert folder.exists()


def test_what_is_at_work_or_waits_is_neither_renamed_nor_deleted(start: Launcher) -> None:
    start.enqueue(TOY, toy("waits"))
    for change in (
        lambda: train_keeping.delete(start.book, "waits"),
        lambda: train_keeping.rename(start.book, "waits", "other"),
    ):
        with pytest.raises(TrainError, match="stop it first"):
            change()
