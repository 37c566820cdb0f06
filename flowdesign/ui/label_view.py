"""What the Label tab shows, as HTML. The page script (assets/label.js) fills in questions and figures.

As in `flowdesign.ui.cards`, every text is escaped here and a string is a value, never a template.
"""

from __future__ import annotations

import json
from functools import lru_cache
from html import escape

from flowdesign.records import StoredRecord
from flowdesign.ui import cards, record_view
from flowdesign.votes import Answered
from flowdesign.workflow import describe

STARS = {
    1: "Does not fit",
    2: "Poor",
    3: "Fair",
    4: "Good",
    5: "Fits, looks right",
}
REMEMBERED = 4096  # workflows in words, some 3 kB each with the graph: as many as a pool has
SAID = {"left": "Your choice: left", "right": "Your choice: right", "tie": "Your choice: a tie"}


def skeleton() -> str:
    """The tab before anything is loaded."""
    return (
        '<section class="fd-label" aria-label="Label images" data-state="loading">'
        f"{_head()}{_guidelines()}"
        '<div class="fd-notice" data-notice></div>'
        '<div class="fd-poll" data-ask><p class="fd-caption" data-caption></p>'
        '<h3 class="fd-poll-prompt" data-prompt></h3>'
        f"{_pair()}{_answers()}</div>{_standing()}"
        '<div class="fd-reveal" data-reveal aria-live="polite"></div></section>'
    )


def _head() -> str:
    return (
        '<div class="fd-label-head"><div class="fd-switch" role="group" aria-label="What to do">'
        '<button type="button" data-kind="pair" aria-pressed="true">Compare two</button>'
        '<button type="button" data-kind="rating" aria-pressed="false">Rate one</button></div>'
        '<button type="button" class="fd-quiet" data-guide aria-expanded="false"'
        ' aria-controls="fd-guidelines">Guidelines <kbd>g</kbd></button></div>'
    )


def _guidelines() -> str:
    return (
        '<div id="fd-guidelines" class="fd-guidelines" hidden><ol>'
        "<li><b>The prompt first.</b> Prefer the image that shows what it asks for: the right things, "
        "how many, their colours, and where they are.</li>"
        "<li><b>Then the looks.</b> If both fit equally well, or equally badly, prefer the one that is "
        "cleaner and sharper, without smears or stray parts.</li>"
        "<li><b>Tie</b> when you see no real difference. <b>Skip</b> when you cannot judge; a skip "
        "counts for nothing.</li>"
        "<li><b>Stars:</b> 5 fits the prompt and looks right, 3 fits in part or looks poor, 1 does not "
        "fit.</li>"
        "<li>Do not guess how an image was made. You see it right after your vote.</li>"
        "<li>Now and then a pair comes back. Judge it afresh: this is how your agreement with yourself "
        "is measured.</li></ol>"
        '<p class="fd-note">A wrong key? <b>Undo</b> takes the last answer back and asks again.</p></div>'
    )


def _pair() -> str:
    return f'<div class="fd-pair" data-pair>{_side("left", "1")}{_side("right", "2")}</div>'


def _side(side: str, key: str) -> str:
    return (
        f'<button type="button" class="fd-side" data-side="{side}" data-answer="{side}"'
        f' tabindex="-1" title="{side.capitalize()} is better ({key})"><img alt="" data-image'
        ' draggable="false"></button>'
    )


def _answers() -> str:
    stars = "".join(
        f'<button type="button" data-answer="{n}" title="{words}"><b class="fd-key">{n}</b>'
        f"<span>{words}</span></button>"
        for n, words in STARS.items()
    )
    return (
        '<div class="fd-answers" data-for="pair">'
        '<button type="button" data-answer="left"><kbd>1</kbd><kbd>←</kbd> <b>Left</b></button>'
        '<button type="button" data-answer="tie"><kbd>0</kbd> <b>Tie</b></button>'
        '<button type="button" data-answer="right"><b>Right</b> <kbd>→</kbd><kbd>2</kbd></button></div>'
        f'<div class="fd-answers fd-stars" data-for="rating" hidden>{stars}</div>'
        '<div class="fd-minor"><button type="button" class="fd-quiet" data-undo disabled>'
        "<kbd>u</kbd> Undo</button>"
        '<div class="fd-status" role="status" aria-live="polite"><span data-status></span></div>'
        '<button type="button" class="fd-quiet" data-answer="skip">'
        "<kbd>s</kbd> Skip</button></div>"
    )


def _standing() -> str:
    alpha = "α is Krippendorff's alpha: 1 is perfect agreement, 0 what chance would give."
    figures = {
        "visit": ("This visit", "Answers since you opened this page, skips not counted."),
        "mine": ("Yours in all", "All your answers that are stored."),
        "all": ("Everybody's", "All stored answers."),
        "own": ("You with yourself", f"Equal answers to pairs that came back. {alpha}"),
        "between": (
            "Raters with each other",
            f"Equal answers to pairs that several people judged. {alpha}",
        ),
    }
    boxes = "".join(
        f'<div title="{escape(tip)}"><dt>{name}</dt><dd data-figure="{key}">–</dd></div>'
        for key, (name, tip) in figures.items()
    )
    return f'<dl class="fd-standing">{boxes}</dl>'


# --- instead of a question


def no_images() -> str:
    """While the store has no images at all."""
    return _notice(
        "Nothing to label yet",
        "There are no images. Make some, and they appear here by themselves:",
        "<li><b>Collect</b>In a terminal: <code>python -m flowdesign collect --prompts grammar --n 200"
        "</code> designs, renders and scores images for many prompts. It can be stopped and resumed."
        "</li><li><b>Bring your own</b>Import a ComfyUI output folder, or PNG files with their "
        "workflows inside, on the Data tab under <i>Import</i>.</li>",
    )


def no_pairs(images: int) -> str:
    """While no prompt has two images."""
    count = "There is one image" if images == 1 else f"There are {images:,} images"
    return _notice(
        "No pairs yet",
        f"{count}, but no two different ones for the same prompt. You can rate them one by one, or:",
        "<li><b>Collect pairs</b><code>python -m flowdesign collect --prompts grammar --n 200 --seeds "
        "2</code> renders several images for each prompt.</li>",
    )


def all_done(kind: str) -> str:
    """When this rater has answered everything."""
    what = "every pair" if kind == "pair" else "every image"
    return _notice(
        "All done, thank you",
        f"You have judged {what} that can be asked now. New images appear here as they are made.",
    )


def refused(reason: str) -> str:
    """For people who may not vote here."""
    return _notice("You cannot vote here", reason)


def broken(reason: str) -> str:
    """When the records cannot be read."""
    return _notice("The records cannot be opened", reason)


def _notice(title: str, words: str, ways: str = "") -> str:
    steps = f'<ul class="fd-steps">{ways}</ul>' if ways else ""
    return f'<div class="fd-start"><h3>{title}</h3><p>{escape(words)}</p>{steps}</div>'


# --- after the vote


def reveal(answered: Answered, records: list[StoredRecord], images: list[str]) -> str:
    """How the images of an answered question were made. Only ever call it for a stored answer.

    The drawing of a workflow is fetched when its fold is opened, from beside the image.
    """
    pair = answered.ticket.question.kind == "pair"
    said = SAID.get(answered.answer, f"Your rating: {answered.answer} of 5")
    sides = ("left", "right") if pair else ("",)
    parts = [
        _made(side, record, image, answered.answer)
        for side, record, image in zip(sides, records, images, strict=True)
    ]
    prompt = escape(answered.ticket.question.prompt)
    return (
        f'<h3>The last one, revealed</h3><p class="fd-note">“{prompt}” · {said}.</p>'
        f'<div class="fd-made">{"".join(parts)}</div>'
    )


def workflow(record: StoredRecord, side: int) -> str:
    """The drawing of an image's workflow."""
    name = ("Workflow of the left image", "Workflow of the right image")[side]
    return cards.drawing(record_view.ready_to_run(record), name, _words(record))


def _made(side: str, record: StoredRecord, image: str, answer: str) -> str:
    """One image with its workflow in words."""
    name = f"{side.capitalize()} image" if side else "The image"
    won = cards.chip("Preferred", "fd-ok") if side and side == answer else ""
    drawing = escape(image.removesuffix(".png") + ".html")
    return (
        f'<article class="fd-made-one"><img src="{escape(image)}" alt="{name}" width="88" height="88">'
        f'<div class="fd-body"><div class="fd-title"><h4>{name}</h4>{won}</div>'
        f'<p class="fd-say">{escape(_words(record))}</p></div>'
        f'<details class="fd-tokens" data-drawing="{drawing}"><summary>Workflow</summary></details>'
        "</article>"
    )


def _words(record: StoredRecord) -> str:
    return _words_of(json.dumps(record.workflow))


@lru_cache(maxsize=REMEMBERED)
def _words_of(graph: str) -> str:
    """A workflow as JSON in words, worked out once: after an answer nobody is to wait for it."""
    workflow = json.loads(graph)
    if record_view.is_ours(workflow):
        return describe(workflow)
    return "A ComfyUI workflow with nodes that FlowDesign does not know."
