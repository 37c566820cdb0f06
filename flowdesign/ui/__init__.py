"""The web page. `build_app` makes it, `launch` serves it, `run` does both and loads the models.

Only this package imports gradio.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.routing import Route

from flowdesign.catalog import Installed
from flowdesign.persistence import Keeper, open_keeper
from flowdesign.policies import Policies
from flowdesign.shipped import import_once
from flowdesign.studio import Studio, open_studio
from flowdesign.ui import about, cards, style
from flowdesign.ui.ablation import Ablation
from flowdesign.ui.api import add_api
from flowdesign.ui.critics import Critics
from flowdesign.ui.data import Data
from flowdesign.ui.files import Exports, routes
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET
from flowdesign.ui.jobs import Jobs
from flowdesign.ui.keeping import Keeping
from flowdesign.ui.label import Label
from flowdesign.ui.playground import Playground
from flowdesign.ui.results import Results
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.train import Train
from flowdesign.ui.train_launch import Launcher
from flowdesign.ui.train_runs import RunBook

MAX_UPLOAD = "20mb"  # one file of a visitor; the Playground reads no larger one anywhere
MAX_OWN_UPLOAD = "4gb"  # one file on your own machine, where a zip may hold a year of pictures
QUEUE_LENGTH = 32  # visitors who may wait; the next one is told that the queue is full
KEEP = 24 * 3600  # seconds that files stay in Gradio's cache


class Page(gr.Blocks):
    """The page, and the routes of the files that it serves besides Gradio's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.files: list[Route] = []
        self.max_upload = MAX_UPLOAD


def build_app(
    opening: Future[Studio],
    models: Installed | None = None,
    gate: Gate | None = None,
    records: SharedStore | None = None,
    launcher: Launcher | None = None,
    critics: Critics | None = None,
    policies: Policies | None = None,
) -> Page:
    """The page around a studio that may still be opening. Serve it with `launch`.

    Dropped files are checked against `models`, or else against what is installed at that moment.
    `gate` decides who may write; without one it is made from the environment. `records` are those of
    the environment unless given; they are opened when first needed. `launcher` starts the runs, those
    under checkpoints/ unless given; who serves the page lets it `watch`. `critics` gives the reward
    ensembles, the shipped one where it is not given, `policies` the policies, those under checkpoints/
    unless given. Raises AccessError.
    """
    gate, records = gate or Gate(), records or SharedStore()
    critics = critics or Critics()
    app = Page(title="FlowDesign", delete_cache=(3600, KEEP))
    with app:
        with gr.Row(elem_id="fd-top"):
            cards.html(cards.header(), scale=1)
            state = cards.html(_state(opening), elem_id="fd-state", scale=0, min_width=150)
        gate.build_row(app)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab("Playground", id="playground") as play_tab:
                keeping = Keeping(records, gate, models)
                playground = Playground(opening, keeping, models, policies)
            with gr.Tab("Ablation", id="ablation") as ablation_tab:
                ablation = Ablation(opening, gate, models, policies)
            with gr.Tab("Label", id="label"):
                label = Label(records, gate, app)
            with gr.Tab("Data", id="data") as data_tab:
                exports = Exports(records)
                Data(records, gate, data_tab, Jobs(), exports, critics)
            with gr.Tab("Train", id="train") as train_tab:
                Train(launcher or Launcher(RunBook()), gate, train_tab, critics)
            with gr.Tab("Results", id="results") as results_tab:
                Results(gate, results_tab)
            with gr.Tab("About", id="about"):
                cards.html(about.TEXT)
        ablation.show_in(app, ablation_tab, tabs)
        _watch(opening, state, app, gate)
        add_api(opening, gate)
        app.unload(gate.reads(playground.leave))
        settings = playground.settings
        refresh = gate.reads(settings.refresh)
        for shown in (app.load, play_tab.select):
            shown(refresh, settings.policy, settings.offered, **QUIET)
        app.max_upload = MAX_UPLOAD if gate.config.space else MAX_OWN_UPLOAD
        app.files += [*label.routes(), *routes(records, exports)]
    app.queue(default_concurrency_limit=2, max_size=QUEUE_LENGTH)
    return app


def launch(app: Page, **options: Any) -> None:
    """Serve the page with its look and its limits. `options` go to `Blocks.launch`.

    Gradio would ask itself for the page and give up after three seconds, which a busy machine takes for
    its first answer; `_frontend` leaves out that question and nothing else.
    """
    app.launch(
        _frontend=False,
        theme=style.theme(),
        css=style.css(),
        head=style.head(),
        max_file_size=app.max_upload,
        allowed_paths=[],
        footer_links=["api", "settings"],
        run_history=False,
        show_error=False,
        app_kwargs={"routes": app.files},
        **options,
    )


def run(host: str | None, port: int) -> None:
    """Serve the page and load the models; returns when the server ends.

    Loading begins once the page is reachable: importing torch and diffusers takes many seconds, and
    would share the processor with the start of the server. The records are restored and kept as
    `flowdesign.persistence` says. Raises AccessError, PersistenceError for bad variables.
    """
    opening: Future[Studio] = Future()
    records = SharedStore()
    launcher, critics = Launcher(RunBook()), Critics()
    app = build_app(opening, records=records, launcher=launcher, critics=critics)
    keeper = open_keeper(records)
    launch(app, server_name=host, server_port=port, prevent_thread_lock=True)
    launcher.watch()
    take_in_background(records)
    open_in_background(opening, critics)
    if keeper is None:
        app.block_thread()
    else:
        _serve_keeping(app, keeper)


def _serve_keeping(app: Page, keeper: Keeper) -> None:
    """Serve until the end, which a Space tells with SIGTERM, and then push once more."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keeper.start()
    try:
        app.block_thread()
    finally:
        keeper.stop()


def take_in_background(records: SharedStore) -> None:
    """Take the shipped records into a store that never had any, in a thread."""
    threading.Thread(
        target=lambda: import_once(records()), name="taking in records", daemon=True
    ).start()


def open_in_background(opening: Future[Studio], critics: Critics) -> None:
    """Load policy and models in a thread.

    Results go where Gradio may serve files from: its own upload folder.
    """

    def work() -> None:
        try:
            folder = Path(get_upload_folder()) / "flowdesign"
            opening.set_result(open_studio(folder, critics.usual))
        except BaseException as fault:  # handed on: the page shows it, and result() raises it
            opening.set_exception(fault)
            raise

    threading.Thread(target=work, name="opening the studio", daemon=True).start()


def _watch(opening: Future[Studio], state: gr.HTML, app: gr.Blocks, gate: Gate) -> None:
    """Keep the chip in the header true: on load, and every two seconds until loading ends."""
    timer = gr.Timer(2, active=True)

    def look() -> tuple[str, gr.Timer]:
        return _state(opening), gr.Timer(active=not opening.done())

    gate.reads(look)
    app.load(look, None, [state, timer], **QUIET)
    timer.tick(look, None, [state, timer], **QUIET)


def _state(opening: Future[Studio]) -> str:
    if not opening.done():
        return cards.chip("Loading models…", "fd-warn fd-busy", "You can already type a prompt.")
    fault = opening.exception()
    if fault is not None:
        return cards.chip("Models missing", "fd-bad", str(fault))
    return cards.chip("Ready", "fd-ok", "Policy and renderer are loaded.")
