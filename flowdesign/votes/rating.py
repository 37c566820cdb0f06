"""Which image to rate next with 1 to 5 stars: one that few people have rated, by chance among them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from flowdesign.records import Rating

DRAWN = 60  # images looked at for one choice


class RatingChooser:
    """Chooses images for any number of raters. Not safe for threads: hold a lock around it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.prompts: dict[int, str] = {}
        self._count: Counter[int] = Counter()
        self._rated: dict[str, set[int]] = {}

    def load(self, prompts: Mapping[int, str], ratings: Iterable[Rating]) -> None:
        """Start over with these images (record -> prompt) and all ratings so far."""
        self.prompts = dict(prompts)
        self._count, self._rated = Counter(), {}
        for rating in ratings:
            self.add(rating)

    def add(self, rating: Rating) -> None:
        """Count a stored rating."""
        self._count[rating.record] += 1
        self.skip(rating.rater, rating.record)

    def remove(self, rating: Rating) -> None:
        """Take back a rating that was added."""
        self._count[rating.record] -= 1

    def skip(self, rater: str, record: int) -> None:
        """Do not ask this rater about the image again."""
        self._rated.setdefault(rater, set()).add(record)

    def drop(self, record: int) -> None:
        """Ask no more about an image; it has gone."""
        self.prompts.pop(record, None)

    def choose(self, rater: str, mine: Collection[int] = ()) -> int | None:
        """The next record for a rater; None when nothing is left. `mine` are open already."""
        taken = self._rated.get(rater, set()).union(mine)
        left = [record for record in self.prompts if record not in taken]
        drawn = self.chance.sample(left, min(DRAWN, len(left)))
        return min(drawn, key=lambda record: self._count[record]) if drawn else None
