"""The dataset card: a README.md that the Hugging Face Hub reads, with figures of what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowdesign.records.exchange.columns import DERIVED, RECORD, SCORE
from flowdesign.records.filters import Filter
from flowdesign.records.splits import SPLITS
from flowdesign.records.store import Store

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_ABOUT = {
    "id": "number within these files; votes and ratings refer to it",
    "prompt": "what the image should show",
    "workflow": "ComfyUI's API graph as JSON; `{prompt}` and seeds are not filled in; a seed that is not 0 is added to the usual one",
    "seed": "seed of the first sampling pass",
    "sentence": "the workflow in FlowDesign's vocabulary; empty when it is outside of it",
    "image": "sha256 of the PNG; empty when there is none",
    "source": "where the record is from",
    "assets": "hash of every model file that was used, as JSON",
    "renderer": "the program that rendered the image, with versions",
    "fidelity": "exact or approximate, with respect to ComfyUI",
    "seconds": "time that the rendering took",
    "failure": "why there is no image",
    "created": "when, UTC",
    "prompt_split": "train, validation or test, by hash of the prompt",
    "workflow_split": "the same by hash of the workflow",
    "category": "GenEval category, for prompts of the miniature world",
    "checkpoint": "base model of the first pass",
    "sampler": "sampler of the first pass",
}


@dataclass(frozen=True)
class Card:
    """What only a person can say about a data set."""

    title: str = "FlowDesign records"
    about: str = "Prompts, text-to-image workflows and the scores of what they made."
    licence: str = "unknown"  # a Hugging Face licence tag


def card_text(
    store: Store, wanted: Filter, splits: Mapping[str, int], format_name: str, card: Card
) -> str:
    """The card of an export; `splits` counts the records written to each file."""
    parts = (
        _header(splits, format_name, card),
        f"# {card.title}\n\n{card.about}",
        _filter(wanted),
        _splits(splits),
        _scores(store, wanted),
        _columns(store),
        _use(format_name),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(splits: Mapping[str, int], format_name: str, card: Card) -> str:
    lines = [
        "---",
        f"pretty_name: {_quoted(card.title)}",
        f"license: {card.licence}",
        "task_categories:",
        "- text-to-image",
        "tags:",
        "- comfyui",
        "- flowdesign",
        "- human-feedback",
        "size_categories:",
        f"- {_size(sum(splits.values()))}",
    ]
    if splits:
        lines += ["configs:", "- config_name: default", "  data_files:"]
    for split in SPLITS:
        if split in splits:
            lines += [f"  - split: {split}", f"    path: records/{split}.{format_name}"]
    return "\n".join([*lines, "---"])


def _quoted(text: str) -> str:
    """A text as YAML reads it on one line."""
    return "'" + " ".join(text.split()).replace("'", "''") + "'"


def _size(count: int) -> str:
    """The Hub's name for a number of rows."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "n>10M")
    return names[sum(count >= size for size in _SIZES)]


def _filter(wanted: Filter) -> str:
    asked = {n: v for n, v in vars(wanted).items() if v not in (None, "", False)}
    if not asked:
        return ""
    told = ", ".join(f"{name} = {value!r}" for name, value in asked.items())
    return f"Only a part of the records is here: {told}."


def _splits(splits: Mapping[str, int]) -> str:
    rows = "\n".join(f"| {split} | {splits.get(split, 0):,} |" for split in SPLITS)
    return (
        "## Splits\n\n"
        "The sha256 of the prompt and that of the workflow put each of them into train (80 %),\n"
        "validation (10 %) or test (10 %). A record is in test if its prompt or its workflow is, else\n"
        "in validation if either is: the records of train hold no prompt and no workflow that belongs\n"
        "to validation or test.\n\n"
        f"| split | records |\n| --- | ---: |\n{rows}"
    )


def _scores(store: Store, wanted: Filter) -> str:
    scorers = store.options().raw_scorers
    if not scorers:
        return ""
    rows = []
    for name in scorers:
        one = store.summary(name, wanted)
        told = f"{one.mean:.4g} | {one.sd:.4g} | {one.low:.4g} | {one.high:.4g}"
        rows.append(f"| {name} | {one.n:,} | {told if one.n else '| | |'} |")
    return (
        "## Scores\n\nRaw, as each scorer gave them. Missing: not scored. NaN: could not say.\n\n"
        "| scorer | records | mean | sd | lowest | highest |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows)
    )


def _columns(store: Store) -> str:
    rows = [f"| {name} | {_ABOUT[name]} |" for name in (*RECORD, *DERIVED)]
    rows += [f"| {SCORE}{name} | raw score |" for name in store.options().raw_scorers]
    return "## Columns\n\n| column | what it is |\n| --- | --- |\n" + "\n".join(rows)


def _use(format_name: str) -> str:
    return (
        "## Use\n\n"
        "```\n"
        "python -m flowdesign records import FOLDER\n"
        "```\n\n"
        "or, with Hugging Face's `datasets`, `load_dataset(FOLDER_OR_REPOSITORY)`. Votes and\n"
        f"ratings, where people gave any, are in `votes.{format_name}` and `ratings.{format_name}`."
    )
