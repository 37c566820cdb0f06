"""One step's updates of the policy's weights, from a rollout that was judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowdesign.config import GRPOConfig
from flowdesign.descent import descend, set_rates
from flowdesign.grpo.objective import Loss, Weights, choices, loss_of
from flowdesign.policy import Below, Policy, grammar_mask
from flowdesign.sampling import log_probs, padded
from flowdesign.search import Sentence

SMALLEST_WEIGHT = 1e-3  # of an entropy that is minded
GROWTH = 0.3  # exponent of a step's change of that weight


@dataclass
class Part:
    """Some groups of a rollout: as many as are in memory at once.

    `mask` is the grammar's (S, L, V). `old` and `reference`, from before the first update, are kept for
    the later ones, and so is what the layers give that do not learn (`below`).
    """

    prompts: list[str]
    sentences: list[Sentence]
    gain: Tensor
    mask: Tensor
    tokens: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None
    below: Below | None = None

    @property
    def count(self) -> int:
        """How many choices were made."""
        return int(choices(self.mask, self.tokens).sum())


def parts_of(
    policy: Policy,
    prompts: Sequence[str],
    groups: Sequence[Sequence[Sentence]],
    gains: Tensor,
    at_once: int,
) -> Iterator[Part]:
    """Cut a rollout with its advantages (groups, size) into parts of `at_once` groups."""
    for first in range(0, len(prompts), at_once):
        last = first + at_once
        said = [sentence for group in groups[first:last] for sentence in group]
        repeated = [
            p for p, g in zip(prompts[first:last], groups[first:last], strict=True) for _ in g
        ]
        mask = grammar_mask(said, policy.automaton, policy.rows.begin).to(policy.device)
        gain = gains[first:last].flatten().to(policy.device)
        yield Part(repeated, said, gain, mask, padded(said, policy.device))


class Learner:
    """A policy that learns, the SFT policy that it is held to, and the optimiser.

    `entropy` is the weight of the entropy, which follows how wide the choices are.
    """

    def __init__(
        self,
        config: GRPOConfig,
        policy: Policy,
        reference: Policy,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self.config, self.policy, self.reference = config, policy, reference
        self.optimiser = optimiser
        self.entropy = config.entropy

    def learn(self, parts: Sequence[Part], share: float) -> dict[str, float]:
        """Update the weights `updates` times, at this share of the peak rates; what it was like.

        Raises NotANumber before weights would be spoiled.
        """
        set_rates(self.optimiser, share)
        told: dict[str, float] = {}
        for number in range(self.config.updates):
            found = self._update(parts)
            told = found | {n: told[n] for n in ("divergence", "entropy") if number}
        self._mind_entropy(told["entropy"])
        return told

    def _update(self, parts: Sequence[Part]) -> dict[str, float]:
        """One update, from all parts: each choice of the rollout weighs the same."""
        self.optimiser.zero_grad()
        total = max(1, sum(part.count for part in parts))
        told = dict.fromkeys(("loss", "divergence", "entropy", "clipped"), 0.0)
        for part in parts:
            if not part.count:
                continue
            weight = part.count / total
            loss = self._loss(part)
            (weight * loss.total).backward()  # type: ignore[no-untyped-call]
            for name, value in zip(told, _parts_of_loss(loss), strict=True):
                told[name] += weight * float(value.detach())
        weights = self.policy.trainable().values()
        advice = "lower rates (--lora-rate, --rows-rate)"
        descend(self.optimiser, weights, told, "the policy", advice)
        return told

    def _loss(self, part: Part) -> Loss:
        logits = self._logits(self.policy, part)
        if part.old is None:
            part.old = log_probs(logits, part.tokens).detach()
        if part.reference is None:
            with torch.no_grad():
                part.reference = self._logits(self.reference, part)
        config = self.config
        weights = Weights(config.clip_low, config.clip_high, config.divergence, self.entropy)
        return loss_of(logits, part.reference, part.tokens, part.old, part.gain, weights)

    def _logits(self, policy: Policy, part: Part) -> Tensor:
        """A policy's logits, at the rollout's temperature and under the grammar."""
        return self._read(policy, part) / self.config.temperature + part.mask

    def _read(self, policy: Policy, part: Part) -> Tensor:
        """What the layers give that do not learn is computed once for all."""
        if not (layers := self.policy.uppermost):
            return policy.logits(part.prompts, part.sentences)
        if part.below is None:
            part.below = self.reference.below(part.prompts, part.sentences, layers)
        return policy.logits_above(part.below)

    def _mind_entropy(self, wide: float) -> None:
        """Where a least entropy is asked for, weigh it more as long as choices are narrower, and less again
        when they are wider, down to what was asked for."""
        if least := self.config.least_entropy:
            short = max(-1.0, (least - wide) / least)
            weight = max(SMALLEST_WEIGHT, self.entropy) * math.exp(GROWTH * short)
            self.entropy = min(1.0, max(self.config.entropy, weight))


def _parts_of_loss(loss: Loss) -> tuple[Any, ...]:
    return loss.total, loss.divergence, loss.entropy, loss.clipped
