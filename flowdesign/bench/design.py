"""How soon the first image of a request is there, as the Playground makes it, with all that is shipped.

From the request to the first workflow and to the first image that is written, once warm; the rest is
what the browser adds. The share is the render's part in the time to the image, from the same run.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.request import Request
from flowdesign.scenes import random_prompt
from flowdesign.studio import Designed, Rendered, Studio, open_studio

REQUESTS = 24


def measure(quick: bool, say: Say) -> Measured:
    """Ask for designs of prompts nobody has seen, one after the other."""
    rng = random.Random("bench/design")
    with tempfile.TemporaryDirectory() as folder:
        studio = open_studio(Path(folder))
        found = []
        for seed in range(REQUESTS // (8 if quick else 1)):
            found.append(_first(studio, Request(random_prompt(rng), 1, seed)))
            say(f"{found[-1][1]:.2f} s to the image of request {seed + 1}")
    said, shown, share = zip(*found, strict=True)
    rows: list[dict[str, Value]] = [
        {"seconds until": what, "median": statistics.median(each), "longest": max(each)}
        for what, each in (("the first workflow", said), ("the first image", shown))
    ]
    note = (
        f"{len(found)} requests, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; "
        f"rendering is {statistics.median(share):.0%} of the time to the image"
    )
    return Measured(rows, (note,))


def _first(studio: Studio, request: Request) -> tuple[float, float, float]:
    """Seconds until the workflow and until the image, and the share of the latter that rendered."""
    began, said = time.monotonic(), 0.0
    for event in studio.design(request):
        passed = time.monotonic() - began
        if isinstance(event, Designed):
            said = passed
        if isinstance(event, Rendered):
            return said, passed, event.seconds / passed
    raise RuntimeError(f"'{request.prompt}' gave no image.")
