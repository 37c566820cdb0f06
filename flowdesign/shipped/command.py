"""What `python -m flowdesign shipped` does: make, load, check.

Each gives what is to be printed, as data for JSON and as text.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowdesign.catalog import ROOT
from flowdesign.config import CollectConfig, add_command, load
from flowdesign.records import DATA, Filter, Store
from flowdesign.shipped.card import card_of
from flowdesign.shipped.first import load as load_into
from flowdesign.shipped.packed import FILES, PACKED, ShippedError, pack

Answer = tuple[Any, str]  # for JSON, for people
Work = Callable[[argparse.Namespace], Answer]


def make(flags: argparse.Namespace) -> Answer:
    """Pack the records of a collection into one file, and write its card beside it."""
    folder = ROOT / "checkpoints" / flags.run
    if not (folder / "config.json").exists():
        raise ShippedError(f"There is no run {flags.run} in {folder.parent}.")
    config = load(CollectConfig, folder / "config.json")
    given = config.model_dump(exclude={*(config.incidental - {"run"}), "records"})
    with Store.open(Path(config.records) if config.records else DATA) as store:
        head = pack(store.stream(Filter(source=f"collect:{config.run}")), given, flags.file)
    card = flags.file.with_name(flags.file.name.partition(".")[0] + ".md")
    card.write_text(card_of(flags.file), encoding="utf-8")
    size = flags.file.stat().st_size
    told = (
        f"Packed {head.records:,} records of {head.prompts:,} prompts and {head.workflows:,} workflows "
        f"into {flags.file} ({size / 1e6:.2f} MB); its card is {card.name}"
    )
    return {**asdict(head), "path": str(flags.file), "bytes": size}, told


def take_in(flags: argparse.Namespace) -> Answer:
    """Store the shipped records, or those of one packed file; those that are there already stay."""
    files = [flags.file] if flags.file else [path for path in FILES if path.exists()]
    with Store.open(flags.data) as store:
        count = sum(load_into(store, path) for path in files)
        return {"records": count}, f"{count:,} records are in {store.folder}"


def add_shipped(
    command: argparse.ArgumentParser, check: Work, pictures: Work
) -> list[argparse.ArgumentParser]:
    """Declare what `shipped` can do; gives the parsers of the actions.

    `check` and `pictures` are given, because what renders is above this module.
    """
    actions = command.add_subparsers(required=True, metavar="ACTION")
    found = []
    for name, work in (("make", make), ("load", take_in), ("check", check)):
        action = add_command(actions, name, work)
        usual = None if work is take_in else PACKED  # None: all that are shipped
        action.add_argument("--file", type=Path, default=usual, help="the packed file")
        found.append(action)
    found[0].add_argument("--run", required=True, help="the collection, by its folder's name")
    found[1].add_argument(
        "--data", type=Path, help="folder of the records; by default the usual one"
    )
    found[2].add_argument("-n", type=int, default=32, help="records to render (default: 32)")
    found[2].add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    drawn = add_command(actions, "pictures", pictures)
    drawn.add_argument("--run", default="reward", help="run of an ensemble (default: reward)")
    found.append(drawn)
    return found
