"""The lease of the machine: one run at a time, who waits, and what a kill leaves."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_toys import wait_for_steps

from flowdesign import lease, runs
from flowdesign.foreground import add_lease, at_work
from flowdesign.lease import Lease, LeaseError, MachineBusy, Ticket

TOYS = Path(__file__).with_name("train_toys.py")


def toy(root: Path, name: str, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOYS), str(root), "toy", "--run", name, *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def flags(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_lease(parser)
    return parser.parse_args(words)


def test_a_free_machine_is_taken_and_given_back(tmp_path: Path) -> None:
    assert lease.holder(tmp_path) is None
    with lease.hold(tmp_path, "one"):
        found = lease.holder(tmp_path)
        assert found is not None and (found.run, found.pid) == ("one", os.getpid())
        with pytest.raises(MachineBusy, match=f"Run 'one' is at work .*process {os.getpid()}"):
            lease.take(tmp_path, "two")
    assert lease.holder(tmp_path) is None
    lease.take(tmp_path, "two").close()


def test_the_second_from_a_shell_is_told_who_is_at_work(tmp_path: Path) -> None:
    first = toy(tmp_path, "first", "--steps", "1000")
    wait_for_steps(tmp_path / "first", 2, 60)
    second = toy(tmp_path, "second")
    said = second.communicate(timeout=60)[1]
    assert second.returncode == 2
    assert "Run 'first' is at work" in said and str(first.pid) in said
    assert "--queue" in said and "--beside" in said
    beside = toy(tmp_path, "beside", "--beside", "--steps", "2")
    assert beside.wait(60) == 0
    waits = toy(tmp_path, "waits", "--queue", "--steps", "2")
    assert waits.stderr is not None and "Waiting for its end" in waits.stderr.readline()
    assert runs.read_status(tmp_path / "waits") is None
    first.send_signal(signal.SIGKILL)  # a kill frees the machine
    assert waits.wait(60) == 0
    status = runs.read_status(tmp_path / "waits")
    assert status is not None and status.state == "finished"
    first.wait()


def test_a_child_keeps_the_lease_that_it_was_handed(tmp_path: Path) -> None:
    taken = lease.take(tmp_path, "child")
    program = (
        "import sys; from pathlib import Path; from flowdesign import lease\n"
        "with lease.hold(Path(sys.argv[1]), 'child'): print('holds', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path],
        cwd=TOYS.parent.parent,
        env={**os.environ, **taken.hand_over()},
        pass_fds=(taken.descriptor,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    taken.close()
    found = lease.holder(tmp_path)
    assert found is not None and found.run == "child"  # also before the child is under way
    assert child.stdout is not None and child.stdout.readline() == "holds\n"
    found = lease.holder(tmp_path)
    assert found is not None and found.pid == child.pid
    child.communicate(timeout=60)
    assert child.returncode == 0 and lease.holder(tmp_path) is None


def test_a_descriptor_that_is_not_the_lease_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lease.hold(tmp_path, "one"):
        for lie in ("0", "999", "-1", "x"):
            monkeypatch.setenv(lease.VARIABLE, lie)
            with pytest.raises(MachineBusy), lease.hold(tmp_path, "two"):
                pass
            assert lease.VARIABLE not in os.environ  # so that no worker takes it for its own


def test_a_lock_held_for_an_instant_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    real = lease._try_lock

    def held_at_first(root: Path) -> int | None:
        looked.append(root)
        return None if len(looked) < 4 else real(root)

    monkeypatch.setattr(lease, "_try_lock", held_at_first)
    lease.take(tmp_path, "one").close()
    assert len(looked) == 4


def test_the_queue_is_first_come_first_served(tmp_path: Path) -> None:
    assert lease.waiting(tmp_path) == []
    assert lease.enqueue(tmp_path, "one", "alice") == 1
    assert lease.enqueue(tmp_path, "two") == 2
    assert lease.enqueue(tmp_path, "one", "bob") == 1  # once
    assert [(t.run, t.who) for t in lease.waiting(tmp_path)] == [("one", "alice"), ("two", "")]
    started: list[str] = []

    def start(ticket: Ticket, taken: Lease) -> None:
        assert lease.holder(tmp_path) is not None
        started.append(ticket.run)

    with lease.hold(tmp_path, "other"):
        assert lease.start_next(tmp_path, start) is None
    first = lease.start_next(tmp_path, start)
    assert first is not None and first.run == "one"
    assert lease.withdraw(tmp_path, "two") and not lease.withdraw(tmp_path, "two")
    assert lease.start_next(tmp_path, start) is None
    assert started == ["one"]


def test_a_start_that_fails_does_not_hold_up_the_queue(tmp_path: Path) -> None:
    lease.enqueue(tmp_path, "broken")
    lease.enqueue(tmp_path, "sound")

    def start(ticket: Ticket, taken: Lease) -> None:
        if ticket.run == "broken":
            raise OSError("no such program")

    with pytest.raises(OSError, match="no such program"):
        lease.start_next(tmp_path, start)
    found = lease.start_next(tmp_path, start)
    assert found is not None and found.run == "sound"
    assert lease.holder(tmp_path) is None


@pytest.mark.parametrize("text", ["[{", "{}x", '[{"nobody": 1}]', "[3]"])
def test_a_damaged_queue_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "queue.json").write_text(text)
    with pytest.raises(LeaseError, match="queue.json cannot be read"):
        lease.waiting(tmp_path)


def test_at_work_advises_and_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    with (
        lease.hold(tmp_path, "other"),
        pytest.raises(MachineBusy, match="--queue, or start beside it with --beside"),
        at_work(folder, flags(), print),
    ):
        pass
    before = signal.getsignal(signal.SIGINT)
    with lease.hold(tmp_path, "other"), at_work(folder, flags("--beside"), print):
        found = lease.holder(tmp_path)
        assert found is not None and found.run == "other"
    with pytest.raises(KeyError), at_work(folder, flags(), print):
        raise KeyError("the work's own fault")
    assert signal.getsignal(signal.SIGINT) == before
    assert lease.holder(tmp_path) is None
