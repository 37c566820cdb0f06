"""Metrics of predicted scores: by hand, against scipy, and against worlds whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from reward_tables import cube_pairs, pairs_of
from scipy import stats

from flowdesign.reward.bootstrap import Bootstrap, Estimate
from flowdesign.reward.metrics import (
    coverage,
    explained,
    growth,
    judged,
    overall_spearman,
    pair_accuracy,
    spearman,
    spread_against_error,
    variances,
    within_prompt,
)
from flowdesign.reward.pairing import Pairs
from flowdesign.reward.regret import top_one

ALL = np.ones


def test_spearman_is_that_of_scipy_with_ties_too() -> None:
    rng = np.random.default_rng(0)
    for ties in (2, 5, 1000):
        one, other = rng.integers(ties, size=(2, 40)).astype(float)
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert math.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert math.isnan(spearman(np.zeros(0), np.zeros(0)))


def test_a_weight_is_a_repetition() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.integers(6, size=(2, 30)).astype(float)
    often = rng.integers(4, size=30)
    repeated = stats.spearmanr(np.repeat(one, often), np.repeat(other, often)).statistic
    assert spearman(one, other, often.astype(float)) == pytest.approx(repeated)


def test_pairs_gather_seeds_and_count_an_image_once() -> None:
    pairs = pairs_of(
        [(0, 1, 5, 1.0), (0, 1, 6, 0.0), (0, 0, 5, 2.0), (0, 1, 5, 1.0), (2, 0, 5, 4.0)]
    )
    assert pairs.mean.tolist() == [2.0, 0.5, 4.0]
    assert pairs.count.tolist() == [1, 2, 1]
    assert pairs.variance[1] == 0.5
    assert np.isnan(pairs.variance[[0, 2]]).all()
    assert pairs.prompts.tolist() == [0, 2]
    assert pairs.prompt.tolist() == [0, 0, 1]


def test_the_order_of_a_sum_breaks_no_tie() -> None:
    scores = ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
    assert sum(scores[0]) != sum(scores[1])
    pairs = cube_pairs(np.array([scores]))
    assert pairs.mean[0] == pairs.mean[1]


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 scores"):
        pairs_of([(0, 0, 0, math.nan), (0, 1, 0, 1.0)])
    pairs = cube_pairs(np.arange(5.0).reshape(1, 5, 1))
    with pytest.raises(ValueError, match="1 of 5 predictions"):
        within_prompt(pairs, np.array([0, 1, 2, 3, math.nan]))
    with pytest.raises(ValueError, match="5 pairs"):
        within_prompt(pairs, np.zeros(4))


def _three_prompts() -> tuple[Pairs, np.ndarray]:
    """Prompt 0 in order, 1 reversed, 2 with equal scores, 3 with too few workflows."""
    true = [(0, range(5)), (1, range(5)), (2, [7] * 5), (3, range(4))]
    rows = [(p, w, 0, float(score)) for p, scores in true for w, score in enumerate(scores)]
    said = [0, 1, 2, 3, 9, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4, 0, 1, 2, 3]
    return pairs_of(rows), np.array(said, float)


def test_within_prompt_by_hand() -> None:
    pairs, said = _three_prompts()
    assert judged(pairs).tolist() == [True, True, False, False]
    assert judged(pairs, fewest=4).tolist() == [True, True, False, True]
    np.testing.assert_allclose(within_prompt(pairs, said), [1, -1, np.nan, np.nan])
    np.testing.assert_allclose(pair_accuracy(pairs, said), [1, 0, np.nan, np.nan])


def test_a_predictor_that_makes_no_difference_is_judged_as_such() -> None:
    pairs, _ = _three_prompts()
    same = np.full(len(pairs), 3.0)
    np.testing.assert_allclose(within_prompt(pairs, same), [0, 0, np.nan, np.nan])
    np.testing.assert_allclose(pair_accuracy(pairs, same), [0.5, 0.5, np.nan, np.nan])


def test_pair_accuracy_leaves_true_ties_out_and_halves_predicted_ones() -> None:
    pairs = cube_pairs(np.array([[[1.0], [1.0], [2.0], [3.0]]]))
    said = np.array([5.0, 0.0, 5.0, 6.0])
    # Of six, one is a true tie. 0-2 is a predicted tie; 0-3, 1-2, 1-3 and 2-3 are right.
    assert pair_accuracy(pairs, said, fewest=4)[0] == pytest.approx(4.5 / 5)


def test_variances_by_hand() -> None:
    # Means 1 and 4, variances within 2 and 0 (two images), and a single image at 1.
    pairs = pairs_of(
        [(0, 0, 0, 0.0), (0, 0, 1, 2.0), (1, 1, 0, 4.0), (1, 1, 1, 4.0), (2, 0, 0, 1.0)]
    )
    found = variances(pairs)(ALL(3))
    assert found.seed == pytest.approx(1.0)
    # Noise of the means: 2/2, 0/2, and the pooled 1/1. Variance of (1, 4, 1) is 2.
    assert found.explainable == pytest.approx(2 - 2 / 3)
    assert found.total == pytest.approx(3 - 2 / 3)


def test_explained_by_hand() -> None:
    pairs = pairs_of(
        [(0, 0, 0, 0.0), (0, 0, 1, 2.0), (1, 1, 0, 4.0), (1, 1, 1, 4.0), (2, 0, 0, 1.0)]
    )
    assert explained(pairs, np.full(3, 2.0))(ALL(3)) == pytest.approx(0)  # the mean of all
    said = np.array([1.0, 3.0, 1.0])  # MSE 1/3
    assert explained(pairs, said)(ALL(3)) == pytest.approx(1 - (1 / 3 - 2 / 3) / (4 / 3))


def test_explained_is_that_of_single_images_where_all_pairs_have_equally_many() -> None:
    rng = np.random.default_rng(2)
    cube = rng.normal(size=(6, 1, 1)) + rng.normal(size=(6, 7, 1)) + rng.normal(size=(6, 7, 3))
    pairs, said = cube_pairs(cube), rng.normal(size=42)
    seed = cube.var(2, ddof=1).mean()
    error = ((cube - said.reshape(6, 7, 1)) ** 2).mean()
    share = explained(pairs, said)(ALL(6))
    assert share == pytest.approx(1 - (error - seed) / (cube.var() - seed))


@pytest.mark.parametrize("single", [0.0, 0.7])
def test_a_perfect_predictor_explains_all_and_variances_are_the_true_ones(single: float) -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(size=(300, 1)) + rng.normal(size=(300, 20))
    sd = rng.choice([0.2, 1.5], size=(300, 20))  # pairs differ in noise
    cube = true[..., None] + sd[..., None] * rng.normal(size=(300, 20, 3))
    cube[rng.random((300, 20)) < single, 1:] = np.nan
    pairs = cube_pairs(cube)
    found = variances(pairs)(ALL(300))
    assert found.seed == pytest.approx((0.2**2 + 1.5**2) / 2, rel=0.05)
    assert found.explainable == pytest.approx(true.var(), rel=0.05)
    assert explained(pairs, true.ravel())(ALL(300)) == pytest.approx(1, abs=0.04)
    half = 0.5 * true.ravel()
    assert explained(pairs, half)(ALL(300)) == pytest.approx(0.75, abs=0.05)


def test_without_repeated_seeds_nothing_is_said_of_noise() -> None:
    pairs = cube_pairs(np.arange(10.0).reshape(2, 5, 1))
    assert math.isnan(variances(pairs)(ALL(2)).explainable)
    assert math.isnan(explained(pairs, np.zeros(10))(ALL(2)))
    assert np.isnan(top_one(pairs, np.zeros(10), seed=0).chosen).all()


def test_overall_spearman_and_spread_against_error_are_those_of_scipy() -> None:
    rng = np.random.default_rng(4)
    pairs = cube_pairs(rng.normal(size=(3, 8, 2)))
    said, spread = rng.normal(size=24), rng.random(24)
    overall = stats.spearmanr(said, pairs.mean).statistic
    assert overall_spearman(pairs, said, pairs.mean)(ALL(3)) == pytest.approx(overall)
    miss = stats.spearmanr(spread, np.abs(said - pairs.mean)).statistic
    assert spread_against_error(pairs, said, spread)(ALL(3)) == pytest.approx(miss)
    # A prompt drawn twice, another not at all.
    twice = np.r_[0:8, 0:8, 16:24]
    drawn = stats.spearmanr(said[twice], pairs.mean[twice]).statistic
    assert overall_spearman(pairs, said, pairs.mean)(np.array([2.0, 0, 1])) == pytest.approx(drawn)


def test_coverage_is_of_single_images() -> None:
    pairs = cube_pairs(np.array([[[0.0, 2.0]], [[5.0, 5.0]]]))
    low, high = np.array([0.0, 0.0]), np.array([1.0, 4.0])
    covered, width = coverage(pairs, low, high, Bootstrap(2, 0))
    assert covered.value == 0.25  # the bound itself is inside
    assert width.value == 2.5


def test_top_one_by_hand() -> None:
    # Two seeds that agree but for workflow 4: by each alone another one is best.
    cube = np.array([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [9.0, 0.0]]])
    pairs = cube_pairs(cube)
    found = top_one(pairs, np.array([0.0, 0, 1, 0, 0]), seed=0)
    assert found.chosen[0] == pytest.approx(3.0)
    # The seed of 9 chooses workflow 4, which the other measures as 0; the other one chooses 4.
    assert found.best[0] == pytest.approx((0 + 4) / 2)
    assert found.random[0] == pytest.approx((10 + 19) / 2 / 5)
    assert found.candidates[0] == 5
    tied = top_one(pairs, np.array([1.0, 1, 0, 0, 0]), seed=0)
    assert tied.chosen[0] == pytest.approx(1.5)


def test_regret_in_a_world_with_known_truth() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(size=(60, 40))
    pairs = cube_pairs(true[..., None] + rng.normal(size=(60, 40, 8)))
    bootstrap = Bootstrap(60, 0)
    perfect = top_one(pairs, true.ravel(), seed=1)
    blind = top_one(pairs, rng.normal(size=2400), seed=1)
    tied = top_one(pairs, np.zeros(2400), seed=1)
    assert perfect.chosen.mean() == pytest.approx(true.max(1).mean(), abs=0.15)
    assert perfect.regret(bootstrap).value > 0  # four seeds err more often than the truth
    assert perfect.regret(bootstrap).value < 0.35
    assert tied.share(bootstrap).value == pytest.approx(-1)
    share = blind.share(bootstrap)
    assert share.value == pytest.approx(-1, abs=0.3)
    assert share.low < share.value < share.high < -0.7
    # Choosing and measuring on the same seeds would have found a best that is noise.
    naive = pairs.mean.reshape(60, 40).max(1).mean()
    assert naive > true.max(1).mean() + 0.05
    assert perfect.best.mean() < true.max(1).mean()


def test_regret_is_among_so_many_workflows() -> None:
    rng = np.random.default_rng(6)
    pairs = cube_pairs(rng.normal(size=(3, 90, 2)))
    assert top_one(pairs, rng.normal(size=270), seed=0).candidates.tolist() == [64] * 3
    few = top_one(pairs, rng.normal(size=270), seed=0, among=10)
    assert few.candidates.tolist() == [10] * 3
    assert few.best.mean() < 1


def test_growth_of_the_spread() -> None:
    rng = np.random.default_rng(7)
    prompts = np.repeat(np.arange(40), 5)
    inside = 1 + 0.2 * rng.normal(size=200)
    found = growth(inside, prompts, 2 * inside, prompts + 100, seed=0)
    assert found.value == pytest.approx(2)
    assert 1.8 < found.low < 2 < found.high < 2.2
    assert growth(inside, prompts, inside[:50], prompts[:50], seed=0).low < 1
    with pytest.raises(ValueError, match="inside and outside"):
        growth(inside, prompts, np.zeros(0), np.zeros(0, np.int64), seed=0)


@pytest.mark.filterwarnings("error")
def test_a_member_alone_has_no_spread_that_could_grow() -> None:
    prompts = np.arange(5)
    found = growth(np.zeros(5), prompts, np.zeros(5), prompts, seed=0)
    assert found.to_json() == {"value": None, "low": None, "high": None}


def test_an_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(8).normal(size=400)
    values[:10] = np.nan
    found = Bootstrap(400, 0).mean(values)
    error = stats.sem(values[10:])
    assert found.value == pytest.approx(np.nanmean(values))
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.25 * error)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(9)
    inside = 0
    for seed in range(200):
        prompts = rng.normal(size=50)  # images of one prompt are alike
        found = Bootstrap(50, seed, times=300).ratio(8 * (prompts + 1), np.full(50, 8.0))
        inside += found.low <= 1 <= found.high
    assert 178 <= inside <= 200


def test_draws_are_shared_so_a_difference_is_paired() -> None:
    rng = np.random.default_rng(10)
    one = rng.normal(size=30) * 5
    bootstrap = Bootstrap(30, 0)
    apart = bootstrap.mean(one + 0.1)
    together = bootstrap.mean(one + 0.1 - one)
    assert apart.low < 0
    assert together.low == pytest.approx(0.1)
    assert bootstrap.of(lambda weights: float(weights @ one / weights.sum())).low == pytest.approx(
        bootstrap.mean(one).low
    )
    assert Bootstrap(30, 0).mean(one) == bootstrap.mean(one)
    assert Bootstrap(30, 1).mean(one) != bootstrap.mean(one)


def test_what_cannot_be_said_is_null() -> None:
    assert Bootstrap(0, 0).of(lambda weights: 1.0).to_json() == {
        "value": None,
        "low": None,
        "high": None,
    }
    assert math.isnan(Bootstrap(3, 0).ratio(ALL(3), np.zeros(3)).value)
    assert math.isnan(Bootstrap(3, 0).mean(np.full(3, np.nan)).value)
    alone = Bootstrap(1, 0).mean(np.array([2.0]))
    assert (alone.value, math.isnan(alone.low)) == (2, True)
    assert Estimate(1 / 3, 0, 1).to_json() == {"value": 0.333333, "low": 0, "high": 1}
