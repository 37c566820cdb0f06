"""How good predicted scores are, against images that were rendered. Pure numpy.

Predictions (pairs,) are aligned with `Pairs`. What GRPO needs is the order of the workflows *within* a
prompt, so most figures are one value per prompt (prompts,), NaN where nothing can be said, averaged by
`Bootstrap`. A prompt is judged if it has at least `FEWEST` workflows and these have different scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowdesign.reward.bootstrap import UNKNOWN, Bootstrap, Estimate, Statistic, Values
from flowdesign.reward.data import Rows
from flowdesign.reward.pairing import Pairs, equal_digits

FEWEST = 5  # workflows of a prompt whose order is judged


def spearman(one: Values, other: Values, weights: Values | None = None) -> float:
    """Spearman's rank correlation of (n,) values; ties share the mean of their ranks.

    `weights` say how often each value counts. NaN where either is constant.
    """
    often = np.ones(len(one)) if weights is None else weights
    return _correlation(_places(one), _places(other), often)


def overall_spearman(pairs: Pairs, values: Values, target: Values) -> Statistic:
    """Spearman of two values per pair over all pairs, as a figure of how often each prompt counts."""
    one, other = _places(values), _places(target)  # sorted once, not for every draw
    return lambda weights: _correlation(one, other, weights[pairs.prompt])


def _places(values: Values) -> Rows:
    """The place of each value among the distinct ones in order."""
    return np.unique(values, return_inverse=True)[1].ravel().astype(np.int64)


def _correlation(one: Rows, other: Rows, often: Values) -> float:
    """Spearman of values given by their places, where value i occurs `often[i]` times."""
    total = often.sum()
    if not total > 0:
        return math.nan
    a, b = (_ranks(places, often) for places in (one, other))
    a, b = a - (often @ a) / total, b - (often @ b) / total
    scale = math.sqrt((often @ (a * a)) * (often @ (b * b)))
    return float((often * a) @ b / scale) if scale > 0 else math.nan


def _ranks(places: Rows, often: Values) -> Values:
    """The mean rank of each value."""
    counts = np.bincount(places, often)
    ranks: Values = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def judged(pairs: Pairs, fewest: int = FEWEST) -> NDArray[np.bool_]:
    """Which prompts (prompts,) have enough workflows, with different scores, to be judged."""
    return np.array(
        [len(group) >= fewest and np.ptp(pairs.mean[group]) > 0 for group in pairs.groups()], bool
    )


def _judged(pairs: Pairs, fewest: int) -> Iterator[tuple[int, Rows]]:
    """The number and the pairs of each prompt that is judged."""
    groups = pairs.groups()
    for number in np.flatnonzero(judged(pairs, fewest)).tolist():
        yield number, groups[number]


def within_prompt(pairs: Pairs, predicted: Values, fewest: int = FEWEST) -> Values:
    """Spearman of predicted and true score over the workflows of each prompt (prompts,).

    A predictor that makes no difference between a judged prompt's workflows earns 0 there, so that all
    predictors are judged by the same prompts. Raises ValueError for predictions that are no numbers.
    """
    _check(pairs, predicted)
    found = np.full(len(pairs.prompts), np.nan)
    for number, group in _judged(pairs, fewest):
        one = spearman(equal_digits(predicted[group]), pairs.mean[group])
        found[number] = 0.0 if math.isnan(one) else one
    return found


def pair_accuracy(pairs: Pairs, predicted: Values, fewest: int = FEWEST) -> Values:
    """Of two workflows of a prompt, how often the better one is told (prompts,).

    Two that are truly equal are left out; two that are predicted equal count half. Chance is 0.5.
    """
    _check(pairs, predicted)
    found = np.full(len(pairs.prompts), np.nan)
    for number, group in _judged(pairs, fewest):
        first, second = np.triu_indices(len(group), 1)
        said, true = equal_digits(predicted[group]), pairs.mean[group]
        signs = np.sign(said[first] - said[second]) * np.sign(true[first] - true[second])
        different = true[first] != true[second]
        found[number] = np.mean(0.5 + 0.5 * signs[different])
    return found


@dataclass(frozen=True)
class Variances:
    """What the scores of single images vary by: `total` = `explainable` + `seed`."""

    seed: float
    explainable: float

    @property
    def total(self) -> float:
        """The variance of single scores, every pair counted alike."""
        return self.seed + self.explainable


def variances(pairs: Pairs) -> Callable[[Values], Variances]:
    """Part the variance of single scores into what the seed does and what can be explained.

    With y = t + e for image s of pair p (t the true score, e of mean 0 and variance v_p, independent
    between seeds), m_p images and the pair's mean Y:

        seed         the variance within pairs, pooled: sum of (m_p - 1) s_p^2 / sum of (m_p - 1)
        explainable  var(Y) - mean(noise of Y),   noise of Y = s_p^2 / m_p,  or seed / m_p for one image

    since E var(Y) = var(t) + mean(v_p / m_p). Every pair counts alike. Assumed: pairs with one image are
    as noisy as the others are on average. Given as a function of how often each prompt counts
    (prompts,); NaN where no pair has several images.
    """
    sums = _sums(pairs, np.zeros(len(pairs)))
    return lambda weights: _variances(weights @ sums)


def explained(pairs: Pairs, predicted: Values) -> Statistic:
    """The share of the explainable variance that predictions reach: 1 is all, 0 what a constant does.

        share = 1 - (MSE - mean(noise of Y)) / explainable,   MSE = mean((Y - predicted)^2)

    For E MSE = mean((t - predicted)^2) + mean(v_p / m_p), so a perfect predictor of t gets 1 whatever
    the number of seeds. With equally many images per pair this is the same number as that of single
    images, 1 - (MSE - seed) / (total - seed). NaN where nothing can be explained.
    """
    _check(pairs, predicted)
    sums = _sums(pairs, predicted)

    def share(weights: Values) -> float:
        chosen = weights @ sums
        explainable = _variances(chosen).explainable
        if not explainable > 0:
            return math.nan
        return float(1 - (chosen[3] - chosen[4]) / chosen[0] / explainable)

    return share


def _sums(pairs: Pairs, predicted: Values) -> Values:
    """Per prompt (prompts, 7): pairs, means, their squares, squared misses, noise, and what the pooled
    seed variance is made of."""
    repeated = pairs.count > 1
    within = np.where(repeated, (pairs.count - 1) * pairs.variance, 0.0)
    freedom = np.where(repeated, pairs.count - 1, 0.0)
    pooled = within.sum() / freedom.sum() if freedom.any() else math.nan
    noise = np.where(repeated, pairs.variance, pooled) / pairs.count
    centred = (
        pairs.mean - pairs.mean.mean() if len(pairs) else pairs.mean
    )  # squares keep their digits
    columns = (
        np.ones(len(pairs)), centred, centred**2, (pairs.mean - predicted) ** 2,
        noise, within, freedom,
    )  # fmt: skip
    return np.stack([pairs.per_prompt(column) for column in columns], 1)


def _variances(sums: Values) -> Variances:
    count, total, squares, _, noise, within, freedom = sums
    if not freedom > 0:
        return Variances(math.nan, math.nan)
    between = squares / count - (total / count) ** 2
    return Variances(float(within / freedom), float(between - noise / count))


def coverage(
    pairs: Pairs, low: Values, high: Values, bootstrap: Bootstrap
) -> tuple[Estimate, Estimate]:
    """The share of single images whose score lies in its pair's interval, and the mean width."""
    inside = (pairs.score >= low[pairs.pair]) & (pairs.score <= high[pairs.pair])
    images = pairs.per_prompt_images(np.ones(len(pairs.pair)))
    covered = pairs.per_prompt_images(inside.astype(float))
    width = pairs.per_prompt_images((high - low)[pairs.pair])
    return bootstrap.ratio(covered, images), bootstrap.ratio(width, images)


def spread_against_error(pairs: Pairs, predicted: Values, spread: Values) -> Statistic:
    """Spearman of the spread and |predicted - true score| over all pairs."""
    _check(pairs, predicted)
    return overall_spearman(pairs, equal_digits(spread), np.abs(predicted - pairs.mean))


def growth(
    inside: Values, inside_prompt: Rows, outside: Values, outside_prompt: Rows, seed: int
) -> Estimate:
    """How many times as large the mean spread is outside what was learned from as it is inside.

    Spreads (n,) and the prompt of each, any numbers. Both sides are bootstrapped over their prompts,
    independently. Cannot be said where there is no spread inside, as of a single member. Raises ValueError
    for no spreads.
    """
    if not len(inside) or not len(outside):
        raise ValueError("The growth of the spread needs predictions inside and outside.")
    if not inside.any():
        return UNKNOWN
    sums = []
    for spread, prompt, chance in ((inside, inside_prompt, 0), (outside, outside_prompt, 1)):
        which = np.unique(prompt, return_inverse=True)[1].ravel()
        both = np.stack([np.bincount(which, spread), np.bincount(which).astype(float)], 1)
        rng = np.random.default_rng([seed, chance])
        drawn = rng.multinomial(len(both), np.full(len(both), 1 / len(both)), size=1000)
        total = np.concatenate([both.sum(0)[None], drawn @ both])
        sums.append(total[:, 0] / total[:, 1])
    ratios = sums[1] / sums[0]
    low, high = np.quantile(ratios[1:], [0.025, 0.975])
    return Estimate(float(ratios[0]), float(low), float(high))


def _check(pairs: Pairs, predicted: Values) -> None:
    if predicted.shape != (len(pairs),):
        raise ValueError(f"{len(pairs)} pairs need as many predictions, not {predicted.shape}.")
    if not np.isfinite(predicted).all():
        bad = int(np.sum(~np.isfinite(predicted)))
        raise ValueError(f"{bad} of {len(pairs)} predictions are no numbers.")
