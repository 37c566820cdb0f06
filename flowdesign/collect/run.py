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
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowdesign import runs
from flowdesign.catalog import Installed, installed
from flowdesign.collect.batches import Batch
from flowdesign.collect.making import Outcome, Recipe
from flowdesign.collect.plan import (
    Pair,
    Stopped,
    keep_plan,
    policy_pairs,
    random_pairs,
)
from flowdesign.collect.prompts import read_prompts
from flowdesign.collect.rendering import (
    Planner,
    checked_recipe,
    crew_of,
    patiently,
    record_of,
    unfinished,
)
from flowdesign.collect.saying import open_sayer
from flowdesign.config import CollectConfig, ConfigError, Step
from flowdesign.designs import renderer_version
from flowdesign.records import DATA, Store, sha_of
from flowdesign.tokens import VOCABULARY, Automaton

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
    recipe = recipe or checked_recipe(config)
    try:
        pairs = keep_plan(folder, lambda: _make_pairs(config, folder, models))
    except Stopped:
        yield Step(0, 1)  # the run looks for STOP now
        return
    batches = Planner(config, models).batches(pairs)
    with closing(Store.open(Path(config.records) if config.records else DATA)) as store:
        ledger = _Ledger(config, folder, store, batches, began)
        if ledger.is_ahead_of_metrics:
            yield ledger.step()
        if ledger.open:
            with crew_of(config, recipe) as crew:
                for batch, outcomes in patiently(crew, ledger.open):
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
        good = store.has(list(jobs), failed=False)
        done = good if config.retry else store.has(list(jobs))
        self.open = list(unfinished(batches, done))
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
        self._store.add([record_of(job, one, source) for job, one in pairs], images)
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


def _check_said(config: CollectConfig) -> None:
    """Raise ConfigError for what is asked of workflows that are made for their prompts, where none are."""
    if config.is_said or not (config.redrawn or config.foils):
        return
    fault = (
        "redrawn: random workflows have nothing to draw anew"
        if config.redrawn
        else "foils: random workflows are said for no prompt in particular (--per-workflow gives each some)"
    )
    raise ConfigError(
        f"{fault}. Say whose workflows are meant: a policy's (--policy), or what a search finds (--searched)."
    )


def _make_pairs(config: CollectConfig, folder: Path, models: Installed) -> list[Pair]:
    _check_said(config)
    prompts = read_prompts(
        config.prompts, config.prompt_count, config.seed, config.split, config.variants
    )
    if not config.is_said:
        return random_pairs(config, prompts, Automaton(VOCABULARY, models))
    return policy_pairs(config, prompts, open_sayer(config, models), folder)
