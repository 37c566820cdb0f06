"""From a prompt to what conditions a model: weights, chunks of 77 tokens, clip skip.

The rules are ComfyUI's. "(word)" weighs 1.1, "(word:1.3)" weighs 1.3, brackets nest, "\\(" is a plain
bracket. A long prompt becomes several chunks that are encoded one by one and put behind each other.
A weighted token moves away from, or towards, what the same place holds in an empty prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

EMPHASIS = 1.1  # of brackets without a number
MAX_WEIGHT = 1e4  # far beyond use, so that no prompt overflows
WORD_LENGTH = 8  # a shorter run of tokens is not split over two chunks
_ESCAPES = (("\\)", "\0\1"), ("\\(", "\0\2"))
EMBEDDING = "embedding:"  # ComfyUI's mark of a textual inversion, which is not supported


class Weighted(NamedTuple):
    """A piece of a prompt and its weight."""

    text: str
    weight: float


def parse_weights(prompt: str) -> list[Weighted]:
    """Split a prompt into pieces of one weight each; total, whatever the brackets."""
    for written, code in _ESCAPES:
        prompt = prompt.replace(written, code)
    found: list[Weighted] = []
    waiting = [Weighted(prompt, 1.0)]  # a stack: deeply nested brackets must not recurse
    while waiting:
        piece = waiting.pop()
        parts = _split(piece.text)
        if parts == [piece.text] and not _bracketed(piece.text):
            found.append(piece)
        else:
            inner = [_open(part, piece.weight) for part in parts]
            waiting.extend(reversed(inner))
    return [Weighted(_unescape(piece.text), piece.weight) for piece in found]


def _unescape(text: str) -> str:
    for written, code in _ESCAPES:
        text = text.replace(code, written[1])
    return text


def _bracketed(text: str) -> bool:
    return len(text) >= 2 and text[0] == "(" and text[-1] == ")"


def _open(part: str, weight: float) -> Weighted:
    """Take the brackets and the number off a part."""
    if not _bracketed(part):
        return Weighted(part, weight)
    inner, weight = part[1:-1], weight * EMPHASIS
    text, colon, number = inner.rpartition(":")
    if colon and text:
        try:
            given = float(number)
        except ValueError:
            given = math.nan
        if math.isfinite(given):  # "(a:nan)" is read as text
            inner, weight = text, given
    return Weighted(inner, max(-MAX_WEIGHT, min(MAX_WEIGHT, weight)))


def _split(text: str) -> list[str]:
    """Split at the outermost brackets, which stay on. A stray bracket is text."""
    parts: list[str] = []
    start = depth = 0
    for place, letter in enumerate(text):
        if letter == "(":
            if depth == 0:
                parts.append(text[start:place])
                start = place
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0:
                parts.append(text[start : place + 1])
                start = place + 1
    parts.append(text[start:])
    return [part for part in parts if part]


@dataclass(frozen=True)
class Special:
    """The tokens that frame a chunk, and its length."""

    start: int
    end: int
    pad: int
    length: int = 77


@dataclass(frozen=True)
class Chunk:
    """Token ids and weights of one chunk, each `Special.length` long."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def chunks(groups: Sequence[tuple[Sequence[int], float]], special: Special) -> list[Chunk]:
    """Lay groups of tokens into chunks: start, up to 75 tokens, end, padding. At least one chunk."""
    room = special.length - 2
    filled: list[list[tuple[int, float]]] = [[]]
    for ids, weight in groups:
        tokens = [(token, weight) for token in ids]
        splits = len(tokens) >= WORD_LENGTH
        while tokens:
            free = room - len(filled[-1])
            if len(tokens) <= free:
                filled[-1] += tokens
                break
            if splits:
                filled[-1] += tokens[:free]
                tokens = tokens[free:]
            filled.append([])
    return [_frame(tokens, special) for tokens in filled]


def _frame(tokens: Sequence[tuple[int, float]], special: Special) -> Chunk:
    padding = special.length - 2 - len(tokens)
    ids = (special.start, *(t for t, _ in tokens), special.end, *[special.pad] * padding)
    return Chunk(ids, (1.0, *(w for _, w in tokens), 1.0, *[1.0] * padding))


class Encoder:
    """One text encoder with its tokenizer: CLIP, with or without a projection."""

    def __init__(self, model: Any, tokenizer: Any, special: Special, *, normed: bool) -> None:
        self.model = model
        self.special = special
        self._tokenizer = tokenizer
        self._normed = normed  # whether the final layer norm follows a skipped layer (SD 1.5)
        self._inner = getattr(model, "text_model", model)

    def tokenize(self, prompt: str) -> list[Chunk]:
        """Turn a prompt into chunks."""
        groups = []
        for text, weight in parse_weights(prompt):
            ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            groups.append((ids, weight))
        return chunks(groups, self.special)

    def encode(self, laid: Sequence[Chunk], skip: int | None) -> tuple[Tensor, Tensor | None]:
        """Return (hidden (1, chunks * length, width), pooled (1, width) or None) of one prompt.

        `skip` -k reads the k-th layer from the end; None is the last layer and its norm.
        """
        rows = [chunk.ids for chunk in laid]
        weighted = any(weight != 1.0 for chunk in laid for weight in chunk.weights)
        if weighted:
            rows.append(_frame([], self.special).ids)
        # Row by row: a prompt has the same bytes alone and beside others.
        parts = [self._run(row, skip) for row in rows]
        hidden = torch.cat([states for states, _ in parts])  # (rows, length, width)
        if weighted:
            empty, hidden = hidden[-1:], hidden[:-1]
            weights = torch.tensor([chunk.weights for chunk in laid]).unsqueeze(-1)
            moved = (hidden - empty) * weights.to(hidden.device) + empty
            # Weight 1 must not change a bit.
            hidden = torch.where(weights.to(hidden.device) == 1.0, hidden, moved)
        return hidden.flatten(0, 1).unsqueeze(0), parts[0][1]

    def _run(self, ids: Sequence[int], skip: int | None) -> tuple[Tensor, Tensor | None]:
        tokens = torch.tensor([ids], device=self.model.device)
        out = self._inner(input_ids=tokens, output_hidden_states=True)
        last: Tensor = out.last_hidden_state
        hidden = last
        if skip is not None and -skip <= len(out.hidden_states) - 1:
            hidden = out.hidden_states[skip]
            if self._normed:
                hidden = self._inner.final_layer_norm(hidden)
        return hidden, self._pool(last, ids)

    def _pool(self, last: Tensor, ids: Sequence[int]) -> Tensor | None:
        """Project the state at the first end token, where the encoder sums up the text."""
        projection = getattr(self.model, "text_projection", None)
        if projection is None:
            return None
        pooled: Tensor = projection(last[:, list(ids).index(self.special.end)])
        return pooled
