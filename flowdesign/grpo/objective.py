"""What GRPO maximises (arXiv 2402.03300, section 4.1): small functions of tensors, no model.

Shapes: a group is the workflows of one prompt; S sentences of up to L tokens over V words. Logits are
already under the grammar: a word that may not be said has -inf. A place counts where there was a choice:
forced tokens and padding have nothing to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowdesign.sampling import log_probs

SMALLEST_SPREAD = 1e-4  # of a group's rewards; below it no workflow is better than another


@dataclass(frozen=True)
class Weights:
    """How the parts of the loss are weighed.

    `low` and `high`: the ratio is clipped to 1 - low and 1 + high. `divergence`: beta, of the KL
    divergence from the SFT policy. `entropy`: of the entropy of the choices.
    """

    low: float = 0.2
    high: float = 0.2
    divergence: float = 0.02
    entropy: float = 0.0


@dataclass(frozen=True)
class Loss:
    """The loss, and what it is made of: means over places where there was a choice."""

    total: Tensor
    divergence: Tensor  # nats a choice
    entropy: Tensor  # nats a choice
    clipped: Tensor  # share of the choices whose ratio the clip holds back


def advantages(rewards: Tensor, scaled: bool = True) -> Tensor:
    """How much better than its group each workflow is: (groups, size), mean 0 in each group.

    With `scaled` divided by the group's standard deviation (the paper), else left as it is, so that a
    group with small differences counts little (Dr. GRPO, arXiv 2503.20783). A group without
    differences is 0 throughout.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, correction=0, keepdim=True)
    there = spread > SMALLEST_SPREAD
    divided = centred / spread.clamp(min=SMALLEST_SPREAD) if scaled else centred
    return torch.where(there, divided, torch.zeros_like(divided))


def contrasted(own: Tensor, elsewhere: Tensor, strength: float) -> Tensor:
    """Rewards that count what a workflow earns for its own prompt beyond others: (groups, size).

    `own` (groups, size) is the reward for the workflow's prompt, `elsewhere` (groups, size, foils) what it
    would earn for other prompts, of whose mean `strength` times is taken away; 0 leaves the reward, 1
    keeps only what depends on the prompt. Without foils there is nothing to compare with.
    """
    if not strength or not elsewhere.shape[-1]:
        return own
    return own - strength * elsewhere.mean(-1)


def choices(logits: Tensor, tokens: Tensor) -> Tensor:
    """Where there was a choice (S, L): more than one word was allowed, before the sentence's end."""
    return (torch.isfinite(logits).sum(-1) > 1) & (tokens >= 0)


def entropy(logits: Tensor) -> Tensor:
    """The entropy (S, L) of what may be said, in nats."""
    logs = torch.log_softmax(logits, -1)
    return -(logs.exp() * _finite(logs)).sum(-1)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) at every place (S, L), in nats: exact, over all words.

    GRPO estimates it from the token that was said; with few words the whole sum costs nothing.
    """
    logs, others = torch.log_softmax(logits, -1), torch.log_softmax(reference, -1)
    return (logs.exp() * (_finite(logs) - _finite(others))).sum(-1)


def surrogate(logs: Tensor, old: Tensor, gain: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """The clipped objective of PPO at every place (S, L), and where the clip holds it back.

    `logs` and `old` (S, L) are log-probabilities now and when the sentence was said; `gain` (S,) its
    advantage.
    """
    ratio = (logs - old).exp()
    each = gain[:, None].expand_as(ratio)
    held = ratio.clamp(1 - weights.low, 1 + weights.high)
    return torch.minimum(ratio * each, held * each), held * each < ratio * each


def loss_of(
    logits: Tensor,
    reference: Tensor,
    tokens: Tensor,
    old: Tensor,
    gain: Tensor,
    weights: Weights,
) -> Loss:
    """The loss of sentences: all choices of all sentences weigh the same (DAPO, arXiv 2503.14476).

    `logits` and `reference` (S, L, V) of the policy and of the SFT policy, `tokens` (S, L) with -1
    after a sentence's end, `old` (S, L), `gain` (S,).
    """
    choice = choices(logits, tokens)
    gained, held = surrogate(log_probs(logits, tokens), old, gain, weights)
    far, wide = divergence(logits, reference), entropy(logits)
    gained, far, wide, held = (
        values[choice].float().mean() for values in (gained, far, wide, held)
    )
    total = -gained + weights.divergence * far - weights.entropy * wide
    return Loss(total, far.detach(), wide.detach(), held.detach())


def _finite(logs: Tensor) -> Tensor:
    """Log-probabilities with 0 for -inf, which a probability of 0 multiplies."""
    return torch.where(torch.isfinite(logs), logs, torch.zeros_like(logs))
