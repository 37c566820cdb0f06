"""All answers so far, in memory, with the figures that a page shows after every vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from flowdesign.records import Rating, Vote
from flowdesign.votes.agreement import Agreement, Tally, answer
from flowdesign.votes.strengths import Outcome


@dataclass(frozen=True)
class Standing:
    """How far a rater is, and all raters together; skips are not counted."""

    votes: int
    ratings: int
    all_votes: int
    all_ratings: int
    raters: int
    own: Agreement  # of this rater with earlier answers to the same pairs
    between: Agreement  # of all raters, on pairs that several of them have judged


class Book:
    """Votes and ratings by id, in order, and how far people agree. Not safe for threads."""

    def __init__(self) -> None:
        self.votes: dict[int, Vote] = {}
        self.ratings: dict[int, Rating] = {}
        self._votes_of: Counter[str] = Counter()
        self._ratings_of: Counter[str] = Counter()
        self._own: dict[str, Tally] = {}
        self._between = Tally()
        self._by_token: dict[str, Vote | Rating] = {}

    def of_token(self, token: str) -> Vote | Rating | None:
        """The answer on a ticket."""
        return self._by_token.get(token)

    def add_vote(self, vote: Vote) -> None:
        """Count a stored vote."""
        self.votes[vote.id or 0] = self._by_token[vote.token] = vote
        self._count(vote, 1)

    def remove_vote(self, vote: Vote) -> None:
        """Take back a vote; one that is not counted is no fault."""
        if self.votes.pop(vote.id or 0, None) is not None:
            del self._by_token[vote.token]
            self._count(vote, -1)

    def add_rating(self, rating: Rating) -> None:
        """Count a stored rating."""
        self.ratings[rating.id or 0] = self._by_token[rating.token] = rating
        self._ratings_of[rating.rater] += 1

    def remove_rating(self, rating: Rating) -> None:
        """Take back a rating; one that is not counted is no fault."""
        if self.ratings.pop(rating.id or 0, None) is not None:
            del self._by_token[rating.token]
            self._ratings_of[rating.rater] -= 1

    def voted(self) -> set[int]:
        """The records that anybody has voted on."""
        return {record for vote in self.votes.values() for record in (vote.left, vote.right)}

    def standing(self, rater: str) -> Standing:
        """The figures for one rater."""
        raters = (+self._votes_of).keys() | (+self._ratings_of).keys()
        return Standing(
            self._votes_of[rater],
            self._ratings_of[rater],
            self._votes_of.total(),
            self._ratings_of.total(),
            len(raters),
            self._own.get(rater, Tally()).agreement(),
            self._between.agreement(),
        )

    def _count(self, vote: Vote, sign: int) -> None:
        if vote.choice == "skip":
            return
        self._votes_of[vote.rater] += sign
        pair, value = answer(Outcome(vote.left, vote.right, vote.choice))
        own = self._own.setdefault(vote.rater, Tally())
        tallies: list[tuple[Tally, Hashable]] = [(own, vote.repeat_of or vote.id)]
        if vote.repeat_of is None:
            tallies.append((self._between, pair))
        for tally, unit in tallies:
            if sign > 0:
                tally.add(unit, value)
            else:
                tally.remove(unit, value)
