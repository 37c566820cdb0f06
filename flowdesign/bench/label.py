"""The Label tab under load: fifty raters at once, through the HTTP interface of an app of its own.

The app runs in a process of its own, with toy images and without models; the raters are threads here.
Each looks at a pair for a while, as people do, and once more without any pause, which shows what the
machine can do at most. The store must hold every vote once, or there are no figures.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from flowdesign.bench.measured import Measured, Say
from flowdesign.bench.raters import Simulated, simulate
from flowdesign.catalog import known_assets
from flowdesign.records import Record, Store, sha_of
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence

PROMPTS, IMAGES = 100, 8
RATERS, VOTES = 50, 2000
LOOKING = 2.0  # seconds on average; a quick rater of small images
REACHABLE = 120.0  # seconds
SERVE = (
    "import sys; from concurrent.futures import Future; from flowdesign.ui import build_app, launch;"
    "launch(build_app(Future()), server_name='127.0.0.1', server_port=int(sys.argv[1]), quiet=True)"
)


def measure(quick: bool, say: Say) -> Measured:
    """Let raters vote, first at their own pace, then as fast as the app answers."""
    raters, votes = (5, 50) if quick else (RATERS, VOTES)
    rows = []
    for pause in (LOOKING, 0.0):
        say(f"{raters} raters, {votes} votes, looking {pause:g} s on average")
        with tempfile.TemporaryDirectory(prefix="flowdesign-bench-") as name:
            folder = Path(name)
            with Store.open(folder) as store:
                _fill(store)
            with _served(folder) as address:
                found = simulate(address, raters, votes, pause)
            _check(folder, found)
        rows.append({"looking_s": pause, **found.figures})
    note = (
        "median_ms to slowest_ms: from sending an answer to the reply; the vote is on disk by then"
    )
    return Measured(
        rows, (note, f"load average of the machine meanwhile: {os.getloadavg()[0]:.1f}")
    )


def _fill(store: Store) -> None:
    """Images of different workflows for each prompt."""
    grammar, chance = Automaton(VOCABULARY, known_assets()), random.Random(0)
    for number in range(PROMPTS):
        pngs = {sha_of(png): png for png in (_png(chance) for _ in range(IMAGES))}
        records = [
            Record(f"picture {number}", _workflow(grammar, chance), seed=seed, image=sha)
            for seed, sha in enumerate(pngs)
        ]
        store.add(records, pngs)


def _workflow(grammar: Automaton, chance: random.Random) -> dict[str, dict[str, object]]:
    workflow = decode(tuple(random_sentence(grammar, chance))).workflow
    if workflow is None:
        raise RuntimeError("The grammar gave a sentence that is no workflow.")
    return workflow


def _png(chance: random.Random) -> bytes:
    """A picture of 128 pixels that does not compress, like a photograph."""
    from PIL import Image

    data = BytesIO()
    Image.frombytes("RGB", (128, 128), chance.randbytes(128 * 128 * 3)).save(data, "PNG")
    return data.getvalue()


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of an app around the store in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"FLOWDESIGN_DATA": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
    with (folder / "app.log").open("wb") as log:
        app = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port)], env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, app, folder / "app.log")
        yield address
    finally:
        app.terminate()
        app.wait()


def _wait(address: str, app: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + REACHABLE
    while app.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"The app did not start: {log.read_text(errors='replace')[-2000:]}")


def _check(folder: Path, found: Simulated) -> None:
    """Raise RuntimeError unless the store holds exactly what was sent."""
    with Store.open(folder) as store:
        stored = {vote.token: vote.choice for vote in store.votes()}
        count = store.count_votes()
    if stored != found.sent or count != len(found.sent):
        raise RuntimeError(f"{len(found.sent)} votes were sent, {count} are stored.")
