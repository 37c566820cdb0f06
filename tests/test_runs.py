"""Runs: what is on disk while work runs, stops, fails, is killed and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_toys import wait_for_steps

from flowdesign import runs
from flowdesign.config import SFTConfig, Step, ZooConfig, load


def counting(total: int, every: int = 3, pause: float = 0.0) -> runs.Work:
    """Work whose state is the list of numbers it has been through, saved every few steps."""

    def work(folder: Path) -> runs.Steps:
        file = folder / "state.json"
        done: list[int] = json.loads(file.read_text()) if file.exists() else []

        def save() -> None:
            draft = file.with_suffix(".new")
            draft.write_text(json.dumps(done))
            draft.replace(file)

        for index in range(len(done), total):
            time.sleep(pause)
            done.append(index)
            try:
                yield Step(index, total, {"sum": sum(done)})
            except GeneratorExit:
                save()
                raise
            if (index + 1) % every == 0 or index + 1 == total:
                save()

    return work


def expected(total: int) -> list[tuple[int, int]]:
    return [(index, index * (index + 1) // 2) for index in range(total)]


def recorded(folder: Path) -> list[tuple[int, int]]:
    return [(row["step"], row["sum"]) for row in runs.read_metrics(folder)]


def test_a_run_leaves_its_records(tmp_path: Path) -> None:
    seen: list[int] = []
    status = runs.execute(tmp_path, counting(5), lambda step: seen.append(step.index))
    assert (status.state, status.step, status.total) == ("finished", 5, 5)
    assert runs.read_status(tmp_path) == status
    assert recorded(tmp_path) == expected(5)
    assert seen == [0, 1, 2, 3, 4]
    assert "finished after step 5 of 5" in (tmp_path / "log.txt").read_text()


def test_stop_ends_after_the_step_and_resume_goes_on(tmp_path: Path) -> None:
    def stop_at_4(step: Step) -> None:
        if step.index == 4:
            runs.request_stop(tmp_path)

    assert runs.execute(tmp_path, counting(9), stop_at_4).state == "stopped"
    assert recorded(tmp_path) == expected(5)
    again: list[int] = []
    status = runs.execute(tmp_path, counting(9), lambda step: again.append(step.index))
    assert status.state == "finished"
    assert again == [5, 6, 7, 8]  # closing saved step 4: nothing is done twice
    assert recorded(tmp_path) == expected(9)


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    runs.execute(tmp_path, counting(4))
    assert runs.execute(tmp_path, counting(4)).step == 4
    assert recorded(tmp_path) == expected(4)


def test_a_fault_is_recorded_and_raised(tmp_path: Path) -> None:
    def broken(folder: Path) -> runs.Steps:
        yield Step(0, 2, {"sum": 0})
        raise ValueError("no more paper")

    with pytest.raises(ValueError, match="no more paper"):
        runs.execute(tmp_path, broken)
    status = runs.read_status(tmp_path)
    assert status is not None
    assert (status.state, status.message) == ("failed", "ValueError: no more paper")
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    assert not runs.is_alive(tmp_path)


def test_an_interrupt_stops_without_saving_an_unrecorded_step(tmp_path: Path) -> None:
    def interrupt(step: Step) -> None:
        if step.index == 4:
            raise KeyboardInterrupt

    assert runs.execute(tmp_path, counting(9), interrupt).state == "stopped"
    assert json.loads((tmp_path / "state.json").read_text()) == [0, 1, 2]
    runs.execute(tmp_path, counting(9))
    assert recorded(tmp_path) == expected(9)


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from flowdesign import runs
from test_runs import counting
runs.execute(Path(sys.argv[1]), counting(40, pause=float(sys.argv[2])))
"""


def start_child(folder: Path, pause: float = 0.01) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    return subprocess.Popen([sys.executable, "-c", CHILD, folder, str(pause), here.parent, here])


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    child = start_child(tmp_path, pause=1.0)
    try:
        wait_for_steps(tmp_path, 1, 60)
        assert runs.is_alive(tmp_path)
        status = runs.read_status(tmp_path)
        assert status is not None and (status.state, status.pid) == ("running", child.pid)
        with pytest.raises(runs.RunBusy, match="already at work"):
            runs.execute(tmp_path, counting(3))
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    assert not runs.is_alive(tmp_path)


def test_sigkill_loses_and_repeats_no_step(tmp_path: Path) -> None:
    for count in (4, 12, 23):
        child = start_child(tmp_path)
        wait_for_steps(tmp_path, count, 60)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        status = runs.read_status(tmp_path)
        assert status is not None and status.state == "crashed"
    child = start_child(tmp_path)
    assert child.wait(timeout=60) == 0
    assert recorded(tmp_path) == expected(40)
    assert runs.list_runs(tmp_path.parent)[tmp_path.name].state == "finished"


def test_a_line_cut_short_by_a_crash_does_not_count(tmp_path: Path) -> None:
    runs.execute(tmp_path, counting(4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "su')
    assert recorded(tmp_path) == expected(4)
    runs.execute(tmp_path, counting(6))
    assert recorded(tmp_path) == expected(6)


def test_prepare_refuses_another_config(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    runs.prepare(folder, SFTConfig(steps=3))
    runs.prepare(folder, SFTConfig(steps=3))
    with pytest.raises(runs.RunConflict, match="steps: 3 -> 4"):
        runs.prepare(folder, SFTConfig(steps=4))


def test_a_run_that_failed_before_it_made_anything_is_begun_with_other_options(
    tmp_path: Path,
) -> None:
    def refused(folder: Path) -> runs.Steps:
        raise ValueError("no such thing")
        yield

    def made(folder: Path) -> runs.Steps:
        yield Step(0, 2, {"sum": 0})
        raise ValueError("no more paper")

    runs.prepare(tmp_path, SFTConfig(steps=3))
    with pytest.raises(ValueError, match="no such thing"):
        runs.execute(tmp_path, refused)
    runs.prepare(tmp_path, SFTConfig(steps=4))
    assert load(SFTConfig, tmp_path / "config.json") == SFTConfig(steps=4)
    with pytest.raises(ValueError, match="no more paper"):
        runs.execute(tmp_path, made)
    with pytest.raises(runs.RunConflict, match="steps: 4 -> 5"):
        runs.prepare(tmp_path, SFTConfig(steps=5))


def test_prepare_lets_go_on_with_another_way_to_the_same_result(tmp_path: Path) -> None:
    runs.prepare(tmp_path, ZooConfig(workers=2))
    runs.prepare(tmp_path, ZooConfig(workers=1, stages="mini_flat", threads=4))
    assert load(ZooConfig, tmp_path / "config.json") == ZooConfig(workers=2)
    with pytest.raises(runs.RunConflict, match="seed: 0 -> 1"):
        runs.prepare(tmp_path, ZooConfig(seed=1))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    runs.replace_text(path, "old")

    def fails(draft: Path) -> None:
        draft.write_text("ne")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        runs.replace_file(path, fails)
    assert path.read_text() == "old"
    runs.replace_file(path, lambda draft: draft.write_text("new"))
    assert path.read_text() == "new"
    assert not (tmp_path / "file.new").exists()


def test_figures_are_stored_beside_the_run(tmp_path: Path) -> None:
    assert runs.read_figures(tmp_path) is None
    runs.write_figures(tmp_path, {"valid": 3})
    assert runs.read_figures(tmp_path) == {"valid": 3}


def test_list_runs_is_newest_first_and_skips_other_folders(tmp_path: Path) -> None:
    (tmp_path / "not_a_run").mkdir()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runs.execute(tmp_path / name, counting(1))
    assert list(runs.list_runs(tmp_path)) == ["second", "first"]
    assert runs.read_status(tmp_path / "not_a_run") is None
