"""What a policy says while it learns, as HTML, for some prompts at every look: the newest is open, the
others are folded.

Read from samples.jsonl (`flowdesign.samples`) and figures.json (`flowdesign.grpo`) of the run's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from statistics import fmean

from flowdesign.samples import SAMPLES, Shown, read_samples
from flowdesign.tokens import UnknownToken, workflow_of
from flowdesign.ui import cards
from flowdesign.ui.train_metrics import figures_of
from flowdesign.workflow import Workflow, bind, describe

LOOKS = 10  # that are shown, evenly among those there were


def report(folder: Path) -> str:
    """The card of the run in a folder; nothing before its first look."""
    path = folder / SAMPLES
    return _worth(folder) + (_report(folder, path.stat().st_mtime_ns) if path.exists() else "")


def _worth(folder: Path) -> str:
    """What was measured at the end, against the yardsticks."""
    figures = figures_of(folder)
    try:
        row, distinct = figures["reward"], figures["distinct"]
        told = (
            ("The SFT policy", row["sft"]), ("The best fixed workflow", row["fixed"]),
            ("This policy", row["policy"]), ("Each prompt's best of many", row["best"]),
        )  # fmt: skip
        rows = "".join(
            f'<tr><th scope="row">{name}</th><td>{cards.signed(float(value))}</td></tr>'
            for name, value in told
        )
        varied = (
            f"{float(distinct['many']):.0%} of {int(distinct['samples'])} samples for as many prompts are "
            f"distinct, {float(distinct['one']):.0f} of 64 for one prompt."
        )
    except (KeyError, TypeError, ValueError):
        return ""
    return (
        "<h4>Is it good enough?</h4><table class='fd-figures'><caption>Mean reward on test prompts, in "
        f"standard deviations of the reference set</caption>{rows}</table>"
        f'<p class="fd-note">{varied}</p>'
    )


@lru_cache(maxsize=8)  # a page that watches a run asks every two seconds
def _report(folder: Path, changed: int) -> str:
    samples = read_samples(folder)
    if not samples:
        return ""
    looks = sorted({sample.step for sample in samples})
    every = -(-len(looks) // LOOKS)
    shown = sorted({looks[0], *looks[::-every]}, reverse=True)
    parts = [
        _look(step, [one for one in samples if one.step == step], step == looks[-1])
        for step in shown
    ]
    few = f"{len(shown)} of {len(looks)} looks; all are in {SAMPLES}."
    cut = f'<p class="fd-note">{few}</p>' if len(shown) < len(looks) else ""
    return f"<h4>What it says</h4>{cut}{''.join(parts)}"


def _look(step: int, samples: Sequence[Shown], unfolded: bool) -> str:
    items = "".join(map(_item, samples))
    known = [sample.reward for sample in samples if sample.reward is not None]
    earned = f": {cards.signed(fmean(known))} on average" if known else ""
    return (
        f"<details{' open' * unfolded}><summary>After step {step + 1:,}{earned}"
        f'</summary><ul class="fd-misses fd-samples">{items}</ul></details>'
    )


def _item(sample: Shown) -> str:
    said = f"<code>{escape(sample.sentence)}</code>"
    workflow = _workflow(sample.sentence)
    if workflow is not None:
        words = describe(workflow)
        graph = cards.drawing(bind(workflow, sample.prompt, 0), "Workflow", words)
        folded = f"<details><summary>Graph and sentence</summary>{graph}{said}</details>"
        said = f'<p class="fd-say">{escape(words)}</p>{folded}'
    return f"<li><div><b>{escape(sample.prompt)}</b>{_earned(sample.reward)}{said}</div></li>"


def _earned(reward: float | None) -> str:
    if reward is None:
        return ""
    return cards.chip(f"{cards.signed(reward)} expected", "fd-plain", "Lower bound of the ensemble")


def _workflow(sentence: str) -> Workflow | None:
    """What a sentence says; nothing in the words of another vocabulary."""
    try:
        return workflow_of(sentence)
    except UnknownToken:
        return None
