"""Images that pairs of a prompt and a sentence ask for: rendered and judged once, then read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from flowdesign.catalog import Installed
from flowdesign.collect.batches import Batch
from flowdesign.collect.crew import Crew
from flowdesign.collect.making import Recipe
from flowdesign.collect.plan import Pair
from flowdesign.collect.rendering import Planner, crew_of, patiently, record_of, unfinished
from flowdesign.config import RenderConfig
from flowdesign.records import Store, StoredRecord, sha_of


class Gallery(ExitStack):
    """Renders with a crew, which begins when it is first needed, into a store. A context."""

    def __init__(
        self, config: RenderConfig, store: Store, models: Installed, recipe: Recipe, source: str
    ) -> None:
        super().__init__()
        self._config, self._store = config, store
        self._recipe, self._source = recipe, source
        self._planner = Planner(config, models)
        self._crew: Crew | None = None

    def missing(self, pairs: Sequence[Pair]) -> list[Batch]:
        """What has to be rendered for these pairs: what the store lacks, failures being known."""
        batches = self._batches(pairs)
        return list(unfinished(batches, self._store.has(_keys(batches))))

    def render(self, batches: Sequence[Batch]) -> Iterator[int]:
        """Make batches; yield the number of images of each when its records are on disk."""
        if not batches:
            return
        if self._crew is None:
            self._crew = self.enter_context(crew_of(self._config, self._recipe))
        for batch, outcomes in patiently(self._crew, batches):
            images = {sha_of(one.png): one.png for one in outcomes if one.png}
            made = zip(batch.jobs, outcomes, strict=True)
            self._store.add([record_of(job, one, self._source) for job, one in made], images)
            yield len(outcomes)

    def shown(self, pairs: Sequence[Pair]) -> list[list[StoredRecord]]:
        """The records of pairs that were rendered, one for each of their seeds."""
        batches = self._batches(pairs)
        place = {(j.prompt, j.sentence, j.seed): j.key for batch in batches for j in batch.jobs}
        found = self._store.by_key(list(place.values()))
        return [[found[place[p.prompt, p.sentence, seed]] for seed in p.seeds] for p in pairs]

    def _batches(self, pairs: Sequence[Pair]) -> list[Batch]:
        return self._planner.batches(list(dict.fromkeys(pairs)))


def _keys(batches: Sequence[Batch]) -> list[str]:
    return [job.key for batch in batches for job in batch.jobs]
