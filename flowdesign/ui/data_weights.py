"""The weights of the combined score, by form. Weighing again changes no raw score and renders nothing."""

from __future__ import annotations

from typing import Any

import gradio as gr

from flowdesign.access import Person
from flowdesign.config import ConfigError, ScoreConfig, build
from flowdesign.records import RecordsError
from flowdesign.scorers import SCORERS
from flowdesign.standards import NoStandard, Reference, read_reference
from flowdesign.ui import cards
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates
from flowdesign.ui.jobs import Job
from flowdesign.ui.jobs_view import JobsView
from flowdesign.ui.shared import SharedStore

WORDS = (
    '<p class="fd-note">The combined score of a record is the sum of its scores, each in standard '
    "deviations above the mean of the reference set and times its weight. A record that lacks a "
    "weighted score has none. The held-out scorer has no weight: it is kept to see whether what is "
    "learned from the others is really better.</p>"
)


class Weights:
    """The sub-tab's components: one number for each scorer; the held-out one is locked."""

    def __init__(self, records: SharedStore, gate: Gate, jobs: JobsView) -> None:
        self.records, self.gate, self.jobs = records, gate, jobs
        usual = build(ScoreConfig, {})
        cards.html(WORDS)
        with gr.Row(elem_classes="fd-weights"):
            self.numbers = {
                name: gr.Number(
                    usual.weights.get(name, 0.0),
                    label=name,
                    info=f"Held out. {scorer.about}" if name == usual.held_out else scorer.about,
                    step=0.05,
                    min_width=200,
                    interactive=name != usual.held_out,
                )
                for name, scorer in SCORERS.items()
            }
        self.apply = gr.Button("Weigh again", variant="primary", scale=0, elem_id="fd-weigh")
        self.said = cards.html(elem_id="fd-weighed")
        weighing = gate.writes("rescore", self.weigh)
        values = list(self.numbers.values())
        self.apply.click(weighing, values, [self.said, *jobs.outputs], **QUIET)

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.apply, *self.numbers.values()]

    def show(self, person: Person) -> Updates:
        """The weights that the store has now, and whether this person may change them."""
        may = self.gate.access.allows(person, "rescore")
        updates: Updates = {self.apply: gr.update(interactive=may)}
        now = self.records().weights()
        if now:
            updates |= {number: now.get(name, 0.0) for name, number in self.numbers.items()}
        return updates

    def weigh(self, person: Person, *weights: float | None) -> Updates:
        """Begin to weigh all records in the background."""
        given = {name: w for name, w in zip(SCORERS, weights, strict=True) if w not in (None, 0)}
        try:
            config = build(ScoreConfig, {"weights": given})
            reference = read_reference()
            for name in config.weights:
                reference[name]  # the message names a scorer that the reference does not have
        except (ConfigError, NoStandard, RecordsError) as fault:
            return {self.said: cards.status(str(fault), "bad")}

        def work(job: Job) -> str:
            return self._work(config, reference)

        return {self.said: ""} | self.jobs.start("Weighing all records again", work)

    def _work(self, config: ScoreConfig, reference: Reference) -> str:
        self.records().reweigh(config.weights, reference)
        terms = ", ".join(f"{name} {weight:g}" for name, weight in config.weights.items())
        return f"the combined score is now {terms}, on {reference.about or 'the reference set'}"
