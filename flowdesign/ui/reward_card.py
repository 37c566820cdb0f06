"""What a trained reward ensemble is worth, as HTML: bars, plots, rivals and its worst misses.

Read from figures.json of its folder; `flowdesign.reward.report` says what each figure means.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from flowdesign.reward.pictures import FOLDER, picture_name
from flowdesign.reward.telling import BOTH, CEILINGS, COLUMNS, UNCERTAINTY
from flowdesign.tokens import VOCABULARY
from flowdesign.ui import cards, plots
from flowdesign.ui.pictures import inline
from flowdesign.ui.train_metrics import figures_of

MISSES = 8  # of a part


def report(folder: Path) -> str:
    """The card of the ensemble in a run's folder; nothing before it has been measured."""
    figures, pictures = (_changed(folder / name) for name in ("figures.json", FOLDER))
    return _report(folder, (figures, pictures)) if figures else ""


def _changed(path: Path) -> int:
    """When a file changed, or what is in a folder; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


@lru_cache(maxsize=8)  # a page that watches a run asks every two seconds
def _report(folder: Path, changed: tuple[int, int]) -> str:
    figures = figures_of(folder)
    if not isinstance(figures.get("parts"), Mapping):
        return ""
    try:
        return _told(figures, folder)
    except (LookupError, TypeError, ValueError, AttributeError):
        words = "These figures are of another version. Measure again: "
        return cards.status(f"{words}python -m flowdesign reward --measure --run {folder.name}")


def _told(figures: Mapping[str, Any], folder: Path) -> str:
    parts = figures["parts"]
    told = "".join(_part(name, part, folder) for name, part in reversed([*parts.items()]))
    return f"<h4>Is it good enough?</h4>{_bars(figures)}{_growth(figures)}{told}"


def _bars(figures: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(bar["name"])}</th><td>{plots.shown(bar)}</td>'
        f"<td>{escape(bar['bound'])}</td><td>{_reached(bar['reached'])}</td></tr>"
        for bar in figures["bars"]
    )
    return _table(("On prompts and workflows that it has not seen", "Value", "Bar", ""), rows)


def _reached(reached: bool) -> str:
    return cards.chip("reached", "fd-ok") if reached else cards.chip("not reached", "fd-bad")


def _growth(figures: Mapping[str, Any]) -> str:
    """How the spread grows where the ensemble is a stranger."""
    what = {"prompts": "prompts of another world", "words": "words it never met"}
    said = [
        f"{plots.shown(figures['growth'][name])} times as large for {words}"
        for name, words in what.items()
        if name in figures.get("growth", {})
    ]
    if not said:
        return ""
    return f'<p class="fd-say">Its members disagree more where they know less: the spread is {"; ".join(said)}.</p>'


def _part(name: str, part: Mapping[str, Any], folder: Path) -> str:
    """One part of the test records, folded away unless it is the one that counts."""
    size = part["size"]
    if not size["pairs"]:
        return ""
    counts = ", ".join(f"{size[each]:,} {each}" for each in ("images", "prompts", "workflows"))
    plotted = plots.scatter(part["scatter"]) + plots.calibration(part["calibration"])
    is_open = " open" if name == BOTH else ""
    return (
        f'<details class="fd-part"{is_open}><summary>{escape(name.capitalize())}: {counts}</summary>'
        f'<div class="fd-curves">{plotted}</div>{_rivals(part)}{_sure(part)}'
        f"{_misses(part, folder)}</details>"
    )


def _rivals(part: Mapping[str, Any]) -> str:
    """The ensemble beside the baselines, a column each."""
    columns = {"ensemble": part["ensemble"]} | dict(part["baselines"])
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{plots.shown(of[key])}</td>" for of in columns.values())
        + "</tr>"
        for key, label in COLUMNS.items()
    )
    return _table(("How good", *columns), rows)


def _sure(part: Mapping[str, Any]) -> str:
    """What repeated seeds allow, and how well the ensemble knows what it does not know."""
    told = [(label, part["ceilings"][key], "allowed") for key, label in CEILINGS.items()]
    told += [(label, part["ensemble"][key], "reached") for key, label in UNCERTAINTY.items()]
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{plots.shown(figure)}</td><td>{kind}</td></tr>'
        for label, figure, kind in told
    )
    return _table(("How sure", "Value", ""), rows)


def _table(heads: tuple[str, ...], rows: str) -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        f'<div class="fd-sideways" tabindex="0" role="group" aria-label="{escape(heads[0])}">'
        f'<table class="fd-figures"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _misses(part: Mapping[str, Any], folder: Path) -> str:
    rows = "".join(_miss(miss, folder) for miss in part["misses"][:MISSES])
    if not rows:
        return ""
    return f'<h4>Worst misses</h4><ul class="fd-misses">{rows}</ul>'


def _miss(miss: Mapping[str, Any], folder: Path) -> str:
    words = " ".join(VOCABULARY.tokens[token] for token in miss["sentence"] if _known(token))
    inside = "inside" if miss["low"] <= miss["true"] <= miss["high"] else "outside"
    return (
        f"<li>{inline(folder / FOLDER / picture_name(miss))}<div><b>{escape(miss['prompt'])}</b>"
        f"<span>scored {cards.signed(miss['true'])}, expected {cards.signed(miss['predicted'])}; "
        f"{inside} {cards.signed(miss['low'])} to {cards.signed(miss['high'])}</span>"
        f'<details class="fd-tokens"><summary>Workflow, seed {miss["seed"]}</summary>'
        f"<code>{escape(words)}</code></details></div></li>"
    )


def _known(token: int) -> bool:
    return 0 <= token < len(VOCABULARY.tokens)
