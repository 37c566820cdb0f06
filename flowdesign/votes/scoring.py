"""The votes of a store as scores of its records, with errors; stored under a scorer's name on demand.

Kept as raw scores like those of any scorer, so that the weight of the votes belongs to the same
config as all other weights, and a change of it renders and asks nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowdesign.records import Store, Vote
from flowdesign.votes.strengths import Outcome, Strengths, bradley_terry

SCORER = "votes"  # logits relative to the mean of the images that a chain of votes connects


def fit(votes: Iterable[Vote]) -> Strengths:
    """The strength of every record with votes; skips say nothing."""
    return bradley_terry(
        Outcome(vote.left, vote.right, vote.choice) for vote in votes if vote.choice != "skip"
    )


def store_scores(store: Store, strengths: Strengths) -> int:
    """Store the strengths as raw scores of the scorer "votes"; give how many."""
    store.add_scores({record: {SCORER: one.value} for record, one in strengths.items.items()})
    return len(strengths.items)
