"""Bringing records in: PNG files, ComfyUI output folders, and tables that were exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.records import IMPORTED, ExchangeError, RecordsError, Store, exchange, history
from flowdesign.ui import cards, uploads
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates
from flowdesign.ui.jobs import Job, Told
from flowdesign.ui.jobs_view import JobsView
from flowdesign.ui.selection import say
from flowdesign.ui.shared import SharedStore

WORDS = (
    '<p class="fd-note">PNG files as ComfyUI or FlowDesign saves them, or a zip file of its output '
    "folder: each image becomes a record with the workflow it carries; one whose nodes FlowDesign "
    "does not know is kept as it was. Or an export of records: JSON Lines, CSV, Parquet, or the zip "
    "file with images. What is here already stays, so an import can be repeated.</p>"
)


class Import:
    """The sub-tab's components."""

    def __init__(self, records: SharedStore, gate: Gate, jobs: JobsView) -> None:
        self.records, self.gate, self.jobs = records, gate, jobs
        cards.html(WORDS)
        self.files = gr.File(
            label="Drop PNG files, a zip file, or tables of records here",
            file_count="multiple",
            file_types=list(uploads.TYPES),
            height=150,
            elem_id="fd-import",
        )
        with gr.Row(elem_classes="fd-bar"):
            self.name = gr.Textbox(
                label="Name of this import",
                placeholder="my ComfyUI year",
                info="The records' source, so that they can be found together.",
                max_lines=1,
                elem_id="fd-import-name",
            )
            self.go = gr.Button("Import", variant="primary", scale=0, elem_id="fd-import-go")
        with gr.Row(elem_classes="fd-bar", visible=False) as self.local:
            self.folder = gr.Textbox(
                label="Or a folder on this machine",
                placeholder="/home/me/ComfyUI/output",
                info="Read where it is, with everything below it.",
                max_lines=1,
                elem_id="fd-folder",
            )
            self.read = gr.Button("Import the folder", scale=0, elem_id="fd-folder-go")
        self.said = cards.html(elem_id="fd-imported")
        started = [self.said, self.files, *jobs.outputs]
        bringing = gate.writes("import", self.bring)
        self.go.click(bringing, [self.files, self.name], started, **QUIET)
        reading = gate.writes("folder", self.bring_folder)
        gr.on([self.read.click, self.folder.submit], reading, [self.folder, self.name],
              started, **QUIET)  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.local]

    def show(self, person: Person) -> Updates:
        """Offer folders to whoever may read this machine's."""
        may = self.gate.access.allows(person, "folder")
        return {self.local: gr.update(visible=may)}

    def bring(self, person: Person, files: list[str] | None, name: str) -> Updates:
        """Begin to import uploaded files in the background."""
        try:
            found = uploads.sort([Path(file) for file in files or []])
        except uploads.BadUpload as fault:
            return self._told(str(fault))
        if not files:
            return self._told("Drop some files first.")
        source, store = uploads.clean_name(name), self.records()
        started = self.jobs.start(
            f"Importing {len(files):,} file{'s' * (len(files) != 1)}",
            lambda job: bring_files(job, store, found, source),
            "import",
        )
        return {self.said: "", self.files: None} | started

    def bring_folder(self, person: Person, folder: str, name: str) -> Updates:
        """Begin to import a folder of this machine; the gate has let through who may."""
        path = Path(str(folder or "").strip()).expanduser()
        try:
            is_folder = bool(str(folder or "").strip()) and path.is_dir()
        except (OSError, ValueError):  # a name that no system allows
            is_folder = False
        if not is_folder:
            return self._told(f"There is no folder '{str(folder or '')[:200]}' on this machine.")
        source, store = uploads.clean_name(name), self.records()
        started = self.jobs.start(
            f"Importing the folder {path.name}",
            lambda job: bring_history(job, store, [path], source),
            "import",
        )
        return {self.said: ""} | started

    def _told(self, words: str) -> Updates:
        return {self.said: cards.status(words, "bad")}


def bring_files(job: Job, store: Store, found: uploads.Uploads, source: str) -> str:
    """Import uploads of every kind."""
    job.total = len(found.images) + sum(map(_count, found.archives))
    said = [_bring_table(job, store, table, source) for table in found.tables]
    if found.images:
        said.append(bring_history(job, store, found.images, source or "upload"))
    for archive in found.archives:
        said.append(bring_history(job, store, _pictures(archive), source or archive.stem))
    return "; ".join(said)


def bring_history(
    job: Job, store: Store, paths: Sequence[Path] | Iterator[Path], source: str
) -> str:
    """Import PNG files; the job counts them as they are read."""

    def noted(done: history.History) -> None:
        job.step(done.files - counted[0])
        counted[0] = done.files

    counted = [0]
    try:
        done = history.import_history(store, paths, source, on_batch=noted)
    except RecordsError as fault:
        raise Told(str(fault)) from fault
    return _say_history(done)


def _say_history(done: history.History) -> str:
    parts = [f"{say(done.new)} new"]
    if done.records > done.new:
        parts.append(f"{done.records - done.new:,} were here already")
    if done.foreign:
        parts.append(f"{done.foreign:,} with nodes that FlowDesign does not know")
    parts += [f"{count:,} skipped: {reason}" for reason, count in done.skipped.items()]
    return ", ".join(parts)


def _bring_table(job: Job, store: Store, table: Path, source: str) -> str:
    def noted(done: exchange.Imported) -> None:
        job.step(done.records - counted[0])
        counted[0] = done.records

    counted = [0]
    name = f"{IMPORTED}{source or clean_stem(table)}"
    try:
        done = exchange.import_records(store, table, name, noted)
    except ExchangeError as fault:
        raise Told(str(fault)) from fault
    here = f", {done.records - done.new:,} were here already" if done.records > done.new else ""
    votes = (
        f", {done.votes + done.ratings:,} votes and ratings" if done.votes + done.ratings else ""
    )
    return f"{say(done.new)} new{here}, {done.images:,} images{votes}"


def clean_stem(path: Path) -> str:
    """A file's name as an import's name."""
    return uploads.clean_name(path.stem) or "upload"


def _count(archive: Path) -> int:
    try:
        return uploads.count_pictures(archive)
    except uploads.BadUpload as fault:
        raise Told(str(fault)) from fault


def _pictures(archive: Path) -> Iterator[Path]:
    try:
        yield from uploads.pictures(archive)
    except uploads.BadUpload as fault:
        raise Told(str(fault)) from fault
