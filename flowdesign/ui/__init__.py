"""The web page. `build_app` makes it, `launch` serves it, `run` does both and loads the models.

Only this package imports gradio.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from flowdesign.catalog import Installed
from flowdesign.studio import Studio, open_studio
from flowdesign.ui import about, cards, style
from flowdesign.ui.api import add_api
from flowdesign.ui.playground import Playground

MAX_UPLOAD = "20mb"
QUEUE_LENGTH = 32  # visitors who may wait; the next one is told that the queue is full
KEEP = 24 * 3600  # seconds that files stay in Gradio's cache


def build_app(opening: Future[Studio], models: Installed | None = None) -> gr.Blocks:
    """The page around a studio that may still be opening. Serve it with `launch`.

    Dropped files are checked against `models`, or else against what is installed at that moment.
    """
    with gr.Blocks(title="FlowDesign", delete_cache=(3600, KEEP)) as app:
        with gr.Row(elem_id="fd-top"):
            cards.html(cards.header(), scale=1)
            state = cards.html(_state(opening), elem_id="fd-state", scale=0, min_width=150)
        with gr.Tabs():
            with gr.Tab("Playground", id="playground"):
                playground = Playground(opening, models)
            with gr.Tab("About", id="about"):
                cards.html(about.TEXT)
        _watch(opening, state, app)
        add_api(opening)
        app.unload(playground.leave)
    app.queue(default_concurrency_limit=2, max_size=QUEUE_LENGTH)
    return app


def launch(app: gr.Blocks, **options: Any) -> None:
    """Serve the page with its look and its limits. `options` go to `Blocks.launch`."""
    app.launch(
        theme=style.theme(),
        css=style.css(),
        head=style.head(),
        max_file_size=MAX_UPLOAD,
        allowed_paths=[],
        footer_links=["api", "settings"],
        run_history=False,
        show_error=False,
        **options,
    )


def run(host: str | None, port: int) -> None:
    """Serve the page and load the models; returns when the server ends.

    Loading begins once the page is reachable: importing torch and diffusers takes many seconds, and
    would share the processor with the start of the server.
    """
    opening: Future[Studio] = Future()
    app = build_app(opening)
    launch(app, server_name=host, server_port=port, prevent_thread_lock=True)
    open_in_background(opening)
    app.block_thread()


def open_in_background(opening: Future[Studio]) -> None:
    """Load policy and models in a thread.

    Results go where Gradio may serve files from: its own upload folder.
    """

    def work() -> None:
        try:
            opening.set_result(open_studio(output=Path(get_upload_folder()) / "flowdesign"))
        except BaseException as fault:  # handed on: the page shows it, and result() raises it
            opening.set_exception(fault)
            raise

    threading.Thread(target=work, name="opening the studio", daemon=True).start()


def _watch(opening: Future[Studio], state: gr.HTML, app: gr.Blocks) -> None:
    """Keep the chip in the header true: on load, and every two seconds until loading ends."""
    timer = gr.Timer(2, active=True)

    def look() -> tuple[str, gr.Timer]:
        return _state(opening), gr.Timer(active=not opening.done())

    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "queue": False,
        "api_visibility": "private",
    }
    app.load(look, None, [state, timer], **quiet)
    timer.tick(look, None, [state, timer], **quiet)


def _state(opening: Future[Studio]) -> str:
    if not opening.done():
        return cards.chip("Loading models…", "fd-warn fd-busy", "You can already type a prompt.")
    fault = opening.exception()
    if fault is not None:
        return cards.chip("Models missing", "fd-bad", str(fault))
    return cards.chip("Ready", "fd-ok", "Policy and renderer are loaded.")
