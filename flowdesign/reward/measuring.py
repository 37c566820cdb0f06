"""What is measured of a finished ensemble: its report, and whether its spread grows where it is foreign."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowdesign.catalog import known_assets
from flowdesign.config import RewardConfig
from flowdesign.elsewhere import other_prompt
from flowdesign.reward.baselines import fit_baselines
from flowdesign.reward.data import Table, pairs_of
from flowdesign.reward.encoder import Encoder
from flowdesign.reward.ensemble import (
    Ensemble,
    Prediction,
    RewardError,
    Values,
    fingerprint,
)
from flowdesign.reward.metrics import growth
from flowdesign.reward.pictures import keep_pictures
from flowdesign.reward.report import report
from flowdesign.runs import measured_now, write_figures
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence

FOREIGN = 400  # pairs of each kind


def measure(ensemble: Ensemble, table: Table, without: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of an ensemble on the table's test rows, against the baselines.

    `without` names words that it never met; see `foreign`. Raises RewardError.
    """
    calibration = ensemble.anatomy.calibration
    if calibration is None:
        raise RewardError("This ensemble was never calibrated: its run did not finish. Resume it.")

    def interval(found: Any, level: float) -> tuple[Values, Values]:
        assert isinstance(found, Prediction)
        return calibration.interval(found.mean, found.sd, level)

    figures = report(
        table,
        ensemble,
        fit_baselines(table, Encoder.load(ensemble.anatomy.encoder).embed),
        interval,
    )
    return figures | {
        "growth": foreign(ensemble, table, without),
        "data": data_figures(table) | {"learned": ensemble.anatomy.data},
        **measured_now(torch=torch.__version__),
    }


def write_measured(ensemble: Ensemble, table: Table, folder: Path, config: RewardConfig) -> None:
    """Measure the ensemble in `folder` and keep the figures, and pictures of its misses, beside it."""
    figures = measure(ensemble, table, config.left_out)
    keep_pictures(figures, config, folder)  # first: a page that sees the figures shows them
    write_figures(folder, figures | {"weights": fingerprint(folder)})


def foreign(ensemble: Ensemble, table: Table, without: Sequence[str] = ()) -> dict[str, Any]:
    """How many times as large the spread is far from the data as on the test rows, with intervals.

    "prompts": prompts of another world with sentences of the test split. "words": prompts of the test
    split with sentences that have words which no training sentence has (models that are not installed
    here, or what was left out with `without`).
    """
    rng = random.Random("reward/foreign")
    inside = pairs_of(table.take(table.rows(["test"], ["test"])))[0]
    home = [s for s in range(len(table.sentences)) if table.met.issuperset(table.sentences[s])]
    inside = inside[np.isin(inside[:, 1], home)]
    if not len(inside):
        return {}
    spread = ensemble.predict(*table.texts(inside)).spread
    near = inside[[rng.randrange(len(inside)) for _ in range(FOREIGN)]]
    strangers = [other_prompt(rng) for _ in near]
    found = {"prompts": (strangers, [table.sentences[s] for s in near[:, 1]])}
    if odd := _odd_sentences(table, without, rng):
        found["words"] = ([table.prompts[p] for p in near[: len(odd), 0]], odd)
    result = {}
    for name, (prompts, sentences) in found.items():
        there = ensemble.predict(prompts, sentences).spread
        places = np.unique(prompts, return_inverse=True)[1].ravel()
        result[name] = growth(spread, inside[:, 0], there, places, seed=0).to_json()
    return result


def data_figures(table: Table) -> dict[str, Any]:
    """What the ensemble learned from: counts and the digest."""
    training = table.take(table.training)
    return {
        "digest": table.digest,
        "images": len(table),
        "prompts": len(table.prompts),
        "workflows": len(table.sentences),
        "votes": len(table.teaching),
        "training": {
            "images": len(training),
            "prompts": len(np.unique(training.prompt)),
            "workflows": len(np.unique(training.sentence)),
        },
        "validation_images": len(table.validation),
    }


def _odd_sentences(
    table: Table, without: Sequence[str], rng: random.Random
) -> list[tuple[int, ...]]:
    """Sentences with words that were never met: of the table's own, else drawn with all models."""
    named = {VOCABULARY.index(word) for word in without}
    own = [s for s in table.sentences if named & set(s)]
    if own:
        return [rng.choice(own) for _ in range(FOREIGN)]
    language = Automaton(VOCABULARY, known_assets())
    drawn = (random_sentence(language, rng) for _ in range(4 * FOREIGN))
    return [sentence for sentence in drawn if not table.met.issuperset(sentence)][:FOREIGN]
