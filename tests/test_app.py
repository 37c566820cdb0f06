"""app.py as a process of its own, as `make run` starts it."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import free_port

ROOT = Path(__file__).resolve().parent.parent
REACHABLE = 60.0  # seconds


def fetch(address: str) -> str:
    """The page, empty while nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            text: str = answer.read().decode("utf-8")
            return text
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


@pytest.mark.slow
def test_the_page_is_reachable_within_a_minute_where_it_was_asked_for(tmp_path: Path) -> None:
    host, port = "127.0.0.2", free_port()  # another address than the one that is the default
    environment = os.environ | {"HOST": host, "PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        started = time.monotonic()
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        page = ""
        while "FlowDesign" not in page and time.monotonic() - started < REACHABLE:
            assert app.poll() is None, (tmp_path / "log").read_text()
            page = fetch(f"http://{host}:{port}/")
            time.sleep(0.2)
        assert "FlowDesign" in page, (tmp_path / "log").read_text()
        assert not fetch(f"http://127.0.0.1:{port}/")
    finally:
        app.kill()
        app.wait()


def test_nothing_heavy_is_imported_before_the_page_is_up() -> None:
    """Torch and diffusers take many seconds; they come with the models, in the background."""
    script = (
        "import sys; from concurrent.futures import Future; from flowdesign.ui import build_app;"
        "build_app(Future());"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'peft') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
