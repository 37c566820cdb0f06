"""Drawing sentences from a policy, a group at a time, under the grammar or without it.

The sampler only needs a `Session`: something that takes each sample's next tokens and gives the
logits that follow. One policy is a session; a guided mix of two will be one as well.

Sample i depends on the prompt, the seed and i, not on how many are drawn beside it: it has its own
generator. (Logits differ in the last bits with the size of a batch, so a draw that falls within
about 1e-6 of a boundary may still go the other way.)
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from flowdesign.habits import TOKENS, Habits
from flowdesign.runs import NotANumber
from flowdesign.tokens import END, MAX_TOKENS, Automaton, Vocabulary, decode, restrict

GROUP = 64  # sentences in one forward pass: each pass reads all weights, however few they are


class Cancelled(RuntimeError):
    """The caller asked for the sampling to end."""


class Language(Protocol):
    """What may be said: `flowdesign.tokens.Automaton`, or `Unconstrained`. States are immutable."""

    def start(self) -> Any:
        """The state before the first token."""

    def allowed(self, state: Any) -> Sequence[int]:
        """The tokens that may follow."""

    def advance(self, state: Any, token: int) -> Any:
        """The state after the token."""

    def done(self, state: Any) -> bool:
        """Say whether the sentence has ended."""


@dataclass(frozen=True)
class Unconstrained:
    """Any of `tokens` tokens may follow, until `end` or `longest` tokens have been said."""

    tokens: int
    end: int
    longest: int

    def start(self) -> int:
        """The number of tokens said."""
        return 0

    def allowed(self, state: int) -> range:
        """All tokens."""
        return range(self.tokens)

    def advance(self, state: int, token: int) -> int:
        """Count the token; `end` counts for all that could have followed."""
        return self.longest if token == self.end else state + 1

    def done(self, state: int) -> bool:
        """Say whether `end` was said or the sentence is too long."""
        return state >= self.longest


class Session(Protocol):
    """A group of sentences that are being said."""

    def feed(
        self, tokens: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]] = ()
    ) -> Tensor:
        """Append one or more tokens to each sentence, and guess which follow: float32 logits
        (group, 1 + longest guess, tokens), after what was appended and after each guess; those after a
        shorter guess are repeated.

        Sentences that have said the same guess the same, and the last token appended is none that
        was guessed: what follows it would have been told. Raises ValueError.
        """

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these sentences of the group only."""


@dataclass(frozen=True)
class Draw:
    """How to sample: temperature 0 takes the most likely token, top_p 1 leaves nothing out."""

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:  # also refuses nan
            raise ValueError(f"temperature must be a number from 0 on, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")


@dataclass(frozen=True)
class Said:
    """A finished sentence; `logprob` is that of temperature 1 without top_p, in nats."""

    index: int
    tokens: tuple[int, ...]
    logprob: float


@dataclass
class _Sentence:
    index: int
    generator: torch.Generator
    state: Any
    pending: list[int]
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One sentence: its number in the group, tokens, log-probability, whether it decodes.

    `logprob` is in nats, at temperature 1, under the grammar when that was on.
    """

    index: int
    tokens: tuple[int, ...]
    logprob: float
    valid: bool


class Speaker:
    """What says workflows after a prompt: a policy, or two with guidance between them."""

    vocabulary: Vocabulary
    automaton: Automaton
    begin: int  # the id that opens a sentence
    habits: Habits | None  # of what it says, to guess by; None where rounding would show

    def open(self, prompts: Sequence[str]) -> Session:
        """Get ready to say a sentence after each prompt; equal prompts are read once."""
        raise NotImplementedError

    def sample(
        self,
        prompt: str,
        n: int,
        seed: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        constrained: bool = True,
    ) -> list[Sample]:
        """Draw `n` sentences for the prompt, in the order of their index."""
        drawn = self.sample_stream(prompt, n, seed, temperature, top_p, constrained)
        return sorted(drawn, key=lambda sample: sample.index)

    def sample_stream(
        self,
        prompt: str,
        n: int,
        seed: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        constrained: bool = True,
        cancel: Callable[[], bool] | None = None,
        fixed: Sequence[str] = (),
    ) -> Iterator[Sample]:
        """Draw `n` sentences and yield each as it ends; sample i is the same for any n.

        With `constrained` the grammar lets nothing be said that is not a workflow which runs on
        this installation, and `fixed` words are said in each. `cancel` is asked before every pass;
        raises Cancelled, tokens.CannotFix.
        """
        draw = Draw(seed, temperature, top_p)
        language = self._language(constrained, fixed)
        for first in range(0, n, GROUP):
            indices = range(first, min(first + GROUP, n))
            session = self.open([prompt] * len(indices))
            for said in say(session, indices, draw, language, self.begin, cancel, self.habits):
                valid = not decode(said.tokens, self.vocabulary).problems
                yield Sample(said.index, said.tokens, said.logprob, valid)

    def _language(self, constrained: bool, fixed: Sequence[str]) -> Language:
        """What may be said."""
        if not constrained:
            end = self.vocabulary.index(END)
            return Unconstrained(len(self.vocabulary.tokens), end, MAX_TOKENS)
        return restrict(self.automaton, tuple(fixed)) if fixed else self.automaton


def say(
    session: Session,
    indices: Sequence[int],
    draw: Draw,
    language: Language,
    begin: int,
    cancel: Callable[[], bool] | None = None,
    habits: Habits | None = None,
) -> Iterator[Said]:
    """Draw one sentence for each index; yield each as it ends. Raises Cancelled, runs.NotANumber.

    A token that is the only one allowed is taken without asking the model; the model reads it
    together with the next choice. With `habits`, which learn from this group, what will probably be
    said is read as well.
    """
    group = [_open(index, draw.seed, language, begin) for index in indices]
    while group:
        if cancel is not None and cancel():
            raise Cancelled("Sampling was cancelled.")
        guesses = _guesses(group, language, habits)
        logits = _numbers(session.feed([one.pending for one in group], guesses).cpu())
        _extend(group, logits, guesses, draw, language, habits)
        going = [place for place, one in enumerate(group) if not language.done(one.state)]
        for one in group:
            if language.done(one.state):
                yield Said(one.index, tuple(one.tokens), one.logprob)
        if len(going) < len(group) and going:
            session.keep(going)
        group = [group[place] for place in going]


def roll(
    speaker: Speaker, prompts: Sequence[str], size: int, seed: int, temperature: float = 1.0
) -> list[list[tuple[int, ...]]]:
    """Say `size` sentences for each prompt, under the grammar. They depend on the seed, the prompts and
    their order."""
    repeated = [prompt for prompt in prompts for _ in range(size)]
    draw = Draw(seed, temperature)
    found: dict[int, tuple[int, ...]] = {}
    for first in range(0, len(repeated), GROUP):
        indices = range(first, min(first + GROUP, len(repeated)))
        session = speaker.open([repeated[index] for index in indices])
        for said in say(session, indices, draw, speaker.automaton, speaker.begin):
            found[said.index] = said.tokens
    ordered = [found[index] for index in range(len(repeated))]
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample `index` of a group: neighbouring seeds share no samples."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def choose(logits: Tensor, draw: Draw, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw a token for each row of logits (group, tokens), of which forbidden ones have -inf: (group,).

    A row takes its chance from its own generator: the token is that of the largest weight / noise, with
    noise from the exponential distribution (torch.multinomial's way), so rows that differ little
    and have equal noise mostly choose the same.
    """
    if draw.temperature == 0:
        return logits.argmax(-1)
    weights = torch.softmax(logits.double() / draw.temperature, -1)
    if draw.top_p < 1:
        weights = _nucleus(weights, draw.top_p)
    noise = torch.empty_like(weights)
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    return (weights / noise).argmax(-1)


def only(logits: Tensor, allowed: Sequence[Sequence[int]]) -> Tensor:
    """Logits (group, tokens) with -inf for every token that is not allowed in its row."""
    rows = [row for row, tokens in enumerate(allowed) for _ in tokens]
    columns = [token for tokens in allowed for token in tokens]
    found = torch.full_like(logits, -torch.inf)
    found[rows, columns] = logits[rows, columns]
    return found


def padded(sentences: Sequence[Sequence[int]], device: str | torch.device = "cpu") -> Tensor:
    """Sentences as (sentences, longest), -1 after their end."""
    longest = max(map(len, sentences))
    rows = [[*sentence, *[-1] * (longest - len(sentence))] for sentence in sentences]
    return torch.tensor(rows, device=device)


def log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities (S, L) of the tokens (S, L) that were said; 0 at places of padding, -1."""
    there = tokens >= 0
    chosen = torch.log_softmax(logits, -1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
    return torch.where(there, chosen, torch.zeros_like(chosen))


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Drop all but the fewest most likely tokens that hold `top_p` of each row's probability."""
    ordered, order = weights.sort(descending=True)
    kept = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0.0)
    return torch.zeros_like(weights).scatter(-1, order, kept)


def _open(index: int, seed: int, language: Language, begin: int) -> _Sentence:
    generator = torch.Generator().manual_seed(sample_seed(seed, index))
    sentence = _Sentence(index, generator, language.start(), [begin])
    _take_forced(sentence, language)
    return sentence


def _numbers(logits: Tensor) -> Tensor:
    """The logits, if they are numbers: of others one would choose what the grammar forbids."""
    if not bool(torch.isfinite(logits).all()):
        raise NotANumber(
            "What the policy says next is not a number: its weights went too far. Train another (--run NAME) "
            "with lower rates (--lora-rate, --rows-rate)."
        )
    return logits


def _guesses(
    group: Sequence[_Sentence], language: Language, habits: Habits | None
) -> list[list[int]]:
    """How each sentence may go on, as far as one pass has room for all."""
    if habits is None:
        return [[] for _ in group]
    begun = {tuple(one.tokens): one for one in group}
    room = max(TOKENS // len(begun) - 1, 0)
    found = {said: habits.guess(said, language, one.state, room) for said, one in begun.items()}
    return [found[tuple(one.tokens)] for one in group]


def _extend(
    group: Sequence[_Sentence],
    logits: Tensor,
    guesses: Sequence[Sequence[int]],
    draw: Draw,
    language: Language,
    habits: Habits | None,
) -> None:
    """Choose each sentence's next token, and go on as long as its guess is right."""
    for sentence in group:
        sentence.pending = []
    going = list(range(len(group)))
    while going:
        places = [len(group[number].pending) for number in going]
        _choose([group[number] for number in going], logits[going, places], draw, language, habits)
        going = [
            number
            for number in going
            if not language.done(group[number].state)
            and group[number].pending == guesses[number][: len(group[number].pending)]
        ]


def _choose(
    group: Sequence[_Sentence],
    logits: Tensor,
    draw: Draw,
    language: Language,
    habits: Habits | None,
) -> None:
    """Choose each sentence's next token, then take those that must follow it."""
    logits = only(logits, [language.allowed(sentence.state) for sentence in group])
    tokens = choose(logits, draw, [sentence.generator for sentence in group])
    logs = torch.log_softmax(logits.double(), -1).gather(-1, tokens[:, None])[:, 0]
    for sentence, token, log in zip(group, tokens.tolist(), logs.tolist(), strict=True):
        sentence.logprob += log
        if habits is not None:
            habits.learn(sentence.tokens, token)
        _take(sentence, token, language)
        _take_forced(sentence, language)


def _take_forced(sentence: _Sentence, language: Language) -> None:
    while not language.done(sentence.state):
        allowed = language.allowed(sentence.state)
        if len(allowed) != 1:
            return
        _take(sentence, allowed[0], language)


def _take(sentence: _Sentence, token: int, language: Language) -> None:
    sentence.tokens.append(token)
    sentence.pending.append(token)
    sentence.state = language.advance(sentence.state, token)
