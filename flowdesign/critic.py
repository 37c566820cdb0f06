"""What a reward ensemble says of designs before they are rendered, for whoever shows it.

Nothing heavy is imported until `open_critic` loads the ensemble.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """What the reward ensemble expects of a design's image: the combined score, with its calibrated
    90 % interval and the lower bound that designs are ranked by, in standard deviations of the
    reference set; `weights` are those of the raw scores in it."""

    mean: float
    low: float
    high: float
    bound: float
    weights: Mapping[str, float] = field(default_factory=dict)


class Prediction(Protocol):
    """What is predicted of pairs (n,) of a prompt and a workflow (`flowdesign.reward`)."""

    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def low(self) -> Sequence[float]: ...
    @property
    def high(self) -> Sequence[float]: ...
    def lower(self) -> Sequence[float]: ...


class Critic(Protocol):
    """What the studio needs of a reward ensemble (`flowdesign.reward.ensemble.Ensemble`)."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the raw scores in the combined one that it predicts."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Any:
        """Give a `Prediction` of aligned prompts and sentences."""


def expect(
    critic: Critic, prompts: Sequence[str], sentences: Sequence[Sequence[int]]
) -> list[Expected]:
    """What a reward ensemble says of aligned prompts and sentences."""
    found: Prediction = critic.predict(prompts, sentences)
    columns = zip(found.mean, found.low, found.high, found.lower(), strict=True)
    return [
        Expected(float(mean), float(low), float(high), float(bound), critic.weights)
        for mean, low, high, bound in columns
    ]


def open_critic(load: Callable[[], Critic] | None = None) -> Critic | None:
    """Load the shipped reward ensemble; None, and a line in the log, where there is none."""
    from flowdesign.lm import WeightsNotFound
    from flowdesign.reward.ensemble import Ensemble, RewardError
    from flowdesign.tokens import VocabularyMismatch

    try:
        return (load or Ensemble.load)()
    except (RewardError, VocabularyMismatch, WeightsNotFound) as fault:
        log.warning("Designs are shown without an expected score: %s", fault)
        return None
