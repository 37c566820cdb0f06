"""What the Ablation tab shows, as HTML: the plan, the rows of the grid, and the files of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from flowdesign.ablation.export import Files
from flowdesign.ablation.plan import Cell, Plan
from flowdesign.ablation.running import Outcome
from flowdesign.ablation.setting import to_link
from flowdesign.pace import Seconds
from flowdesign.studio import Failed, Rendered
from flowdesign.ui import cards
from flowdesign.ui.charts import number

Place = tuple[int, int]  # row and column


def planned(plan: Plan, waiting: int, seconds: Seconds | None, loaded: bool) -> str:
    """How many cells a plan has, how long they take, and the link that restores it."""
    grids = "" if plan.sheets == 1 else f", {plan.sheets} times"
    rows = len(plan.rows) // plan.sheets
    said = f"{_count(len(plan.cells), 'cell')} ({len(plan.columns)} × {rows}{grids})"
    link = escape(to_link(plan.setting))
    return (
        f'<p class="fd-plan"><b>{said}</b> <span>{_time(len(plan.cells), waiting, seconds, loaded)}'
        f'</span> <a href="{link}" target="_blank" rel="noopener">Link to this setting</a> '
        f'<button type="button" data-copy="{link}">Copy link</button></p>'
    )


def _time(cells: int, waiting: int, seconds: Seconds | None, loaded: bool) -> str:
    if not loaded:
        return "How long it takes shows once the models are loaded."
    if not waiting:
        return "All are there already."
    there = f"{_count(cells - waiting, 'cell')} there already; " if waiting < cells else ""
    if seconds is None:
        return f"{there}how long it takes shows with the first cell."
    about = "about" if seconds.sure else "at most about"
    return f"{there}{about} {duration(seconds.value)}."


def duration(seconds: float) -> str:
    """A stretch of time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def wrong(message: str) -> str:
    """Why there is no plan."""
    return f'<p class="fd-plan fd-is-bad" role="status">{escape(message)}</p>'


def rows(plan: Plan, which: Sequence[int], done: Mapping[Place, Outcome], running: bool) -> str:
    """Some rows of the grid, each under the title of its sheet where one begins."""
    return "".join(_row(plan, index, done, running) for index in which)


def _row(plan: Plan, index: int, done: Mapping[Place, Outcome], running: bool) -> str:
    row = plan.rows[index]
    begins = index == 0 or plan.rows[index - 1].sheet != row.sheet
    title = f'<h3 class="fd-sheet">{escape(row.sheet)}</h3>' if begins and row.sheet else ""
    head = f"<h4>{escape(row.label)}</h4>" if row.label else ""
    found = [_cell(cell, done.get((cell.row, cell.column)), running) for cell in plan.row(index)]
    return (
        f'{title}<section class="fd-ab-row">{head}<div class="fd-cells" tabindex="0" role="group" '
        f'aria-label="{escape(row.label or row.sheet)}" style="--columns:{len(found)}">'
        f"{''.join(found)}</div></section>"
    )


def _cell(cell: Cell, outcome: Outcome | None, running: bool) -> str:
    label = cell.x.label or cell.y.label
    inside = _waiting(running) if outcome is None else _made(outcome, label)
    title = f"<h5>{escape(cell.x.label)}</h5>" if cell.x.label else ""
    return f'<article class="fd-cell" aria-label="{escape(label)}">{title}{inside}</article>'


def _waiting(running: bool) -> str:
    return f'<div class="fd-frame{" fd-busy" if running else ""}">{"" if running else "not made"}</div>'


def _made(outcome: Outcome, label: str) -> str:
    event = outcome.event
    if isinstance(event, Failed):
        return f'<div class="fd-frame fd-is-bad" role="alert">{escape(event.reason)}</div>' + (
            _said(outcome)
        )
    url = cards.file_url(event.image)
    said = f"{label}: {event.design.description}"
    return (
        f'<a class="fd-frame" href="{url}" target="_blank" rel="noopener" title="Open the image alone">'
        f'<img src="{url}" alt="{escape(said)}" loading="lazy"></a>{_scores(outcome)}{_said(outcome)}'
    )


def _scores(outcome: Outcome) -> str:
    """True and predicted score, and the one that nothing is trained on."""
    signed = {"true": outcome.true, "predicted": outcome.predicted}
    parts = [
        (name, cards.signed(value), TIPS[name])
        for name, value in signed.items()
        if value is not None
    ]
    if outcome.held_out is not None:
        parts.append(("strict", number(outcome.held_out), TIPS["strict"]))
    if outcome.true is None:
        parts.insert(
            0, ("true", "—", "The scorers cannot say: the prompt asks for nothing they know.")
        )
    return '<dl class="fd-ab-scores">' + "".join(
        f'<div title="{escape(tip)}"><dt>{name}</dt><dd>{value}</dd></div>'
        for name, value, tip in parts
    ) + "</dl>"  # fmt: skip


TIPS = {
    "true": cards.SCORED,
    "predicted": cards.EXPECTED,
    "strict": "The held-out scorer: every object, colour, count and place is right. Nothing is trained on it.",
}  # fmt: skip


def _said(outcome: Outcome) -> str:
    """The sentence, what it means, and how many designs it was chosen from."""
    design = outcome.event.design
    if design is None or not design.sentence:
        return ""
    chosen = f"<p>Best of {outcome.said} by the lower bound.</p>" if outcome.said > 1 else ""
    return (
        f'<details class="fd-tokens"><summary>Sentence</summary>{chosen}<p>{escape(design.description)}'
        f"</p><code>{escape(design.sentence)}</code></details>"
    )


def files(made: Files, plan: Plan) -> str:
    """Links to what an export has made."""
    parts = (
        ("Contact sheet", made.sheet, "The grid as one picture"),
        ("CSV", made.table, "A row for each cell: settings, scores, sentence"),
        ("Zip", made.everything, "All PNGs with their workflows, the sheet, both tables, the setting"),
    )  # fmt: skip
    return "".join(
        f'<a class="fd-get" href="{cards.file_url(path)}" download="{escape(path.name)}" '
        f'title="{escape(tip)}">{escape(label)}</a>'
        for label, path, tip in parts
    )


def finished(plan: Plan, done: Mapping[Place, Outcome]) -> str:
    """What became of the cells, in words."""
    failed = sum(not isinstance(outcome.event, Rendered) for outcome in done.values())
    again = sum(outcome.again for outcome in done.values())
    words = [f"{len(done)} of {_count(len(plan.cells), 'cell')}"]
    words += [f"{again} of them made before"] if again else []
    words += [f"{failed} without an image"] if failed else []
    return ", ".join(words) + "."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
