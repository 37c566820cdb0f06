"""A Space that is stopped pushes once more: a process of its own, told to end as a Space is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import free_port

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import sys, threading, time
from pathlib import Path
from fake_hub import FakeHub, record
from flowdesign.persistence import Keeper
from flowdesign.records import Store
from flowdesign.ui import Page, _serve_keeping, launch

folder, port = Path(sys.argv[1]), int(sys.argv[2])
store, hub = Store.open(folder / "store"), FakeHub()
keeper = Keeper(store, hub, every=3600.0)

def write():
    while not keeper.state.saved:  # the first push; the next one on schedule is an hour away
        time.sleep(0.05)
    store.add([record(0)])
    (folder / "ready").touch()

with Page() as app:
    pass
launch(app, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
threading.Thread(target=write, daemon=True).start()
_serve_keeping(app, keeper)
(folder / "pushed").write_text(str(hub.lines("records")))
"""


@pytest.mark.slow
def test_sigterm_pushes_once_more(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(free_port())],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "ready").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert (tmp_path / "pushed").read_text() == "1"
