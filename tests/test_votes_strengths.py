"""Bradley-Terry with ties: against closed forms, and against a general optimiser on its own terms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import minimize

from flowdesign.votes import Outcome, Strength, bradley_terry, combine
from flowdesign.votes.strengths import (
    SPREAD,
    TIES,
    TIES_SPREAD,
    information,
    posterior,
    probabilities,
)

WIDE = 1e4  # a prior this wide says nothing


def votes(left: int, right: int, counts: Sequence[int]) -> list[Outcome]:
    """So many votes for left, for right and ties."""
    kinds = zip(("left", "right", "tie"), counts, strict=True)
    return [Outcome(left, right, kind) for kind, count in kinds for _ in range(count)]


def drawn(size: int, groups: int, count: int, seed: int = 0) -> list[Outcome]:
    """Votes that follow the model, on `groups` groups of `size` items."""
    chance = np.random.default_rng(seed)
    strength = chance.normal(0, 1, size * groups)
    found = []
    for _ in range(count):
        left, right = chance.choice(size, 2, replace=False) + size * chance.integers(groups)
        chances = probabilities(strength[left] - strength[right], 0.6)
        choice = ("left", "right", "tie")[chance.choice(3, p=chances)]
        found.append(Outcome(int(left), int(right), choice))
    return found


def test_two_items_have_the_odds_of_their_wins_and_the_rate_of_their_ties() -> None:
    """Davidson's maximum for two items: exp(d) = wins / losses, nu = ties / sqrt(wins losses)."""
    found = bradley_terry(votes(1, 2, (30_000, 10_000, 20_000)), spread=WIDE)
    assert found.items[1].value - found.items[2].value == pytest.approx(math.log(3), abs=1e-4)
    assert found.nu == pytest.approx(2 / math.sqrt(3), rel=1e-3)


def test_the_error_of_two_even_items_is_that_of_the_fisher_information() -> None:
    """40 wins each and 20 ties hold 100 * 0.8 / 4 = 20 about d; each item has half of d's error."""
    found = bradley_terry(votes(1, 2, (40, 40, 20)), spread=WIDE)
    assert found.items[1].value == pytest.approx(0, abs=1e-6)
    assert found.items[1].error == pytest.approx(math.sqrt(1 / 20) / 2, rel=1e-2)
    assert found.items[1].votes == 100


def test_the_fit_is_the_optimum_that_a_general_optimiser_finds() -> None:
    """Values, nu and errors against BFGS and numerical derivatives of the log-posterior."""
    data, size, groups = drawn(6, 2, 300), 12, 2
    found = bradley_terry(data)

    def loss(point: np.ndarray) -> float:
        strength, log_nu, total = point[:size], point[size], 0.0
        for left, right, choice in data:
            half = (strength[left] - strength[right]) / 2
            logits = {"left": half, "right": -half, "tie": log_nu}
            total += logits[choice] - math.log(sum(math.exp(one) for one in logits.values()))
        prior = (strength**2).sum() / SPREAD**2 + ((log_nu - TIES) / TIES_SPREAD) ** 2
        return float(prior / 2 - total)

    best = minimize(loss, np.zeros(size + 1), method="BFGS", options={"gtol": 1e-7}).x
    values = [found.items[item].value for item in range(size)]
    assert values == pytest.approx(best[:size], abs=2e-5)
    assert math.log(found.nu) == pytest.approx(best[size], abs=2e-5)

    step, around = 1e-3, np.eye(size + 1) * 1e-3
    curvature = np.array(
        [
            [
                loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b)
                for b in around
            ]
            for a in around
        ]
    ) / (4 * step**2)
    centred = np.eye(size) - np.kron(np.eye(groups), np.full((6, 6), 1 / 6))
    covariance = centred @ np.linalg.inv(curvature)[:size, :size] @ centred.T
    errors = [found.items[item].error for item in range(size)]
    assert errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)


def test_sides_and_order_do_not_matter() -> None:
    data = drawn(5, 1, 80)
    swap = {"left": "right", "right": "left", "tie": "tie"}
    turned = [Outcome(right, left, swap[choice]) for left, right, choice in reversed(data)]
    one, other = bradley_terry(data), bradley_terry(turned)
    for item, strength in one.items.items():
        assert other.items[item].value == pytest.approx(strength.value, abs=1e-8)
        assert other.items[item].error == pytest.approx(strength.error, abs=1e-8)


def test_an_unbeaten_item_stays_finite_and_first() -> None:
    found = bradley_terry(votes(1, 2, (50, 0, 0)) + votes(2, 3, (50, 0, 0)))
    values = [found.items[item].value for item in (1, 2, 3)]
    assert values == sorted(values, reverse=True)
    assert all(abs(value) < 5 for value in values)
    assert all(math.isfinite(one.error) and one.error > 0 for one in found.items.values())


def test_more_votes_mean_smaller_errors_and_more_certainty() -> None:
    few, many = bradley_terry(votes(1, 2, (3, 1, 1))), bradley_terry(votes(1, 2, (300, 100, 100)))
    assert many.items[1].error < few.items[1].error / 3
    assert 0 < few.items[1].certainty < many.items[1].certainty <= 1


def test_groups_are_what_votes_connect_and_each_is_centred() -> None:
    found = bradley_terry(votes(1, 2, (9, 1, 0)) + votes(2, 3, (2, 1, 1)) + votes(7, 8, (1, 0, 0)))
    groups = {item: one.group for item, one in found.items.items()}
    assert groups[1] == groups[2] == groups[3] != groups[7] == groups[8]
    assert sum(found.items[item].value for item in (1, 2, 3)) == pytest.approx(0, abs=1e-8)


def test_no_votes_give_no_items() -> None:
    assert bradley_terry([]).items == {}


@pytest.mark.parametrize(
    ("data", "spread", "words"),
    [
        ([Outcome(1, 1, "tie")], 1.0, "itself"),
        ([Outcome(1, 2, "both")], 1.0, "left, right, tie"),  # type: ignore[arg-type]
        ([Outcome(1, 2, "tie")], 0.0, "above 0"),
    ],
)
def test_what_is_no_vote_is_refused(data: list[Outcome], spread: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bradley_terry(data, spread)


def test_the_posterior_of_some_items_is_that_of_the_whole_fit() -> None:
    data = drawn(5, 1, 60)
    whole = bradley_terry(data)
    means, covariance = posterior(range(5), data, np.zeros(5), whole.nu)
    assert means == pytest.approx([whole.items[item].value for item in range(5)], abs=1e-6)
    assert np.all(np.linalg.eigvalsh(covariance) > 0)
    unknown = posterior([1, 2], [], np.array([0.5, -0.5]), 0.5)
    assert unknown[0] == pytest.approx([0.5, -0.5])
    assert unknown[1] == pytest.approx(np.eye(2) * SPREAD**2)


def test_probabilities_add_up_and_information_is_their_curvature() -> None:
    chances = probabilities(np.array([0.0, 2.0, -50.0]), 0.5)
    assert chances.sum(axis=1) == pytest.approx(1)
    assert chances[0] == pytest.approx([0.4, 0.4, 0.2])
    assert chances[2][1] == pytest.approx(1)
    near, step = np.array(0.7), 1e-4
    # Fisher information: the expected square of the derivative of the log-probability.
    slopes = np.log(probabilities(near + step, 0.5)) - np.log(probabilities(near - step, 0.5))
    expected = (probabilities(near, 0.5) * (slopes / (2 * step)) ** 2).sum()
    assert float(information(near, 0.5)) == pytest.approx(float(expected), rel=1e-5)


def strength(value: float, certainty: float, group: int = 0) -> Strength:
    return Strength(value, 0.1, group, 10, certainty)


def test_votes_move_an_image_within_its_group_as_far_as_they_are_certain() -> None:
    automatic = {1: 1.0, 2: 3.0, 3: 7.0}
    known = {1: strength(1.5, 1.0), 2: strength(-1.5, 0.5)}
    assert combine(known, automatic, 0.0) == automatic
    all_votes = combine(known, automatic, 1.0, scale=1.0)
    assert all_votes == pytest.approx({1: 2 + 1.5, 2: (3 + (2 - 1.5)) / 2, 3: 7.0})
    half = combine(known, automatic, 0.5, scale=1.0)
    assert half[1] == pytest.approx((1.0 + 3.5) / 2)
    assert half[3] == 7.0


def test_an_image_that_only_people_judged_is_placed_in_its_group() -> None:
    known = {1: strength(1.0, 1.0), 2: strength(-1.0, 1.0), 9: strength(2.0, 1.0, group=1)}
    found = combine(known, {1: 5.0}, 1.0, scale=1.0)
    assert found == pytest.approx({1: 6.0, 2: 4.0, 9: 2.0})


def test_a_weight_outside_nought_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        combine({}, {}, 1.5)
