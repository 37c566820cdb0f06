"""The report: parts, figures, bars and their text, with predictors whose quality is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from reward_tables import table_of

from flowdesign.records import Split
from flowdesign.reward.baselines import Examples
from flowdesign.reward.bootstrap import Values
from flowdesign.reward.data import Table
from flowdesign.reward.pairing import Pairs
from flowdesign.reward.report import (
    BOTH,
    LEVELS,
    MISSES,
    PARTS,
    POINTS,
    calibration_curve,
    report,
    stretched,
    worst_misses,
)
from flowdesign.reward.telling import tell_report

PROMPTS, WORKFLOWS, SEEDS, NOISE = 40, 60, 4, 0.8
TIMES = 100


@dataclass(frozen=True)
class Said:
    """A prediction."""

    mean: Values
    spread: Values
    low: Values
    high: Values


class Oracle:
    """Knows the truth, errs by as much as it says, and its intervals are `width` times too wide."""

    def __init__(self, true: Values, error: float, width: float = 1.0) -> None:
        rng = np.random.default_rng(1)
        self.spread = error * rng.choice([0.3, 1.5], size=true.shape)
        self.mean = true + self.spread * rng.normal(size=true.shape)
        self.reach = width * 1.645 * np.sqrt(NOISE**2 + self.spread**2)
        self.asked = 0

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Said:
        """Look the answers up."""
        self.asked += len(prompts)
        at = _places(prompts, sentences)
        mean, reach = self.mean[at], self.reach[at]
        return Said(mean, self.spread[at], mean - reach, mean + reach)


class Guess:
    """A baseline that knows some of the truth."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def fit(self, training: Examples, validation: Examples) -> None:
        """Nothing to learn."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Values:
        """Look the answers up."""
        return self.values[_places(prompts, sentences)]


def _places(prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Any:
    return [int(p.split()[1]) for p in prompts], [s[0] for s in sentences]


def _splits(count: int) -> list[Split]:
    return ["test" if number % 2 else "train" for number in range(count)]


@lru_cache(maxsize=1)
def _world() -> tuple[Table, Values]:
    """A dense grid, half of the prompts and half of the workflows test; and its truth."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(PROMPTS, 1)) + rng.normal(size=(PROMPTS, WORKFLOWS))
    cube = true[..., None] + NOISE * rng.normal(size=(PROMPTS, WORKFLOWS, SEEDS))
    rows = [(p, w, s, float(cube[p, w, s])) for p, w, s in np.ndindex(cube.shape)]
    return table_of(rows, _splits(PROMPTS), _splits(WORKFLOWS)), true


def _blurred(true: Values, sd: float) -> Values:
    return true + sd * np.random.default_rng(2).normal(size=true.shape)


@lru_cache(maxsize=1)
def _good() -> dict[str, Any]:
    table, true = _world()
    baselines = {"close": Guess(_blurred(true, 1.0)), "blind": Guess(np.zeros_like(true))}
    return report(table, Oracle(true, 0.4), baselines, times=TIMES)


def test_the_parts_are_what_their_names_say() -> None:
    figures = _good()
    assert list(figures["parts"]) == list(PARTS)
    for part in figures["parts"].values():
        assert part["size"] == {
            "images": 20 * 30 * 4, "pairs": 600, "repeated_pairs": 600, "prompts": 20, "workflows": 30,
            "prompts_judged": 20, "prompts_left_out": 0, "candidates": 30.0,
        }  # fmt: skip
    table, _ = _world()
    misses = figures["parts"]["unseen prompts"]["misses"]
    assert all(int(miss["prompt"].split()[1]) % 2 == 1 for miss in misses)
    assert all(miss["sentence"][0] % 2 == 0 for miss in misses)


def test_a_good_ensemble_reaches_every_bar() -> None:
    figures = _good()
    assert [bar["reached"] for bar in figures["bars"]] == [True] * 5
    names = " ".join(bar["name"] for bar in figures["bars"])
    assert "above close" in names
    assert "above blind" in names
    ours = figures["parts"][BOTH]["ensemble"]
    assert ours["coverage"]["value"] == pytest.approx(0.9, abs=0.02)
    assert 0.8 < ours["within_of_ceiling"]["value"] < 1
    for figure in ours.values():
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_figures_are_those_of_the_known_truth() -> None:
    part = _good()["parts"][BOTH]
    ours, ceilings = part["ensemble"], part["ceilings"]
    assert ceilings["seed_variance"]["value"] == pytest.approx(NOISE**2, rel=0.06)
    total = ceilings["explainable_variance"]["value"] + ceilings["seed_variance"]["value"]
    assert ceilings["total_variance"]["value"] == pytest.approx(total, rel=1e-5)
    _, true = _world()
    error = np.mean((Oracle(true, 0.4).mean - true)[1::2, 1::2] ** 2)
    share = 1 - error / true[1::2, 1::2].var()
    assert ours["explained"]["value"] == pytest.approx(share, abs=0.04)
    assert ours["regret"]["value"] > part["baselines"]["close"]["regret"]["value"]
    assert part["baselines"]["blind"]["regret_share"]["value"] == pytest.approx(-1)
    assert part["baselines"]["blind"]["within_spearman"]["value"] == 0
    ahead = part["ahead"]["close"]
    gain = ours["within_spearman"]["value"] - part["baselines"]["close"]["within_spearman"]["value"]
    assert ahead["value"] == pytest.approx(gain, abs=1e-5)
    # Paired: narrower than either of the two figures alone would say.
    assert ahead["low"] > 0


def test_a_perfect_predictor_reaches_the_ceiling() -> None:
    table, true = _world()
    part = report(table, Oracle(true, 0.0), {}, times=TIMES)["parts"][BOTH]
    assert part["ensemble"]["within_of_ceiling"]["value"] == pytest.approx(1, abs=0.04)
    assert part["ensemble"]["explained"]["value"] == pytest.approx(1, abs=0.04)
    assert part["ensemble"]["spread_error"]["value"] is None  # a spread that never differs


@pytest.mark.parametrize(("width", "reached"), [(0.5, False), (1.0, True), (3.0, False)])
def test_intervals_that_are_too_narrow_or_too_wide_miss_their_bar(
    width: float, reached: bool
) -> None:
    table, true = _world()
    figures = report(table, Oracle(true, 0.4, width), {}, times=TIMES)
    (bar,) = [each for each in figures["bars"] if "coverage" in each["name"]]
    assert bar["reached"] is reached


def test_an_ensemble_that_is_no_better_than_a_baseline_misses_bars() -> None:
    table, true = _world()
    ensemble = Oracle(true, 2.0)
    rivals = {"equal": Guess(ensemble.mean), "better": Guess(_blurred(true, 0.3))}
    figures = report(table, ensemble, rivals, times=TIMES)
    reached = {bar["name"].split()[-1]: bar["reached"] for bar in figures["bars"]}
    assert reached == {"ceiling": False, "intervals": True, "error": True,
                       "equal": False, "better": False}  # fmt: skip


def test_the_dict_is_json_of_bounded_size_and_repeatable() -> None:
    figures = _good()
    text = json.dumps(figures, allow_nan=False)
    assert len(text) < 200_000
    for part in figures["parts"].values():
        assert len(part["scatter"]) == POINTS
        assert len(part["misses"]) == MISSES
        assert [each["nominal"] for each in part["calibration"]] == list(LEVELS)
    table, true = _world()
    baselines = {"close": Guess(_blurred(true, 1.0)), "blind": Guess(np.zeros_like(true))}
    again = report(table, Oracle(true, 0.4), baselines, times=TIMES)
    assert json.dumps(again) == text


def test_the_calibration_curve_is_that_of_the_intervals_asked() -> None:
    table, true = _world()
    pairs = Pairs.of(table, np.arange(len(table)))
    found = Oracle(true, 0.4).predict(*pairs.texts(table))
    curve = calibration_curve(pairs, found)
    assert [each["actual"] for each in curve] == pytest.approx(list(LEVELS), abs=0.03)
    wide = calibration_curve(pairs, found, lambda said, level: (said.mean - 99, said.mean + 99))
    assert [each["actual"] for each in wide] == [1.0] * len(LEVELS)
    low, high = stretched(found, 0.9)
    np.testing.assert_allclose([low, high], [found.low, found.high])


def test_worst_misses_by_hand() -> None:
    rows = [(0, 0, 7, 1.0), (0, 0, 8, 3.0), (0, 0, 9, 2.5), (0, 1, 7, 0.0), (1, 1, 7, 9.0)]
    table = table_of(rows)
    pairs = Pairs.of(table, np.arange(5))
    mean = np.array([2.0, 1.0, 4.0])
    said = Said(mean, mean * 0, mean - 1, mean + 1)
    first, second = worst_misses(table, pairs, said, count=2)
    assert first == {
        "record": 104, "prompt": "prompt 1", "sentence": [1], "seed": 7, "images": 1,
        "true": 9.0, "predicted": 4.0, "low": 3.0, "high": 5.0,
    }  # fmt: skip
    assert (second["record"], second["true"]) == (103, 0.0)
    third = worst_misses(table, pairs, said, count=3)[2]
    assert (third["record"], third["images"], third["seed"]) == (102, 3, 9)  # nearest to 2.1667


def test_a_part_without_rows_says_nothing_and_reaches_nothing() -> None:
    table = table_of([(0, w, 0, float(w)) for w in range(6)], ["test"], ["train"] * 6)
    true = np.arange(6.0)[None]
    figures = report(table, Oracle(true, 0.4), {"blind": Guess(true * 0)}, times=TIMES)
    empty, full = (figures["parts"][name] for name in (BOTH, "unseen prompts"))
    assert empty["size"]["pairs"] == 0
    assert empty["ensemble"]["within_spearman"]["value"] is None
    assert not any(bar["reached"] for bar in figures["bars"])
    assert full["ensemble"]["within_spearman"]["value"] is not None
    assert full["ensemble"]["within_of_ceiling"]["value"] is None  # one seed each: no ceiling
    json.dumps(figures, allow_nan=False)
    assert "nothing to measure with" in tell_report(figures)


def test_the_text_tells_every_part_bar_and_baseline() -> None:
    figures = _good()
    text = tell_report(figures)
    for name in PARTS:
        assert f"{name.capitalize()}: 2,400 images, 600 pairs, 20 prompts, 30 workflows" in text
    heads = [line.split() for line in text.splitlines() if line.startswith("  how good")]
    assert heads == [["how", "good", "ensemble", "close", "blind"]] * 3
    assert text.count("  reached") == 5
    value = figures["parts"][BOTH]["ensemble"]["within_spearman"]["value"]
    assert f"{value:.3f} [" in text
    assert max(map(len, text.splitlines())) < 160
    assert "far from the data" not in text and "other records" not in text
    far = {"prompts": {"value": 1.6, "low": 1.5, "high": 1.7}}
    text = tell_report(figures | {"growth": far, "data": {"digest": "a", "learned": "b"}})
    assert "(prompts of another world): 1.600 [1.500, 1.700] times that of test rows" in text
    assert "Measured on other records than those that it learned from" in text
