"""How long an import takes: of ComfyUI's own templates of workflows, and of 10,000 files with faults in them.

Faulty files are real ones (exports of random workflows, and the templates where their package is installed) with
values exchanged, bytes changed, or ends cut off, as JSON and as PNG; and the files of `monsters`, which nobody
would make by accident. Each is read as a person's upload is. Times are of the processor, so that other work on
the machine does not count. A fault that is raised, which none may be, is counted and named.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from flowdesign import comfy
from flowdesign.bench.hardware import peak
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.bench.monsters import monsters
from flowdesign.catalog import Installed, known_assets
from flowdesign.designs import restore
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence
from flowdesign.workflow import bind

FILES, QUICK_FILES, OWN, REPEATS, MB = 10_000, 300, 30, 5, 2**20
MOST_NAMED = 5  # faults in the notes
TEMPLATES = "comfyui_workflow_templates_json"
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("nan"), float("inf"), -(10**400), "", "x" * 5000, "../../etc/passwd", "\0",
    "\ud800", "{prompt}", [], {}, [[]], ["1", 0], ["1", -1], ["1", 10**30], [None, 0], {"__value__": 1},
    {"class_type": "KSampler"},
)  # fmt: skip


def measure(quick: bool, say: Say) -> Measured:
    """Import all of them, and tell the slowest, and by how much memory grew."""
    models, own = known_assets(), _own(known_assets())
    whole, count = list(templates()), QUICK_FILES if quick else FILES
    largest = [max(whole, key=len, default=b"")] * 20 if whole else []
    kinds: dict[str, Iterable[tuple[str, bytes]]] = {
        "templates, each as it is": _named(whole * (1 if quick else REPEATS)),
        "the largest template": _named(largest),
        "real files with faults": _named(_faulty(own + whole, count)),
        "files made to harm": monsters(),
    }
    rows, notes = list[dict[str, Value]](), list[str]()
    for kind, files in kinds.items():
        row, said = _row(kind, files, models)
        rows.append(row)
        notes += said
        say(f"{kind}: {row['files']} files are read")
    missing = () if whole else (f"without the package {TEMPLATES} there are no templates",)
    return Measured(rows, (*notes, f"load average {os.getloadavg()[0]:.1f}", *missing))


def templates() -> Iterator[bytes]:
    """ComfyUI's own templates of workflows, where their package is installed."""
    spec = importlib.util.find_spec(TEMPLATES)
    places = spec.submodule_search_locations if spec else None
    for path in sorted(Path(places[0]).rglob("*.json")) if places else ():
        data = path.read_bytes()
        if b'"nodes"' in data:
            yield data


def _row(
    kind: str, files: Iterable[tuple[str, bytes]], models: Installed
) -> tuple[dict[str, Value], list[str]]:
    """The row of a kind of files, and the first of the faults that were raised."""
    times, notes, grown, raised = list[tuple[float, str]](), list[str](), 0, 0
    with tempfile.TemporaryDirectory(prefix="flowdesign-bench-") as folder:
        for name, data in files:
            path = Path(folder) / "upload"
            path.write_bytes(data)
            seconds, bytes_, fault = _read(path, models)
            times.append((seconds, name))
            grown, raised = max(grown, bytes_), raised + bool(fault)
            notes += [f"RAISED by {name}: {fault}"] if fault else []
    times.sort()
    middle, (last, slowest) = (times[len(times) // 2][0], times[-1]) if times else (0.0, (0.0, ""))
    return {
        "import of": kind,
        "files": len(times),
        "median_ms": 1000 * middle,
        "slowest_ms": 1000 * last,
        "slowest": slowest,
        "grown_mb": grown / MB,
        "raised": raised,
    }, notes[:MOST_NAMED]


def _read(path: Path, models: Installed) -> tuple[float, int, str]:
    """The seconds that an import takes, the bytes that it needs at its most, and what it raised, if anything."""
    with suppress(OSError):  # without Linux, only what is beyond all that was needed before is seen
        Path("/proc/self/clear_refs").write_text("5")
    before, began = peak("cpu"), time.process_time()
    try:
        found = restore(path, models)
        fault = "" if found.workflow is not None or found.problems else "no workflow, no problem"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    return time.process_time() - began, peak("cpu") - before, fault


def _named(files: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    return ((f"file {at}", data) for at, data in enumerate(files))


def _own(models: Installed) -> list[bytes]:
    """Our exports of random workflows: API JSON, interface JSON, PNG."""
    from PIL import Image

    language, found = Automaton(VOCABULARY, models), list[bytes]()
    for seed in range(OWN):
        workflow = decode(random_sentence(language, random.Random(seed))).workflow
        assert workflow is not None
        bound = bind(workflow, "a red star", seed)
        found.append(json.dumps(comfy.to_api(bound, models)).encode())
        found.append(json.dumps(comfy.to_ui(bound, models)).encode())
        file = BytesIO()
        info = comfy.png_info(workflow, "a red star", seed, {}, models)
        Image.new("RGB", (8, 8)).save(file, "png", pnginfo=info)
        found.append(file.getvalue())
    return found


def _faulty(real: list[bytes], count: int) -> Iterator[bytes]:
    """Real files with one to four faults each."""
    rng = random.Random(0)
    for _ in range(count):
        data = rng.choice(real)
        for _ in range(rng.randint(1, 4)):
            data = rng.choice((_exchanged, _changed, _cut))(data, rng)
        yield data


def _exchanged(data: bytes, rng: random.Random) -> bytes:
    """A value somewhere inside becomes a strange one, or another of the same file."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return data
    place, inner = None, root
    while isinstance(inner, dict | list) and inner and (place is None or rng.random() < 0.85):
        place, key = (
            inner,
            rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner))),
        )
        inner = place[key]
    if place is None:
        return json.dumps(rng.choice(STRANGE)).encode()
    place[key] = rng.choice((*STRANGE, *(place.values() if isinstance(place, dict) else place)))
    return json.dumps(root).encode()


def _changed(data: bytes, rng: random.Random) -> bytes:
    """Some bytes become others."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 20) if found else 0):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def _cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing, or a piece is there twice."""
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:last] if rng.random() < 0.5 else data[:last] + data[first:]
