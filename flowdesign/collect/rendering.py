"""Pairs of a prompt and a workflow become records: what a collection and an evaluation do alike.

The store is the truth of what is done: what it has already, from whatever run, is not made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from flowdesign.catalog import Installed
from flowdesign.collect.batches import Batch, Job, PlannedWorkflow, make_batches, plan_workflow
from flowdesign.collect.crew import Crew, LocalCrew
from flowdesign.collect.making import Outcome, Recipe, RenderRecipe
from flowdesign.collect.on_ray import RayCrew
from flowdesign.collect.plan import Pair
from flowdesign.config import ConfigError, RenderConfig
from flowdesign.designs import renderer_version
from flowdesign.provenance import ModelHashes
from flowdesign.records import Record, sha_of

log = logging.getLogger(__name__)


def checked_recipe(config: RenderConfig) -> Recipe:
    """Find out what is missing before any work. Raises ConfigError."""
    from flowdesign.scorers import ScorerError

    try:
        missing = [why for name in config.all_scorers if (why := _missing(name))]
    except ScorerError as fault:
        raise ConfigError(str(fault)) from None
    if missing:
        raise ConfigError("\n".join(missing))
    return RenderRecipe(config)


def _missing(name: str) -> str:
    """Say why a scorer cannot be had here; weights of the hub are fetched, once for all workers."""
    from flowdesign.scorers import ScorerMissing, available, is_on_hub, load

    why = available(name)
    if not why or not is_on_hub(name):
        return why
    log.info("fetching the weights of '%s'", name)
    try:
        load(name)
    except ScorerMissing as fault:
        return f"{why} {fault}"
    return ""


class Planner:
    """Cuts plans into batches; the same plan is cut alike whenever it is done.

    A workflow is taken apart once, in however many plans it is.
    """

    def __init__(self, config: RenderConfig, models: Installed) -> None:
        self._size, self._hashes = config.batch, ModelHashes(models)
        self._designs: dict[str, PlannedWorkflow] = {}

    def batches(self, pairs: Sequence[Pair]) -> list[Batch]:
        """The batches of a plan."""
        for sentence in dict.fromkeys(pair.sentence for pair in pairs):
            if sentence not in self._designs:
                self._designs[sentence] = plan_workflow(sentence, self._hashes.of)
        return make_batches(pairs, self._designs, renderer_version(), self._size)


def crew_of(config: RenderConfig, recipe: Recipe) -> Crew:
    """Those who render as the config says; nobody has begun."""
    if config.ray:
        return RayCrew(recipe, config.workers, config.ray, config.device)
    return LocalCrew(recipe, config.workers)


def patiently(crew: Crew, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
    """Make batches; jobs of one that no worker survives are tried each on its own.

    Only the job that ends its worker every time becomes a failure.
    """
    for batch, outcomes in crew.make(batches):
        if outcomes is None:
            log.warning("no worker survived batch %d; its jobs are made one by one", batch.number)
            outcomes = _one_by_one(crew, batch)
        yield batch, outcomes


def _one_by_one(crew: Crew, batch: Batch) -> list[Outcome]:
    lost = Outcome(failure="Every worker that rendered it was lost; was there too little memory?")
    singles = [Batch(at, (job,)) for at, job in enumerate(batch.jobs)]
    if len(singles) == 1:
        return [lost]
    made = {single.number: found for single, found in crew.make(singles)}
    return [(made[at] or [lost])[0] for at in range(len(singles))]


def unfinished(batches: Sequence[Batch], done: set[str]) -> Iterator[Batch]:
    """What is left of batches when the jobs with these keys are done."""
    for batch in batches:
        missing = tuple(job for job in batch.jobs if job.key not in done)
        if missing:
            yield Batch(batch.number, missing)


def record_of(job: Job, outcome: Outcome, source: str) -> Record:
    """The record of what became of a job."""
    return Record(
        prompt=job.prompt,
        workflow=job.workflow,
        seed=job.seed,
        sentence=job.sentence,
        image=sha_of(outcome.png) if outcome.png else "",
        scores=outcome.scores,
        source=source,
        assets=job.assets,
        renderer=renderer_version(),
        fidelity=outcome.fidelity,
        seconds=round(outcome.seconds, 4),
        failure=outcome.failure,
    )
