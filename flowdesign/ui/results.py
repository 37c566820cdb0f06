"""The Results tab: what the last evaluation found, and the shipped one, with the command behind each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from flowdesign import runs
from flowdesign.ablation.curves import Curve
from flowdesign.catalog import ROOT
from flowdesign.config import ConfigError, EvaluateConfig, load, to_flags
from flowdesign.evaluate.pictures import FOLDER, shown
from flowdesign.evaluate.tables import Table, tables_of
from flowdesign.reward.bootstrap import Estimate
from flowdesign.ui import ablation_curves, cards
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET
from flowdesign.ui.pictures import inline
from flowdesign.ui.train_metrics import figures_of

NONE = (
    "No evaluation is finished yet. Start one: <code>python -m flowdesign evaluate</code>, or the whole paper: "
    "<code>python -m flowdesign reproduce</code>"
)


class Results:
    """The tab: a choice of evaluations, and the chosen one."""

    def __init__(self, gate: Gate, tab: gr.Tab, root: Path = ROOT / "checkpoints") -> None:
        self._root = root
        self.choice = gr.Dropdown(
            label="Evaluation", choices=[], value=None, interactive=True, elem_id="fd-evaluation"
        )
        self.shown = cards.html("", elem_id="fd-evaluated")
        refresh, show = gate.reads(self.refresh), gate.reads(self.show)
        tab.select(refresh, self.choice, [self.choice, self.shown], **QUIET)
        self.choice.input(show, self.choice, self.shown, **QUIET)

    def refresh(self, chosen: str | None) -> tuple[dict[str, Any], str]:
        """Offer what is finished, the newest first, and show the chosen one or the newest."""
        names = evaluations(self._root)
        chosen = chosen if chosen in names else next(iter(names), None)
        return gr.update(choices=names, value=chosen, visible=len(names) > 1), self.show(chosen)

    def show(self, chosen: str | None) -> str:
        """An evaluation as a page; whatever is asked for, only what is offered is read."""
        if chosen not in evaluations(self._root):
            return cards.status(NONE)
        folder = self._root / str(chosen)
        return page(folder, (folder / "figures.json").stat().st_mtime_ns)


def evaluations(root: Path) -> list[str]:
    """The finished evaluations under a folder by name, the newest first."""
    found = [name for name, status in runs.list_runs(root).items() if status.state == "finished"]
    return [name for name in found if "contestants" in figures_of(root / name)]


@lru_cache(maxsize=8)
def page(folder: Path, changed: int) -> str:
    """The figures in an evaluation's folder as HTML."""
    figures = figures_of(folder)
    try:
        parts = [_head(figures, folder), *map(_table, tables_of(figures)), _curves(figures)]
        parts.append(_examples(figures, folder))
    except (KeyError, TypeError, ValueError, AttributeError):
        words = "These figures are of another version. Measure again: "
        return cards.status(f"{words}python -m flowdesign evaluate --measure --run {folder.name}")
    return "".join(parts)


def _head(figures: Mapping[str, Any], folder: Path) -> str:
    held = escape(figures["held_out"])
    made = ", ".join(f"{name} {version}" for name, version in figures["with"].items())
    return (
        f'<p class="fd-say">{figures["prompts"]} held-out prompts, {figures["seeds"]} images each, rendered and '
        "judged by scorers, never by the ensemble that the policies learned from. The score is the combined one, "
        f"in standard deviations of the reference set; <b>{held}</b> was held out from all training. Intervals "
        "are 95 %, over prompts.</p>"
        f'<p class="fd-note">Measured {escape(figures["measured"])} with {escape(made)}:</p>'
        f'<pre class="fd-command"><code>{escape(command(folder))}</code></pre>'
    )


def command(folder: Path) -> str:
    """What was typed to make an evaluation."""
    try:
        words = to_flags(load(EvaluateConfig, folder / "config.json"))
    except (ConfigError, OSError):
        words = ["--run", folder.name]
    return " ".join(["python -m flowdesign evaluate", *words])


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in table.rows
    )
    return (
        f'<h4>{escape(table.title)}</h4><div class="fd-sideways" tabindex="0" role="group" '
        f'aria-label="{escape(table.title)}"><table class="fd-figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        + (f'<p class="fd-note">{escape(table.note)}</p>' if table.note else "")
    )


def _curves(figures: Mapping[str, Any]) -> str:
    """What guidance does, as curves."""
    curve = figures["curve"]
    if len(curve) < 2:
        return ""
    held = figures["held_out"]

    def line(name: str, about: str, of: Any, ends: tuple[float, float] | None = None) -> Curve:
        points = tuple((float(one["scale"]), _estimate(of(one))) for one in curve)
        return Curve(name, about, points=points, ends=ends)

    drawn = [
        line("True score", "combined, of the images", lambda one: one["scores"]["combined"]),
        line(held, "held out from all training", lambda one: one["scores"].get(held)),
        line("Predicted score", "by the ensemble, before rendering", lambda one: one["predicted"]),
        line("Distinct", "share of different workflows", lambda one: one["distinct"], (0.0, 1.0)),
        line("Valid without the grammar", "share", lambda one: one["valid"], (0.0, 1.0)),
    ]
    return "<h4>What guidance does</h4>" + ablation_curves.draw(drawn, "guidance scale s")


def _estimate(found: Any) -> Estimate:
    nan = float("nan")
    if isinstance(found, Mapping):
        low, high = (nan if found[end] is None else found[end] for end in ("low", "high"))
        return Estimate(nan if found["value"] is None else found["value"], low, high)
    return Estimate(nan if found is None else float(found))


def _examples(figures: Mapping[str, Any], folder: Path) -> str:
    """Prompts where guidance wins most over the best fixed workflow, and where it loses."""
    rows = figures["examples"]
    if not rows:
        return ""
    won = [one for one in rows if (one["gain"] or 0) > 0]
    lost = [one for one in rows if (one["gain"] or 0) <= 0]
    told = ""
    for title, some in (("Where guidance wins", won), ("Where it loses", lost)):
        if some:
            told += f"<h4>{title} most against the best fixed workflow</h4>"
            told += "".join(_example(one, folder) for one in some)
    return told


def _example(example: Mapping[str, Any], folder: Path) -> str:
    tiles = "".join(
        f"<li>{inline(folder / FOLDER / name)}<b>{escape(one['name'])}</b>"
        f"<span>scored {cards.signed(one['score'])}</span>"
        f'<details class="fd-tokens"><summary>Workflow</summary><code>{escape(one["sentence"])}</code>'
        "</details></li>"
        for one, name in shown(example)
    )
    return (
        f'<p class="fd-say">\N{LEFT DOUBLE QUOTATION MARK}{escape(example["prompt"])}'
        f"\N{RIGHT DOUBLE QUOTATION MARK}, {cards.signed(example['gain'])}</p>"
        f'<ul class="fd-examples">{tiles}</ul>'
    )
