"""A language in which some choices are fixed by hand, and all else may still be said.

    language = restrict(automaton, ("ckpt:mini_flat", "upscaler:none"))

A *fix* is written "group:value", as tokens are. The word is said in every sentence:

* wherever its choice stands, it is this word: the same sampler in every pass;
* of what a workflow may have several of (`SEVERAL`), it is said at least once, and others may be, too;
* "none" means that the choice is not made: no LoRA, no upscaler, no further pass.

A sentence of the restricted language is one of the whole language, so validity stays what it was.

Errors: CannotFix
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from flowdesign.catalog import suggest
from flowdesign.tokens.automaton import Automaton
from flowdesign.tokens.grammar import State
from flowdesign.tokens.vocabulary import NONE, Vocabulary, Word, groups

SEVERAL = frozenset({"lora", "upscaler", "pass"})  # groups of which one workflow may have several


class CannotFix(ValueError):
    """A choice cannot be fixed like this; the message says what can."""


class Fix(NamedTuple):
    """One choice that is fixed. Without a token, the group is not said at all."""

    group: str
    token: int | None
    alone: bool  # no other word of the group may be said


class RestrictedState(NamedTuple):
    """Where in a sentence we are, and which fixed words are still to be said."""

    state: State
    missing: frozenset[int]


class Restricted:
    """An automaton under some fixes; a `flowdesign.sampling.Language`. States are memoised."""

    def __init__(self, automaton: Automaton, fixes: Sequence[Fix]) -> None:
        self.automaton = automaton
        self.fixes = tuple(fixes)
        self._wanted = frozenset(fix.token for fix in fixes if fix.token is not None)
        self._barred = _barred(automaton.vocabulary, fixes)
        self._next: dict[RestrictedState, dict[int, RestrictedState]] = {}

    def start(self) -> RestrictedState:
        """Return the state before the first token."""
        return RestrictedState(self.automaton.start(), self._wanted)

    def done(self, state: RestrictedState) -> bool:
        """Whether the sentence has ended with every fixed word said."""
        return self.automaton.done(state.state) and not state.missing

    def allowed(self, state: RestrictedState) -> tuple[int, ...]:
        """Return the ids that may follow, sorted; empty only when the sentence has ended."""
        return tuple(self.transitions(state))

    def advance(self, state: RestrictedState, token: int) -> RestrictedState:
        """Return the state after a token; raises ValueError if it may not follow."""
        following = self.transitions(state).get(token)
        if following is None:
            raise ValueError(f"Token {token} may not follow here; ask `allowed` first.")
        return following

    def transitions(self, state: RestrictedState) -> Mapping[int, RestrictedState]:
        """Return all that may follow: id -> next state."""
        return self._next[state] if state in self._next else self._expand(state)

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether the tokens are a sentence of this language."""
        state = self.start()
        for token in tokens:
            if token not in self.allowed(state):
                return False
            state = self.advance(state, token)
        return self.done(state)

    def _expand(self, state: RestrictedState) -> dict[int, RestrictedState]:
        """Fill in a state and all that follow it, leaving out whatever cannot reach an end."""
        if state not in self._next:
            found = {}
            for token, after in self.automaton.transitions(state.state).items():
                missing = state.missing - {token} if token in state.missing else state.missing
                following = RestrictedState(after, missing)
                if token not in self._barred and (self.done(following) or self._expand(following)):
                    found[token] = following
            self._next[state] = found
        return self._next[state]


@lru_cache(maxsize=64)
def restrict(automaton: Automaton, fixes: tuple[str, ...]) -> Restricted:
    """The language with these fixes, as "group:value". Raises CannotFix, also when none is left."""
    found = [read_fix(text, automaton.vocabulary) for text in fixes]
    named = [fix.group for fix in found if fix.alone]
    if twice := next((one for one in named if [fix.group for fix in found].count(one) > 1), ""):
        raise CannotFix(f"'{twice}' is fixed twice: {', '.join(fixes)}. Leave one of them.")
    language = Restricted(automaton, found)
    if not language.allowed(language.start()):
        raise CannotFix(
            f"No workflow that runs here has {' and '.join(fixes)}. Fix less, or other words."
        )
    return language


def read_fix(text: str, vocabulary: Vocabulary) -> Fix:
    """Read "group:value"; raises CannotFix."""
    group, colon, value = (part.strip() for part in text.partition(":"))
    known = values_of(vocabulary)
    if not colon or group not in known:
        raise CannotFix(
            f"'{text[:60]}' fixes no choice: write GROUP:VALUE, such as sampler:euler. "
            + suggest(group, known)
        )
    if value == NONE and NONE not in known[group]:
        return Fix(group, None, True)
    if value not in known[group]:
        raise CannotFix(f"There is no {group} '{value[:60]}'. {suggest(value, known[group])}")
    alone = value == NONE or group not in SEVERAL
    return Fix(group, known[group][value], alone)


def values_of(vocabulary: Vocabulary) -> dict[str, dict[str, int]]:
    """What can be fixed, in the order of a sentence: group -> value as it is written -> token."""
    found: dict[str, dict[str, int]] = {group: {} for group in groups() if group != "end"}
    for token, word in enumerate(vocabulary.words):
        if word.group in found:
            found[word.group][value_text(word)] = token
    return found


def value_text(word: Word) -> str:
    """A word's value as it is written in its token."""
    return str(word).partition(":")[2].removesuffix(">")


def _barred(vocabulary: Vocabulary, fixes: Sequence[Fix]) -> frozenset[int]:
    """The tokens that the fixes rule out wherever they might stand."""
    alone = {fix.group: fix.token for fix in fixes if fix.alone}
    return frozenset(
        token
        for token, word in enumerate(vocabulary.words)
        if word.group in alone and token != alone[word.group]
    )
