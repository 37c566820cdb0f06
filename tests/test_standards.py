"""Scores on one scale, by hand; and the options that say which scorers count."""

from __future__ import annotations

import argparse
import json
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from flowdesign.config import ConfigError, ScoreConfig, add_flags, build, from_flags, load
from flowdesign.standards import (
    NoStandard,
    Reference,
    Standard,
    combine,
    measure,
    read_reference,
    write_reference,
)

REFERENCE = Reference("by hand", {"a": Standard(2.0, 0.5, 10), "b": Standard(-1.0, 4.0, 10)})


def test_a_score_is_standardised_by_the_reference_alone() -> None:
    """Of 1, 2, 3, 6: mean 3, deviations 4 + 1 + 0 + 9 = 14, sd sqrt(14 / 3)."""
    standard = measure([{"a": value} for value in (1, 2, 3, 6)], "four")["a"]
    assert (standard.mean, standard.count) == (3.0, 4)
    assert standard.sd == pytest.approx((14 / 3) ** 0.5)
    assert standard(6.0) == pytest.approx(3 / (14 / 3) ** 0.5)


def test_large_offsets_do_not_spoil_the_deviation() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=1000)
    standard = measure(({"a": float(value)} for value in values), "far away")["a"]
    assert standard.sd == pytest.approx(values.std(ddof=1), rel=1e-6)


def test_absent_scores_are_left_out_per_scorer() -> None:
    reference = measure([{"a": 1.0, "b": nan}, {"a": 3.0, "b": 5.0}, {"b": 7.0}, {}], "some")
    assert reference["a"] == Standard(2.0, 2**0.5, 2)
    assert reference["b"] == Standard(6.0, 2**0.5, 2)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "has no scores"),
        ([{"a": nan}], "has no scores"),
        ([{"a": 1.0}], "'a' scored one image"),
        ([{"a": 1.0}, {"a": 1.0}], "'a' gave 1 to every image"),
    ],
)
def test_what_gives_no_standard_is_told(rows: list[dict[str, float]], told: str) -> None:
    with pytest.raises(NoStandard, match=told):
        measure(rows, "")


def test_the_sum_by_hand() -> None:
    """a: (3 - 2) / 0.5 = 2; b: (1 + 1) / 4 = 0.5; 1.0 * 2 - 0.5 * 0.5 = 1.75."""
    scores = {"a": 3.0, "b": 1.0, "other": 9.0}
    assert combine(scores, {"a": 1.0, "b": -0.5}, REFERENCE) == pytest.approx(1.75)
    assert combine(scores, {"b": 2.0}, REFERENCE) == pytest.approx(1.0)
    assert combine(scores, {"a": 1.0, "unknown": 0.0}, REFERENCE) == pytest.approx(2.0)


def test_a_sum_that_lacks_a_part_is_none() -> None:
    weights = {"a": 1.0, "b": 1.0}
    for scores in ({}, {"a": 1.0}, {"a": 1.0, "b": nan}, {"a": inf, "b": 1.0}):
        assert combine(scores, weights, REFERENCE) is None
    assert combine({"a": 1.0}, {}, REFERENCE) is None


def test_a_scorer_without_a_standard_is_told() -> None:
    with pytest.raises(NoStandard, match="no scores of 'pickscore'.*Known: a, b"):
        combine({"pickscore": 1.0}, {"pickscore": 1.0}, REFERENCE)


def test_a_reference_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    write_reference(REFERENCE, path)
    assert read_reference(path) == REFERENCE


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"about": "x", "standards": {"a": 1}}',
        '{"about": "x", "standards": {"a": {"mean": 1, "sd": 0, "count": 2}}}',
        '{"about": "x", "standards": {"a": {"mean": NaN, "sd": 1, "count": 2}}}',
        '{"about": "x", "standards": {"a": {"mean": 0, "sd": 1, "count": 2, "more": 3}}}',
        '{"about": "x", "standards": {"a": {"mean": "0", "sd": 1, "count": 2}}}',
    ],
)
def test_a_file_that_is_no_reference_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(NoStandard, match="is not a reference set"):
        read_reference(tmp_path / "bad.json")
    with pytest.raises(NoStandard, match="There is no reference set"):
        read_reference(tmp_path / "absent.json")


# --- ScoreConfig ---------------------------------------------------------------------------------


def test_weights_from_the_command_line_and_from_a_file_are_the_same(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, ScoreConfig)
    words = ["--weights", "pickscore=1, hps_v2=.5,aesthetic=-0.25", "--held-out", "imagereward"]
    config = from_flags(ScoreConfig, parser.parse_args(words))
    assert config.weights == {"pickscore": 1.0, "hps_v2": 0.5, "aesthetic": -0.25}
    assert config.scorers == ("pickscore", "hps_v2", "aesthetic", "imagereward")
    (tmp_path / "config.json").write_text(config.model_dump_json())
    assert load(ScoreConfig, tmp_path / "config.json") == config


def test_a_weight_of_nought_asks_for_no_scorer() -> None:
    config = ScoreConfig(weights={"a": 1.0, "b": 0.0, "c": 0.0}, held_out="c")
    assert config.scorers == ("a", "c")
    assert ScoreConfig(weights={"a": 1.0}, held_out="").scorers == ("a",)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"weights": "a"}, "NAME=NUMBER"),
        ({"weights": "=1"}, "NAME=NUMBER"),
        ({"weights": "a=1,a=2"}, "given twice"),
        ({"weights": "a=much"}, "weights.a"),
        ({"weights": "a=nan"}, "finite"),
        ({"weights": ""}, "at least one scorer"),
        ({"weights": {"a": 0}}, "at least one scorer"),
        ({"weights": {"a": 1}, "held_out": "a"}, "'a' is held out for evaluation"),
        ({"score_batch": 0}, "score_batch"),
        ({"wieghts": "a=1"}, "wieghts"),
    ],
)
def test_options_that_cannot_be_used_are_told(values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(ScoreConfig, values)


def test_the_default_holds_the_strict_judge_out() -> None:
    config = ScoreConfig()
    assert config.held_out == "scene_strict"
    assert "scene_strict" not in config.weights
    assert json.loads(config.model_dump_json())["weights"] == config.weights
