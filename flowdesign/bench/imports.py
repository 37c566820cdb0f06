"""How long an import takes: of ComfyUI's own templates of workflows, and of 10,000 files with faults in them.

Faulty files are real ones (exports of random workflows, and the templates where their package is installed) with
values exchanged, bytes changed, or ends cut off, as JSON and as PNG; and files that nobody would make by accident:
nested 100,000 deep, of 100,000 nodes, with numbers of 5,000 digits, with subgraphs that hold each other. Each is
read as a person's upload is. A fault that is raised ends the measurement.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from flowdesign import comfy
from flowdesign.bench.hardware import peak
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.catalog import Installed, known_assets
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence
from flowdesign.workflow import bind

FILES, QUICK_FILES, OWN, REPEATS, MB = 10_000, 300, 30, 5, 2**20
TEMPLATES = "comfyui_workflow_templates_json"
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("nan"), float("inf"), -(10**400), "", "x" * 5000, "../../etc/passwd", "\0",
    "\ud800", "{prompt}", [], {}, [[]], ["1", 0], ["1", -1], ["1", 10**30], [None, 0], {"__value__": 1},
    {"class_type": "KSampler"},
)  # fmt: skip


def measure(quick: bool, say: Say) -> Measured:
    """Import all of them, and tell the slowest, and by how much memory grew."""
    models = known_assets()
    whole = list(templates())
    own = _own(models)
    before = peak("cpu")
    with tempfile.TemporaryDirectory(prefix="flowdesign-bench-") as folder:
        path = Path(folder) / "upload"
        rows = [_row("templates, each as it is", whole * (1 if quick else REPEATS), path, models)]
        rows.append(
            _row("the largest template", [max(whole, key=len)] * 20 if whole else [], path, models)
        )
        say("templates are read")
        real, count = own + whole, QUICK_FILES if quick else FILES
        rows.append(_row("real files with faults", _faulty(real, count), path, models))
        say("files with faults are read")
        rows.append(_row("files made to harm", monsters(), path, models))
    grown = f"memory grew by {(peak('cpu') - before) / MB:.0f} MB in all"
    missing = () if whole else (f"without the package {TEMPLATES} there are no templates",)
    return Measured(rows, (f"{grown}; load average {os.getloadavg()[0]:.1f}", *missing))  # fmt: skip


def templates() -> Iterator[bytes]:
    """ComfyUI's own templates of workflows, where their package is installed."""
    spec = importlib.util.find_spec(TEMPLATES)
    places = spec.submodule_search_locations if spec else None
    for path in sorted(Path(places[0]).rglob("*.json")) if places else ():
        data = path.read_bytes()
        if b'"nodes"' in data:
            yield data


def monsters() -> Iterator[bytes]:
    """Files that are made to make a reader fail, hang or grow."""
    deep, many = 100_000, 100_000
    node = {"class_type": "KSampler", "inputs": {"model": ["1", 0], "latent_image": ["2", 0]}}
    yield b"[" * deep + b"]" * deep
    yield b'{"nodes":' * deep + b"1" + b"}" * deep
    yield json.dumps({str(at): node for at in range(many)}).encode()
    yield json.dumps({str(at): _linked(at + 1) for at in range(many)}).encode()
    yield json.dumps(
        {"nodes": [_drawn(at, "KSampler") for at in range(many)], "links": []}
    ).encode()
    yield json.dumps(
        {"nodes": [_drawn(at, "Reroute") for at in range(many)], "links": _chain(many)}
    ).encode()
    yield json.dumps(_nested(12, 8)).encode()
    yield json.dumps(_nested(2, 1, around=True)).encode()
    yield b'{"1":{"class_type":"KSampler","inputs":{"seed":' + b"9" * 5000 + b"}}}"
    yield b'{"nodes":[{"id":' + b"9" * 4000 + b',"type":"KSampler","mode":1e999}],"links":[]}'


def _row(name: str, files: Iterable[bytes], path: Path, models: Installed) -> dict[str, Value]:
    times = sorted(_seconds(data, path, models) for data in files)
    middle, last = (times[len(times) // 2], times[-1]) if times else (0.0, 0.0)
    return {
        "import of": name,
        "files": len(times),
        "median_ms": 1000 * middle,
        "slowest_ms": 1000 * last,
    }


def _seconds(data: bytes, path: Path, models: Installed) -> float:
    path.write_bytes(data)
    began = time.perf_counter()
    found = comfy.read_file(path, models)
    took = time.perf_counter() - began
    assert found.workflow is not None or found.problems, "neither a workflow nor a problem"
    return took


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


def _linked(to: int) -> dict[str, Any]:
    return {"class_type": "VAEDecode", "inputs": {"samples": [str(to), 0], "vae": [str(to), 0]}}


def _drawn(at: int, kind: str) -> dict[str, Any]:
    return {
        "id": at, "type": kind, "inputs": [{"name": "", "type": "*", "link": at}],
        "outputs": [{"name": "", "type": "*", "links": [at + 1]}],
    }  # fmt: skip


def _chain(length: int) -> list[list[Any]]:
    return [[at + 1, at, 0, at + 1, 0, "*"] for at in range(length - 1)]


def _nested(depth: int, width: int, around: bool = False) -> dict[str, Any]:
    """Subgraphs that hold `width` of the next one each: width ** depth nodes in all; or hold each other."""
    subgraphs = [
        {
            "id": f"s{at}", "name": f"s{at}", "inputs": [], "outputs": [], "links": [],
            "nodes": [_drawn(n, f"s{(at + 1) % depth if around else at + 1}") for n in range(width)],
        }
        for at in range(depth)
    ]  # fmt: skip
    return {"nodes": [_drawn(0, "s0")], "links": [], "definitions": {"subgraphs": subgraphs}}
