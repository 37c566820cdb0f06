"""What people made with ComfyUI before: the PNG files of its output folder become records.

ComfyUI writes the workflow into each image. One made of nodes that FlowDesign knows becomes a workflow
as any other; of a graph with other nodes the API form is kept as it was, with {prompt} where the
prompt stood, so that it can be browsed, scored, voted on and run again in ComfyUI.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowdesign import comfy
from flowdesign.catalog import Installed, known_assets
from flowdesign.nodes import MAX_SEED, NODES
from flowdesign.records.identity import SEEDS, record_key
from flowdesign.records.images import sha_of
from flowdesign.records.record import IMPORTED, BadRecord, Record, RecordsError, check_record
from flowdesign.records.store import Store
from flowdesign.tokens import NotInLanguage, encode, sentence_text
from flowdesign.workflow import PROMPT, Workflow, is_link

BATCH = 50  # images that are stored at once
RENDERER = "ComfyUI"
_TEXTS = ("text", "text_g", "text_l", "string", "value", "prompt", "t5xxl")  # inputs with a prompt
_HOPS = 50  # links that are followed to a prompt

Progress = Callable[["History"], None]


class _Skipped(Exception):
    """A file that becomes no record; the message says why."""


@dataclass
class History:
    """What an import has done so far. `skipped` counts files by the reason why."""

    files: int = 0
    records: int = 0
    new: int = 0
    foreign: int = 0  # records whose workflow has nodes that FlowDesign does not know
    skipped: dict[str, int] = field(default_factory=dict)


def import_history(
    store: Store,
    paths: Iterable[Path],
    source: str = "",
    models: Installed | None = None,
    on_batch: Progress = lambda so_far: None,
) -> History:
    """Import PNG files, and those of folders with all that is below; what is stored stays.

    `source` becomes "import:SOURCE", by default with the folder's name. Raises RecordsError for a
    path that does not exist; a file that cannot be used is counted, and the others go on.
    """
    done = History()
    known = models or known_assets()
    waiting: dict[str, tuple[Record, bytes]] = {}
    for name, path in _files(paths):
        done.files += 1
        try:
            record, data = _read(path, known)
        except _Skipped as reason:
            done.skipped[str(reason)] = done.skipped.get(str(reason), 0) + 1
            continue
        record = replace(record, source=f"{IMPORTED}{source or name}")
        key, record = _told_apart(store, record, waiting)
        waiting[key] = (record, data)
        done.records += 1
        done.foreign += any(node["class_type"] not in NODES for node in record.workflow.values())
        if len(waiting) >= BATCH:
            _store(store, waiting, done)
            on_batch(done)
    _store(store, waiting, done)
    on_batch(done)
    return done


def _store(store: Store, waiting: dict[str, tuple[Record, bytes]], done: History) -> None:
    before = store.count()
    images = {record.image: data for record, data in waiting.values()}
    store.add([record for record, _ in waiting.values()], images)
    done.new += store.count() - before
    waiting.clear()


def _files(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Yield (name of the folder, file) of every PNG, in a fixed order."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix.lower() == ".png" and file.is_file():
                    yield path.resolve().name, file
        elif path.exists():
            yield path.resolve().parent.name, path
        else:
            raise RecordsError(f"There is no file or folder {path}.")


def _read(path: Path, models: Installed) -> tuple[Record, bytes]:
    """Read one file. Raises _Skipped."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= comfy.MAX_FILE else b""
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as fault:
        raise _Skipped(f"cannot be read ({fault.strerror})") from fault
    if size > comfy.MAX_FILE:
        raise _Skipped(f"larger than {comfy.MAX_FILE // 2**20} MB")
    _check_image(data)
    record = _record(path, models)
    record = replace(
        record, image=sha_of(data), created=made.isoformat(timespec="seconds")[:19] + "Z"
    )
    try:
        check_record(record)
    except BadRecord as fault:
        raise _Skipped(str(fault)) from fault
    return record, data


def _check_image(data: bytes) -> None:
    """Raise _Skipped unless the bytes are a whole PNG."""
    from PIL import Image  # here, because the command line starts without it

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise _Skipped("no PNG, or a damaged one") from fault


def _record(path: Path, models: Installed) -> Record:
    chunks = comfy.read_chunks(path)
    if not chunks:
        raise _Skipped("carries no workflow")
    own = _own(chunks.get("flowdesign", ""))
    found = comfy.read_file(path, models)
    if found.workflow is None:
        return _foreign(chunks.get("prompt", ""))
    return Record(
        prompt=found.prompt,
        workflow=found.workflow,
        seed=found.seed,
        sentence=_sentence(found.workflow),
        scores=own["scores"],
        renderer=own["renderer"] or RENDERER,
        fidelity=own["fidelity"],
    )


def _own(text: str) -> dict[str, Any]:
    """What FlowDesign's own chunk says beside the workflow; whatever is malformed is left out."""
    value = _object(text)
    scores = value.get("scores")
    listed = scores.items() if isinstance(scores, dict) else ()
    return {
        "scores": {name: float(score) for name, score in listed if _is_score(score)},
        "renderer": value["renderer"] if isinstance(value.get("renderer"), str) else "",
        "fidelity": value["fidelity"] if isinstance(value.get("fidelity"), str) else "",
    }


def _is_score(score: object) -> bool:
    small = isinstance(score, float) or (isinstance(score, int) and abs(score) < 2**53)
    return small and not isinstance(score, bool)


def _sentence(workflow: Workflow) -> str:
    try:
        return sentence_text(encode(workflow).tokens)
    except NotInLanguage:
        return ""


def _foreign(text: str) -> Record:
    """A record around a graph with nodes that are not ours. Raises _Skipped where there is none."""
    graph = {k: n for k, n in _object(text).items() if isinstance(n, dict) and "class_type" in n}
    if not graph:
        raise _Skipped("carries no workflow that can be read")
    graph = _without_nan(graph)
    sampler: dict[str, Any] = next((node for node in graph.values() if _takes_positive(node)), {})
    inputs = _inputs(sampler)
    prompt = _prompt(graph, inputs.get("positive"))
    seeds = (_number(graph, inputs.get(name)) for name in sorted(SEEDS))
    seed = next((seed for seed in seeds if seed is not None), 0)
    return Record(prompt, _with_place(graph, prompt), seed, renderer=RENDERER)


def _takes_positive(node: dict[str, Any]) -> bool:
    return is_link(_inputs(node).get("positive"))


def _inputs(node: Any) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _prompt(graph: Workflow, link: Any) -> str:
    """The first text behind a link, looking at each node's texts before the nodes behind it."""
    ahead, seen = [link], set[str]()
    while ahead and len(seen) < _HOPS:
        link = ahead.pop(0)
        if not is_link(link) or link[0] in seen:
            continue
        seen.add(link[0])
        inputs = _inputs(graph.get(link[0]))
        for name in _TEXTS:
            if isinstance(inputs.get(name), str) and inputs[name].strip():
                return str(inputs[name])
        # A text comes from where a text is asked for; only then from anywhere else.
        ahead = [inputs.get(name) for name in _TEXTS] + ahead + list(inputs.values())
    return ""


def _number(graph: Workflow, value: Any) -> int | None:
    """A seed, also one that comes from a node of its own."""
    if is_link(value):
        inputs = _inputs(graph.get(value[0]))
        value = next((inputs[n] for n in (*sorted(SEEDS), "value") if n in inputs), None)
    is_seed = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEED
    return int(value) if is_seed else None


def _with_place(graph: Workflow, prompt: str) -> Workflow:
    """The graph with {prompt} for the prompt, so that one workflow's images share a workflow."""
    if not prompt:
        return graph
    return {
        key: {
            **node,
            "inputs": {n: PROMPT if v == prompt else v for n, v in _inputs(node).items()},
        }
        for key, node in graph.items()
    }


def _without_nan(value: Any) -> Any:
    """ComfyUI writes NaN where a node asked to run again each time; JSON has none."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _told_apart(
    store: Store, record: Record, waiting: dict[str, tuple[Record, bytes]]
) -> tuple[str, Record]:
    """Give the record's key; the images of one batch share prompt, workflow and seed.

    The second one of a batch is told apart by a number in what rendered it. An image that was
    imported before gets its number again.
    """
    renderer, number = record.renderer, 1
    while True:
        key = record_key(record.prompt, record.workflow, record.seed, {}, record.renderer)
        taken = waiting[key][0].image if key in waiting else store.images_by_key([key]).get(key)
        if taken is None or taken in ("", record.image):
            return key, record
        number += 1
        record = replace(record, renderer=f"{renderer}, image {number} of its batch")
