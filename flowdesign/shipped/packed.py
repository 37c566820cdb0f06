"""The packed file: gzipped lines of JSON, where prompts and workflows are written once.

    {"format": 1, ...}                     the head (`Head`)
    {"prompts": [...]}
    {"workflows": [...]}                   sentences
    [prompt, workflow, seed, seconds, fidelity, [scores in the head's order], failure?]   each record

A score that is absent is null. Equal records make equal bytes: nothing in the file depends on when or
in which order the records were collected, but for the seconds.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from flowdesign.catalog import ROOT
from flowdesign.provenance import assets_of
from flowdesign.records import Record, RecordsError
from flowdesign.runs import replace_file
from flowdesign.tokens import workflow_of
from flowdesign.workflow import Workflow

PACKED = ROOT / "assets" / "miniature_records.jsonl.gz"  # prompts and workflows of every split
MORE = tuple(  # more of the training split, to learn from
    ROOT / "assets" / f"miniature_{name}.jsonl.gz"
    for name in ("more", "more2", "more3", "redrawn", "redrawn2", "searched", "searched2")
)
GRID = ROOT / "assets" / "miniature_grid.jsonl.gz"  # test prompts x test workflows, to measure on
FILES = (PACKED, *MORE, GRID)
FORMAT = 1
SOURCE = "shipped"
FIDELITIES = ("", "exact", "approximate")


class ShippedError(RecordsError):
    """Records that cannot be packed, or a file that is not a packed one."""


@dataclass(frozen=True)
class Head:
    """What all records of a packed file have in common, and how many there are."""

    config: Mapping[str, Any]  # of the run that collected them: the same config makes them again
    renderer: str
    assets: Mapping[str, str]  # model name -> hash
    scorers: Sequence[str]
    created: str  # when the last one was collected, UTC
    records: int = 0
    prompts: int = 0
    workflows: int = 0
    format: int = field(default=FORMAT)


def pack(records: Iterable[Record], config: Mapping[str, Any], path: Path = PACKED) -> Head:
    """Write records, the ones of one run, and give the file's head.

    Raises ShippedError for records outside the language, or by different models or renderers.
    """
    kept = sorted(records, key=lambda one: (one.sentence, one.prompt, one.seed))
    if not kept:
        raise ShippedError("There are no records to pack.")
    prompts = sorted({one.prompt for one in kept})
    sentences = sorted({one.sentence for one in kept})
    head = _head(kept, config, len(prompts), len(sentences))
    place_of = {text: at for at, text in enumerate(prompts)}
    number_of = {text: at for at, text in enumerate(sentences)}
    lines: list[Any] = [asdict(head), {"prompts": prompts}, {"workflows": sentences}]
    lines += [_row(one, place_of[one.prompt], number_of[one.sentence], head) for one in kept]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    data = gzip.compress(text.encode(), mtime=0)
    replace_file(path, lambda draft: draft.write_bytes(data))
    return head


def read_head(path: Path = PACKED) -> Head:
    """Read what a packed file says of itself. Raises ShippedError; FileNotFoundError without one."""
    with _opened(path) as file:
        return _read_head(file, path)


def unpack(path: Path = PACKED) -> Iterator[Record]:
    """Yield the records of a packed file. Raises ShippedError; FileNotFoundError without one."""
    with _opened(path) as file:
        head = _read_head(file, path)
        prompts, sentences = (_line(file, path)[name] for name in ("prompts", "workflows"))
        parts = [_Part.of(sentence, head.assets) for sentence in sentences]
        for line in file:
            yield _record(json.loads(line), head, prompts, parts)


def unpack_all(paths: Sequence[Path] = FILES) -> Iterator[Record]:
    """Yield the records of all packed files that there are. Raises ShippedError."""
    for path in paths:
        if path.exists():
            yield from unpack(path)


@dataclass(frozen=True)
class _Part:
    """A workflow with what its records share."""

    sentence: str
    workflow: Workflow
    assets: Mapping[str, str]

    @staticmethod
    def of(sentence: str, hashes: Mapping[str, str]) -> _Part:
        workflow = workflow_of(sentence)
        if workflow is None:
            raise ShippedError(f"This version cannot say the workflow {sentence}")
        names = sorted({name for _, name in assets_of(workflow)})
        return _Part(sentence, workflow, {name: hashes[name] for name in names})


def _head(
    records: Sequence[Record], config: Mapping[str, Any], prompts: int, workflows: int
) -> Head:
    renderers = {one.renderer for one in records}
    if len(renderers) > 1:
        raise ShippedError(f"The records are of several renderers: {'; '.join(sorted(renderers))}")
    assets: dict[str, str] = {}
    for one in records:
        if not one.sentence:
            raise ShippedError(f"The vocabulary cannot say the workflow of record {one.id}.")
        for name, digest in one.assets.items():
            if assets.setdefault(name, digest) != digest:
                raise ShippedError(f"The records were made with different files for '{name}'.")
    return Head(
        config=dict(config),
        renderer=records[0].renderer,
        assets=dict(sorted(assets.items())),
        scorers=sorted({name for one in records for name in one.scores}),
        created=max(one.created for one in records),
        records=len(records),
        prompts=prompts,
        workflows=workflows,
    )


def _row(record: Record, prompt: int, workflow: int, head: Head) -> list[Any]:
    scores = [record.scores.get(name) for name in head.scorers]
    fidelity = FIDELITIES.index(record.fidelity)
    row = [prompt, workflow, record.seed, round(record.seconds, 3), fidelity, scores]
    return [*row, record.failure] if record.failure else row


def _record(
    row: Sequence[Any], head: Head, prompts: Sequence[str], parts: Sequence[_Part]
) -> Record:
    prompt, workflow, seed, seconds, fidelity, scores, *failure = row
    part = parts[workflow]
    pairs = zip(head.scorers, scores, strict=True)
    return Record(
        prompt=prompts[prompt],
        workflow=part.workflow,
        seed=seed,
        sentence=part.sentence,
        scores={name: value for name, value in pairs if value is not None},
        source=SOURCE,
        assets=part.assets,
        renderer=head.renderer,
        fidelity=FIDELITIES[fidelity],
        seconds=seconds,
        failure=failure[0] if failure else "",
        created=head.created,
    )


def _opened(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8")


def _read_head(file: TextIO, path: Path) -> Head:
    values = _line(file, path)
    if values.get("format") != FORMAT:
        raise ShippedError(
            f"{path.name} has format {values.get('format')}; this version reads {FORMAT}."
        )
    return Head(**values)


def _line(file: TextIO, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.readline())
    except (ValueError, OSError) as fault:
        raise ShippedError(f"{path.name} is not a file of packed records: {fault}") from fault
    if not isinstance(values, dict):
        raise ShippedError(f"{path.name} is not a file of packed records.")
    return values
