"""Train a reward ensemble, as a run (flowdesign.runs): python -m flowdesign reward.

All members learn in one process, side by side in threads; they share nothing that changes. Every
`evaluate_every` steps each looks at the validation prompts and keeps its best state; one that has not
gained for `patience` looks stops. When all have stopped, or the steps are done, the best states become
the ensemble, which is calibrated on the validation prompts and measured on the test split.

What a run needs to go on (weights, their averages, optimisers, best states) is in resume.safetensors,
the data as they were at the start in resume_data.safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowdesign.config import RewardConfig, Step
from flowdesign.reward.calibration import calibrate
from flowdesign.reward.data import Table, check_table, pairs_of, read_table
from flowdesign.reward.encoder import Encoder
from flowdesign.reward.ensemble import Anatomy, Ensemble, Values
from flowdesign.reward.measuring import write_measured
from flowdesign.reward.snapshot import load_table, save_table
from flowdesign.reward.training import Lessons, Trainee, set_weights
from flowdesign.runs import Steps, replace_file

CHECKPOINT = "resume.safetensors"


@dataclass
class Progress:
    """How far a member is: the least validation error, and looks since it was found."""

    best: float = math.inf
    waited: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)  # at the best look
    means: Values | None = None  # of the validation pairs, at the latest look

    def look(self, error: float, means: Values, weights: Mapping[str, Tensor]) -> None:
        """Take in what the member says of the validation pairs, its error there, and its weights."""
        self.waited += 1
        self.means = means
        if error < self.best:
            self.best, self.waited = error, 0
            self.weights = {name: weight.clone() for name, weight in weights.items()}


def train(config: RewardConfig, folder: Path, table: Table | None = None) -> Steps:
    """Train the ensemble in the run's folder, from its newest checkpoint on; yield every step.

    Metrics, for each member m that still learns: loss/m, order/m, grad_norm/m, votes/m where there are any, and
    now and then error/m (mean squared error on validation images) and error/ensemble.
    Raises RewardDataError, lm.WeightsNotFound, NotANumber, tokens.VocabularyMismatch.
    """
    torch.set_num_threads(config.threads)
    known = load_table(folder)
    table = known or table or read_table(config)
    check_table(table)
    if known is None:
        save_table(table, folder)
    school = School.open(config, table)
    for index in range(school.restore(folder), config.steps):
        if school.is_done:
            break
        metrics = school.step(index)
        try:
            yield Step(index, config.steps, metrics)
        except GeneratorExit:
            school.save(folder, index + 1)
            raise
        if (index + 1) % config.save_every == 0 or index + 1 == config.steps:
            school.save(folder, index + 1)
    finish(school, folder)


class School:
    """The members that learn together."""

    def __init__(
        self, config: RewardConfig, table: Table, anatomy: Anatomy, trainees: Sequence[Trainee]
    ) -> None:
        self.config, self.table, self.anatomy = config, table, anatomy
        self.trainees = trainees
        self.progress = [Progress() for _ in trainees]
        validation = table.take(table.validation)
        self._scores = validation.combined
        self._pairs, self._images = pairs_of(validation)

    @classmethod
    def open(cls, config: RewardConfig, table: Table) -> School:
        """Build members that have learned nothing yet; each starts from a seed of its own."""
        anatomy = Anatomy.of(config, table.heads, table.standards, table.digest)
        base = Encoder.load(config.encoder, config.device)
        lessons = Lessons.of(table, table.training, config.device)
        trainees = []
        for member in range(config.members):
            torch.manual_seed(config.seed * 1000 + member)
            trainees.append(Trainee(config, member, anatomy.member(base), lessons))
        return cls(config, table, anatomy, trainees)

    @property
    def is_done(self) -> bool:
        """Whether every member has stopped."""
        return not self._learning

    @property
    def _learning(self) -> list[Trainee]:
        patience = self.config.patience
        return [t for t in self.trainees if self.progress[t.member].waited < patience]

    def step(self, index: int) -> dict[str, float]:
        """One update of every member that still learns."""
        looks = (index + 1) % self.config.evaluate_every == 0 or index + 1 == self.config.steps

        def work(trainee: Trainee) -> dict[str, float]:
            found = trainee.step(index)
            if looks:
                found["error"] = self._look(trainee)
            return found

        with ThreadPoolExecutor(self.config.workers) as pool:
            each = list(zip(self._learning, pool.map(work, self._learning), strict=True))
        metrics = {f"{n}/{t.member}": v for t, found in each for n, v in found.items()}
        if looks:
            said = [progress.means for progress in self.progress if progress.means is not None]
            metrics["error/ensemble"] = self._error(np.mean(said, 0))
        return metrics

    def _look(self, trainee: Trainee) -> float:
        """The member's error on the validation images, which it is judged by."""
        with trainee.averaged() as model:
            means, _ = Ensemble([model], self.anatomy).members_of(*self.table.texts(self._pairs))
        error = self._error(means[0, :, 0])
        self.progress[trainee.member].look(error, means[0, :, 0], trainee.average)
        return error

    def _error(self, means: Values) -> float:
        misses = [self._scores[rows] - mean for rows, mean in zip(self._images, means, strict=True)]
        return float(np.mean(np.concatenate(misses) ** 2))

    def graduates(self) -> Ensemble:
        """The ensemble of the members' best states, who guess at words that they never met; they do not
        learn on."""
        for trainee, progress in zip(self.trainees, self.progress, strict=True):
            set_weights(trainee.model.learned(), progress.weights)
            trainee.model.words.guess(self.table.met, trainee.member)
        models = [trainee.model for trainee in self.trainees]
        return Ensemble(models, self.anatomy, threads=self.config.workers)

    def save(self, folder: Path, done: int) -> None:
        """Write all that the next steps need, at once whole."""
        tensors = {
            f"{trainee.member}/{name}": tensor
            for trainee, progress in zip(self.trainees, self.progress, strict=True)
            for name, tensor in _state(trainee, progress)
        }
        looks = [{"best": repr(p.best), "waited": p.waited} for p in self.progress]
        head = {"done": json.dumps(done), "looks": json.dumps(looks)}
        replace_file(folder / CHECKPOINT, lambda draft: save_file(tensors, draft, metadata=head))

    def restore(self, folder: Path) -> int:
        """Read what `save` wrote; give the number of steps that are done, 0 without a checkpoint."""
        path = folder / CHECKPOINT
        if not path.exists():
            return 0
        with safe_open(path, "pt", device=self.config.device) as file:
            head, names = file.metadata(), set(file.keys())
            looks, done = json.loads(head["looks"]), int(json.loads(head["done"]))
            for trainee, progress, look in zip(self.trainees, self.progress, looks, strict=True):
                progress.best, progress.waited = float(look["best"]), look["waited"]
                _refill(trainee, progress, file.get_tensor, names)
        return done


def finish(school: School, folder: Path) -> None:
    """Save the ensemble as it will be read, calibrate and measure that, and write the figures."""
    school.graduates().save(folder)
    ensemble = Ensemble.load(folder, school.config.device, school.config.workers)
    calibrated(ensemble, school.table).save_anatomy(folder)
    write_measured(ensemble, school.table, folder, school.config)


def calibrated(ensemble: Ensemble, table: Table) -> Ensemble:
    """The ensemble with intervals learned from the validation images."""
    validation = table.take(table.validation)
    pairs, images = pairs_of(validation)
    found = ensemble.predict(*table.texts(pairs))
    which = np.repeat(np.arange(len(pairs)), [len(rows) for rows in images])
    scores = validation.combined[np.concatenate(images)]
    calibration = calibrate(scores, found.mean[which], found.sd[which])
    ensemble.anatomy = replace(ensemble.anatomy, calibration=calibration)
    return ensemble


def _state(trainee: Trainee, progress: Progress) -> Iterator[tuple[str, Tensor]]:
    for name, weight in trainee.model.kept().items():
        yield f"weight/{name}", weight.detach()
    for name, weight in trainee.average.items():
        yield f"average/{name}", weight
    for name, weight in trainee.model.learned().items():
        if state := trainee.optimiser.state[weight]:  # votes alone move some weights
            yield f"mean/{name}", state["exp_avg"]
            yield f"square/{name}", state["exp_avg_sq"]
            yield f"step/{name}", state["step"]
    for name, weight in progress.weights.items():
        yield f"best/{name}", weight
    if progress.means is not None:
        yield "said", torch.from_numpy(progress.means.copy())


def _refill(
    trainee: Trainee, progress: Progress, read: Callable[[str], Tensor], names: set[str]
) -> None:
    here = f"{trainee.member}/"
    kept = trainee.model.kept()
    set_weights(kept, {name: read(f"{here}weight/{name}") for name in kept})
    for name in trainee.average:
        trainee.average[name] = read(f"{here}average/{name}")
    for name, weight in trainee.model.learned().items():
        if f"{here}mean/{name}" in names:
            trainee.optimiser.state[weight] = {
                "step": read(f"{here}step/{name}").cpu(),
                "exp_avg": read(f"{here}mean/{name}"),
                "exp_avg_sq": read(f"{here}square/{name}"),
            }
        if f"{here}best/{name}" in names:
            progress.weights[name] = read(f"{here}best/{name}")
    if f"{here}said" in names:
        progress.means = read(f"{here}said").cpu().numpy()
