"""Guesses at how a sentence goes on: what most often followed the last few tokens, in what was said so far.

A forward pass reads all of a model's weights, whatever the number of tokens, and that is where its time goes. So the
tokens that a sentence will probably say next are read with those it has said, and each guess that turns out
right saves a pass. Nothing that is said depends on them, to rounding: a token is drawn from the same logits with the
same noise whether it was guessed or not. In bfloat16 rounding is coarse enough to change a design in thirty, so there
nothing is guessed. (Speculative decoding, arXiv 2211.17192, with n-grams of what was said before instead of a smaller
model, and equal noise instead of rejections.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

LONGEST = 4  # tokens that a guess follows from, fewer where these were never said
MEMORY = 100_000  # of such contexts; more are forgotten, all at once
TOKENS = 40  # read in one pass, at about the price of one


class Language(Protocol):
    """What a guess needs of `sampling.Language`."""

    def allowed(self, state: Any) -> Sequence[int]: ...
    def advance(self, state: Any, token: int) -> Any: ...
    def done(self, state: Any) -> bool: ...


class Habits:
    """What followed what."""

    def __init__(self) -> None:
        self._followed: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def learn(self, said: Sequence[int], token: int) -> None:
        """Remember that a token followed what was said."""
        if len(self._followed) > MEMORY:
            self._followed.clear()
        for context in _contexts(said):
            self._followed[context][token] += 1

    def guess(self, said: Sequence[int], language: Language, state: Any, room: int) -> list[int]:
        """How the sentence may go on, up to `room` tokens; it ends where nothing is known, and before a token
        that nothing follows."""
        tokens = list(said)
        while len(tokens) < len(said) + room:
            token = self._next(tokens, language.allowed(state))
            if token is None:
                break
            state = language.advance(state, token)
            if language.done(state):
                break
            tokens.append(token)
        return tokens[len(said) :]

    def _next(self, said: Sequence[int], allowed: Sequence[int]) -> int | None:
        if len(allowed) == 1:
            return allowed[0]
        for context in _contexts(said):
            followed: Mapping[int, int] = self._followed.get(context, {})
            if known := [token for token in allowed if token in followed]:
                return max(known, key=followed.__getitem__)
        return None


def _contexts(said: Sequence[int]) -> list[tuple[int, ...]]:
    """The last tokens, from the longest context to the shortest; where nothing was said, that."""
    return [tuple(said[-length:]) for length in range(min(LONGEST, len(said)), 0, -1)] or [()]
