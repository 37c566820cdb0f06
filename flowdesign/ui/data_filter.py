"""The filter of the Data tab: its components, and what they ask the store for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from flowdesign.records import COMBINED, ORDERS, SPLITS, Filter, Options, Order
from flowdesign.ui.handlers import Updates

ANY = ""  # the value of "it does not matter"
NONE = "\0none"  # the value of "has none", which no name can be
MAX_TEXT = 200  # characters of a search
Choices = list[tuple[str, str]]

IMAGES: Choices = [("any", ANY), ("with image", "yes"), ("without", "no")]
OUTCOMES: Choices = [("any", ANY), ("rendered", "no"), ("failed", "yes")]
DELETED: Choices = [("kept", ANY), ("deleted", "yes")]
ORDER_NAMES: Mapping[Order, str] = {
    "newest": "newest first",
    "oldest": "oldest first",
    "best": "best score first",
    "worst": "worst score first",
}


BLANK = (ANY, "newest", *[ANY] * 13)  # the values of an empty filter, in the order of `read`


class BadFilter(ValueError):
    """The filter asks for something that cannot be; the message says what."""


@dataclass(frozen=True)
class Asked:
    """A filter and the order of what it finds."""

    filter: Filter = Filter()
    order: Order = "newest"


class FilterForm:
    """The components, in the order in which `read` takes their values."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="fd-filters"):
            self.text = gr.Textbox(
                label="Words in the prompt",
                placeholder="red star",
                max_lines=1,
                min_width=140,
                elem_id="fd-find",
            )
            self.source = _choice("Source")
            self.split = _choice("Split", _splits({}))
            self.category = _choice("Category")
            self.checkpoint = _choice("Checkpoint")
            self.sampler = _choice("Sampler")
            self.scorer = _choice("Score")
            self.order = _choice("Order", [(ORDER_NAMES[one], one) for one in ORDERS], "newest")
        more = gr.Accordion("More filters", open=False, elem_id="fd-more")
        with more, gr.Row(elem_classes="fd-filters"):
            # Texts, because Gradio shows an empty gr.Number as 0 and then sends it.
            self.low = _number("Score from")
            self.high = _number("Score up to")
            self.prompt_split = _choice("Split of the prompt", _splits({}))
            self.workflow_split = _choice("Split of the workflow", _splits({}))
            self.images = _choice("Image", IMAGES)
            self.failed = _choice("Outcome", OUTCOMES)
            self.deleted = _choice("Records", DELETED)
        self.clear = gr.Button("Clear the filter", size="sm", elem_id="fd-clear", scale=0)

    @property
    def inputs(self) -> list[Any]:
        """Every component that `read` reads, in its order."""
        return [
            self.text, self.order, self.source, self.split, self.checkpoint, self.sampler,
            self.category, self.scorer, self.low, self.high, self.prompt_split,
            self.workflow_split, self.images, self.failed, self.deleted,
        ]  # fmt: skip

    @property
    def choosing(self) -> list[Any]:
        """The components whose choices depend on what the store holds."""
        return [
            self.source, self.split, self.checkpoint, self.sampler, self.category, self.scorer,
            self.prompt_split, self.workflow_split,
        ]  # fmt: skip

    @property
    def changes(self) -> list[Any]:
        """The events of a visitor who changes something.

        `change` of a text, because Gradio swallows the first `input` after any update of it;
        `select` of a choice, because its `input` comes twice.
        """
        texts = (self.text, self.low, self.high)
        events = [event for text in texts for event in (text.change, text.submit)]
        return events + [one.select for one in self.inputs if isinstance(one, gr.Dropdown)]

    def offer(self, options: Options) -> Updates:
        """The choices that the store has, with the number of records of each."""
        return {
            self.source: gr.update(choices=_counted(options.source)),
            self.checkpoint: gr.update(choices=_counted(options.checkpoint)),
            self.sampler: gr.update(choices=_counted(options.sampler)),
            self.category: gr.update(choices=_counted(options.category)),
            self.scorer: gr.update(choices=[("any", ANY), *((s, s) for s in options.scorers)]),
            self.split: gr.update(choices=_splits(options.split)),
            self.prompt_split: gr.update(choices=_splits(options.prompt_split)),
            self.workflow_split: gr.update(choices=_splits(options.workflow_split)),
        }

    def cleared(self, *asked: Any) -> Updates:
        """Every component as it was at first, where it is not so now."""
        each = zip(self.inputs, BLANK, asked, strict=True)
        return {one: blank for one, blank, now in each if (now or ANY) != blank}


def read(
    text: object, order: object, source: object, split: object, checkpoint: object,
    sampler: object, category: object, scorer: object, low: object, high: object,
    prompt_split: object, workflow_split: object, images: object, failed: object, deleted: object,
) -> Asked:  # fmt: skip
    """What the components ask for. Any value at all may come from a program.

    Raises BadFilter for what no record can be.
    """
    least, most = _bound("lowest", low), _bound("highest", high)
    if least is not None and most is not None and least > most:
        raise BadFilter(f"The lowest score, {least:g}, is above the highest, {most:g}.")
    scored = _name(scorer)
    if scored is None and (least is not None or most is not None):
        scored = COMBINED
    by_score = order in ("best", "worst")
    found = Filter(
        text=_words(text),
        source=_name(source),
        split=_one_of("split", split, SPLITS),
        checkpoint=_name(checkpoint),
        sampler=_name(sampler),
        category=_name(category),
        scorer=scored or (COMBINED if by_score else None),
        low=least,
        high=most,
        prompt_split=_one_of("split of the prompt", prompt_split, SPLITS),
        workflow_split=_one_of("split of the workflow", workflow_split, SPLITS),
        has_image=_yes_or_no("image", images),
        failed=_yes_or_no("outcome", failed),
        deleted=_yes_or_no("records", deleted) is True,
    )
    return Asked(found, _one_of("order", order, ORDERS) or "newest")


def _choice(label: str, choices: Choices | None = None, value: str = ANY) -> gr.Dropdown:
    return gr.Dropdown(
        choices or [("any", ANY)], value=value, label=label, min_width=140, filterable=False
    )


def _number(label: str) -> gr.Textbox:
    return gr.Textbox(label=label, placeholder="any", max_lines=1, min_width=110)


def _splits(counts: Mapping[str, int]) -> Choices:
    return [("any", ANY), *((_with_count(one, counts.get(one)), one) for one in SPLITS)]


def _counted(counts: Mapping[str, int]) -> Choices:
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [("any", ANY), *((_with_count(n or "none", c), n or NONE) for n, c in most_first)]


def _with_count(name: str, count: int | None) -> str:
    return name.replace("_", " ") if count is None else f"{name} ({count:,})"


def _words(text: object) -> str:
    """The search text; what is longer than any prompt's words is cut, not refused."""
    return " ".join(str(text or "")[:MAX_TEXT].replace("\0", " ").split())


def _name(value: object) -> str | None:
    if value in (ANY, None):
        return None
    return "" if value == NONE else str(value)


def _one_of(what: str, value: object, known: Iterable[Any]) -> Any:
    if value in (ANY, None):
        return None
    if value not in known:
        raise BadFilter(f"'{str(value)[:40]}' is no {what}. Known: {', '.join(known)}.")
    return value


def _yes_or_no(what: str, value: object) -> bool | None:
    found = _one_of(what, value, ("yes", "no"))
    return None if found is None else found == "yes"


def _bound(which: str, value: object) -> float | None:
    text = "" if value is None else str(value).strip().replace("\N{MINUS SIGN}", "-")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadFilter(f"The {which} score is a number, not '{text[:40]}'.")
    return number
