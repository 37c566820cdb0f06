"""Steps of training, and how long they take: what the benchmarks of trainers share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowdesign.bench.measured import Say

if TYPE_CHECKING:
    from flowdesign.config import GRPOConfig
    from flowdesign.policy import Policy

Take = Callable[[int], Any]  # the step of this number


def grpo_step(config: GRPOConfig, sft: Policy) -> Take:
    """The steps of a GRPO run from this policy; what its metrics compare with is anything."""
    from flowdesign.grpo.run import bound_of, learner_of, step
    from flowdesign.grpo.yardsticks import Yardsticks
    from flowdesign.tokens import random_sentence

    learner, bound = learner_of(config, sft), bound_of(config)
    known = Yardsticks(0.0, 0.0, 0.0, 1.0, random_sentence(sft.automaton, random.Random(0)))
    return lambda index: step(learner, bound, index, known)


def timed(take: Take, steps: int, name: str, say: Say) -> list[float]:
    """Seconds of each of the steps; one more, the first, is not counted."""
    times = []
    for index in range(steps + 1):
        began = time.perf_counter()
        take(index)
        times.append(time.perf_counter() - began)
        say(f"{name}: step {index} took {times[-1]:.2f} s")
    return times[1:]
