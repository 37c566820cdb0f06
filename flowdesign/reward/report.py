"""The report: how good a reward ensemble is on prompts and workflows that it has not seen.

    figures = report(table, ensemble, fit_baselines(table))     one dict for JSON
    print(tell_report(figures))                                  the same for a terminal

Three parts are measured: prompts unseen, workflows unseen, both unseen. Every figure has a 95 % interval
(cluster bootstrap over prompts) and is {"value", "low", "high"}, None where it cannot be said. Scores
are in standard deviations of the reference set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.stats import norm

from flowdesign.records import Split
from flowdesign.reward.baselines import Baseline
from flowdesign.reward.bootstrap import TIMES, Bootstrap, Estimate, Values, number
from flowdesign.reward.calibration import LEVELS, USUAL
from flowdesign.reward.ceiling import within_ceiling
from flowdesign.reward.data import Table
from flowdesign.reward.metrics import (
    FEWEST,
    coverage,
    explained,
    judged,
    overall_spearman,
    pair_accuracy,
    spread_against_error,
    variances,
    within_prompt,
)
from flowdesign.reward.pairing import Pairs
from flowdesign.reward.regret import AMONG, TopOne, top_one
from flowdesign.reward.telling import BOTH

PARTS: Mapping[str, tuple[Split, Split]] = {  # of the prompts, of the workflows
    "unseen prompts": ("test", "train"),
    "unseen workflows": ("train", "test"),
    BOTH: ("test", "test"),
}
RANKING, COVERED = 0.8, (0.85, 0.95)  # the bars
POINTS = 400  # of the scatter plot of a part
MISSES = 12


class Predicted(Protocol):
    """What is predicted of pairs (n,): see `ensemble.Prediction`."""

    @property
    def mean(self) -> Values: ...
    @property
    def spread(self) -> Values: ...
    @property
    def low(self) -> Values: ...
    @property
    def high(self) -> Values: ...


class Predictor(Protocol):
    """A reward ensemble, or what stands in for one."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Predicted: ...


Interval = Callable[[Any, float], tuple[Values, Values]]  # prediction, level -> low, high


def stretched(found: Predicted, level: float) -> tuple[Values, Values]:
    """The interval of another level than 90 %: each side grows as that of a normal distribution."""
    factor = norm.ppf((1 + level) / 2) / norm.ppf((1 + USUAL) / 2)
    return found.mean - factor * (found.mean - found.low), found.mean + factor * (
        found.high - found.mean
    )


def report(
    table: Table,
    ensemble: Predictor,
    baselines: Mapping[str, Baseline],
    interval: Interval = stretched,
    seed: int = 0,
    times: int = TIMES,
) -> dict[str, Any]:
    """Measure everything, on the table's test rows. Takes `times` draws for each interval.

    `interval` gives the interval of a nominal level, for the calibration curve. Raises ValueError for
    scores or predictions that are no numbers.
    """
    parts = {}
    for name, (prompt, sentence) in PARTS.items():
        pairs = Pairs.of(table, table.rows([prompt], [sentence]))
        part = _Part(pairs, table, seed, times)
        parts[name] = part.figures(ensemble, baselines, interval)
    return {
        "parts": parts,
        "bars": bars(parts[BOTH]),
        "settings": {
            "fewest_workflows": FEWEST, "among": AMONG, "bootstrap": times, "seed": seed,
            "level": 0.95, "unit": "standard deviations of the reference set",
        },
    }  # fmt: skip


@dataclass(frozen=True)
class _Ranked:
    """What is compared between predictors: values per prompt (prompts,)."""

    within: Values
    accuracy: Values
    top: TopOne


class _Part:
    """One part of the test rows, while it is measured; all figures share the bootstrap's draws."""

    def __init__(self, pairs: Pairs, table: Table, seed: int, times: int) -> None:
        self.pairs, self.table, self.seed = pairs, table, seed
        self.bootstrap = Bootstrap(len(pairs.prompts), seed, times)
        self.ceiling = within_ceiling(pairs, seed)

    def figures(
        self, ensemble: Predictor, baselines: Mapping[str, Baseline], interval: Interval
    ) -> dict[str, Any]:
        texts = self.pairs.texts(self.table)
        found = ensemble.predict(*texts)
        ranked, ours = self._ranking(found.mean)
        compared = {name: self._ranking(each.predict(*texts)) for name, each in baselines.items()}
        return {
            "size": self._size(ranked.top),
            "ceilings": self._ceilings(),
            "ensemble": _json(ours | self._uncertainty(found) | self._of_ceiling(ranked)),
            "baselines": {name: _json(each) for name, (_, each) in compared.items()},
            "ahead": {
                name: self.bootstrap.mean(ranked.within - other.within).to_json()
                for name, (other, _) in compared.items()
            },
            "calibration": calibration_curve(self.pairs, found, interval),
            "scatter": self._scatter(found),
            "misses": worst_misses(self.table, self.pairs, found),
        }

    def _ranking(self, predicted: Values) -> tuple[_Ranked, dict[str, Estimate]]:
        """The figures that need no uncertainty."""
        pairs, bootstrap = self.pairs, self.bootstrap
        ranked = _Ranked(
            within_prompt(pairs, predicted),
            pair_accuracy(pairs, predicted),
            top_one(pairs, predicted, self.seed),
        )
        return ranked, {
            "spearman": bootstrap.of(overall_spearman(pairs, predicted, pairs.mean)),
            "within_spearman": bootstrap.mean(ranked.within),
            "pair_accuracy": bootstrap.mean(ranked.accuracy),
            "explained": bootstrap.of(explained(pairs, predicted)),
            "regret": ranked.top.regret(bootstrap),
            "regret_share": ranked.top.share(bootstrap),
        }

    def _uncertainty(self, found: Predicted) -> dict[str, Estimate]:
        covered, width = coverage(self.pairs, found.low, found.high, self.bootstrap)
        spread = spread_against_error(self.pairs, found.mean, found.spread)
        return {
            "coverage": covered,
            "width": width,
            "spread_error": self.bootstrap.of(spread),
            "spread": self.bootstrap.mean(_mean_per_prompt(self.pairs, found.spread)),
        }

    def _of_ceiling(self, ranked: _Ranked) -> dict[str, Estimate]:
        return {"within_of_ceiling": self.bootstrap.ratio(ranked.within, self.ceiling)}

    def _size(self, top: TopOne) -> dict[str, Any]:
        pairs, counts = self.pairs, judged(self.pairs)
        known = top.candidates[np.isfinite(top.candidates)]
        return {
            "images": len(pairs.score),
            "pairs": len(pairs),
            "repeated_pairs": int(np.sum(pairs.count > 1)),
            "prompts": len(pairs.prompts),
            "workflows": len(np.unique(pairs.sentence)),
            "prompts_judged": int(counts.sum()),
            "prompts_left_out": int((~counts).sum()),
            "candidates": float(np.median(known)) if len(known) else None,
        }

    def _ceilings(self) -> dict[str, Any]:
        """What repeated seeds allow, and the variances that this follows from."""
        parted, of = variances(self.pairs), self.bootstrap.of
        estimates = {
            "within_spearman": self.bootstrap.mean(self.ceiling),
            "seed_variance": of(lambda weights: parted(weights).seed),
            "explainable_variance": of(lambda weights: parted(weights).explainable),
            "total_variance": of(lambda weights: parted(weights).total),
        }
        return _json(estimates)

    def _scatter(self, found: Predicted) -> list[list[float | None]]:
        """Some pairs as [predicted, true score, number of images]."""
        rng = np.random.default_rng(self.seed)
        some = np.sort(rng.permutation(len(self.pairs))[:POINTS])
        columns = (found.mean[some], self.pairs.mean[some], self.pairs.count[some])
        return [[number(value) for value in row] for row in zip(*columns, strict=True)]


def calibration_curve(
    pairs: Pairs, found: Predicted, interval: Interval = stretched
) -> list[dict[str, float | None]]:
    """The share of single images in the interval of each nominal level."""
    curve: list[dict[str, float | None]] = []
    for level in LEVELS:
        low, high = interval(found, level)
        inside = (pairs.score >= low[pairs.pair]) & (pairs.score <= high[pairs.pair])
        actual = float(inside.mean()) if len(inside) else math.nan
        curve.append({"nominal": level, "actual": number(actual)})
    return curve


def worst_misses(
    table: Table, pairs: Pairs, found: Predicted, count: int = MISSES
) -> list[dict[str, Any]]:
    """The pairs whose true score is farthest from the prediction, each with one image to look at.

    The image is the one that scored nearest to the pair's mean. `record` is its id in the store, or -1.
    """
    worst = np.argsort(-np.abs(found.mean - pairs.mean), kind="stable")[:count]
    return [_miss(table, pairs, found, pair) for pair in worst.tolist()]


def _miss(table: Table, pairs: Pairs, found: Predicted, pair: int) -> dict[str, Any]:
    images = np.flatnonzero(pairs.pair == pair)
    image = images[np.argmin(np.abs(pairs.score[images] - pairs.mean[pair]))]
    return {
        "record": int(table.records[pairs.rows[image]]),
        "prompt": table.prompts[pairs.prompts[pairs.prompt[pair]]],
        "sentence": list(table.sentences[pairs.sentence[pair]]),
        "seed": int(pairs.seed[image]) % 2**64,
        "images": int(pairs.count[pair]),
        "true": number(pairs.mean[pair]),
        "predicted": number(found.mean[pair]),
        "low": number(found.low[pair]),
        "high": number(found.high[pair]),
    }


def bars(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a shipped ensemble must reach, on the figures of the part with both unseen.

    Each is {"name", "value", "low", "high", "bound", "reached"}; what cannot be said is not reached.
    """
    ours = part["ensemble"]
    least, most = COVERED
    found = [
        _bar("within-prompt Spearman of its ceiling", ours["within_of_ceiling"],
             f"at least {RANKING}", lambda e: e["value"] >= RANKING),
        _bar("coverage of 90 % intervals", ours["coverage"],
             f"{least} to {most}", lambda e: least <= e["value"] <= most),
        _bar("Spearman of spread and error", ours["spread_error"],
             "interval above 0", _is_above),
    ]  # fmt: skip
    found += [
        _bar(f"within-prompt Spearman above {name}", ahead, "interval above 0", _is_above)
        for name, ahead in part["ahead"].items()
    ]
    return found


def _bar(
    name: str,
    estimate: Mapping[str, float | None],
    bound: str,
    reaches: Callable[[Mapping[str, Any]], bool],
) -> dict[str, Any]:
    said = estimate["value"] is not None
    return {"name": name, **estimate, "bound": bound, "reached": said and reaches(estimate)}


def _is_above(estimate: Mapping[str, Any]) -> bool:
    return estimate["low"] is not None and bool(estimate["low"] > 0)


def _mean_per_prompt(pairs: Pairs, values: Values) -> Values:
    found: Values = pairs.per_prompt(values) / np.maximum(pairs.per_prompt(np.ones(len(pairs))), 1)
    return found


def _json(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in estimates.items()}
