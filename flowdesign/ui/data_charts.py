"""The charts of the Data tab: how scores are spread, and which component helps on which category."""

from __future__ import annotations

from typing import Any

import gradio as gr

from flowdesign.records import (
    COMBINED,
    COMPONENT_KINDS,
    ComponentScore,
    Filter,
    Histogram,
    Options,
    RecordsError,
)
from flowdesign.ui import cards, charts
from flowdesign.ui.data_filter import BadFilter, FilterForm, read
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates
from flowdesign.ui.shared import SharedStore

SECTION = "charts"
BINS = 30
MANY = 200_000  # records above which nothing is drawn unasked
FEW = 50_000  # records up to which the spread of every score is drawn, not just of the chosen one
AT_ONCE: dict[str, Any] = QUIET | {"show_progress": "minimal"}
KIND_NAMES = {"lora": "LoRA", "cfg": "CFG"}


class Charts:
    """The sub-tab's components. Whatever is drawn is of the records that the filter leaves."""

    def __init__(self, records: SharedStore, gate: Gate, form: FilterForm) -> None:
        self.records, self.gate, self.form = records, gate, form
        with gr.Row(elem_classes="fd-bar fd-charting"):
            self.kind = gr.Dropdown(
                [(KIND_NAMES.get(kind, kind), kind) for kind in COMPONENT_KINDS],
                value="checkpoint",
                label="Component",
                filterable=False,
                min_width=150,
                elem_id="fd-kind",
            )
            self.scorer = gr.Dropdown(
                [], label="Score", filterable=False, min_width=150, elem_id="fd-chart-scorer"
            )
            self.draw = gr.Button("Draw", variant="primary", scale=0, elem_id="fd-draw")
        self.spread = cards.html(elem_id="fd-spread")
        self.helps = cards.html(hint(), elem_id="fd-helps")

    def connect(self, section: gr.State, turned: Any, cleared: Any) -> None:
        """Draw when asked, and while `section` is ours also when the filter changes.

        `turned` and `cleared` are the events of opening a sub-tab and of emptying the filter.
        """
        reads, both = self.gate.reads, [self.spread, self.helps]
        asked = [self.kind, self.scorer, *self.form.inputs]
        newest_wins = AT_ONCE | {"trigger_mode": "always_last"}
        presses = [self.draw.click, self.kind.select, self.scorer.select]
        gr.on(presses, reads(self.show), asked, both, **newest_wins)
        follow, shown = reads(self.follow), [section, *asked]
        gr.on(self.form.changes, follow, shown, both, **newest_wins)
        for event in (turned, cleared):
            event.then(follow, shown, both, **AT_ONCE)

    @property
    def outputs(self) -> list[Any]:
        """The components that `offer` updates."""
        return [self.scorer]

    def offer(self, options: Options) -> Updates:
        """Let the visitor choose among the scorers that have scored; the combined one first."""
        first = COMBINED in options.scorers
        names = [COMBINED, *options.scorers[:-1]] if first else list(options.scorers)
        return {self.scorer: gr.update(choices=names, value=names[0] if names else None)}

    def follow(self, section: str, *asked: Any) -> Updates:
        """Draw again after the filter has changed, while the charts are in sight."""
        if section != SECTION:
            return {self.spread: gr.skip()}
        kind, scorer, *values = asked
        try:
            count = self.records().find(read(*values).filter, limit=1).total
        except (BadFilter, RecordsError):
            count = 0  # drawing tells what is wrong
        if count > MANY:
            return {self.spread: "", self.helps: hint(f"{count:,} records take some seconds.")}
        return self.show(kind, scorer, *values)

    def show(self, kind: Any, scorer: str | None, *asked: Any) -> Updates:
        """Draw both charts."""
        try:
            wanted = read(*asked).filter
            return {
                self.spread: self._spread(scorer, wanted),
                self.helps: self._helps(kind, scorer, wanted),
            }
        except (BadFilter, RecordsError) as fault:
            return {self.spread: "", self.helps: cards.status(str(fault), "bad")}

    def _spread(self, scorer: str | None, wanted: Filter) -> str:
        store = self.records()
        names = [scorer] if scorer else []
        if store.find(wanted, limit=1).total <= FEW:
            names += [name for name in store.options().scorers if name != scorer]
        found = [histogram(name, store.histogram(name, wanted, BINS)) for name in names]
        return f'<div class="fd-panels">{"".join(found)}</div>'

    def _helps(self, kind: Any, scorer: str | None, wanted: Filter) -> str:
        if not scorer:
            return cards.status("There are no scores yet, so there is nothing to compare.")
        rows = self.records().by_component(kind, scorer, wanted)
        return charts.components([_mean(row) for row in rows], scorer)


def histogram(name: str, found: Histogram) -> str:
    """The store's figures as bars."""
    edges = found.edges
    bins = [charts.Bin(a, b, n) for a, b, n in zip(edges, edges[1:], found.counts, strict=False)]
    return charts.histogram(name, bins, found.missing)


def _mean(row: ComponentScore) -> charts.Mean:
    error = row.se if row.n > 1 else None
    category = charts.ALL if row.category is None else row.category or OUTSIDE
    return charts.Mean(row.value, category, row.mean, error, row.n)


OUTSIDE = "other prompts"


def hint(more: str = "") -> str:
    """What stands in the place of the charts until they are drawn."""
    return (
        '<p class="fd-empty">Choose a component and a score and press Draw: which checkpoint, LoRA '
        f"or sampler helps on which category of prompts, with standard errors. {more}</p>"
    )
