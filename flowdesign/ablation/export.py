"""An ablation as files: a contact sheet, a CSV table of the cells, one of the curves, and a zip of all PNGs."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowdesign.ablation.curves import curves_of
from flowdesign.ablation.plan import Plan
from flowdesign.ablation.running import Outcome
from flowdesign.ablation.setting import to_link
from flowdesign.ablation.sheet import contact_sheet
from flowdesign.scorers import SCORERS
from flowdesign.studio import Rendered

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a table program would run a text that begins so


@dataclass(frozen=True)
class Files:
    """Where the files of an export lie."""

    sheet: Path
    table: Path
    everything: Path


def export(plan: Plan, outcomes: Sequence[Outcome], folder: Path) -> Files:
    """Write what is finished so far into a folder. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(*(folder / name for name in ("contact_sheet.png", "cells.csv", "ablation.zip")))
    done = sorted(outcomes, key=lambda one: (one.cell.row, one.cell.column))
    contact_sheet(plan, done).save(files.sheet, optimize=True)
    files.table.write_text(_table(_cells(plan, done)), "utf-8", newline="")
    with zipfile.ZipFile(files.everything, "w") as packed:  # stored: PNGs are packed already
        packed.write(files.sheet, files.sheet.name)
        packed.write(files.table, files.table.name)
        packed.writestr("curves.csv", _table(_curves(plan, done)))
        packed.writestr("setting.json", _setting(plan))
        for outcome in done:
            if isinstance(outcome.event, Rendered) and outcome.event.image.exists():
                packed.write(outcome.event.image, f"images/{_name(outcome)}")
    return files


def _name(outcome: Outcome) -> str:
    return f"r{outcome.cell.row + 1:02d}-c{outcome.cell.column + 1:02d}.png"


def _setting(plan: Plan) -> str:
    told = {"setting": plan.setting.model_dump(), "link": to_link(plan.setting)}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _cells(plan: Plan, done: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """A row for each finished cell."""
    for outcome in done:
        cell, event, request = outcome.cell, outcome.event, outcome.cell.request
        expected = event.expected if isinstance(event, Rendered) else None
        yield {
            "row": cell.row + 1,
            "column": cell.column + 1,
            "x": cell.x.label,
            "y": cell.y.label,
            "prompt": request.prompt,
            "seed": request.seed,
            "policy": request.policy,
            "scale": request.scale,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "best_of": request.count,
            "fixed": ", ".join(request.fixed),
            "grammar": not request.free,
            "valid": len(outcome.sentences),
            "said": outcome.said,
            "true": outcome.true,
            "predicted": outcome.predicted,
            "predicted_low": expected.low if expected else None,
            "predicted_high": expected.high if expected else None,
            **{name: outcome.scores.get(name) for name in SCORERS if name in outcome.scores},
            "sentence": event.design.sentence if event.design else "",
            "seconds": round(event.seconds, 4) if isinstance(event, Rendered) else None,
            "fidelity": event.fidelity if isinstance(event, Rendered) else "",
            "image": f"images/{_name(outcome)}" if isinstance(event, Rendered) else "",
            "trouble": "" if isinstance(event, Rendered) else event.reason,
        }


def _curves(plan: Plan, done: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """A row for each point of each curve."""
    for curve in curves_of(plan, done):
        for number, estimate in curve.points:
            yield {"curve": curve.name, "at": number, **estimate.to_json()}


def _table(rows: Iterator[dict[str, Any]]) -> str:
    """Rows as CSV; a name that some rows lack is empty there."""
    found = list(rows)
    names = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in found)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """A value that a table program shows and does not run."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
