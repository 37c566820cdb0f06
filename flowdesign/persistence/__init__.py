"""Keeps the records of a Space whose disk is wiped at every restart: they are pushed to the Hub.

    store -> marks of what changed -> shard in the outbox -> dataset repository or bucket
    start -> shards that are not known here -> store

The local store is the truth while the app runs; nobody waits for the Hub. On a schedule, what has
changed is written as a *shard*: files that are complete before they are pushed, have a name of their
own and never change. So pushing again after a push that failed half-way, or whose answer was lost, is
harmless; a restart pushes what it finds in the outbox. A line holds all that is known of an item under
a name that is the same in every store (a record's key, a vote's token), so reading it twice changes
nothing. What was restored is not pushed again.

    records/STEM.jsonl  votes/STEM.jsonl  ratings/STEM.jsonl  images/STEM.zip

**Setting up a Space.** Make a token with write access (on the Hub: Settings, Access Tokens) and add it
to the Space as the *secret* HF_TOKEN. Add as variables

    FLOWDESIGN_DATASET        USER/NAME: a dataset repository; buckets/USER/NAME: a bucket
    FLOWDESIGN_PUSH_MINUTES   time between two pushes (5)

Either is made, private, when it does not exist. A bucket suits many small files and keeps no history; a
dataset repository has a viewer and versions. What a wiped disk can lose is what was written after the
last push; a Space that is stopped in the usual way pushes once more. One app at a time should push to
a place; if two do, each gets the other's records at its next start: scores and votes of both are kept,
and of a deletion whoever pushed last decides. A record that was purged comes back as deleted.

CommitScheduler of huggingface_hub is not used: it pushes files that still grow, keeps what it has
pushed in memory only, and so begins again after a restart; and it does not know buckets.
"""

from flowdesign.persistence.hub import (
    Bucket,
    DatasetRepository,
    PersistenceError,
    Remote,
    RemoteFault,
)
from flowdesign.persistence.keeper import Keeper, State, open_keeper

__all__ = [
    "Bucket",
    "DatasetRepository",
    "Keeper",
    "PersistenceError",
    "Remote",
    "RemoteFault",
    "State",
    "open_keeper",
]
