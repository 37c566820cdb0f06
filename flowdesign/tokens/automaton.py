"""The automaton: what may follow at each point of a sentence, so that every sentence is valid."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from flowdesign.catalog import Installed, NothingInstalled, asset
from flowdesign.tokens.grammar import DONE, START, Grammar, State
from flowdesign.tokens.vocabulary import BASE, NONE, Vocabulary

MAX_TOKENS = 48  # no sentence is longer


class Automaton:
    """The grammar over token ids. States are memoised, so a step is two dictionary look-ups."""

    def __init__(self, vocabulary: Vocabulary, installed: Installed) -> None:
        self.vocabulary = vocabulary
        self._grammar = Grammar(installed)
        self._next: dict[State, dict[int, State]] = {DONE: {}}
        self._allowed: dict[State, tuple[int, ...]] = {DONE: ()}
        if not self._expand(START):
            raise NothingInstalled(
                "No checkpoint that the vocabulary knows is installed. "
                "Train the miniature ones with: python -m flowdesign zoo"
            )

    def start(self) -> State:
        """Return the state before the first token."""
        return START

    def done(self, state: State) -> bool:
        """Whether the sentence has ended."""
        return state == DONE

    def allowed(self, state: State) -> tuple[int, ...]:
        """Return the ids that may follow, sorted; empty only when the sentence has ended."""
        if state not in self._allowed:
            self._expand(state)
        return self._allowed[state]

    def advance(self, state: State, token: int) -> State:
        """Return the state after a token; raises ValueError if it may not follow."""
        following = self.transitions(state).get(token)
        if following is None:
            raise ValueError(f"Token {token} may not follow here; ask `allowed` first.")
        return following

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether the tokens are a sentence, from its start to its end."""
        state = self.start()
        for token in tokens:
            following = self.transitions(state).get(token)
            if following is None:
                return False
            state = following
        return self.done(state)

    def transitions(self, state: State) -> Mapping[int, State]:
        """Return all that may follow: id -> next state."""
        return self._next[state] if state in self._next else self._expand(state)

    def _expand(self, state: State) -> dict[int, State]:
        """Fill in a state and all that follow it, leaving out whatever cannot reach an end."""
        if state not in self._next:
            found: dict[int, State] = {}
            for word, following in self._grammar.choices(state):
                token = self.vocabulary.id_of(word)
                if token is not None and (following == DONE or self._expand(following)):
                    found[token] = following
            self._next[state] = dict(sorted(found.items()))
            self._allowed[state] = tuple(self._next[state])
        return self._next[state]


def _fold(automaton: Automaton, rule: Callable[[Sequence[int]], int], last: int) -> int:
    """Return a number per state, made by `rule` from those that follow; `last` is the end's."""
    values: dict[State, int] = {DONE: last}

    def value(state: State) -> int:
        if state not in values:
            values[state] = rule([value(s) for s in automaton.transitions(state).values()])
        return values[state]

    return value(automaton.start())


def count_sentences(automaton: Automaton) -> int:
    """Return how many distinct sentences there are, exactly."""
    return _fold(automaton, sum, 1)


def longest_sentence(automaton: Automaton) -> int:
    """Return the number of tokens of the longest sentence, its end included."""
    return _fold(automaton, lambda following: 1 + max(following), 0)


# How often a random sentence takes the choice rather than go without it. With a half for another
# pass, half of all sentences have one pass.
_OFTEN: dict[str, float] = {
    "lora": 0.4,
    "clip_skip": 0.2,
    "vae": 0.25,
    "freeu": 0.2,
    "pag": 0.25,
    "prefix": 0.5,
    "concat": 0.2,
    "negative": 0.6,
    "pass": 0.5,
    "upscaler": 0.4,
    "resize": 0.3,
    "model": 0.25,
}
_ORDER = tuple(_OFTEN)
_NATIVE = 0.5  # how often a sentence starts at the checkpoint's own size


def random_sentence(automaton: Automaton, rng: random.Random) -> tuple[int, ...]:
    """Return a random walk from start to end; lengths stay sensible, all sentences are possible."""
    state, tokens = automaton.start(), list[int]()
    while not automaton.done(state):
        token = _pick(automaton, state, rng)
        tokens.append(token)
        state = automaton.advance(state, token)
    return tuple(tokens)


def _pick(automaton: Automaton, state: State, rng: random.Random) -> int:
    """Decide group by group whether to choose from it, then pick a value evenly."""
    by_group: dict[str, list[int]] = {}
    words = automaton.vocabulary.words
    for token in automaton.allowed(state):
        by_group.setdefault(words[token].group, []).append(token)
    loud: list[int] = []
    for group, tokens in sorted(by_group.items(), key=lambda item: _rank(item[0])):
        quiet = [t for t in tokens if words[t].value in (NONE, BASE)]
        loud = [t for t in tokens if t not in quiet]
        if group == "size":
            quiet = [t for t in tokens if words[t].value[0] == _native(state)]
            loud = tokens if rng.random() >= _NATIVE or not quiet else quiet
            return rng.choice(loud)
        if loud and (group == "end" or rng.random() < _OFTEN.get(group, 1.0)):
            return rng.choice(loud)
        if quiet:
            return rng.choice(quiet)
    return rng.choice(loud)


def _rank(group: str) -> int:
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _native(state: State) -> int:
    row = asset("checkpoints", state.base)
    return row.native_size if row else 0
