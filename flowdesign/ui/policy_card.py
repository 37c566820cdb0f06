"""What a policy says while GRPO improves it, as HTML: for some prompts, at every look: the newest
is open, the others are folded.

Read from samples.jsonl and figures.json of the run's folder (`flowdesign.grpo`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from flowdesign.grpo import SAMPLES
from flowdesign.tokens import UnknownToken, workflow_of
from flowdesign.ui import cards
from flowdesign.ui.train_metrics import figures_of
from flowdesign.workflow import Workflow, bind, describe

LOOKS = 10  # that are shown, evenly among those there were


def report(folder: Path) -> str:
    """The card of the run in a folder; nothing before its first look."""
    path = folder / SAMPLES
    return _worth(folder) + (_report(path, path.stat().st_mtime_ns) if path.exists() else "")


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
def _report(path: Path, changed: int) -> str:
    samples = list(_samples(path))
    if not samples:
        return ""
    looks = sorted({sample["step"] for sample in samples})
    every = -(-len(looks) // LOOKS)
    shown = sorted({looks[0], *looks[::-every]}, reverse=True)
    parts = [
        _look(step, [one for one in samples if one["step"] == step], step == looks[-1])
        for step in shown
    ]
    return f"<h4>What it says</h4>{''.join(parts)}"


def _samples(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines that can be read."""
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            one = json.loads(line)
            yield {
                "step": int(one["step"]), "prompt": str(one["prompt"]),
                "sentence": str(one["sentence"]), "reward": float(one["reward"]),
            }  # fmt: skip
        except (ValueError, TypeError, KeyError):
            continue


def _look(step: int, samples: list[Mapping[str, Any]], unfolded: bool) -> str:
    items = "".join(map(_item, samples))
    earned = cards.signed(fmean(sample["reward"] for sample in samples))
    return (
        f"<details{' open' * unfolded}><summary>After step {step + 1:,}: {earned} on average"
        f'</summary><ul class="fd-misses fd-samples">{items}</ul></details>'
    )


def _item(sample: Mapping[str, Any]) -> str:
    chip = cards.chip(
        f"{cards.signed(sample['reward'])} expected", "fd-plain", "Lower bound of the ensemble"
    )
    said = f"<code>{escape(sample['sentence'])}</code>"
    workflow = _workflow(sample["sentence"])
    if workflow is not None:
        words = describe(workflow)
        graph = cards.drawing(bind(workflow, sample["prompt"], 0), "Workflow", words)
        said = f'<p class="fd-say">{escape(words)}</p><details><summary>Graph</summary>{graph}</details>'
    return f"<li><div><b>{escape(sample['prompt'])}</b>{chip}{said}</div></li>"


def _workflow(sentence: str) -> Workflow | None:
    """What a sentence says; nothing in the words of another vocabulary."""
    try:
        return workflow_of(sentence)
    except UnknownToken:
        return None
