"""Guidance: from the SFT policy to the GRPO policy and beyond (paper, section 3.4).

    guided = Guided(sft, grpo, scale=2.0)
    guided.sample("a red star", n=4, seed=0)

At every choice the logits are l_sft + scale (l_grpo - l_sft): 0 is the SFT policy and 1 the GRPO policy,
exactly, since the other is not asked then; above 1 goes further in the direction in which GRPO has moved,
below 0 away from it. Temperature, top_p and the grammar act on the result, as for one policy.

A sample has the same chance at every scale (each draw takes the same noise from its generator), so what
differs between scales is what the scale does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from flowdesign.policy import Policy
from flowdesign.sampling import Session, Speaker

LEAST, MOST = -1.0, 10.0  # scales that make sense


class Guided(Speaker):
    """Two policies of one vocabulary with guidance between them. Light: make one for each scale.

    Raises ValueError for a scale outside LEAST to MOST, or policies that do not speak the same language.
    """

    def __init__(self, sft: Policy, grpo: Policy, scale: float) -> None:
        if not (math.isfinite(scale) and LEAST <= scale <= MOST):
            raise ValueError(f"The guidance scale is from {LEAST:g} to {MOST:g}, not {scale}.")
        if sft.vocabulary.tokens != grpo.vocabulary.tokens:
            raise ValueError(
                "Guidance needs two policies of one vocabulary: these were trained with different ones."
            )
        self.sft, self.grpo, self.scale = sft, grpo, scale
        self.vocabulary, self.automaton, self.begin = sft.vocabulary, sft.automaton, sft.begin

    def open(self, prompts: Sequence[str]) -> Session:
        """Get ready to say a sentence after each prompt, as both policies would."""
        if self.scale == 0:
            return self.sft.open(prompts)
        if self.scale == 1:
            return self.grpo.open(prompts)
        return Mixed(self.sft.open(prompts), self.grpo.open(prompts), self.scale)


class Mixed:
    """The sentences of two sessions, which are fed the same tokens (a `sampling.Session`)."""

    def __init__(self, low: Session, high: Session, scale: float) -> None:
        self.low, self.high, self.scale = low, high, scale

    def feed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Append tokens to each sentence; give logits (group, tokens) of what follows."""
        low, high = self.low.feed(tokens), self.high.feed(tokens)
        return low + self.scale * (high - low)

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these sentences only."""
        self.low.keep(indices)
        self.high.keep(indices)
