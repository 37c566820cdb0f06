"""From a prompt to what conditions a model: weights, embeddings, chunks of 77 tokens, clip skip.

The rules are ComfyUI's. "(word)" weighs 1.1, "(word:1.3)" weighs 1.3, brackets nest, "\\(" is a plain
bracket. A long prompt becomes several chunks that are encoded one by one and put behind each other.
A weighted token moves away from, or towards, what the same place holds in an empty prompt.
"embedding:name" stands for the learned vectors of a textual inversion. T5 has no chunks and no start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from flowdesign.headers import SUFFIX
from flowdesign.render.errors import BadWorkflow

EMPHASIS = 1.1  # of brackets without a number
MAX_WEIGHT = 1e4  # far beyond use, so that no prompt overflows
WORD_LENGTH = 8  # a shorter run of tokens is not split over two chunks
_ESCAPES = (("\\)", "\0\1"), ("\\(", "\0\2"))
EMBEDDING = "embedding:"  # ComfyUI's mark of a textual inversion
_MARK = re.compile(rf"[ \n](?={EMBEDDING})")
PLACEHOLDER = 0  # the token in whose place a learned vector stands

Token: TypeAlias = int | Tensor  # a tensor is a learned vector, (width,)
Vectors: TypeAlias = Callable[
    [str], "Tensor | None"
]  # the learned vectors of a name, (tokens, width)


class Weighted(NamedTuple):
    """A piece of a prompt and its weight."""

    text: str
    weight: float


def parse_weights(prompt: str) -> list[Weighted]:
    """Split a prompt into pieces of one weight each; total, whatever the brackets.

    Half of a surrogate pair becomes "?": no tokenizer takes it.
    """
    prompt = prompt.encode("utf-8", "replace").decode()
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


def embeddings_in(prompt: str) -> list[str]:
    """Return the names that a prompt calls after `embedding:`, as they are written."""
    pieces = [part for text, _ in parse_weights(prompt) for part in _MARK.split(text)]
    calls = [part.removeprefix(EMBEDDING).split() for part in pieces if part.startswith(EMBEDDING)]
    return [words[0] for words in calls if words]


def embedding_named(written: str, known: Collection[str]) -> tuple[str | None, str]:
    """Return (the known name that is meant, what was only punctuation); a comma may follow a name."""
    for name in (written, written.strip(",")):
        bare = name.replace("\\", "/").removesuffix(SUFFIX)
        if bare in known:
            return bare, written[len(name) :]
    return None, ""


@dataclass(frozen=True)
class Special:
    """The tokens that frame a chunk, and its length. Without chunks it is the least length."""

    start: int | None
    end: int
    pad: int
    length: int = 77
    chunked: bool = True


@dataclass(frozen=True)
class Chunk:
    """Tokens and weights of one chunk, each `Special.length` long, or longer where there is one only."""

    ids: tuple[Token, ...]
    weights: tuple[float, ...]


def chunks(groups: Sequence[tuple[Sequence[Token], float]], special: Special) -> list[Chunk]:
    """Lay groups of tokens into chunks: start, up to 75 tokens, end, padding. At least one chunk."""
    if not special.chunked:
        return [_frame([(token, weight) for ids, weight in groups for token in ids], special)]
    room = special.length - 2
    filled: list[list[tuple[Token, float]]] = [[]]
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


def _frame(tokens: Sequence[tuple[Token, float]], special: Special, length: int = 0) -> Chunk:
    first = [] if special.start is None else [special.start]
    ids = [*first, *(token for token, _ in tokens), special.end]
    weights = [*(1.0 for _ in first), *(weight for _, weight in tokens), 1.0]
    padding = max(length or special.length, len(ids)) - len(ids)
    return Chunk((*ids, *[special.pad] * padding), (*weights, *[1.0] * padding))


class Encoder:
    """One text encoder with its tokenizer: CLIP, with or without a projection, or T5."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        special: Special,
        *,
        normed: bool,
        bare: bool = False,
        left_out: int = 0,
        vectors: Vectors = lambda name: None,
        known: Collection[str] = (),
    ) -> None:
        self.model = model
        self.special = special
        self._tokenizer = tokenizer
        self._normed = normed  # whether the final layer norm follows a skipped layer (SD 1.5)
        self._bare = bare  # whether the pooled state is given without its projection
        self._left_out = left_out  # last layers that the file leaves out (SD 2)
        self._vectors, self._known = vectors, known
        self._inner = getattr(model, "text_model", model)

    def tokenize(self, prompt: str) -> list[Chunk]:
        """Turn a prompt into chunks."""
        groups = [
            (tokens, weight)
            for text, weight in parse_weights(prompt)
            for part in _MARK.split(text)
            for tokens in self._tokens(part)
        ]
        return chunks(groups, self.special)

    def _tokens(self, text: str) -> Iterator[Sequence[Token]]:
        """Yield the vectors of an embedding that a text begins with, then the tokens of the rest."""
        if text.startswith(EMBEDDING) and text != EMBEDDING:
            written, *others = text.removeprefix(EMBEDDING).split() or [""]
            name, comma = embedding_named(written, self._known)
            text = " ".join([comma, *others]) if comma else " ".join(others)
            found = None if name is None else self._vectors(name)
            if found is not None:
                yield list(found)
        if text:
            ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            yield ids

    def encode(self, laid: Sequence[Chunk], skip: int | None) -> tuple[Tensor, Tensor | None]:
        """Return (hidden (1, chunks * length, width), pooled (1, width) or None) of one prompt.

        `skip` -k reads the k-th layer from the end; None is the last layer and its norm. Raises
        BadWorkflow for a layer that the file leaves out.
        """
        rows = [chunk.ids for chunk in laid]
        weighted = any(weight != 1.0 for chunk in laid for weight in chunk.weights)
        if weighted:
            rows.append(_frame([], self.special, len(rows[0])).ids)
        # Row by row: a prompt has the same bytes alone and beside others.
        parts = [self._run(row, self._layer(skip)) for row in rows]
        hidden = torch.cat([states for states, _ in parts])  # (rows, length, width)
        if weighted:
            empty, hidden = hidden[-1:], hidden[:-1]
            weights = torch.tensor([chunk.weights for chunk in laid]).unsqueeze(-1)
            moved = (hidden - empty) * weights.to(hidden.device) + empty
            # Weight 1 must not change a bit.
            hidden = torch.where(weights.to(hidden.device) == 1.0, hidden, moved)
        return hidden.flatten(0, 1).unsqueeze(0), parts[0][1]

    def _layer(self, skip: int | None) -> int | None:
        if skip is None or not self._left_out:
            return skip
        if -skip <= self._left_out:
            raise BadWorkflow(
                f"CLIPSetLastLayer {skip} reads a layer that the files of SD 2 leave out; "
                f"-{self._left_out + 1} is the last that they have."
            )
        return skip + self._left_out

    def _run(self, ids: Sequence[Token], skip: int | None) -> tuple[Tensor, Tensor | None]:
        plain = [PLACEHOLDER if isinstance(token, Tensor) else token for token in ids]
        tokens = torch.tensor([plain], device=self.model.device)
        learned = {at: token for at, token in enumerate(ids) if isinstance(token, Tensor)}
        with _learned(self._words(), learned):
            out = self._inner(input_ids=tokens, output_hidden_states=True)
        last: Tensor = out.last_hidden_state.float()
        hidden = last
        if skip is not None and -skip <= len(out.hidden_states) - 1:
            hidden = out.hidden_states[skip]
            if self._normed:
                hidden = self._inner.final_layer_norm(hidden)
        return hidden, self._pool(last, plain)

    def _words(self) -> Any:
        """The module that turns tokens into vectors."""
        chunked = self.special.chunked
        return self.model.get_input_embeddings() if chunked else self.model.encoder.embed_tokens

    def _pool(self, last: Tensor, ids: Sequence[int]) -> Tensor | None:
        """Project the state at the first end token, where the encoder sums up the text."""
        projection = getattr(self.model, "text_projection", None)
        if projection is None and not self._bare:
            return None
        state = last[:, list(ids).index(self.special.end)]
        pooled: Tensor = state if self._bare or projection is None else projection(state)
        return pooled


@contextmanager
def _learned(words: Any, vectors: Mapping[int, Tensor]) -> Iterator[None]:
    """Put learned vectors in the places of a row's tokens while the context is open."""

    def replaced(module: Any, arguments: Any, output: Tensor) -> Tensor:
        output = output.clone()
        for place, vector in vectors.items():
            output[0, place] = vector.to(output)
        return output

    handle = words.register_forward_hook(replaced) if vectors else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
