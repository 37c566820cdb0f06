"""Collect: the workers. They are killed here, on this machine and on Ray; nothing is lost with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from collect_toys import ToyRecipe, batch, picture_of, score_of

from flowdesign.collect.batches import Batch, Job
from flowdesign.collect.crew import TRIES, Crew, LocalCrew
from flowdesign.collect.making import Outcome
from flowdesign.collect.on_ray import RayCrew
from flowdesign.config import ConfigError

HERE = Path(__file__).parent
MakeCrew = Callable[[ToyRecipe], Crew]


def _ray_crew(recipe: ToyRecipe) -> Crew:
    return RayCrew(recipe, 2, "local")


def _local_crew(recipe: ToyRecipe) -> Crew:
    return LocalCrew(recipe, 2)


@pytest.fixture(params=["processes", "ray"])
def crew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeCrew]:
    """The same tests for both crews."""
    if request.param == "processes":
        yield _local_crew
        return
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray>=2.50'")
    monkeypatch.setenv("PYTHONPATH", str(HERE))  # where Ray's workers find the toys
    yield _ray_crew


def outcomes(crew: Crew, batches: list[Batch]) -> dict[int, list[Outcome] | None]:
    found: dict[int, list[Outcome] | None] = {}
    for made, result in crew.make(batches):
        assert made.number not in found, "a batch came twice"
        found[made.number] = result
    return found


def test_every_batch_comes_back_with_an_outcome_for_each_job(crew: MakeCrew) -> None:
    batches = [batch(number, "a red star", "a bad star", "two hearts") for number in range(9)]
    with crew(ToyRecipe(fails="bad")) as workers:
        found = outcomes(workers, batches)
    assert sorted(found) == list(range(9))
    for each in batches:
        good, failed, also = found[each.number] or []
        assert (good.png, good.scores) == (picture_of(each.jobs[0]), _scores(each.jobs[0]))
        assert (failed.png, failed.failure) == (b"", "The render failed: no more paint")
        assert also.png == picture_of(each.jobs[2])


def _scores(job: Job) -> dict[str, float]:
    return {"scene_soft": score_of(job)}


def test_a_worker_that_is_killed_loses_nothing(crew: MakeCrew, tmp_path: Path) -> None:
    once, begun = tmp_path / "killed", tmp_path / "begun"
    batches = [batch(n, "deadly" if n == 3 else "a star", "two hearts") for n in range(8)]
    with crew(ToyRecipe(0.01, kills="deadly", once=once, begun=begun)) as workers:
        found = outcomes(workers, batches)
    assert once.exists(), "nobody was killed"
    for each in batches:
        assert [one.png for one in found[each.number] or []] == [picture_of(j) for j in each.jobs]
    assert len(workers_of(begun, 300)) == 2  # the one that was killed and another


def test_a_batch_that_no_worker_survives_comes_back_as_none(crew: MakeCrew, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    batches = [batch(n, "deadly" if n == 2 else "a star") for n in range(5)]
    with crew(ToyRecipe(kills="deadly", begun=begun)) as workers:
        found = outcomes(workers, batches)
    assert found.pop(2) is None
    assert all(found.values())
    assert len(workers_of(begun, 200)) == TRIES


def workers_of(begun: Path, number: int) -> set[str]:
    """Which processes began a job."""
    lines = [line.split() for line in begun.read_text().splitlines()]
    return {pid for pid, key in lines if key == f"{number:064x}"}


def test_what_a_worker_raises_is_raised_here(crew: MakeCrew) -> None:
    with crew(Unready()) as workers, pytest.raises(LookupError, match="no weights"):
        outcomes(workers, [batch(0, "a star")])


class Unready(ToyRecipe):
    def open(self) -> Callable[..., list[Outcome]]:
        raise LookupError("there are no weights")


def test_leaving_ends_the_workers_in_the_middle_of_their_work(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with LocalCrew(ToyRecipe(600.0, slow="slow", begun=begun), 2) as workers:
        next(workers.make([batch(n, "slow" if n else "a star") for n in range(4)]))
        pids = wait_for_pids(begun, 2)
    wait_until_gone(pids)


CHILD = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from collect_toys import ToyRecipe, batch
from flowdesign.collect.crew import LocalCrew
if __name__ == "__main__":
    with LocalCrew(ToyRecipe(600.0, begun=Path(sys.argv[1])), 2) as crew:
        list(crew.make([batch(n, "a star") for n in range(4)]))
"""


def test_workers_end_with_the_process_that_is_killed(tmp_path: Path) -> None:
    begun, program = tmp_path / "begun", tmp_path / "program.py"
    program.write_text(CHILD)
    parent = subprocess.Popen([sys.executable, program, begun, HERE.parent, HERE])
    try:
        pids = wait_for_pids(begun, 2)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until_gone(pids)


def wait_for_pids(begun: Path, count: int) -> set[int]:
    deadline = time.monotonic() + 120
    while True:
        lines = begun.read_text().splitlines() if begun.exists() else []
        pids = {int(line.split()[0]) for line in lines}
        if len(pids) >= count:
            return pids
        assert time.monotonic() < deadline, "the workers did not begin"
        time.sleep(0.05)


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 60
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_ray_is_asked_for_by_name_when_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install 'ray"):
        RayCrew(ToyRecipe(), 1, "local")


def test_a_cluster_that_does_not_answer_is_told() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray>=2.50'")
    with pytest.raises(ConfigError, match="no cluster answers"):
        RayCrew(ToyRecipe(), 1, "not an address")
