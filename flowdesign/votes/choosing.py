"""Which pair to ask next: the one whose answer teaches most, with three other kinds mixed in.

    uncertain   the pair, of a few prompts drawn at random, from which a vote is expected to teach most
    shared      a pair that others have judged, so that agreement between raters can be measured
    easy        a pair with a likely winner: rest for the rater, and a check that both agree
    repeat      a pair that this rater judged a while ago, so that own agreement can be measured

What a vote teaches is ln(1 + i v) / 2 nats, the information about the difference of two strengths
whose variance is v, with i the Fisher information of one answer (Lindley 1956, in the normal
approximation): high where two images are close, or where little is known of them. Strengths start
from automatic scores, so easy and uncertain pairs are known before anybody has voted.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowdesign.records import Vote
from flowdesign.votes.agreement import Pair
from flowdesign.votes.strengths import TIES, Outcome, information, posterior

Mode = Literal["uncertain", "shared", "easy", "repeat", "again", "rating"]

MIX: Mapping[Mode, float] = {"uncertain": 0.65, "shared": 0.15, "easy": 0.1, "repeat": 0.1}
REPEAT_AFTER = 8  # answers of the rater's between a pair and its repeat
EASY = 1.5  # logits: the better one is expected to win 9 of 11 votes that are no tie
PROMPTS = 12  # drawn for one choice: enough to learn fast, few enough that raters spread out
SHARED = 60  # pairs of others looked at for one choice
TRUST = 0.8  # logits that one standard deviation of the automatic score is expected to be worth
NU = math.exp(TIES)


@dataclass(frozen=True)
class Chosen:
    """A pair to ask: which records, left and right, why, and the vote that it repeats."""

    prompt: str
    left: int
    right: int
    mode: Mode
    repeat_of: int | None = None

    @property
    def pair(self) -> Pair:
        """The two records in order of ids."""
        return pair_of(self.left, self.right)


@dataclass
class Group:
    """The images of one prompt that are asked about, and what is known of them.

    `expected` (n,) are their strengths by automatic scores, in logits.
    """

    prompt: str
    items: Sequence[int]
    expected: NDArray[np.float64]
    outcomes: list[Outcome] = field(default_factory=list)
    _known: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        self._first, self._second = np.triu_indices(len(self.items), k=1)
        both = zip(self._first.tolist(), self._second.tolist(), strict=True)
        self._pairs = [pair_of(self.items[i], self.items[j]) for i, j in both]

    def learn(self, outcome: Outcome) -> None:
        """Count one more vote."""
        self.outcomes.append(outcome)
        self._known = None

    def forget(self, outcome: Outcome) -> None:
        """Take back a vote."""
        if outcome in self.outcomes:
            self.outcomes.remove(outcome)
            self._known = None

    def pairs(self) -> tuple[list[Pair], NDArray[np.float64], NDArray[np.float64]]:
        """All pairs; by pair the expected difference (pairs,) in logits, and the gain in nats."""
        if self._known is None:
            first, second = self._first, self._second
            means, covariance = posterior(self.items, self.outcomes, self.expected, NU)
            own = np.diag(covariance)
            variance = own[first] + own[second] - 2 * covariance[first, second]
            difference = means[first] - means[second]
            gain = np.log1p(information(difference, NU) * variance) / 2
            self._known = difference, gain
        return self._pairs, *self._known


@dataclass
class _Rater:
    """What one person has been asked: all pairs, and the votes that a repeat may ask again."""

    seen: set[Pair] = field(default_factory=set)
    votes: list[tuple[int, Pair, str]] = field(default_factory=list)  # vote id, pair, prompt
    repeated: set[int] = field(default_factory=set)


class Chooser:
    """Chooses pairs for any number of raters. Not safe for threads: hold a lock around it."""

    def __init__(self, chance: random.Random, mix: Mapping[Mode, float] = MIX) -> None:
        self.chance = chance
        self.mix = mix
        self.groups: dict[str, Group] = {}
        self._prompt_of: dict[int, str] = {}
        self._raters: dict[str, _Rater] = {}
        self._judges: dict[Pair, Counter[str]] = {}  # who has judged a pair, how often

    def load(self, groups: Iterable[Group], votes: Iterable[Vote]) -> None:
        """Start over with these images and all votes so far, in order."""
        self.groups = {group.prompt: group for group in groups if len(group.items) > 1}
        self._prompt_of = {
            item: group.prompt for group in self.groups.values() for item in group.items
        }
        self._raters, self._judges = {}, {}
        for vote in votes:
            self.add(vote)

    def add(self, vote: Vote) -> None:
        """Learn from a stored vote; it has its id."""
        pair, rater = pair_of(vote.left, vote.right), self._rater(vote.rater)
        rater.seen.add(pair)
        if vote.choice == "skip":
            return
        if vote.repeat_of is not None:
            rater.repeated.add(vote.repeat_of)
        elif vote.id is not None and (prompt := self._prompt(pair)):
            rater.votes.append((vote.id, pair, prompt))
        self._judges.setdefault(pair, Counter())[vote.rater] += 1
        if prompt := self._prompt(pair):
            self.groups[prompt].learn(Outcome(vote.left, vote.right, vote.choice))

    def remove(self, vote: Vote) -> None:
        """Forget a vote that was added; the rater has still seen the pair."""
        pair, rater = pair_of(vote.left, vote.right), self._rater(vote.rater)
        if vote.choice == "skip":
            return
        rater.repeated.discard(vote.repeat_of or 0)
        rater.votes = [known for known in rater.votes if known[0] != vote.id]
        self._judges[pair] -= Counter({vote.rater: 1})
        if prompt := self._prompt(pair):
            self.groups[prompt].forget(Outcome(vote.left, vote.right, vote.choice))

    def drop(self, item: int) -> None:
        """Ask no more about an image; it has gone."""
        prompt = self._prompt_of.pop(item, None)
        group = self.groups.pop(prompt, None) if prompt is not None else None
        if group is None:
            return
        kept = [place for place, known in enumerate(group.items) if known != item]
        items = [group.items[place] for place in kept]
        if len(items) < 2:
            for rest in items:
                self._prompt_of.pop(rest, None)
            return
        outcomes = [vote for vote in group.outcomes if item not in (vote.left, vote.right)]
        self.groups[group.prompt] = Group(group.prompt, items, group.expected[kept], outcomes)

    def choose(
        self, rater: str, mine: Collection[Pair] = (), busy: Collection[Pair] = ()
    ) -> Chosen | None:
        """The next pair for a rater, sides by chance; None when nothing is left to ask.

        `mine` are the pairs that this rater has open already, `busy` those that anybody has: they
        are asked about only as shared ones.
        """
        wanted = self.chance.choices(list(self.mix), list(self.mix.values()))[0]
        order: list[Mode] = [wanted, "uncertain", "shared", "repeat"]
        for mode in dict.fromkeys(order):
            found = self._find(mode, self._rater(rater), mine, busy)
            if found is not None:
                return found
        return None

    def _find(
        self, mode: Mode, rater: _Rater, mine: Collection[Pair], busy: Collection[Pair]
    ) -> Chosen | None:
        if mode == "repeat":
            return self._find_repeat(rater, mine)
        if mode == "shared":
            return self._find_shared(rater, mine)
        return self._find_new(mode, rater.seen.union(mine, busy))

    def _find_new(self, mode: Mode, taken: Collection[Pair]) -> Chosen | None:
        """The best pair of a few prompts; of any prompt, should those have none left."""
        prompts = list(self.groups)
        few = self.chance.sample(prompts, min(PROMPTS, len(prompts)))
        found = [best for prompt in few if (best := self._best_of(prompt, mode, taken))]
        if not found:
            # Drawn only now: to order all prompts by chance takes longer than all the rest.
            order = self.chance.sample(prompts, len(prompts))
            bests = (best for prompt in order if (best := self._best_of(prompt, mode, taken)))
            found = list(islice(bests, 1))
        if not found:
            return None
        _, prompt, pair = max(found, key=itemgetter(0))
        return self._placed(prompt, pair, mode)

    def _best_of(
        self, prompt: str, mode: Mode, taken: Collection[Pair]
    ) -> tuple[float, str, Pair] | None:
        """What the best pair of a prompt is worth, the prompt and the pair; None without one."""
        pairs, difference, gain = self.groups[prompt].pairs()
        worth = np.abs(difference) - EASY if mode == "easy" else gain
        for place in np.argsort(-worth):
            if mode == "easy" and worth[place] < 0:
                return None
            if pairs[place] not in taken:
                return float(worth[place]), prompt, pairs[place]
        return None

    def _find_shared(self, rater: _Rater, mine: Collection[Pair]) -> Chosen | None:
        """A pair that few others have judged, but somebody has."""
        taken = rater.seen.union(mine)
        judged = [pair for pair in self._judges if pair not in taken and self._prompt(pair)]
        drawn = self.chance.sample(judged, min(SHARED, len(judged)))
        known = [pair for pair in drawn if self._judges[pair]]
        if not known:
            return None
        pair = min(known, key=lambda one: len(self._judges[one]))
        return self._placed(self._prompt(pair) or "", pair, "shared")

    def _find_repeat(self, rater: _Rater, mine: Collection[Pair]) -> Chosen | None:
        early = rater.votes[: max(0, len(rater.votes) - REPEAT_AFTER)]
        ripe = [
            vote
            for vote in early
            if vote[0] not in rater.repeated and vote[1] not in mine and self._prompt(vote[1])
        ]
        if not ripe:
            return None
        number, pair, prompt = self.chance.choice(ripe)
        return self._placed(prompt, pair, "repeat", number)

    def _placed(self, prompt: str, pair: Pair, mode: Mode, repeat: int | None = None) -> Chosen:
        left, right = self.chance.sample(pair, 2)
        return Chosen(prompt, left, right, mode, repeat)

    def _prompt(self, pair: Pair) -> str | None:
        """The prompt that both images are asked about under."""
        prompt = self._prompt_of.get(pair[0])
        return prompt if prompt == self._prompt_of.get(pair[1]) else None

    def _rater(self, name: str) -> _Rater:
        return self._raters.setdefault(name, _Rater())


def pair_of(one: int, other: int) -> Pair:
    """Two records in order of ids."""
    return (one, other) if one < other else (other, one)
