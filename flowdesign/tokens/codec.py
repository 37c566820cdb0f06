"""There and back: workflow to sentence, sentence to workflow, sentence to text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from flowdesign.catalog import known_assets
from flowdesign.tokens.automaton import Automaton
from flowdesign.tokens.builder import build
from flowdesign.tokens.choices import choices_of, words_of
from flowdesign.tokens.reader import NotInLanguage, fail, read
from flowdesign.tokens.snapping import Snapper
from flowdesign.tokens.vocabulary import VOCABULARY, UnknownToken, Vocabulary, Word
from flowdesign.workflow import Problem, Workflow, canonical, unbind, validate


@dataclass(frozen=True)
class Encoded:
    """A workflow as a sentence, with what a sentence does not hold."""

    tokens: tuple[int, ...]
    prompt: str
    seed: int
    notes: tuple[str, ...]  # values that were moved to one the vocabulary has


@dataclass(frozen=True)
class Decoded:
    """The unbound workflow of a sentence, or the problems that keep it from having one."""

    workflow: Workflow | None
    problems: tuple[Problem, ...]


@lru_cache(maxsize=8)
def _language(vocabulary: Vocabulary) -> Automaton:
    """Return the automaton of everything the vocabulary can say, installed or not."""
    return Automaton(vocabulary, known_assets())


def encode(workflow: Workflow, vocabulary: Vocabulary = VOCABULARY) -> Encoded:
    """Return the sentence of a bound or unbound workflow; raises NotInLanguage."""
    problems = validate(workflow, known_assets())
    if problems:
        raise NotInLanguage(problems)
    # The prompt goes first: a negative text that equals it is another node only until they merge.
    unbound, prompt, seed = unbind(workflow)
    snapper = Snapper(canonical(unbound))
    words = words_of(read(canonical(snapper.workflow)))
    tokens = _ids(words, vocabulary)
    return Encoded(tuple(tokens), prompt, seed, tuple(snapper.notes))


def _ids(words: Sequence[Word], vocabulary: Vocabulary) -> list[int]:
    """Return the ids of a sentence that the grammar allows; raises NotInLanguage."""
    tokens = [vocabulary.id_of(word) for word in words]
    known = [token for token in tokens if token is not None]
    if len(known) < len(tokens):
        raise fail("", f"The vocabulary has no word {words[tokens.index(None)]}.")
    problems = _faults(known, vocabulary)
    if problems:
        raise NotInLanguage(problems)
    return known


def decode(tokens: Sequence[int], vocabulary: Vocabulary = VOCABULARY) -> Decoded:
    """Return the workflow of a sentence; total: any list of anything gives problems, no exception."""
    problems = _faults(tokens, vocabulary)
    if problems:
        return Decoded(None, tuple(problems))
    return Decoded(build(choices_of([vocabulary.words[token] for token in tokens])), ())


def _faults(tokens: object, vocabulary: Vocabulary) -> list[Problem]:
    """Return the first thing that makes tokens no sentence."""
    if not isinstance(tokens, list | tuple):
        return [_fault(0, "", "A sentence is a list of token ids.")]
    automaton = _language(vocabulary)
    state = automaton.start()
    for at, token in enumerate(tokens):
        if (
            isinstance(token, bool)
            or not isinstance(token, int)
            or not 0 <= token < len(vocabulary)
        ):
            return [_fault(at, "", f"Token {at + 1} is not a token id of the vocabulary.")]
        text = vocabulary.tokens[token]
        if automaton.done(state):
            return [_fault(at, text, f"Token {at + 1}, {text}, comes after the end.")]
        if token not in automaton.allowed(state):
            allowed = _list([vocabulary.tokens[each] for each in automaton.allowed(state)])
            message = f"Token {at + 1}, {text}, cannot stand here. Allowed: {allowed}."
            return [_fault(at, text, message)]
        state = automaton.advance(state, token)
    if not automaton.done(state):
        allowed = _list([vocabulary.tokens[each] for each in automaton.allowed(state)])
        message = f"The sentence stops after {len(tokens)} tokens. Allowed next: {allowed}."
        return [_fault(len(tokens), "", message)]
    return []


def _fault(at: int, token: str, message: str) -> Problem:
    return Problem("invalid_sentence", "", token or str(at), message)


def _list(tokens: Sequence[str]) -> str:
    return ", ".join(tokens[:12]) + (", ..." if len(tokens) > 12 else "")


def sentence_text(tokens: Sequence[int], vocabulary: Vocabulary = VOCABULARY) -> str:
    """Return tokens as text, separated by spaces."""
    return " ".join(vocabulary.tokens[token] for token in tokens)


def workflow_of(text: str) -> Workflow | None:
    """Return the workflow that `sentence_text` says, None when it says none; raises UnknownToken."""
    decoded = decode(parse_sentence(text))
    return None if decoded.problems else decoded.workflow


def parse_sentence(text: str, vocabulary: Vocabulary = VOCABULARY) -> tuple[int, ...]:
    """Return the tokens of `sentence_text`; raises UnknownToken."""
    rest = re.sub(r"<[^<>]*>", "", text).strip()
    if rest:
        raise UnknownToken(f"Tokens are written <group:value>; this is not one: {rest[:60]!r}.")
    return tuple(vocabulary.index(token) for token in re.findall(r"<[^<>]*>", text))
