"""What tests of runs in other processes share."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

from flowdesign import runs
from flowdesign.config import RunConfig, Step


def wait_for_steps(folder: Path, count: int, patience: float) -> None:
    """Wait until a run has recorded so many steps; fails the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while len(runs.read_metrics(folder)) < count:
        assert time.monotonic() < deadline, "the child did not get that far"
        time.sleep(0.005)


def check_that_it_goes_on_exactly(
    config: RunConfig, work: runs.Work, folder: Path, checkpoint: str
) -> None:
    """Six steps with a stop after the third leave the weights and metrics of six without one."""
    whole, parts = folder / "whole", folder / "parts"
    for each in (whole, parts):
        runs.prepare(each, config)

    def stop_after_the_third(step: Step) -> None:
        if step.index == 2:
            runs.request_stop(parts)

    runs.execute(whole, work)
    stopped = runs.execute(parts, work, stop_after_the_third)
    assert (stopped.state, stopped.step) == ("stopped", 3)
    runs.execute(parts, work)
    check_that_they_are_equal(whole, parts, checkpoint, 6)


def check_that_they_are_equal(whole: Path, parts: Path, checkpoint: str, steps: int) -> None:
    """Two runs have the same weights and the same metrics of each step, none lost or repeated."""
    import torch  # here, since processes that tests start import this file too
    from safetensors.torch import load_file

    ours, theirs = (load_file(each / checkpoint) for each in (whole, parts))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    told = [[{**row, "time": 0} for row in runs.read_metrics(each)] for each in (whole, parts)]
    assert told[0] == told[1]
    assert [row["step"] for row in told[0]] == list(range(steps))


def kill_at_random_moments(
    work: runs.Work, folder: Path, times: int, seed: int, longest: float
) -> None:
    """Start a run so often, each time in a process of its own, and kill it at some moment.

    The moment is up to `longest` seconds after the first step that is new. Processes are forked, so they
    start at once: the libraries are loaded already.
    """
    chance = random.Random(seed)
    for _ in range(times):
        known = len(runs.read_metrics(folder))
        child = multiprocessing.get_context("fork").Process(
            target=runs.execute, args=(folder, work)
        )
        child.start()
        wait_for_steps(folder, known + 1, 60)
        time.sleep(chance.uniform(0, longest))
        assert child.pid is not None and child.is_alive(), "it ended before it was killed"
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        status = runs.read_status(folder)
        assert status is not None and status.state == "crashed"


def check_that_kills_lose_nothing(
    config: RunConfig,
    work: runs.Work,
    folder: Path,
    checkpoint: str,
    seed: int,
    longest: float,
    times: int = 20,
) -> tuple[Path, Path]:
    """SIGKILL at random moments leaves the weights and metrics of a run that nobody killed.

    Gives the folders of both. The config must have steps enough for so many starts.
    """
    whole, parts = folder / "whole", folder / "parts"
    for each in (whole, parts):
        runs.prepare(each, config)
    kill_at_random_moments(work, parts, times, seed, longest)
    for each in (whole, parts):
        assert runs.execute(each, work).state == "finished"
    check_that_they_are_equal(whole, parts, checkpoint, config.steps)
    return whole, parts
