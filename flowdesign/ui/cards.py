"""What the page shows, as HTML: one function for each thing, from plain values to a string.

Every text is escaped here. The strings go into `gr.HTML` as its value, never into an
`html_template`: Gradio runs templates as code, with the texts already in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from flowdesign.critic import Expected
from flowdesign.designs import Design, Restored, takes_prompt
from flowdesign.studio import Designed, Failed, Rendered
from flowdesign.ui.workflow_view import draw
from flowdesign.workflow import Problem, limited, total

MAX_PROBLEMS = 20  # of a file that are listed

FIDELITY = {
    "exact": (
        "fd-ok",
        "Exact",
        "ComfyUI's rules for noise, noise levels, samplers and texts, followed in float32.",
    ),
    "approximate": ("fd-warn", "Approximate", "Close to what ComfyUI's rules would give."),
    "refused": ("fd-bad", "Refused", "This workflow cannot be reproduced here."),
}

EXPECTED = (
    "What the reward ensemble expects of the image before it is rendered, with its 90 % interval, in "
    "standard deviations above the mean of the shipped records."
)
SCORED = "What the image came to, on the same scale."

MARK = (
    '<svg viewBox="0 0 40 40" aria-hidden="true"><path class="fd-mark-line" d="M12 11C22 11 18 29'
    ' 28 29M12 29C18 29 16 24 20 20"/><rect class="fd-mark-box" x="3" y="6" width="10" height="10"'
    ' rx="3"/><rect class="fd-mark-box" x="3" y="24" width="10" height="10" rx="3"/><rect'
    ' class="fd-mark-box" x="27" y="24" width="10" height="10" rx="3"/><circle class="fd-mark-dot"'
    ' cx="32" cy="11" r="4"/></svg>'
)


def html(value: str = "", **options: Any) -> gr.HTML:
    """A place for one of the strings below, without Gradio's own text styles."""
    return gr.HTML(value, apply_default_css=False, **options)


def header() -> str:
    """Who we are, in one sentence."""
    return (
        f'<header class="fd-head">{MARK}<div><h1>FlowDesign</h1><p>Describe a picture. A small '
        "language model designs workflows for your prompt, and each one is rendered here, on this "
        "machine.</p></div></header>"
    )


def chip(text: str, kind: str = "", tooltip: str = "") -> str:
    """A small label; `kind` is a CSS class such as fd-ok."""
    title = f' title="{escape(tooltip)}"' if tooltip else ""
    return f'<span class="fd-chip {kind}"{title}>{escape(text)}</span>'


def status(text: str, kind: str = "") -> str:
    """The line under the prompt; "busy" and "bad" are its kinds. `text` is plain text."""
    role = "alert" if kind == "bad" else "status"
    css = f" fd-is-{kind}" if kind else ""
    return f'<div class="fd-status{css}" role="{role}"><span>{escape(text)}</span></div>'


def empty() -> str:
    """What stands where designs will appear."""
    return (
        '<div class="fd-empty">Designs appear here one by one: the image, the workflow that made '
        "it as a graph and as a sentence, and files that open in ComfyUI.</div>"
    )


def designed(event: Designed) -> str:
    """A card whose image is still being made."""
    frame = '<div class="fd-frame fd-busy">Rendering…</div>'
    return _card(event.index, frame, event.design, _expected(event.expected), "")


def rendered(event: Rendered, more: str = "", scored: float | None = None) -> str:
    """A finished card with its image and files; `more` is HTML that follows them.

    `scored` is what the image came to, beside what was expected of it.
    """
    chips = [
        _fidelity(event.fidelity, event.reasons),
        chip(f"{event.seconds:.1f} s", "fd-plain", "Time to render"),
    ]
    chips += expectation(event.expected, scored)
    url = file_url(event.image)
    picture = (
        f'<a href="{url}" target="_blank" rel="noopener" title="Open the image alone">'
        f'<img src="{url}" alt="Design {event.index + 1}: {escape(event.design.prompt)}"></a>'
    )
    links = [
        ("PNG with workflow", event.image, "The image; its metadata holds prompt and workflow"),
        ("ComfyUI API JSON", event.api, "For ComfyUI's /prompt and for scripts"),
        ("ComfyUI UI JSON", event.ui, "Opens in ComfyUI's editor, with a layout"),
    ]
    foot = "".join(_download(label, path, tip) for label, path, tip in links) + more
    notes = list(event.reasons)
    if event.saved > 1:
        notes.append(f"The workflow saves {event.saved} images; this is the first.")
    return _card(event.index, picture, event.design, chips, _notes(notes), foot)


def _fidelity(label: str, reasons: Sequence[str]) -> str:
    """How near an image is, or will be, to ComfyUI's."""
    kind, words, meaning = FIDELITY[label]
    return chip(words, kind, " ".join((meaning, *reasons)))


def expectation(expected: Expected | None, scored: float | None) -> list[str]:
    """Chips: what was expected of an image, and what it came to."""
    return _expected(expected) + _scored(expected, scored)


def _expected(expected: Expected | None) -> list[str]:
    """What the reward ensemble says of a design, with its interval."""
    if expected is None:
        return []
    words = expected_words(expected.mean, expected.low, expected.high)
    return [chip(words, "fd-plain", EXPECTED)]


def _scored(expected: Expected | None, scored: float | None) -> list[str]:
    """What the image came to; green inside the interval, amber outside."""
    if scored is None:
        return []
    inside = expected is None or expected.low <= scored <= expected.high
    return [chip(f"scored {signed(scored)}", "fd-ok" if inside else "fd-warn", SCORED)]


def expected_words(mean: float, low: float, high: float) -> str:
    """What is expected of an image, with its 90 % interval."""
    return f"expected {signed(mean)} ({signed(low)} to {signed(high)})"


def signed(score: float) -> str:
    """A combined score as people read it: +1.25, or a true minus sign."""
    return f"{score:+.2f}".replace("-", "\N{MINUS SIGN}")


def failed(event: Failed) -> str:
    """A card that says why there is no image."""
    chips = [chip("Refused" if event.refused else "Failed", "fd-bad")]
    frame = f'<div class="fd-frame fd-is-bad" role="alert">{escape(event.reason)}</div>'
    return _card(event.index, frame, event.design, chips, "")


def stopped(event: Designed) -> str:
    """The card of a design whose render was cancelled."""
    frame = '<div class="fd-frame">Stopped before the image was finished.</div>'
    return _card(event.index, frame, event.design, [chip("Stopped", "fd-warn")], "")


def restored(
    item: Restored, file_name: str, fidelity: str = "", reasons: Sequence[str] = ()
) -> str:
    """What a dropped file held, with every problem in words and at its node.

    `fidelity` says how it will be rendered here, for these reasons; empty is not known yet.
    """
    seed = "" if item.seed is None else chip(f"seed {item.seed}", "fd-plain")
    label = _fidelity(fidelity, reasons) if fidelity else ""
    title = f'<div class="fd-title"><h3>From {escape(file_name)}</h3>{seed}{label}</div>'
    said = f'<p class="fd-say">{escape(item.description)}</p>' if item.description else ""
    nodes = item.workflow or item.nodes
    words = item.description or f"{len(nodes)} nodes of {file_name}"
    graph = drawing(nodes, "Restored workflow", words, item.problems) if nodes else ""
    own = item.workflow is not None and not takes_prompt(item.workflow)
    note = _notes(["Its texts are its own: the prompt above is not used."]) if own else ""
    body = f"{title}{said}{note}{_notes(reasons)}{_problems(item.problems)}{graph}"
    return f'<article class="fd-body" aria-label="Restored workflow">{body}</article>'


def file_url(path: Path) -> str:
    """Where Gradio serves a file of the studio's output folder; relative to the page."""
    return escape(f"gradio_api/file={quote(str(path))}")


def _card(
    index: int, picture: str, design: Design | None, chips: Sequence[str], note: str, foot: str = ""
) -> str:
    name = f"Design {index + 1}"
    said = [said_by(design)] if design and design.policy else []
    body = f'<div class="fd-title"><h3>{name}</h3>{"".join([*said, *chips])}</div>'
    if design:
        body += f'<p class="fd-say">{escape(design.description)}</p>{note}'
        body += drawing(design.bound, f"Workflow of design {index + 1}", design.description)
    if foot:
        body += f'<div class="fd-foot">{foot}</div>'
    if design and design.sentence:
        body += _tokens(design)
    return (
        f'<article class="fd-card" aria-label="{name}"><figure class="fd-picture">{picture}'
        f'</figure><div class="fd-body">{body}</div></article>'
    )


def said_by(design: Design) -> str:
    """A chip: the policy, and the guidance scale where there was guidance."""
    if design.scale is None:
        return chip(design.policy, "fd-plain", "The policy that designed this")
    names = {0.0: "before GRPO", 1.0: "after GRPO"}
    scale = f"s = {design.scale:g}".replace("-", "\N{MINUS SIGN}")
    words = f"{scale}, {names.get(design.scale, 'guided')}"
    return chip(words, "fd-scale", f"{design.policy} with guidance scale {design.scale:g}")


def drawing(
    workflow: dict[str, dict[str, object]],
    name: str,
    description: str,
    problems: Sequence[Problem] = (),
) -> str:
    """A workflow drawn as boxes and wires, in a frame that scrolls sideways."""
    picture = draw(workflow, name, description, problems)
    return (
        f'<div class="fd-scroll" role="group" tabindex="0" aria-label="{escape(name)}, scrolls '
        f'sideways">{picture}</div>'
    )


def _tokens(design: Design) -> str:
    return (
        f'<details class="fd-tokens"><summary>What the policy said ({len(design.tokens)} tokens)'
        f"</summary><code>{escape(design.sentence)}</code></details>"
    )


def _download(label: str, path: Path, tip: str) -> str:
    return (
        f'<a class="fd-get" href="{file_url(path)}" download="{escape(path.name)}"'
        f' title="{escape(tip)}">{escape(label)}</a>'
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="fd-note">{escape(note)}</p>' for note in notes)


def _problems(problems: Sequence[Problem]) -> str:
    if not problems:
        return ""
    lines = "".join(
        f"<li>{escape(problem.message)}</li>" for problem in limited(problems, MAX_PROBLEMS)
    )
    count = total(problems)
    said = "1 problem" if count == 1 else f"{count} problems"
    return f'<p class="fd-note">{said} with this file:</p><ul class="fd-list">{lines}</ul>'
