"""The figures of an evaluation: means, paired differences, what guidance does, and how varied it all is.

A figure is {"value", "low", "high"} with a 95 % interval over prompts (reward.bootstrap): all contestants meet
the same prompts with the same seeds, so differences are paired. Combined scores are in standard
deviations of the reference set; no ensemble has a say in them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowdesign.evaluate.baselines import labels_of
from flowdesign.evaluate.contestants import SEARCH
from flowdesign.evaluate.diversity import Nearest, distinct, information
from flowdesign.evaluate.measured import Group
from flowdesign.evaluate.setting import Setting, Values, seed_of
from flowdesign.records import COMBINED
from flowdesign.reward.bootstrap import Bootstrap, number
from flowdesign.runs import measured_now, replace_file
from flowdesign.tokens import decode, parse_sentence

TIE = 0.05  # standard deviations of the combined score between two images that are a tie
EXAMPLES = 4  # prompts where guidance wins most, and where it loses most
SCORES = "scores.jsonl.gz"
BEST, FIXED, GRPO = "guided best of n", "fixed", "grpo"
Expected = tuple[Values, Values]  # predictions and lower bounds, means over runs: (prompts,) each


def report(
    setting: Setting,
    prompts: Sequence[str],
    groups: Sequence[Group],
    free: Mapping[str, Any],
) -> dict[str, Any]:
    """All figures of what was measured."""
    import torch

    config = setting.config
    nearest = Nearest(list({parse_sentence(one.sentence) for one in setting.records}))
    expected = {one.name: _expected(setting, prompts, one) for one in groups}
    kinds = [labels[0] for labels in labels_of(setting, prompts)]  # the style comes first
    rows = [_told(setting, kinds, one, expected[one.name], nearest) for one in groups]
    return {
        "prompts": len(prompts), "seeds": config.seeds, "scale": setting.scale, "chosen": setting.chosen,
        "weights": dict(config.weights), "held_out": config.held_out,
        "best_of": config.best_of, "trust": config.trust, "tie": TIE,
        "contestants": rows,
        "pairs": {one.name: _against(one, groups, config.held_out, config.seed) for one in groups},
        "curve": _curve(groups, expected, free),
        "reached": _reached(groups, config.seed),
        "examples": _examples(groups, prompts, setting.scale),
        "free": dict(free),
        **measured_now(torch=torch.__version__),
    }  # fmt: skip


def _told(
    setting: Setting, kinds: Sequence[str], group: Group, expected: Expected, nearest: Nearest
) -> dict[str, Any]:
    """The figures of one contestant."""
    config, first = setting.config, group.first.contestant
    draws = Bootstrap(group.prompts, seed_of(config.seed, "bootstrap"))
    said = [group.sentences(run) for run in range(len(group.runs))]
    predicted, bounds = expected
    return {
        "name": group.name, "about": first.about, "scale": first.scale,
        "runs": [one.contestant.run for one in group.runs if one.contestant.run],
        "prompts": group.prompts, "images": int(group.scores[COMBINED].size), "failed": group.failed,
        "scores": {s: draws.mean(group.means(s)).to_json() for s in group.scores},
        "each": [number(float(one)) for one in group.scores[COMBINED].mean((1, 2))],
        "predicted": draws.mean(predicted).to_json(),
        "bound": draws.mean(bounds).to_json(),
        "optimism": draws.mean(predicted - group.means()).to_json(),
        "valid": float(np.mean([not decode(one).problems for each in said for one in each])),
        "distinct": float(np.mean([distinct(one) for one in said])),
        "similarity": float(np.mean([nearest.similarity(one).mean() for one in said])),
        "copies": float(np.mean([nearest.copies(one) for one in said])),
        "information": float(np.mean([information(kinds[: group.prompts], one) for one in said])),
        "seconds": {
            "design": float(np.mean([each for one in group.runs for each in one.seconds])),
            "image": float(np.mean([r.seconds for o in group.runs for row in o.records for r in row])),
        },
    }  # fmt: skip


def _expected(setting: Setting, prompts: Sequence[str], group: Group) -> Expected:
    """What the ensemble expects of a contestant's designs and its lower bound."""
    ensemble, asked = setting.bound.ensemble, list(prompts[: group.prompts])
    found = [ensemble.predict(asked, group.sentences(run)) for run in range(len(group.runs))]
    means = np.mean([one.mean for one in found], 0)
    return means, np.mean([one.lower(setting.config.trust) for one in found], 0)


def _against(group: Group, groups: Sequence[Group], held_out: str, seed: int) -> dict[str, Any]:
    """A contestant against each other one, on the prompts that both have."""
    return {
        other.name: _duel(group, other, held_out, seed) for other in groups if other is not group
    }


def _duel(group: Group, other: Group, held_out: str, seed: int) -> dict[str, Any]:
    many = min(group.prompts, other.prompts)
    draws = Bootstrap(many, seed_of(seed, "bootstrap"))
    gaps = group.scores[COMBINED][:, None, :many] - other.scores[COMBINED][None, :, :many]
    found = {
        "prompts": many,
        COMBINED: draws.mean(group.means()[:many] - other.means()[:many]).to_json(),
        "win": draws.mean((gaps > TIE).mean((0, 1, 3))).to_json(),
        "tie": number(float((abs(gaps) <= TIE).mean())),
        "each": _by_seed(group, other, many),
    }
    if held_out in group.scores:
        apart = group.means(held_out)[:many] - other.means(held_out)[:many]
        found[held_out] = draws.mean(apart).to_json()
    return found


def _by_seed(group: Group, other: Group, many: int) -> list[float | None]:
    """The difference of each training seed to the other's same one, or to all of the other; none without seeds."""
    places = {one.contestant.run: at for at, one in enumerate(other.runs)}
    found = []
    for own, one in enumerate(group.runs if group.first.contestant.run else ()):
        at = places.get(one.contestant.run)
        theirs = other.scores[COMBINED][slice(None) if at is None else slice(at, at + 1), :many]
        found.append(number(float(group.scores[COMBINED][own, :many].mean() - theirs.mean())))
    return found


def _curve(
    groups: Sequence[Group], expected: Mapping[str, Expected], free: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What guidance does: figures at every scale, on the prompts that all scales have."""
    guided = [one for one in groups if one.first.contestant.scale is not None]
    many = min((one.prompts for one in guided), default=0)
    draws, found = Bootstrap(many, 0), []
    for group in guided:
        natural = free.get(group.name)
        predicted, bounds = (each[:many] for each in expected[group.name])
        found.append({
            "scale": group.first.contestant.scale, "name": group.name, "prompts": many,
            "scores": {s: draws.mean(group.means(s)[:many]).to_json() for s in group.scores},
            "optimism": draws.mean(predicted - group.means()[:many]).to_json(),
            "predicted": draws.mean(predicted).to_json(), "bound": draws.mean(bounds).to_json(),
            "distinct": float(np.mean([distinct(group.sentences(r)[:many]) for r in range(len(group.runs))])),
            "valid": natural and natural["valid"] / max(1, natural["samples"]),
        })  # fmt: skip
    return sorted(found, key=lambda one: float(one["scale"]))


def _reached(groups: Sequence[Group], seed: int) -> dict[str, Any]:
    """How far each contestant gets from the best fixed workflow (0) to the search by rendering (1)."""
    by_name = {one.name: one for one in groups}
    if FIXED not in by_name or SEARCH not in by_name:
        return {}
    many = min(by_name[FIXED].prompts, by_name[SEARCH].prompts)
    low, high = (by_name[name].means()[:many] for name in (FIXED, SEARCH))
    draws = Bootstrap(many, seed_of(seed, "bootstrap"))
    return {
        one.name: draws.ratio(one.means()[:many] - low, high - low).to_json()
        for one in groups
        if one.prompts >= many
    }


def _examples(
    groups: Sequence[Group], prompts: Sequence[str], scale: float | None
) -> list[dict[str, Any]]:
    """Prompts where guidance wins most over the best fixed workflow, and where it loses most."""
    by_name = {one.name: one for one in groups}
    guided = by_name.get(f"guided {scale:g}" if scale is not None else "", by_name.get(GRPO))
    fixed = by_name.get(FIXED)
    if guided is None or fixed is None:
        return []
    beside = dict.fromkeys(("sft", GRPO, guided.name, FIXED))
    shown = [by_name[name] for name in beside if name in by_name]
    many = min(one.prompts for one in shown)
    gaps = guided.scores[COMBINED][0, :many].mean(1) - fixed.scores[COMBINED][0, :many].mean(1)
    order = gaps.argsort()
    chosen = dict.fromkeys([*order[::-1][:EXAMPLES].tolist(), *order[:EXAMPLES].tolist()])
    return [
        {
            "prompt": prompts[at], "gain": number(float(gaps[at])), "seed": guided.first.pairs[at].seeds[0],
            "designs": [
                {
                    "name": one.name, "sentence": one.first.pairs[at].sentence,
                    "score": number(float(one.scores[COMBINED][0, at].mean())),
                }
                for one in shown
            ],
        }
        for at in chosen
    ]  # fmt: skip


def keep_scores(groups: Sequence[Group], folder: Path) -> None:
    """Write every score, a line for each contestant, run and prompt, for whoever computes other figures."""
    lines = [
        json.dumps({
            "contestant": group.name, "run": one.contestant.run, "prompt": pair.prompt,
            "sentence": pair.sentence, "seeds": pair.seeds,
            "scores": {s: [number(v) for v in group.scores[s][run, at].tolist()] for s in group.scores},
        })
        for group in groups
        for run, one in enumerate(group.runs)
        for at, pair in enumerate(one.pairs)
    ]  # fmt: skip
    data = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
    replace_file(folder / SCORES, lambda draft: draft.write_bytes(data))
