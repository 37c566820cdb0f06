"""Agreement: Krippendorff's alpha against his published example, and kept up to date vote by vote."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from flowdesign.votes import Outcome, Tally, krippendorff
from flowdesign.votes.agreement import answer

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve
# units, missing data. He gives 0.743 for nominal data.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def test_alpha_is_the_published_one() -> None:
    units: dict[object, list[str]] = defaultdict(list)
    for row in OBSERVERS:
        for unit, value in enumerate(row.split()):
            if value != ".":
                units[unit].append(value)
    found = krippendorff(units)
    assert found.alpha == pytest.approx(0.743, abs=5e-4)
    assert found.units == 11  # the twelfth has one value


def test_two_raters_by_hand() -> None:
    found = krippendorff({1: "aa", 2: "ab", 3: "bb"})
    # Values: a 3, b 3. Two of six agree not: observed 1/3, expected 2 * 3 * 3 / (6 * 5) = 0.6.
    assert found.equal == pytest.approx(2 / 3)
    assert found.alpha == pytest.approx(1 - (1 / 3) / 0.6)


def test_perfect_agreement_is_one_and_of_one_kind_of_answer_nothing_can_be_said() -> None:
    assert krippendorff({1: "aa", 2: "bb"}).alpha == 1
    same = krippendorff({1: "aa", 2: "aa"})
    assert same.equal == 1
    assert same.alpha is None


def test_without_two_answers_to_a_unit_there_is_no_figure() -> None:
    found = krippendorff({1: "a", 2: "b"})
    assert (found.units, found.equal, found.alpha) == (0, None, None)


def test_a_tally_that_changes_is_always_that_of_the_answers_it_holds() -> None:
    chance, tally, held = random.Random(0), Tally(), []
    for _ in range(400):
        if held and chance.random() < 0.4:
            tally.remove(*held.pop(chance.randrange(len(held))))
        else:
            held.append((chance.randrange(12), chance.choice("abc")))
            tally.add(*held[-1])
        units: dict[object, list[str]] = defaultdict(list)
        for unit, value in held:
            units[unit].append(value)
        fresh, kept = krippendorff(units), tally.agreement()
        assert kept.units == fresh.units
        assert kept.equal == pytest.approx(fresh.equal)
        assert kept.alpha == pytest.approx(fresh.alpha)


def test_an_answer_that_was_not_given_cannot_be_taken_back() -> None:
    with pytest.raises(KeyError):
        Tally().remove("unit", "a")


def test_an_answer_does_not_depend_on_sides() -> None:
    assert answer(Outcome(7, 3, "left")) == answer(Outcome(3, 7, "right")) == ((3, 7), "second")
    assert answer(Outcome(7, 3, "tie")) == ((3, 7), "tie")
