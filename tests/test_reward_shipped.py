"""The reward ensemble that is shipped: whole, measured, and as good as it is said to be."""

from pathlib import Path

import numpy as np
import pytest

from flowdesign.config import RewardConfig, load
from flowdesign.reward import SHIPPED
from flowdesign.reward.data import read_table
from flowdesign.reward.ensemble import Ensemble, fingerprint, read_anatomy
from flowdesign.reward.pictures import FOLDER, picture_name
from flowdesign.runs import read_figures
from flowdesign.tokens import VOCABULARY

README = Path(__file__).resolve().parent.parent / "README.md"


def test_its_figures_are_of_these_weights_and_those_of_the_readme() -> None:
    figures = read_figures(SHIPPED)
    assert figures is not None and figures["weights"] == fingerprint(SHIPPED)
    assert [bar["name"] for bar in figures["bars"] if not bar["reached"]] == []
    ours = figures["parts"]["both unseen"]["ensemble"]
    told = README.read_text("utf-8")
    for name in ("within_spearman", "pair_accuracy", "explained"):
        value, low, high = (ours[name][part] for part in ("value", "low", "high"))
        assert f"**{value:.3f}** ({low:.3f} to {high:.3f})" in told
    value, low, high = (ours["within_of_ceiling"][part] for part in ("value", "low", "high"))
    assert f"ranks at {value:.3f} ({low:.3f} to {high:.3f})" in told


def test_it_is_small_and_speaks_the_vocabulary_of_this_version() -> None:
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert max(sizes) < 25e6 and sum(sizes) < 60e6
    anatomy, vocabulary = read_anatomy(SHIPPED)
    assert vocabulary.tokens == VOCABULARY.tokens[: len(vocabulary)]
    assert anatomy.members >= 4 and anatomy.calibration is not None


def test_its_worst_misses_have_pictures() -> None:
    figures = read_figures(SHIPPED)
    assert figures is not None
    misses = [miss for part in figures["parts"].values() for miss in part["misses"]]
    assert len(misses) == 36
    assert {picture_name(miss) for miss in misses} == {p.name for p in (SHIPPED / FOLDER).iterdir()}


@pytest.mark.slow
def test_it_was_made_from_the_shipped_records_and_predicts_them() -> None:
    """On some of the test pairs the correlation with what was scored is what the figures say."""
    table = read_table(load(RewardConfig, SHIPPED / "config.json"))
    anatomy, _ = read_anatomy(SHIPPED)
    assert anatomy.data == table.digest
    rows = table.rows(["test"], ["test"])[::40]
    prompts = [table.prompts[table.prompt[row]] for row in rows]
    sentences = [table.sentences[table.sentence[row]] for row in rows]
    found = Ensemble.load().predict(prompts, sentences)
    score = table.combined[rows]
    assert np.corrcoef(found.mean, score)[0, 1] > 0.8
    inside = ((found.low <= score) & (score <= found.high)).mean()
    assert 0.8 < inside < 0.98
