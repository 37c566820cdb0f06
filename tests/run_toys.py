"""What tests of runs in other processes share."""

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
    import torch  # here, since processes that tests start import this file too
    from safetensors.torch import load_file

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
    ours, theirs = (load_file(each / checkpoint) for each in (whole, parts))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    told = [[{**row, "time": 0} for row in runs.read_metrics(each)] for each in (whole, parts)]
    assert told[0] == told[1]
    assert [row["step"] for row in told[0]] == list(range(6))
