"""A crew on Ray (https://docs.ray.io), for several machines or GPUs; an optional extra.

Workers only make: records are written by the one process that runs the collection. Every machine of
the cluster needs this project and the same models in the same folders (a shared disk, or one
image); a worker with other model files says so and the run stops.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType, TracebackType
from typing import Any

from flowdesign.catalog import ROOT
from flowdesign.collect.batches import Batch, Job
from flowdesign.collect.crew import AHEAD, TRIES, Made, opened
from flowdesign.collect.making import Make, Outcome, Recipe
from flowdesign.config import ConfigError

LOCAL = "local"
INSTALL = "pip install 'ray>=2.50'"


class RayCrew:
    """Workers of a Ray cluster. With "local" as address, a cluster of this machine alone."""

    def __init__(self, recipe: Recipe, workers: int, address: str, device: str = "cpu") -> None:
        """Connect. Raises ConfigError when Ray is not installed or nobody answers."""
        self._ray = import_ray()
        self._workers = workers
        self._connect(address)
        self._recipe = self._ray.put(recipe)
        gpus = 0 if device == "cpu" else 1
        # A worker lives on after a batch and keeps its models (max_calls: on GPUs it would not).
        self._work = self._ray.remote(
            num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1, max_calls=0
        )(_work)  # fmt: skip

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ray.shutdown()  # ends the work of this run; a cluster that was there before goes on

    def make(self, batches: Iterable[Batch]) -> Iterator[Made]:
        """See `Crew.make`. Ray itself makes a batch again whose worker or machine was lost."""
        waiting, running = iter(batches), dict[Any, Batch]()
        while True:
            self._send(waiting, running)
            if not running:
                return
            (done,), _ = self._ray.wait(list(running), num_returns=1)
            yield running.pop(done), self._outcomes(done)

    def _send(self, waiting: Iterator[Batch], running: dict[Any, Batch]) -> None:
        while len(running) < AHEAD * self._workers:
            batch = next(waiting, None)
            if batch is None:
                return
            running[self._work.remote(self._recipe, batch.jobs)] = batch

    def _outcomes(self, done: Any) -> list[Outcome] | None:
        faults = self._ray.exceptions
        try:
            found: list[Outcome] = self._ray.get(done)
        except (faults.WorkerCrashedError, faults.OutOfMemoryError, faults.NodeDiedError):
            return None
        return found

    def _connect(self, address: str) -> None:
        # Ray's own processes start elsewhere: they find the same modules by this path.
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings: dict[str, Any] = {
            "runtime_env": {"env_vars": {"PYTHONPATH": path}},
            "log_to_driver": False,
            "include_dashboard": False,
        }
        if address == LOCAL:
            settings |= {"num_cpus": self._workers, "address": "local"}
        else:
            settings |= {"address": address}
            settings.pop("include_dashboard")
        try:
            self._ray.init(**settings)
        except (ConnectionError, ValueError) as fault:
            raise ConfigError(f"ray: no cluster answers at '{address}': {fault}") from fault


def import_ray() -> ModuleType:
    """Give the module. Raises ConfigError when it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(f"ray: Ray is not installed here: {INSTALL}") from None
    module: ModuleType = ray
    return module


_worker: list[Recipe | Make] = []  # of this Ray worker


def _work(recipe: Recipe, jobs: Sequence[Job]) -> list[Outcome]:
    """Make a batch in a Ray worker, which opens the recipe for the first one."""
    if not _worker:
        _worker.append(recipe)
    return opened(_worker)(jobs)
