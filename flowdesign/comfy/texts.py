r"""Texts as ComfyUI's browser side sends them: it takes comments and braces out before a server sees them.

    as_sent("a star // red, or", "CLIPTextEncode")    "a star "
    as_written("a {red} star", "CLIPTextEncode")      r"a \{red\} star", which is sent as "a {red} star"

It also takes one of {red|blue}, by chance. Such a text is left as it is but for its comments: whoever runs it there
gets another one each time. {prompt} stands for the prompt of a workflow, and stays. Only widgets of a class that is
said to have such texts are changed; the API format, and so the first chunk of a PNG, holds what was sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from flowdesign.comfy.widgets import is_known
from flowdesign.workflow import MAX_TEXT, PROMPT

LONGEST = 4 * MAX_TEXT  # characters: of the longest text that is not refused, as it is written
_SENDERS = "TextEncode"  # is in the names of the classes known here whose texts are changed
_OTHERS = frozenset(
    {
        "MiniMaxH3ImageToVideo",
        "TextEncodeMageFlowEdit",
        "TextGenerate",
        "TextGenerateLTX2Prompt",
    }
)
_OPENING = re.compile(r"/[/*]")
_LINE = re.compile(r"[\n\r\u2028\u2029]")
_ESCAPED = re.compile(r"\\([{}|])")
_MEANT = re.compile(r"(\\.)|([{}])|(?<=/)([/*])", re.DOTALL)
_MARK = re.compile(r"\\.|[{}|]", re.DOTALL)


def as_sent(value: Any, kind: str) -> Any:
    """A widget's value as it is sent by a node of a class; what is no text stays as it is."""
    if not _is_changed(value, kind):
        return value
    return _sent(value)


def as_written(value: Any, kind: str) -> Any:
    """A value as an interface file has to say it, so that it is sent."""
    return _MEANT.sub(_written, value) if _is_changed(value, kind) else value


def _written(found: re.Match[str]) -> str:
    """A brace with a \\ before it, and in braces what would begin a comment: these are taken out."""
    escaped, brace, comment = found.groups()
    return escaped or (f"\\{brace}" if brace else f"{{{comment}}}")


def _is_changed(value: Any, kind: str) -> bool:
    if not isinstance(value, str) or len(value) > LONGEST:
        return False
    return kind in _OTHERS or (_SENDERS in kind and is_known({"type": kind}))


@lru_cache(maxsize=1024)  # a subgraph may stand in many places
def _sent(text: str) -> str:
    return PROMPT.join(map(_unbraced, _uncommented(text).split(PROMPT)))


def _uncommented(text: str) -> str:
    """The text without // to the end of a line and without /* */; one that has no end is none."""
    parts, at, looked = [], 0, 0
    while found := _OPENING.search(text, looked):
        start = found.start()
        if found[0] == "//":
            line = _LINE.search(text, start)
            end = line.start() if line else len(text)
        else:
            end = text.find("*/", start + 2) + 2
            if end < 2:  # nor does any behind it: look for // alone
                rest = text.find("//", start)
                if rest < 0:
                    break
                looked = rest
                continue
        parts.append(text[at:start])
        at = looked = end
    return "".join((*parts, text[at:]))


def _unbraced(text: str) -> str:
    """The text without braces around what is no choice, and without the \\ before those that are meant."""
    parts, depth, at = [], 0, 0
    for found in _MARK.finditer(text):
        mark = found[0]
        if mark == "|" and depth:
            return text
        if mark == "{" or (mark == "}" and depth):
            parts.append(text[at : found.start()])
            depth += 1 if mark == "{" else -1
            at = found.end()
    return _ESCAPED.sub(r"\1", "".join((*parts, text[at:])))
