"""Shared by all tests: one thread for torch, and the app on a free port."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests share two cores
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

# Before the package is imported: what is designed on this machine becomes records by itself, and a
# test must not add to the store of whoever runs it.
DATA = tempfile.TemporaryDirectory(prefix="flowdesign-tests-")
os.environ["FLOWDESIGN_DATA"] = DATA.name

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait, for a browser or another process."""
    return (os.cpu_count() or 1) + 1


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_browser() -> str | None:
    """The path of a Chromium, None where there is none."""
    names = (os.environ.get("CHROMIUM", ""), *BROWSERS)
    return next((path for name in names if name and (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny text encoder, for reward models."""
    from reward_toys import write_tiny_encoder

    return write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    """Serve the app around a studio, or around a Future of one; gives its address.

    Further `parts` (gate, records) go to `build_app`.
    """
    from flowdesign.ui import build_app, launch

    apps = []

    def start(studio: Any, models: Any = None, **parts: Any) -> str:
        opening = studio
        parts.setdefault("policies", getattr(studio, "policies", None))  # what the page lists
        if not isinstance(studio, Future):
            opening = Future()
            opening.set_result(studio)
        app = build_app(opening, models, **parts)
        port = free_port()
        apps.append(app)
        launch(app, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
        return f"http://127.0.0.1:{port}"

    yield start
    for app in apps:
        app.close(verbose=False)


@pytest.fixture(scope="session")
def served_folder() -> Path:
    """A folder from which Gradio may serve files."""
    from gradio.utils import get_upload_folder

    return Path(get_upload_folder()) / "flowdesign-tests"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The system's Chromium, or the one that CHROMIUM names; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = find_browser()
    if path is None:
        pytest.skip(f"no browser: neither {', '.join(BROWSERS)} nor $CHROMIUM; see .ci/chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder of random models with a few thousand weights (`tiny_models`)."""
    from tiny_models import write_tiny_models

    return write_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with tiny models of all families, as folders and as single files."""
    from tiny_families import write_families

    return write_families(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def models(folder: Path) -> Any:
    """What is installed in `folder`."""
    from flowdesign.catalog import installed

    return installed([folder])


@pytest.fixture
def renderer(models: Any) -> Any:
    """A renderer that has loaded nothing yet, of `models`."""
    from flowdesign.render import Renderer

    return Renderer(models)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts toy runs in a folder of its own; what is still at work at the end is ended."""
    from train_toys import launcher

    from flowdesign import lease

    found = launcher(tmp_path / "runs")
    yield found
    (found.book.root / lease.QUEUE).unlink(missing_ok=True)
    for run in found.book.all():
        if run.open:
            found.end_now(run.name)
