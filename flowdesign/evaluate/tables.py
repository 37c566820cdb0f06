"""The figures of an evaluation as tables and lines: for RESULTS.md, README and the Results tab. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]
OVER_PROMPTS = (
    "Intervals are 95 %, over prompts, for the policies that were trained; how far training seeds are apart is told "
    "beside them."
)
VARIETY = (
    "Distinct is the share of different workflows; fewer prompts leave less room for equal ones. Similarity is the "
    "share of the choices of either of two workflows that both make (the Jaccard index), to the training workflow that "
    "is most alike; copies are exactly one of those. ComfyGen-FT (arXiv 2410.01731): 79 of 500 distinct (16%), "
    "similarity 0.9995 by a measure that is not published. Bits are the mutual information of the prompt's domain "
    "(the style) and the checkpoint, less what shuffled pairs show."
)
REFERENCES = ("fixed", "sft", "grpo")  # that every contestant is compared with


@dataclass(frozen=True)
class Table:
    """A table with its head; every cell is text. `note` says what has to be known to read it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown, figures to the right."""
        rules = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [self.head, rules, *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def tables_of(figures: Figures) -> list[Table]:
    """All tables of an evaluation."""
    found = [quality(figures), differences(figures), variety(figures), guidance(figures)]
    return [table for table in found if table.rows]


def quality(figures: Figures) -> Table:
    """What each contestant scores."""
    held = figures["held_out"]
    reached = figures.get("reached") or {}
    rows = [
        [
            row["name"], interval(row["scores"]["combined"]), interval(row["scores"].get(held)),
            share(reached.get(row["name"])), f"{row['prompts']}", _runs(row), row["about"],
        ]
        for row in figures["contestants"]
    ]  # fmt: skip
    head = (
        "contestant",
        "score",
        f"{held} (held out)",
        "of the way to search",
        "prompts",
        "each training seed",
        "what it is",
    )
    return Table("Quality", head, rows, OVER_PROMPTS)


def differences(figures: Figures) -> Table:
    """Paired differences to the references, and how often each wins."""
    known = [name for name in REFERENCES if name in figures["pairs"]]
    rows = []
    for row in figures["contestants"]:
        cells = [row["name"]]
        for other in known:
            duel = figures["pairs"][row["name"]].get(other)
            cells += [interval(duel and duel["combined"], "+") + _by_seed(duel), wins(duel)]
        rows.append(cells)
    head = ["contestant"]
    for other in known:
        head += [f"score - {other}", "win / tie / lose"]
    note = f"Image by image; a difference of at most {figures['tie']:g} is a tie. {OVER_PROMPTS}"
    title = "Paired differences, on the same prompts and seeds"
    return Table(title, head, rows if known else [], note)


def variety(figures: Figures) -> Table:
    """How varied designs are, what they cost, and what the ensemble promised."""
    rows = [
        [
            row["name"], f"{row['distinct']:.0%} of {row['prompts']}", f"{row['similarity']:.3f}", f"{row['copies']:.1%}",
            f"{row['information']:.2f}", f"{row['valid']:.0%}", interval(row["optimism"], "+"),
            f"{row['seconds']['design']:.2f}", f"{row['seconds']['image']:.2f}",
        ]
        for row in figures["contestants"]
    ]  # fmt: skip
    head = (
        "contestant", "distinct", "similarity to training", "copies", "bits of domain in checkpoint",
        "valid", "predicted - true", "s a design", "s an image",
    )  # fmt: skip
    return Table("Variety, cost, and reward hacking", head, rows, VARIETY)


def guidance(figures: Figures) -> Table:
    """What the guidance scale does, on the prompts that all scales have."""
    held = figures["held_out"]
    rows = [
        [
            f"{one['scale']:g}", interval(one["scores"]["combined"]), interval(one["scores"].get(held)),
            interval(one["predicted"]), interval(one["optimism"], "+"), f"{one['distinct']:.0%}",
            "" if one["valid"] is None else f"{one['valid']:.1%}",
        ]
        for one in figures["curve"]
    ]  # fmt: skip
    head = (
        "s", "score", f"{held} (held out)", "predicted", "predicted - true", "distinct",
        "valid without the grammar",
    )  # fmt: skip
    return Table("The guidance scale", head, rows, _chosen(figures))


def _chosen(figures: Figures) -> str:
    """How the scale was chosen."""
    if not (chosen := figures.get("chosen")):
        return ""
    means = ", ".join(f"{mean:.3f} at {scale}" for scale, mean in chosen["validation"].items())
    return (
        f"s = {chosen['scale']:g} was taken: of those that are not worse than the best (s = {chosen['best']:g}) by more "
        f"than one standard error on {chosen['prompts']} validation prompts, the nearest to 1, since designs are less "
        f"varied beyond. There: {means}."
    )


def interval(found: Mapping[str, Any] | None, sign: str = "") -> str:
    """An estimate with its 95 % interval; empty for none."""
    if not found or found["value"] is None:
        return ""
    value = f"{found['value']:{sign}.3f}"
    if found["low"] is None:
        return value
    return f"{value} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"


def share(found: Mapping[str, Any] | None) -> str:
    """A share with its interval, in percent."""
    if not found or found["value"] is None:
        return ""
    if found["low"] is None:
        return f"{found['value']:.0%}"
    return f"{found['value']:.0%} ({found['low']:.0%} to {found['high']:.0%})"


def wins(duel: Mapping[str, Any] | None) -> str:
    """How often one wins, with the interval, ties and loses, image by image."""
    if not duel:
        return ""
    lose = max(0.0, 1 - duel["win"]["value"] - duel["tie"])
    return f"{share(duel['win'])} / {duel['tie']:.0%} / {lose:.0%}"


def _by_seed(duel: Mapping[str, Any] | None) -> str:
    """The differences of the training seeds, where there are several."""
    each = (duel or {}).get("each") or ()
    return f"; seeds {', '.join(f'{one:+.3f}' for one in each)}" if len(each) > 1 else ""


def _runs(row: Mapping[str, Any]) -> str:
    """The means of the training seeds, where there are several."""
    if len(row["runs"]) < 2:
        return ""
    return ", ".join(f"{value:.3f}" for value in row["each"])
