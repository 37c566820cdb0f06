"""The weights of the combined score, by form, and the votes as scores. Neither renders anything."""

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
from flowdesign.ui.selection import say
from flowdesign.ui.shared import SharedStore
from flowdesign.votes import SCORER, fit, store_scores

WORDS = (
    '<p class="fd-note">The combined score of a record is the sum of its scores, each in standard '
    "deviations above the mean of the reference set and times its weight. A record that lacks a "
    "weighted score has none. The held-out scorer has no weight: it is kept to see whether what is "
    "learned from the others is really better.</p>"
)
VOTES = (
    '<p class="fd-note">The votes of the Label tab become scores by Bradley-Terry with ties: for each '
    "image that was voted on its strength in logits, beside the other images of its prompt. They are "
    f"stored under the name <i>{SCORER}</i>, can be filtered, sorted and charted as any score, and "
    "replace what earlier votes gave.</p>"
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
        cards.html(VOTES)
        self.fit = gr.Button("Score by votes", scale=0, elem_id="fd-fit-votes")
        weighing, fitting = (gate.writes("rescore", work) for work in (self.weigh, self.fit_votes))
        values, outputs = list(self.numbers.values()), [self.said, *jobs.outputs]
        self.apply.click(weighing, values, outputs, **QUIET)
        self.fit.click(fitting, None, outputs, **QUIET)

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.apply, self.fit, *self.numbers.values()]

    def show(self, person: Person) -> Updates:
        """The weights that the store has now, and whether this person may change them."""
        may = self.gate.access.allows(person, "rescore")
        updates: Updates = {one: gr.update(interactive=may) for one in (self.apply, self.fit)}
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

    def fit_votes(self, person: Person) -> Updates:
        """Begin to turn all votes into scores, in the background."""
        return {self.said: ""} | self.jobs.start("Scoring by votes", self._fit, "rescore")

    def _fit(self, job: Job) -> str:
        store = self.records()
        count = store_scores(store, fit(store.votes()))
        return f"{say(count)} scored by their votes" if count else "nobody has voted yet"

    def _work(self, config: ScoreConfig, reference: Reference) -> str:
        self.records().reweigh(config.weights, reference)
        terms = ", ".join(f"{name} {weight:g}" for name, weight in config.weights.items())
        return f"the combined score is now {terms}, on {reference.about or 'the reference set'}"
