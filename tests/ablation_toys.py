"""What tests of the ablation share: a studio of toys, whose policies have folders, and its plans."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from studio_toys import ToyPolicies, ToyPolicy, ToyRenderer

from flowdesign.ablation.plan import Plan, make_plan
from flowdesign.ablation.setting import read_setting
from flowdesign.catalog import known_assets
from flowdesign.policies import Known
from flowdesign.studio import Studio
from flowdesign.tokens import VOCABULARY, Automaton

LANGUAGE = Automaton(VOCABULARY, known_assets())


class SavedPolicies(ToyPolicies):
    """ "mine", which GRPO made of "start", as folders that have a version."""

    def __init__(self, policy: Any, root: Path, guided: bool = True) -> None:
        super().__init__(policy)
        self.root, self.guided = root, guided
        for name in ("mine", "start"):
            self.train(name)

    def train(self, name: str, at: int = 1_000_000_000) -> None:
        """Write a policy anew, at a time in nanoseconds."""
        head = self.root / name / "policy.json"
        head.parent.mkdir(parents=True, exist_ok=True)
        head.write_text("{}", "utf-8")
        os.utime(head, ns=(at, at))

    def all(self) -> list[Any]:
        start = Known("start", self.root / "start", None)
        mine = Known("mine", self.root / "mine", start.folder)
        return [mine, start] if self.guided else [start]


class LengthCritic:
    """Expects most of the longest sentence."""

    weights: ClassVar[dict[str, float]] = {"sharpness": 1.0}

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Any:
        self.asked += 1
        mean = np.array([len(sentence) for sentence in sentences], float)
        return SimpleNamespace(mean=mean, low=mean - 1, high=mean + 1, lower=lambda: mean - 0.5)


def studio(folder: Path, **parts: Any) -> Studio:
    """A studio of toys with a critic, whose work takes no time unless asked."""
    policies = SavedPolicies(
        parts.pop("policy", None) or ToyPolicy(),
        parts.pop("root", folder / "policies"),
        parts.pop("guided", True),
    )
    renderer = parts.pop("renderer", None) or ToyRenderer()
    critic = parts.pop("critic", LengthCritic())
    return Studio(policies, renderer, folder / "out", known_assets(), critic)


def plan(made: Studio, **setting: Any) -> Plan:
    """The plan of a setting."""
    usual = {"prompts": "a red star", "x": "none", "y": "none"}
    return make_plan(read_setting(usual | setting), made.policies, LANGUAGE)  # type: ignore[arg-type]
