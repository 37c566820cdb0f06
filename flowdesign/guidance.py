"""Guidance: from the SFT policy to the GRPO policy and beyond (paper, section 3.4).

    pair = Pair(sft, grpo)
    pair.at(2.0).sample("a red star", n=4, seed=0)

At every choice the logits are l_sft + scale (l_grpo - l_sft): 0 is the SFT policy and 1 the GRPO policy,
exactly, since the other is not asked then; above 1 goes further in the direction in which GRPO has moved,
below 0 away from it. Temperature, top_p and the grammar act on the result, as for one policy.

Both policies read in one pass, as the two halves of a batch: the base's weights, which the time goes
into, are read once, and each half takes its own LoRA. Layers that GRPO left as they were are read once for both.

A sample has the same chance at every scale (each draw takes the same noise from its generator), so what
differs between scales is what the scale does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from flowdesign.decoding import decoder_of
from flowdesign.growing import Growing
from flowdesign.habits import Habits
from flowdesign.lm import Context
from flowdesign.policy import Policy, Reading, go_on
from flowdesign.request import check_scale
from flowdesign.sampling import Speaker


class Pair:
    """An SFT policy and a GRPO policy between which there is guidance.

    Raises ValueError for policies that do not speak the same language, or of different bases.
    """

    def __init__(self, sft: Policy, grpo: Policy) -> None:
        if sft.vocabulary.tokens != grpo.vocabulary.tokens:
            raise ValueError(
                "Guidance needs two policies of one vocabulary: these were trained with different ones."
            )
        if (ours := sft.anatomy.base) != (theirs := grpo.anatomy.base):
            raise ValueError(
                f"Guidance needs two policies of one base, not of {ours} and {theirs}."
            )
        self.sft, self.grpo, self.habits = sft, grpo, sft.habits and Habits()
        inputs = [each.rows.inputs.weight for each in (sft, grpo)]
        decoder = decoder_of(sft.trunk, grpo.trunk, alike=torch.equal(*inputs))
        self.opens: Callable[[], Reading] = (
            decoder.open
            if decoder
            else partial(Context, _both(sft.twin().trunk, grpo.trunk), sft.device)
        )

    def at(self, scale: float) -> Speaker:
        """What speaks at this guidance scale. Raises BadRequest, a ValueError, for one out of range."""
        check_scale(scale)
        ends: dict[float, Speaker] = {0.0: self.sft, 1.0: self.grpo}
        return ends.get(scale) or Guided(self, scale)


class Guided(Speaker):
    """Two policies with guidance between them, at one scale."""

    def __init__(self, pair: Pair, scale: float) -> None:
        self.pair, self.scale = pair, scale
        sft = pair.sft
        self.vocabulary, self.automaton, self.begin = sft.vocabulary, sft.automaton, sft.begin
        self.habits = pair.habits

    def open(self, prompts: Sequence[str]) -> GuidedSession:
        """Get ready to say a sentence after each prompt; equal prompts are read once."""
        with torch.no_grad():
            begun = self.pair.sft.read(prompts, self.pair.opens, copies=2)
            return GuidedSession(self.pair, self.scale, *begun)


class GuidedSession:
    """Sentences that are being said with guidance (a `sampling.Session`).

    The context's first half is the SFT policy's, the second the GRPO policy's.
    """

    def __init__(self, pair: Pair, scale: float, context: Reading, growing: Growing) -> None:
        self.pair, self.scale, self.context, self.growing = pair, scale, context, growing

    @torch.no_grad()
    def feed(
        self, tokens: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]] = ()
    ) -> Tensor:
        """Append tokens to each sentence, and guesses: logits (group, 1 + longest guess, tokens)."""
        sft, grpo = self.pair.sft.rows, self.pair.grpo.rows
        lot = self.growing.grow(tokens, guesses)
        ids = lot.ids.to(self.context.device)
        vectors = torch.cat([sft.embed(ids), grpo.embed(ids)])
        both = self.context.read(vectors, lot.places.times(2)).chunk(2)
        low, high = (hidden.flatten(0, 1)[lot.ends] for hidden in both)
        base = sft.logits(low)
        return (base + self.scale * (grpo.logits(high) - base))[lot.which]

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these sentences only."""
        go_on(self.context, self.growing, indices, copies=2)


class _Halves(nn.Linear):
    """The first factors of two LoRAs: each half of a batch gets its own, and 0 for the other's."""

    def forward(self, x: Tensor) -> Tensor:
        """Read x (2 n, ..., width); give (2 n, ..., both ranks)."""
        found = super().forward(x)
        group, rank = len(x) // 2, self.first
        found[:group, ..., rank:] = 0.0
        found[group:, ..., :rank] = 0.0
        return found

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__(first.in_features, first.out_features + second.out_features, False, "meta")
        self.weight = nn.Parameter(torch.cat([first.weight, second.weight]), requires_grad=False)
        self.first = first.out_features


def _both(trunk: Any, other: Any) -> Any:
    """Give each LoRA layer of a trunk that of another as well, as a second half (for no gradients)."""
    others = dict(other.named_modules())
    for name, layer in trunk.named_modules():
        if isinstance(layer, LoraLayer):
            _join(layer, others[name])
    return trunk.requires_grad_(False)


def _join(layer: LoraLayer, other: LoraLayer) -> None:
    """Make one LoRA of two: their scales go into the second factors."""
    scales = [each.scaling["default"] for each in (layer, other)]
    seconds = [each.lora_B["default"] for each in (layer, other)]
    layer.lora_A["default"] = _Halves(layer.lora_A["default"], other.lora_A["default"])
    parts = [scale * second.weight for scale, second in zip(scales, seconds, strict=True)]
    joined = torch.cat(parts, 1).detach()
    second = nn.Linear(joined.shape[1], joined.shape[0], False, "meta")
    second.weight = nn.Parameter(joined, requires_grad=False)
    layer.lora_B["default"] = second
    layer.scaling["default"] = 1.0
