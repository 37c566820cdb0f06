"""The noise ceiling, in worlds where it is known what a perfect predictor reaches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from reward_tables import cube_pairs

from flowdesign.reward.bootstrap import Values
from flowdesign.reward.ceiling import reliabilities, within_ceiling
from flowdesign.reward.metrics import within_prompt

World = Callable[[np.random.Generator, int, int], tuple[Values, Values]]
PROMPTS = 40
LEVELS = np.array([0.0, 0.33, 0.5, 1.0])


def _normal(rng: np.random.Generator, workflows: int, seeds: int) -> tuple[Values, Values]:
    true = rng.normal(size=(PROMPTS, workflows))
    return true, true[..., None] + 1.2 * rng.normal(size=(PROMPTS, workflows, seeds))


def _prompts_differ(rng: np.random.Generator, workflows: int, seeds: int) -> tuple[Values, Values]:
    """Some prompts are all noise, some have next to none."""
    true = rng.normal(size=(PROMPTS, workflows))
    sd = np.resize([0.3, 1.0, 3.0], (PROMPTS, 1, 1))
    return true, true[..., None] + sd * rng.normal(size=(PROMPTS, workflows, seeds))


def _seeds_shift_all(rng: np.random.Generator, workflows: int, seeds: int) -> tuple[Values, Values]:
    """A seed is good or bad for all workflows alike, which moves no rank."""
    true, scores = _normal(rng, workflows, seeds)
    return true, scores + 1.5 * rng.normal(size=(PROMPTS, 1, seeds))


def _success(rng: np.random.Generator, workflows: int, seeds: int) -> tuple[Values, Values]:
    true = rng.beta(0.5, 0.8, size=(PROMPTS, workflows))
    return true, (rng.random((PROMPTS, workflows, seeds)) < true[..., None]).astype(float)


def _levels(rng: np.random.Generator, workflows: int, seeds: int) -> tuple[Values, Values]:
    """Four levels, as the scene judge has them, and workflows that always fail."""
    chances = rng.dirichlet([0.4, 0.3, 0.3, 0.5], size=(PROMPTS, workflows))
    fails = rng.random((PROMPTS, workflows)) < np.resize([0.1, 0.5, 0.8], (PROMPTS, 1))
    chances[fails] = [1.0, 0, 0, 0]
    upto = chances.cumsum(-1)[:, :, None, :3]
    drawn = (rng.random((PROMPTS, workflows, seeds, 1)) > upto + 1e-12).sum(-1)
    return chances @ LEVELS, LEVELS[drawn]


def _reached(true: Values, cube: Values, own_seeds: bool = False) -> tuple[float, float]:
    """What the true scores reach, and the estimate that does not know them."""
    pairs = cube_pairs(cube, own_seeds)
    perfect = within_prompt(pairs, true.ravel())
    ceiling = within_ceiling(pairs, seed=0, worlds=6)
    assert (np.isfinite(ceiling) == np.isfinite(perfect)).all()
    return float(np.nanmean(perfect)), float(np.nanmean(ceiling))


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize(
    "world",
    [_normal, _prompts_differ, _seeds_shift_all, _success, _levels],
    ids=lambda w: w.__name__,
)
def test_the_ceiling_is_what_a_perfect_predictor_reaches(world: World, seeds: int) -> None:
    truth, estimate = _reached(*world(np.random.default_rng(1), 64, seeds))
    assert 0.6 < truth < 0.97
    assert estimate == pytest.approx(truth, abs=0.04)


def test_few_workflows_and_seeds_of_their_own() -> None:
    truth, estimate = _reached(*_normal(np.random.default_rng(2), 20, 4), own_seeds=True)
    assert estimate == pytest.approx(truth, abs=0.04)


def test_most_pairs_have_one_seed() -> None:
    rng = np.random.default_rng(3)
    true, cube = _normal(rng, 64, 4)
    single = rng.random(true.shape) < 0.7
    kept = rng.integers(4, size=true.shape)
    cube[single[..., None] & (np.arange(4) != kept[..., None])] = np.nan
    truth, estimate = _reached(true, cube)
    assert truth < 0.75
    assert estimate == pytest.approx(truth, abs=0.04)


def test_pure_noise_has_a_low_ceiling_and_no_noise_a_ceiling_of_one() -> None:
    rng = np.random.default_rng(4)
    noise = within_ceiling(cube_pairs(rng.normal(size=(PROMPTS, 64, 4))), seed=0, worlds=4)
    assert np.nanmean(noise) < 0.2
    fixed = np.repeat(rng.normal(size=(5, 20, 1)), 3, axis=2)
    np.testing.assert_allclose(within_ceiling(cube_pairs(fixed), seed=0, worlds=4), 1.0)


def test_without_repeated_seeds_there_is_no_ceiling() -> None:
    rng = np.random.default_rng(5)
    assert np.isnan(within_ceiling(cube_pairs(rng.normal(size=(3, 20, 1))), seed=0)).all()
    same = np.ones((3, 20, 2))
    assert np.isnan(within_ceiling(cube_pairs(same), seed=0)).all()


def test_reliability_by_hand_of_a_prompt_alone() -> None:
    # Seeds (0, 1, 2) and (1, 1, 4): covariance 1.5, variances 1 and 3; no other prompt to lean on.
    grid = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]])
    assert reliabilities([grid]).tolist() == pytest.approx([1.5 / 2])
    # Towards the share of all by as much as ten workflows would.
    noisy = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, 0.0]])  # covariance -0.5, variances 1 and 1
    everywhere = (0.75 - 0.5) / 2
    expected = [(3 * 0.75 + 10 * everywhere) / 13, 0.0]  # not below nought
    assert reliabilities([grid, noisy]).tolist() == pytest.approx(expected)


def test_equal_seeds_give_equal_ceilings() -> None:
    _, cube = _success(np.random.default_rng(6), 20, 4)
    pairs = cube_pairs(cube)
    np.testing.assert_array_equal(
        within_ceiling(pairs, seed=3, worlds=3), within_ceiling(pairs, seed=3, worlds=3)
    )
