"""What `python -m flowdesign records` does: import, export, card, history.

Each gives what is to be printed, as data for JSON and as text.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowdesign.config import add_command
from flowdesign.records.exchange import FORMATS, export, import_records
from flowdesign.records.exchange.card import Card, card_text
from flowdesign.records.filters import Filter
from flowdesign.records.history import import_history
from flowdesign.records.splits import SPLITS
from flowdesign.records.store import DATA, Store

Answer = tuple[Any, str]  # for JSON, for people
_ASKED = ("text", "split", "source", "checkpoint", "sampler", "category", "scorer", "low", "high")


def take_in(flags: argparse.Namespace) -> Answer:
    """Import a folder or zip file of an export, or one JSONL, CSV or Parquet table."""
    with Store.open(flags.data) as store:
        done = import_records(store, flags.file, flags.source)
    told = (
        f"{done.records:,} records read, {done.new:,} of them new; {done.images:,} images, "
        f"{done.votes:,} votes, {done.ratings:,} ratings"
    )
    if done.skipped:
        told += f"; {done.skipped:,} votes and ratings are on records that are not in the file"
    return asdict(done), told


def write_out(flags: argparse.Namespace) -> Answer:
    """Export the records that match, with votes, images and a dataset card."""
    with Store.open(flags.data) as store:
        done = export(
            store,
            flags.out,
            flags.format,
            _filter(flags),
            images=flags.images,
            hide_raters=flags.hide_raters,
            card=_card(flags),
        )
    told = (
        f"Written to {done.path}: {done.records:,} records, {done.images:,} images, "
        f"{done.votes:,} votes, {done.ratings:,} ratings"
    )
    return {**asdict(done), "path": str(done.path)}, told


def card(flags: argparse.Namespace) -> Answer:
    """Print the dataset card that an export would have."""
    wanted = _filter(flags)
    with Store.open(flags.data) as store:
        splits = store.count_splits(wanted)
        text = card_text(store, wanted, splits, flags.format, _card(flags))
    return {"card": text}, text


def history(flags: argparse.Namespace) -> Answer:
    """Import a ComfyUI output folder, or PNG files that carry their workflow."""
    with Store.open(flags.data) as store:
        done = import_history(store, flags.paths, flags.source)
    lines = [
        f"{done.files:,} PNG files: {done.records:,} records, {done.new:,} of them new, "
        f"{done.foreign:,} with nodes that FlowDesign does not know"
    ]
    lines += [f"{count:,} skipped: {reason}" for reason, count in sorted(done.skipped.items())]
    return asdict(done), "\n".join(lines)


def add_records(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Declare what `records` can do; gives the parsers of the actions."""
    actions = command.add_subparsers(required=True, metavar="ACTION")
    taken = add_command(actions, "import", take_in)
    taken.add_argument("file", type=Path, help="folder, zip file or table", metavar="PATH")
    taken.add_argument("--source", default="", help="source of records that name none")
    written = add_command(actions, "export", write_out)
    written.add_argument("out", type=Path, help="new folder or .zip file", metavar="PATH")
    written.add_argument("--no-images", dest="images", action="store_false", help="leave them out")
    written.add_argument(
        "--hide-raters", action="store_true", help="replace the names of those who voted"
    )
    shown = add_command(actions, "card", card)
    for each in (written, shown):
        _add_filter(each)
    past = add_command(actions, "history", history)
    past.add_argument("paths", type=Path, nargs="+", help="folders or PNG files", metavar="PATH")
    past.add_argument("--source", default="", help="name of the source (default: the folder's)")
    parsers = [taken, written, shown, past]
    for each in parsers:
        each.add_argument("--data", type=Path, default=DATA, help=f"the store (default: {DATA})")
    return parsers


def _add_filter(command: argparse.ArgumentParser) -> None:
    """Declare the options of what is exported, and of its card."""
    command.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    command.add_argument("--text", default="", help="words of the prompt")
    command.add_argument("--split", choices=SPLITS, help="only this split")
    for name in ("source", "checkpoint", "sampler", "category", "scorer"):
        command.add_argument(f"--{name}", help=f"only this {name}")
    command.add_argument("--low", type=float, help="lowest score of --scorer")
    command.add_argument("--high", type=float, help="highest score of --scorer")
    command.add_argument("--title", default=Card.title, help="title of the card")
    command.add_argument("--about", default=Card.about, help="what the card says first")
    command.add_argument("--licence", default=Card.licence, help="a Hugging Face licence tag")


def _filter(flags: argparse.Namespace) -> Filter:
    return Filter(**{name: getattr(flags, name) for name in _ASKED})


def _card(flags: argparse.Namespace) -> Card:
    return Card(flags.title, flags.about, flags.licence)
