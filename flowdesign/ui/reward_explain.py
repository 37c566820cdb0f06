"""Ask a trained ensemble about any prompt: what each choice of a workflow contributes to its score."""

from __future__ import annotations

import random
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from flowdesign.catalog import CatalogError, Installed, installed
from flowdesign.request import BadRequest, check_prompt
from flowdesign.tokens import (
    VOCABULARY,
    Automaton,
    UnknownToken,
    parse_sentence,
    random_sentence,
)
from flowdesign.ui import cards, plots
from flowdesign.ui.critics import Critics
from flowdesign.ui.gate import Gate

AMONG = 64  # workflows that the best is chosen from where none is given
PROMPT = "two red stars above a blue moon"
WORDS = (
    '<p class="fd-note">Each choice of the workflow is replaced by every other that could stand in its '
    "place. A bar to the right: the score is expected to be higher with it than with the others on "
    "average, in standard deviations of the reference set.</p>"
)


class Explain:
    """The components below an opened reward run."""

    def __init__(self, critics: Critics, gate: Gate, models: Installed | None = None) -> None:
        self.critics, self.models = critics, models
        with gr.Column(visible=False, elem_id="fd-explain") as self.box:
            cards.html("<h4>What each choice contributes</h4>" + WORDS)
            self.prompt = gr.Textbox(
                PROMPT, label="Prompt", max_lines=2, elem_id="fd-explain-prompt"
            )
            self.sentence = gr.Textbox(
                "",
                label="Workflow as a sentence",
                info=f"From a design or a record. Empty: the best of {AMONG} random ones.",
                max_lines=4,
                elem_id="fd-explain-sentence",
            )
            self.go = gr.Button("Explain", variant="primary", scale=0, elem_id="fd-explain-go")
            self.answer = cards.html(elem_id="fd-explained")
        self._reads = gate.reads

    def connect(self, place: Any, folder_of: Any) -> None:
        """Connect the button; `folder_of` gives the folder of the run that a place has open."""
        self._folder_of = folder_of
        gr.on(
            [self.go.click, self.prompt.submit], self._reads(self.explain),
            [place, self.prompt, self.sentence], self.answer, api_visibility="private",
            show_progress="minimal", trigger_mode="once",
        )  # fmt: skip

    def explain(self, place: Any, prompt: str, sentence: str) -> str:
        """Judge every choice of the sentence for the prompt; what is wrong in words."""
        from flowdesign.lm import WeightsNotFound  # loads torch
        from flowdesign.reward.ensemble import RewardError
        from flowdesign.tokens import VocabularyMismatch

        folder: Path | None = self._folder_of(place)
        if folder is None:
            return cards.status("This run is gone. Open another one.", "bad")
        try:
            return self._explained(folder, check_prompt(prompt), str(sentence or ""))
        except (
            BadRequest, CatalogError, RewardError, UnknownToken, VocabularyMismatch, WeightsNotFound,
        ) as fault:  # fmt: skip
            return cards.status(str(fault), "bad")

    def _explained(self, folder: Path, prompt: str, text: str) -> str:
        ensemble = self.critics.of(folder)
        language = Automaton(VOCABULARY, self.models or installed())
        tokens = parse_sentence(text) if text.strip() else _best(ensemble, prompt, language)
        return explained(ensemble, prompt, tokens, language)


def _best(ensemble: Any, prompt: str, language: Automaton) -> tuple[int, ...]:
    """The random sentence that the ensemble expects most of; always the same ones are looked at."""
    rng = random.Random("explain")
    drawn = [random_sentence(language, rng) for _ in range(AMONG)]
    return drawn[int(ensemble.predict([prompt] * AMONG, drawn).lower().argmax())]


def explained(ensemble: Any, prompt: str, tokens: Sequence[int], language: Automaton) -> str:
    """The prediction of a sentence, and a row for each of its choices."""
    from flowdesign.reward.ablation import contributions
    from flowdesign.reward.ensemble import RewardError

    if not tokens:
        return cards.status("The sentence is empty.", "bad")
    try:
        found = contributions(ensemble, prompt, tokens, language)
    except RewardError:
        raise
    except ValueError:
        words = (
            "This sentence is not a workflow that runs here: it is cut short, or says something where "
            "it may not stand."
        )
        return cards.status(words, "bad")
    said = ensemble.predict([prompt], [tokens])
    mean, low, high = (float(column[0]) for column in (said.mean, said.low, said.high))
    largest = max((abs(one.gain) for one in found), default=0.0)
    rows = "".join(_row(one, largest) for one in found)
    return (
        f'<p class="fd-say">Expected {cards.signed(mean)}, in nine of ten images '
        f"{cards.signed(low)} to {cards.signed(high)}.</p>"
        '<div class="fd-sideways" tabindex="0" role="group" aria-label="Contributions">'
        '<table class="fd-figures fd-choices"><thead><tr><th scope="col">Choice</th>'
        '<th scope="col" colspan="2">Contributes</th><th scope="col">Best other</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(one: Any, largest: float) -> str:
    word, best = (escape(VOCABULARY.tokens[token]) for token in (one.token, one.best))
    others = "1 other" if one.others == 1 else f"{one.others} others"
    return (
        f'<tr><th scope="row"><code>{word}</code></th><td class="fd-both">'
        f"{plots.bar(one.gain, largest)}</td>"
        f'<td class="fd-number" title="against {others}">{cards.signed(one.gain)}</td>'
        f"<td><code>{best}</code> {cards.signed(one.best_gain)}</td></tr>"
    )
