"""GRPO's formulas against numbers worked by hand, and against torch's own distributions."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from flowdesign.grpo.objective import (
    Weights,
    advantages,
    contrasted,
    divergence,
    entropy,
    loss_of,
    surrogate,
)
from flowdesign.sampling import log_probs

OUT = -math.inf


def test_advantages_are_standard_scores_within_the_group() -> None:
    rewards = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    # mean 3; deviations -2, -1, 0, 3; variance 14 / 4
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0]) / math.sqrt(3.5)
    found = advantages(rewards)
    assert torch.allclose(found[0], expected)
    assert torch.equal(found[1], torch.zeros(4))
    assert torch.allclose(advantages(rewards, scaled=False)[0], torch.tensor([-2.0, -1.0, 0, 3.0]))


def test_a_group_of_almost_equal_rewards_does_not_explode() -> None:
    found = advantages(torch.tensor([[1.0, 1.0 + 1e-6]]))
    assert torch.equal(found, torch.zeros(1, 2))


def test_contrast_takes_away_what_a_workflow_earns_elsewhere() -> None:
    """Workflow 0 of each prompt suits both foils as well, workflow 1 its own prompt only."""
    own = torch.tensor([[2.0, 1.0], [3.0, 1.0]])
    elsewhere = torch.tensor([[[1.0, 3.0], [0.0, 0.0]], [[3.0, 3.0], [-1.0, -1.0]]])
    assert torch.equal(contrasted(own, elsewhere, 0.0), own)
    assert torch.equal(contrasted(own, elsewhere, 1.0), torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    assert torch.equal(contrasted(own, elsewhere, 0.5), torch.tensor([[1.0, 1.0], [1.5, 1.5]]))
    assert torch.equal(contrasted(own, elsewhere[..., :0], 1.0), own)


def test_the_surrogate_by_hand() -> None:
    """Ratios 1.5, 1.1, 0.5 with advantages of both signs, clipped to 0.8 .. 1.3."""
    weights = Weights(low=0.2, high=0.3)
    ratios = torch.tensor([[1.5, 1.1, 0.5]])
    logs, old = ratios.log(), torch.zeros(1, 3)
    better, held = surrogate(logs, old, torch.tensor([2.0]), weights)
    assert torch.allclose(better, torch.tensor([[2.6, 2.2, 1.0]]))
    assert held.tolist() == [[True, False, False]]
    worse, held = surrogate(logs, old, torch.tensor([-2.0]), weights)
    assert torch.allclose(worse, torch.tensor([[-3.0, -2.2, -1.6]]))
    assert held.tolist() == [[False, False, True]]


def test_a_clipped_choice_has_no_gradient() -> None:
    logs = torch.tensor([[math.log(1.5), math.log(1.1)]], requires_grad=True)
    gained, _ = surrogate(logs, torch.zeros(1, 2), torch.tensor([1.0]), Weights())
    gained.sum().backward()
    assert logs.grad is not None
    assert logs.grad[0, 0] == 0 and logs.grad[0, 1] == pytest.approx(1.1)


def some_logits(seed: int) -> Tensor:
    """Logits (3, 4, 6) where some words may not be said."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 6, generator=generator)
    logits[:, 1, 2:] = OUT
    logits[:, 2, 1:] = OUT  # forced
    return logits


def test_entropy_and_divergence_are_those_of_torch() -> None:
    one, other = some_logits(0), some_logits(1)
    mine = Categorical(logits=one)
    assert torch.allclose(entropy(one), mine.entropy(), atol=1e-6)
    for place in (0, 1, 3):
        allowed = torch.isfinite(one[0, place])
        expected = kl_divergence(
            Categorical(logits=one[:, place, allowed]), Categorical(logits=other[:, place, allowed])
        )
        assert torch.allclose(divergence(one, other)[:, place], expected, atol=1e-6)
    assert torch.equal(divergence(one, other)[:, 2], torch.zeros(3))
    assert torch.allclose(divergence(one, one), torch.zeros(3, 4), atol=1e-7)
    assert torch.allclose(
        log_probs(one, torch.zeros(3, 4, dtype=torch.long)), mine.log_prob(torch.zeros(3, 4))
    )


def test_the_loss_counts_choices_alone_and_all_the_same() -> None:
    """Two words with even odds at every place; the second sentence has one choice, the first three."""
    logits = torch.zeros(2, 4, 2)
    logits[0, 3, 1] = OUT  # forced: no choice
    tokens = torch.tensor([[0, 1, 0, 0], [1, -1, -1, -1]])
    old = torch.full((2, 4), -math.log(2))
    reference = torch.zeros(2, 4, 2)
    reference[..., 0] = math.log(3)  # odds of 3 to 1
    reference[0, 3, 1] = OUT
    gain = torch.tensor([1.0, -2.0])
    found = loss_of(logits, reference, tokens, old, gain, Weights(divergence=0.5, entropy=0.1))
    far = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    gained = (3 * 1.0 - 2.0) / 4
    assert float(found.divergence) == pytest.approx(far)
    assert float(found.entropy) == pytest.approx(math.log(2))
    assert float(found.total) == pytest.approx(-gained + 0.5 * far - 0.1 * math.log(2))
    assert float(found.clipped) == 0.0


def test_the_gradient_is_that_of_the_plain_policy_gradient_at_the_start() -> None:
    """With the ratio at 1, no divergence and no entropy: -mean of advantage x grad log pi."""
    logits = some_logits(2).requires_grad_()
    tokens = torch.tensor([[0, 1, 0, 3], [2, 0, 0, -1], [5, 1, 0, 0]])
    gain = torch.tensor([1.0, -0.5, 2.0])
    old = log_probs(logits.detach(), tokens)
    loss_of(logits, logits.detach(), tokens, old, gain, Weights(divergence=0.0)).total.backward()
    mine = logits.grad
    again = some_logits(2).requires_grad_()
    choice = (torch.isfinite(again).sum(-1) > 1) & (tokens >= 0)
    wanted = -(log_probs(again, tokens) * gain[:, None])[choice].mean()
    wanted.backward()
    assert mine is not None and again.grad is not None
    assert torch.isfinite(mine).all()
    assert torch.allclose(mine, again.grad, atol=1e-7)
