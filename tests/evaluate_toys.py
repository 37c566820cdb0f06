"""A world in which an evaluation takes seconds: random models, and a judge with a known rule."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reward_toys import toy_records
from toys import every_model, write_tiny_base

from flowdesign import catalog
from flowdesign.collect.batches import Batch, Job
from flowdesign.collect.making import Make, Outcome
from flowdesign.evaluate.baselines import style_of
from flowdesign.evaluate.diversity import checkpoint_of
from flowdesign.policies import Policies
from flowdesign.policy import Anatomy, Policy
from flowdesign.tokens import parse_sentence

NOISE = 0.02


def true_score(prompt: str, sentence: Sequence[int]) -> float:
    """A checkpoint suits the style that it is named for; mini_night is nearly as good for all."""
    checkpoint = checkpoint_of(tuple(sentence))
    if checkpoint == f"mini_{style_of(prompt)}":
        return 0.9
    return 0.7 if checkpoint == "mini_night" else 0.2


@dataclass(frozen=True)
class Judge:
    """Makes no image: it scores by the rule above, with a little noise that follows from the seed."""

    fails: str = "\0"  # in a prompt whose renders fail

    def open(self) -> Make:
        return lambda jobs: [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Outcome:
        if self.fails in job.prompt:
            return Outcome(failure="The render failed: no more paint")
        noise = NOISE * random.Random(f"{job.prompt}/{job.seed}").gauss(0, 1)
        soft = true_score(job.prompt, parse_sentence(job.sentence)) + noise
        scores = {"scene_soft": soft, "sharpness": 0.5, "scene_strict": float(soft > 0.5)}
        return Outcome(scores=scores | {"scene_gist": soft}, fidelity="exact", seconds=0.25)


class InlineCrew:
    """Makes batches in this process, one after the other."""

    def __init__(self, config: Any, recipe: Any) -> None:
        self._make = recipe.open()

    def __enter__(self) -> InlineCrew:
        return self

    def __exit__(self, *_: Any) -> None:
        """Nothing is open."""

    def make(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
        for batch in batches:
            yield batch, self._make(batch.jobs)


class ToyEncoder:
    """Knows the styles."""

    @staticmethod
    def load(*_: Any) -> ToyEncoder:
        return ToyEncoder()

    def embed(self, prompts: Sequence[str]) -> Any:
        styles = ("flat", "outline", "night", "striped")
        return np.array([[1.0 * (style_of(one) == each) for each in styles] for one in prompts])


class ToyEnsemble:
    """Knows the rule."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Any:
        mean = np.array([true_score(p, s) for p, s in zip(prompts, sentences, strict=True)])
        return _Predicted(mean)

    def forget(self) -> None:
        """There is nothing that it remembers."""


@dataclass(frozen=True)
class _Predicted:
    mean: np.ndarray[Any, Any]

    def lower(self, trust: float) -> Any:
        return self.mean - 0.1 * trust


def write_policies(root: Path) -> Path:
    """policy_sft, told, which learned with scores, better and other, which GRPO made of the first, and else,
    which it made of the second; all know nothing."""
    base = str(write_tiny_base(root / "base"))
    torch.manual_seed(0)
    sft = Policy.create(Anatomy(base, 4), "fp32", models=catalog.known_assets())
    _write(root / "policy_sft", sft, {})
    _write(root / "told", sft, {"scored": 1.0})
    for name, start in (("better", "policy_sft"), ("other", "policy_sft"), ("else", "told")):
        policy = sft.twin()
        with torch.no_grad():
            for weight in policy.trainable().values():
                weight.add_(0.1 * torch.randn(weight.shape))
        _write(root / name, policy, {"start": str(root / start), "group": 8})
    return root


def _write(folder: Path, policy: Policy, config: dict[str, Any]) -> None:
    policy.save(folder)
    (folder / "config.json").write_text(json.dumps(config))
    status = {"state": "finished", "step": 1, "total": 1, "message": "", "pid": 1}
    (folder / "status.json").write_text(json.dumps(status | {"started": 1.0, "updated": 2.0}))


def use_toys(root: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let evaluations find these policies and no others, toy records, encoder and ensemble."""
    from flowdesign.reward.bound import Bound

    place = "flowdesign.evaluate."
    monkeypatch.setattr(catalog, "MODELS", every_model(models))
    monkeypatch.setattr(place + "setting.Policies", partial(Policies, root=root))
    monkeypatch.setattr(place + "setting.Encoder", ToyEncoder)
    monkeypatch.setattr(place + "setting.recorded", lambda name: toy_records(60, 6))
    monkeypatch.setattr(
        place + "setting.open_bound", lambda name, trust, *_: Bound(ToyEnsemble(), trust)
    )
    monkeypatch.setattr(place + "run.reward_digest", lambda folder: "toys")
    monkeypatch.setattr(place + "gallery.crew_of", InlineCrew)
    monkeypatch.setattr(place + "run.draw_all", lambda *_: 0)  # the models are empty files
