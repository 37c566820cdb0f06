"""From verdicts to figures: strict accuracy, and the spread between the best workflow per prompt and the
best fixed workflow, chosen on one half of the seeds and measured on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowdesign.catalog import ROOT
from flowdesign.runs import measured_now
from flowdesign.scenes import CATEGORIES, DOMAINS, parse

FIGURES = ROOT / "assets" / "zoo_figures.json"
Scores = npt.NDArray[np.float64]
Key = tuple[str, str]  # (prompt group, checkpoint)


def by_category(scores: Scores, prompts: Sequence[str]) -> dict[str, float]:
    """Mean score of each category that occurs, and "mean" over these categories."""
    kinds = np.array([spec.category if (spec := parse(p)) else "" for p in prompts])
    table = {
        c: round(float(scores[kinds == c].mean()), 3) for c in CATEGORIES if (kinds == c).any()
    }
    return table | {"mean": round(float(np.mean(list(table.values()))), 3)}


def spread_of(cube: Scores, groups: Sequence[str]) -> dict[str, float]:
    """Gain of choosing a workflow per prompt group over one fixed workflow.

    `cube` is (workflows, prompts, seeds). The first half of the seeds chooses, the second measures.
    Both the choice per prompt and per group are given; standard errors are over prompts.
    """
    half = cube.shape[2] // 2
    chosen_on, measured_on = cube[:, :, :half].mean(2), cube[:, :, half:].mean(2)
    columns = np.arange(cube.shape[1])
    fixed = measured_on[chosen_on.mean(1).argmax()]
    per_prompt = measured_on[chosen_on.argmax(0), columns]
    labels = np.array(groups)
    best_of = {g: int(chosen_on[:, labels == g].mean(1).argmax()) for g in sorted(set(groups))}
    per_group = measured_on[[best_of[g] for g in groups], columns]
    return {
        "fixed": float(fixed.mean()),
        "per_prompt": float(per_prompt.mean()),
        "per_group": float(per_group.mean()),
        **_gain("per_prompt_gain", per_prompt - fixed),
        **_gain("per_group_gain", per_group - fixed),
    }


def _gain(name: str, difference: Scores) -> dict[str, float]:
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return {name: float(difference.mean()), f"{name}_se": error}


def _within(cube: Scores, names: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """The spread inside each domain with its own checkpoint held fixed."""
    found = {}
    for domain in DOMAINS:
        rows = [i for i, name in enumerate(names) if name.startswith(domain.checkpoint + ":")]
        columns = [i for i, group in enumerate(groups) if group.split()[0] == domain.style]
        part = cube[np.ix_(rows, columns)]
        found[domain.style] = spread_of(part, [groups[i] for i in columns])
    return found


def figures_of(
    verdicts: Mapping[Key, Scores],
    prompts: Mapping[Key, Sequence[str]],
    cube: Scores,
    names: Sequence[str],
    groups: Sequence[str],
) -> dict[str, Any]:
    """All the figures, as they are stored and printed."""
    tables = {key: by_category(scores, prompts[key]) for key, scores in verdicts.items()}
    rows: dict[str, dict[str, Any]] = {}
    for (group, checkpoint), table in tables.items():
        rows.setdefault(group, {})[checkpoint] = table
    best = {
        g: max(t["mean"] for t in row.values()) for g, row in rows.items() if "variant" not in g
    }
    spread = spread_of(cube, groups)
    top = np.argsort(-cube.mean((1, 2)))[:5]
    return {
        "strict": round(float(np.mean(list(best.values()))), 3),
        "strict_worst_domain": min(best.values()),
        "spread": round(spread["per_group_gain"], 4),
        "spread_se": round(spread["per_group_gain_se"], 4),
        "domains": rows,
        "overall": spread,
        "within_checkpoint": _within(cube, names, groups),
        "best_fixed": {names[i]: float(cube[i].mean()) for i in top},
        "size": {"workflows": cube.shape[0], "prompts": cube.shape[1], "seeds": cube.shape[2]},
        **measured_now(),
    }  # fmt: skip


def summary(figures: Mapping[str, Any]) -> str:
    """A few lines for a person."""
    lines = [f"strict {figures['strict']} (worst domain {figures['strict_worst_domain']})"]
    lines += [
        f"spread {figures['spread']} +- {figures['spread_se']}, measured {figures['measured']}"
    ]
    for group, row in figures["domains"].items():
        cells = ", ".join(f"{name} {table['mean']}" for name, table in row.items())
        lines.append(f"{group}: {cells}")
    return "\n".join(lines)
