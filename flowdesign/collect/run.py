"""A collection as a run: prompts -> workflows -> images -> scores -> records.

The store is the truth of what is done. A batch is finished when its records are on disk; only then
is its step put on record. So after SIGKILL a batch is either stored, and then its step is recorded
when the run goes on, or it is made again; a record has one key, so none is stored twice. What the
store has already, from whatever run, is not made.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowdesign import runs
from flowdesign.catalog import Installed, installed
from flowdesign.collect.batches import Batch, Job, PlannedWorkflow, make_batches, plan_workflow
from flowdesign.collect.crew import Crew, LocalCrew
from flowdesign.collect.making import Outcome, Recipe, RenderRecipe
from flowdesign.collect.on_ray import RayCrew
from flowdesign.collect.plan import (
    RANDOM,
    Pair,
    Sayer,
    Stopped,
    keep_plan,
    policy_pairs,
    random_pairs,
)
from flowdesign.collect.prompts import read_prompts
from flowdesign.config import CollectConfig, ConfigError, Step
from flowdesign.designs import renderer_version
from flowdesign.provenance import ModelHashes
from flowdesign.records import DATA, Record, Store, sha_of
from flowdesign.tokens import VOCABULARY, Automaton, sentence_text

ASKED_AT_ONCE = 10_000  # keys in one question to the store
RECENT = 40  # batches that the rate is measured over
PAPER = 100_000  # scored triplets of arXiv 2505.21478

log = logging.getLogger(__name__)


def collect(config: CollectConfig, folder: Path, recipe: Recipe | None = None) -> runs.Steps:
    """Make, score and store what the plan asks for and the store lacks; yield a step a batch.

    Metrics: `images` of the plan that are stored, how many `failed`, the recent `rate` (images a
    second), `seconds` of work of all lives of this run, their `cost` by the config's price, and the
    seconds that are `left`. Raises ConfigError for a config that cannot be carried out.
    """
    began, models = time.monotonic(), installed()
    recipe = recipe or _checked_recipe(config)
    try:
        pairs = keep_plan(folder, lambda: _make_pairs(config, folder, models))
    except Stopped:
        yield Step(0, 1)  # the run looks for STOP now
        return
    batches = _batches(config, pairs, models)
    with closing(Store.open(Path(config.records) if config.records else DATA)) as store:
        ledger = _Ledger(config, folder, store, batches, began)
        if ledger.is_ahead_of_metrics:
            yield ledger.step()
        if ledger.open:
            with _crew(config, recipe) as crew:
                for batch, outcomes in _patiently(crew, ledger.open):
                    ledger.store(batch, outcomes)
                    yield ledger.step()
        if ledger.made:
            runs.write_figures(folder, ledger.figures(pairs))


def source_of(config: CollectConfig) -> str:
    """The `source` of the records of a run."""
    return f"collect:{config.run}"


class _Ledger:
    """What is done of a run, and how fast."""

    def __init__(
        self,
        config: CollectConfig,
        folder: Path,
        store: Store,
        batches: Sequence[Batch],
        began: float,
    ) -> None:
        self._config, self._store, self._began = config, store, began
        jobs = {job.key: job for batch in batches for job in batch.jobs}
        good = _stored(store, list(jobs), failed=False)
        done = good if config.retry else _stored(store, list(jobs), failed=True)
        self.open = list(_unfinished(batches, done))
        self._total, self._done = len(batches), len(batches) - len(self.open)
        self._jobs, self._images, self._failed = len(jobs), len(done), len(done) - len(good)
        rows = runs.read_metrics(folder)
        self._recorded = rows[-1]["step"] + 1 if rows else 0
        self._before = float(rows[-1].get("seconds", 0.0)) if rows else 0.0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], RECENT)
        self.made = 0

    @property
    def is_ahead_of_metrics(self) -> bool:
        """Whether batches are finished that metrics.jsonl does not know of."""
        return self._done > self._recorded

    def store(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Put a batch into the store; its records are on disk when this returns."""
        images = {sha_of(one.png): one.png for one in outcomes if one.png}
        source = source_of(self._config)
        pairs = zip(batch.jobs, outcomes, strict=True)
        self._store.add([_record(job, one, source) for job, one in pairs], images)
        self._done += 1
        self._images += len(outcomes)
        self.made += len(outcomes)
        self._failed += sum(bool(one.failure) for one in outcomes)
        self._recent.append((time.monotonic(), len(outcomes)))

    def step(self) -> Step:
        """The step of the batch that was finished last."""
        rate = self.rate
        metrics = {
            "images": self._images,
            "of": self._jobs,
            "failed": self._failed,
            "rate": round(rate, 3),
            "seconds": round(self.seconds, 1),
            "cost": round(self.cost, 4),
        }
        if rate > 0:
            metrics["left"] = round((self._jobs - self._images) / rate)
        return Step(self._done - 1, self._total, metrics)

    @property
    def rate(self) -> float:
        """Images a second over the latest batches; 0 before the first one."""
        seconds = self._recent[-1][0] - self._recent[0][0]
        return sum(count for _, count in list(self._recent)[1:]) / seconds if seconds else 0.0

    @property
    def seconds(self) -> float:
        """How long the run has been at work, in all its lives."""
        return self._before + time.monotonic() - self._began

    @property
    def cost(self) -> float:
        """What that cost, in the currency of the config's price."""
        return self.seconds / 3600 * self._config.price * self._config.workers

    def figures(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """What the run has collected, and how fast it did in its last life."""
        rate = self.made / (time.monotonic() - self._began)
        return {
            "images": self._images,
            "failed": self._failed,
            "prompts": len({pair.prompt for pair in pairs}),
            "workflows": len({pair.sentence for pair in pairs}),
            "pairs": len(pairs),
            "repeated": sum(len(pair.seeds) > 1 for pair in pairs),
            "seconds": round(self.seconds, 1),
            "workers": self._config.workers,
            "rate": round(rate, 4),
            "hours_for_100000": round(PAPER / rate / 3600, 2),
            "renderer": renderer_version(),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _checked_recipe(config: CollectConfig) -> Recipe:
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


def _make_pairs(config: CollectConfig, folder: Path, models: Installed) -> list[Pair]:
    prompts = read_prompts(config.prompts, config.prompt_count, config.seed, config.split)
    if config.policy == RANDOM:
        return random_pairs(config, prompts, Automaton(VOCABULARY, models))
    return policy_pairs(config, prompts, _sayer(config, models), folder)


def _sayer(config: CollectConfig, models: Installed) -> Sayer:
    """Load the policy and give a function that samples from it. Raises ConfigError."""
    import torch

    from flowdesign.policy import Policy, PolicyError

    torch.set_num_threads(config.threads)
    try:
        policy = Policy.load(runs.folder_of(config.policy), device=config.device, models=models)
    except PolicyError as fault:
        raise ConfigError(f"policy: {fault}") from None

    def say(prompt: str, count: int, seed: int) -> list[str]:
        samples = policy.sample(prompt, count, seed, config.temperature)
        return [sentence_text(sample.tokens, policy.vocabulary) for sample in samples]

    return say


def _batches(config: CollectConfig, pairs: Sequence[Pair], models: Installed) -> list[Batch]:
    hashes = ModelHashes(models)
    designs: dict[str, PlannedWorkflow] = {}
    for sentence in dict.fromkeys(pair.sentence for pair in pairs):
        designs[sentence] = plan_workflow(sentence, hashes.of)
    return make_batches(pairs, designs, renderer_version(), config.batch)


def _crew(config: CollectConfig, recipe: Recipe) -> Crew:
    if config.ray:
        return RayCrew(recipe, config.workers, config.ray, config.device)
    return LocalCrew(recipe, config.workers)


def _patiently(crew: Crew, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
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


def _stored(store: Store, keys: Sequence[str], failed: bool) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(keys), ASKED_AT_ONCE):
        found |= store.has(keys[start : start + ASKED_AT_ONCE], failed=failed)
    return found


def _unfinished(batches: Sequence[Batch], done: set[str]) -> Iterator[Batch]:
    for batch in batches:
        missing = tuple(job for job in batch.jobs if job.key not in done)
        if missing:
            yield Batch(batch.number, missing)


def _record(job: Job, outcome: Outcome, source: str) -> Record:
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
