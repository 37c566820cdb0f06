"""Records as HTML: the tiles of a page, and one record opened.

As in `flowdesign.ui.cards`, every text is escaped here and a string is a value, never a template.
Addresses are relative, so that they work behind a Space's proxy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from flowdesign.catalog import Installed
from flowdesign.critic import Expected
from flowdesign.records import (
    COMBINED,
    PREDICTED,
    PREDICTED_HIGH,
    PREDICTED_LOW,
    PREDICTIONS,
    Rating,
    StoredRecord,
    Vote,
)
from flowdesign.ui import cards
from flowdesign.ui.charts import number
from flowdesign.workflow import OF_VALUES, PROMPT, Workflow, bind, describe, every_problem

FILES = "gradio_api/flowdesign"  # where `flowdesign.ui.files` answers, relative to the page
MAX_BALLOTS = 50  # votes and ratings of a record that are listed
_NOTHING = Installed({})
_DERIVED = {
    COMBINED: "weighted sum of the standardised scores",
    PREDICTED: "the combined score as a reward ensemble saw it, from prompt and workflow alone",
    PREDICTED_LOW: "the lower end of its 90 % interval",
    PREDICTED_HIGH: "the upper end of its 90 % interval",
}
_SPLIT_KINDS = {"train": "fd-plain", "validation": "fd-warn", "test": "fd-bad"}


@dataclass(frozen=True)
class Opened:
    """All that one opened record shows. `abouts` says in words what each scorer is."""

    record: StoredRecord
    votes: Sequence[Vote] = ()
    ratings: Sequence[Rating] = ()
    abouts: Mapping[str, str] | None = None
    held_out: str = ""
    expected: Expected | None = None  # by the reward ensemble, from the texts alone
    scored: float | None = None  # what it should have said, by its own weights of the raw scores


# --- tiles


def tiles(rows: Sequence[StoredRecord], scorer: str | None) -> str:
    """The records of one page; each tile has a button that opens it and a box that ticks it."""
    found = "".join(_tile(record, scorer) for record in rows)
    return (
        '<div class="fd-ticking"><button type="button" data-tick-all>Tick this page</button>'
        '<button type="button" data-tick-none>Untick all</button>'
        '<output data-ticked aria-live="polite"></output></div>'
        f'<ul class="fd-grid">{found}</ul>'
    )


def _tile(record: StoredRecord, scorer: str | None) -> str:
    name, value = shown_score(record, scorer)
    words, score = f"Record {record.id}: {record.prompt}", ""
    if value is not None:
        words += f", {name} {number(value)}"
        score = f'<span title="{escape(name)}">{number(value)}</span>'
    split = "" if record.split == "train" else f'<em class="fd-{record.split}">{record.split}</em>'
    return (
        f'<li class="fd-tile"><button type="button" data-record="{record.id}"'
        f' aria-label="{escape(words)}">{_small(record)}</button>'
        f'<div class="fd-tile-foot"><label title="Tick"><input type="checkbox"'
        f' data-tick="{record.id}" aria-label="Tick record {record.id}"></label>{score}{split}</div>{_predicted(record)}'
        f'<p title="{escape(record.prompt)}">{escape(record.prompt) or "<i>no prompt</i>"}</p></li>'
    )


def _predicted(record: StoredRecord) -> str:
    """What was predicted of the record, with its interval, where that is kept."""
    mean, low, high = (record.scores.get(name, math.nan) for name in PREDICTIONS)
    if not math.isfinite(mean + low + high):
        return ""
    return f'<p class="fd-tile-said">{cards.expected_words(mean, low, high)}</p>'


def _small(record: StoredRecord) -> str:
    if not record.image:
        return f'<span class="fd-none">{"failed" if record.failure else "no image"}</span>'
    source = f"{FILES}/thumb/{record.image}.webp"
    return f'<img src="{source}" alt="" loading="lazy" decoding="async" width="160" height="160">'


def shown_score(record: StoredRecord, scorer: str | None) -> tuple[str, float | None]:
    """The score on a tile: of the filter's scorer, else the combined one, the same on every tile."""
    wanted = scorer or COMBINED
    value = record.combined if wanted == COMBINED else record.scores.get(wanted)
    known = value is not None and math.isfinite(value)
    return wanted, value if known else None


def empty_store() -> str:
    """What to do while there are no records at all."""
    return (
        '<div class="fd-start"><h3>No records yet</h3><p>A record is an image with all it took: prompt, '
        'workflow, seed and scores. There are three ways to get some:</p><ul class="fd-steps">'
        "<li><b>Design a picture</b>In the Playground every finished design can be kept; on your own "
        "machine it is kept by itself.</li>"
        "<li><b>Bring your own</b>Under Import, PNG files or a whole ComfyUI output folder become "
        "records, with the workflows they carry.</li>"
        "<li><b>Collect many</b>In a terminal: <code>python -m flowdesign collect --prompts grammar "
        "--n 500</code> renders and scores, and can be stopped and resumed.</li></ul></div>"
    )


def nothing(words: str) -> str:
    """What stands in the place of the tiles when the filter leaves none."""
    return f'<div class="fd-empty">{escape(words)}</div>'


# --- one record


def opened(one: Opened) -> str:
    """A record: image, workflow, sentence, scores, votes and files."""
    record = one.record
    body = "".join(
        (
            _title(record),
            f'<p class="fd-say fd-prompt">{escape(record.prompt) or "<i>No prompt.</i>"}</p>',
            _fact_list(record),
            f'<p class="fd-note">{escape(record.failure)}</p>' if record.failure else "",
            f"<h4>Scores</h4>{_scores(one)}<h4>Votes</h4>{_ballots(one)}",
        )
    )
    return (
        f'<article class="fd-card fd-record" tabindex="-1" aria-label="Record {record.id}">'
        f'<div><figure class="fd-picture">{_picture(record)}</figure>'
        f'<div class="fd-foot">{_files(record)}</div></div><div class="fd-body">{body}</div>'
        f'<div class="fd-wide"><h4>Workflow</h4>{_workflow(record)}</div></article>'
    )


def unknown(number_: object) -> str:
    """What is shown for a record that is not there."""
    words = f"There is no record {str(number_)[:40]}. It may have been deleted for good."
    return (
        f'<article class="fd-card fd-record" tabindex="-1">{cards.status(words, "bad")}</article>'
    )


def _title(record: StoredRecord) -> str:
    chips = [
        cards.chip(
            f"split: {record.split}",
            _SPLIT_KINDS[record.split],
            "The stricter split of prompt and workflow. Nothing is trained on validation or test.",
        )
    ]
    if record.fidelity and record.image:
        kind, label, meaning = cards.FIDELITY.get(record.fidelity, ("", record.fidelity, ""))
        chips.append(cards.chip(label, kind, meaning))
    if record.deleted:
        chips.append(cards.chip("Deleted", "fd-bad"))
    if record.failure:
        chips.append(cards.chip("Failed", "fd-bad"))
    return f'<div class="fd-title"><h3>Record {record.id}</h3>{"".join(chips)}</div>'


def _fact_list(record: StoredRecord) -> str:
    facts = {
        "Split of the prompt": record.prompt_split,
        "Split of the workflow": record.workflow_split,
        "Category": record.category.replace("_", " "),
        "Source": record.source,
        "Seed": str(record.seed),
        "Seconds": f"{record.seconds:.1f}" if record.seconds else "",
        "Renderer": record.renderer,
        "Created": record.created.replace("T", " ").removesuffix("Z"),
        "Models": ", ".join(sorted(record.assets)),
    }
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
        if value
    )
    return f'<dl class="fd-facts">{rows}</dl>'


def _picture(record: StoredRecord) -> str:
    if not record.image:
        return '<div class="fd-frame">This record has no image.</div>'
    url = f"{FILES}/image/{record.image}.png"
    return (
        f'<a href="{url}" target="_blank" rel="noopener" title="Open the image alone">'
        f'<img src="{url}" alt="{escape(record.prompt)}" decoding="async"></a>'
    )


def _files(record: StoredRecord) -> str:
    links = []
    if record.image:
        links.append((f"{FILES}/image/{record.image}.png", "PNG", f"record-{record.id}.png"))
    links.append((f"{FILES}/workflow/{record.id}.api.json", "ComfyUI API JSON", ""))
    if is_ours(record.workflow):
        links.append((f"{FILES}/workflow/{record.id}.ui.json", "ComfyUI UI JSON", ""))
    return "".join(
        f'<a class="fd-get" href="{url}" download="{name}">{label}</a>'
        for url, label, name in links
    )


def _workflow(record: StoredRecord) -> str:
    graph, words = ready_to_run(record), ""
    if is_ours(record.workflow):
        words = describe(record.workflow)
    else:
        words = "This workflow uses nodes that FlowDesign does not know; it is kept as it was."
    sentence = (
        f'<details class="fd-tokens"><summary>As a sentence ({len(record.sentence.split())} words)'
        f"</summary><code>{escape(record.sentence)}</code></details>"
        if record.sentence
        else '<p class="fd-note">It is outside the language of sentences.</p>'
    )
    drawing = cards.drawing(graph, f"Workflow of record {record.id}", words)
    return f'<p class="fd-say">{escape(words)}</p>{drawing}{sentence}'


def _scores(one: Opened) -> str:
    scores = dict(sorted(one.record.scores.items()))
    if one.record.combined is not None:
        scores = {COMBINED: one.record.combined} | scores
    said = _expected(one.expected, one.scored)
    if not scores:
        return f'{said}<p class="fd-note">Nobody has scored this image yet.</p>'
    rows = "".join(_score(name, value, one) for name, value in scores.items())
    return f'{said}<table class="fd-scores">{rows}</table>'


def _expected(expected: Expected | None, scored: float | None) -> str:
    """What the ensemble expects of the record, and what its image came to, as in the Playground."""
    chips = cards.expectation(expected, scored) if expected else []
    return f'<p class="fd-chips">{"".join(chips)}</p>' if chips else ""


def _score(name: str, value: float, one: Opened) -> str:
    about = _DERIVED | dict(one.abouts or {})
    held = " (held out: nothing is trained on it)" if name == one.held_out else ""
    shown = number(value) if math.isfinite(value) else "cannot say"
    return (
        f'<tr><th scope="row">{escape(name)}</th><td>{shown}</td>'
        f"<td>{escape(about.get(name, ''))}{held}</td></tr>"
    )


def _ballots(one: Opened) -> str:
    rows = [_vote(vote, one.record.id) for vote in one.votes[:MAX_BALLOTS]]
    rows += [
        f"<li>{rating.stars} of 5 stars, by {escape(rating.rater)}, {rating.created[:10]}</li>"
        for rating in one.ratings[:MAX_BALLOTS]
    ]
    if not rows:
        return '<p class="fd-note">Nobody has voted on this image yet.</p>'
    return f'<ul class="fd-list">{"".join(rows)}</ul>'


def _vote(vote: Vote, own: int | None) -> str:
    other = vote.right if vote.left == own else vote.left
    side = "left" if vote.left == own else "right"
    said = "won" if vote.choice == side else "lost" if vote.choice in ("left", "right") else ""
    said = said or ("tied" if vote.choice == "tie" else "was skipped")
    return (
        f'<li>It {said} against <button type="button" data-record="{other}">record {other}</button>'
        f", by {escape(vote.rater)}, {vote.milliseconds / 1000:.1f} s, {vote.created[:10]}</li>"
    )


def is_ours(workflow: Workflow) -> bool:
    """Whether every node is one of FlowDesign's and wired as it should be, whatever its values."""
    return all(problem.code in OF_VALUES for problem in every_problem(workflow, _NOTHING))


def ready_to_run(record: StoredRecord) -> Workflow:
    """The workflow with the prompt in it, and the seed; one with unknown nodes kept its own seed."""
    if is_ours(record.workflow):
        return bind(record.workflow, record.prompt, record.seed)
    return {key: _with_prompt(node, record.prompt) for key, node in record.workflow.items()}


def _with_prompt(node: Any, prompt: str) -> Any:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if not isinstance(inputs, dict):
        return node
    filled = {name: prompt if value == PROMPT else value for name, value in inputs.items()}
    return {**node, "inputs": filled}
