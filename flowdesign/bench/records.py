"""How the store behaves as it grows: opening, filtering, paging and exporting, 10^3 to 10^6 records.

Each size is a store of its own, filled through `Store.add` and measured in processes that do nothing
else, so that the peak of memory belongs to one thing. Files are in the system's cache, as they are in
an app that is in use. The prompts are one for every twenty records; workflows are random sentences.
"""

from __future__ import annotations

import gc
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flowdesign.bench.measured import Measured, Say
from flowdesign.catalog import known_assets
from flowdesign.records import Filter, Order, Record, Store, sha_of
from flowdesign.records.exchange import export
from flowdesign.scenes import random_prompt
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence, sentence_text

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (300, 1_000)
WORKFLOWS = 3_000
PER_PROMPT = 20  # records
WITH_IMAGE = 1_000  # records at most: as many small files take long to make
BATCH = 2_000
REPEATS = 5
RARE = "zebra"  # a word of one prompt
FORMATS = ("jsonl", "csv", "parquet")
SEARCHES: dict[str, tuple[Filter, Order]] = {
    "no filter": (Filter(), "newest"),
    "checkpoint": (Filter(checkpoint="mini_flat"), "newest"),
    "five choices": (
        Filter(
            checkpoint="mini_night",
            sampler="heun",
            category="counting",
            split="train",
            failed=False,
        ),
        "newest",
    ),
    "rare source": (Filter(source="import:rare"), "newest"),
    "common word": (Filter(text="red"), "newest"),
    "rare word": (Filter(text=RARE), "newest"),
    "word and checkpoint": (Filter(text="star", checkpoint="mini_flat"), "newest"),
    "word and rare source": (Filter(text="red", source="import:rare"), "newest"),
    "never together": (Filter(text="alpha", source="collect:1"), "newest"),
    "score above": (Filter(scorer="exact", low=0.5), "newest"),
    "score in a hundredth": (Filter(scorer="exact", low=0.2, high=0.21), "newest"),
    "score and word": (Filter(scorer="exact", low=0.9, text="fish"), "newest"),
    "best": (Filter(scorer="exact"), "best"),
    "best of a checkpoint": (Filter(scorer="exact", checkpoint="mini_flat"), "best"),
    "best of rare source": (Filter(scorer="exact", source="import:rare"), "best"),
}


def measure(quick: bool, say: Say) -> Measured:
    """Fill stores of growing size and measure each; they are removed afterwards."""
    sizes = QUICK_SIZES if quick else SIZES
    columns: dict[int, dict[str, float]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="flowdesign-bench-") as name:
            folder = Path(name)
            columns[size] = {}
            for phase in ("fill", "search", *FORMATS):
                say(f"{size:,} records: {phase}")
                columns[size] |= _in_process(phase, folder, size)
    return Measured(_rows(columns), (_growth_note(sizes),))


def _in_process(phase: str, folder: Path, size: int) -> dict[str, float]:
    """Run one phase in a process of its own."""
    command = [sys.executable, "-m", "flowdesign.bench.records", phase, str(folder), str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _rows(columns: dict[int, dict[str, float]]) -> list[dict[str, Any]]:
    """One row a figure, one column a size, and how much the last is of the first."""
    first, last = min(columns), max(columns)
    names = columns[last]
    return [
        {"figure": name}
        | {f"{size:,}": column[name] for size, column in columns.items()}
        | {"growth": columns[last][name] / (columns[first][name] or 1e-9)}
        for name in names
    ]


def _growth_note(sizes: tuple[int, ...]) -> str:
    return (
        f"growth: figure at {max(sizes):,} records over that at {min(sizes):,}. Pages are of 50 rows,"
        f" with the total; the median of {REPEATS} in one process, and the worst of them."
    )


# --- the phases, each in its own process ---------------------------------------------------------


def _fill(folder: Path, size: int) -> dict[str, float]:
    """Fill the store through its front door; the first one in a hundred is of a rare source."""
    started = time.perf_counter()
    with Store.open(folder / "store") as store:
        batch: list[Record] = []
        images: dict[str, bytes] = {}
        for record, picture in _records(size):
            batch.append(record)
            if picture:
                images[record.image] = picture
            if len(batch) == BATCH:
                store.add(batch, images)
                batch, images = [], {}
        store.add(batch, images)
    seconds = time.perf_counter() - started
    megabytes = (folder / "store" / "records.sqlite3").stat().st_size / 2**20
    return {"add, records/s": size / seconds, "file, MB": megabytes}


def _records(size: int) -> Iterator[tuple[Record, bytes]]:
    rng = random.Random(size)
    automaton = Automaton(VOCABULARY, known_assets())
    sentences = [random_sentence(automaton, rng) for _ in range(min(WORKFLOWS, size))]
    workflows = [(decode(each).workflow or {}, sentence_text(each)) for each in sentences]
    # The worst case: a word and a source that many records have, but none has both.
    words = ("alpha", "beta", "gamma", "delta", "epsilon")
    prompts = [f"{random_prompt(rng)}, {words[n % 5]} {n}" for n in range(size // PER_PROMPT + 1)]
    prompts[0] += f", {RARE}"
    for number in range(size):
        workflow, sentence = rng.choice(workflows)
        picture = _png(number) if number < WITH_IMAGE else b""
        yield (
            Record(
                prompt=prompts[number // PER_PROMPT], workflow=workflow, seed=number,
                sentence=sentence, image=sha_of(picture) if picture else "",
                scores={"exact": rng.random(), "sharpness": rng.gauss(0, 1)},
                source="import:rare" if number < 20 else f"collect:{number // PER_PROMPT % 5}",
                renderer="bench", fidelity="exact", seconds=0.5,
                failure="it failed" if rng.random() < 0.02 else "",
            ),
            picture,
        )  # fmt: skip


def _png(number: int) -> bytes:
    """A PNG of one pixel that no other number has."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    pixel = zlib.compress(b"\0" + number.to_bytes(3, "big"))
    header = (1).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    for kind, body in ((b"IHDR", header), (b"IDAT", pixel), (b"IEND", b"")):
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        parts.append(len(body).to_bytes(4, "big") + kind + body + check)
    return b"".join(parts)


def _search(folder: Path, size: int) -> dict[str, float]:
    """Open the store as the Data tab does, then search it."""
    before = _peak_megabytes()
    found: dict[str, float] = {}
    started = time.perf_counter()
    store = Store.open(folder / "store")
    store.options()
    store.find()
    found["open, options and first page, ms"] = (time.perf_counter() - started) * 1000
    for name, (wanted, order) in SEARCHES.items():
        found |= _timed(f"page: {name}", _page(store, wanted, order))
    found |= _timed("page: from the middle", lambda: store.find(after=f"[0.0, {size // 2}]"))
    found |= _timed("histogram", lambda: store.histogram("exact"))
    found |= _timed("by component", lambda: store.by_component("checkpoint", "exact"))
    found["peak memory of searching, MB"] = _peak_megabytes() - before
    store.close()
    return found


def _page(store: Store, wanted: Filter, order: Order) -> Callable[[], object]:
    return lambda: store.find(wanted, order=order)


def _timed(name: str, work: Callable[[], object]) -> dict[str, float]:
    """The median of a few runs and the worst of them, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return {f"{name}, ms": statistics.median(times), f"{name}, worst ms": max(times)}


def _export(folder: Path, size: int, name: str) -> dict[str, float]:
    """Export everything; the peak is over that of the same process after a very small export."""
    target = folder / "export"
    with Store.open(folder / "store") as store:
        export(store, target, name, Filter(source="import:rare"))
        shutil.rmtree(target)
        gc.collect()
        before, started = _peak_megabytes(), time.perf_counter()
        done = export(store, target, name)
        seconds = time.perf_counter() - started
    if done.records != size:
        raise AssertionError(f"{done.records} of {size} records were exported")
    shutil.rmtree(target)
    return {
        f"export {name}, records/s": size / seconds,
        f"export {name}, added peak MB": _peak_megabytes() - before,
    }


def _peak_megabytes() -> float:
    """The most memory that this program ever held; Linux also counts what its parent held before."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource  # not on Windows, where the rest of the module can still be imported

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on a Mac


def _main(phase: str, folder: Path, size: int) -> dict[str, float]:
    if phase in FORMATS:
        return _export(folder, size, phase)
    return {"fill": _fill, "search": _search}[phase](folder, size)


if __name__ == "__main__":
    json.dump(_main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])), sys.stdout)
