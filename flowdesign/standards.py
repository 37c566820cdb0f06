"""Scores of different scorers on one scale, and their weighted sum. No torch, no gradio.

A raw score is standardised by the mean and standard deviation that its scorer had on a *reference
set*, once and for all, so that a sum means the same whatever else was scored with it (as ComfyGen
does, arXiv 2410.01731, section 3.1; its constants are not published, so ours are measured). The
reference is a JSON file; the shipped one is the miniature world's.

    combined = sum of weight * (score - mean) / sd      over the weighted scorers

A score that is absent or not a number leaves the sum undefined (None): sums over different scorers
are never compared. In SQL the same expression gives NULL.

Errors: NoStandard
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flowdesign.catalog import ROOT, suggest

REFERENCE = ROOT / "assets" / "score_reference.json"
HOW = "python -m flowdesign scorers reference"


class NoStandard(ValueError):
    """Scores cannot be put on one scale: no reference, or one that lacks a scorer."""


@dataclass(frozen=True)
class Standard:
    """How the scores of one scorer lie on the reference set: `count` of them were measured."""

    mean: float
    sd: float
    count: int

    def __call__(self, score: float) -> float:
        """Give a raw score in standard deviations above the mean of the reference set."""
        return (score - self.mean) / self.sd


@dataclass(frozen=True)
class Reference:
    """The standard of every scorer, and in words which images they were measured on."""

    about: str
    standards: Mapping[str, Standard]

    def __getitem__(self, scorer: str) -> Standard:
        """Give the standard of a scorer; raises NoStandard."""
        if scorer not in self.standards:
            raise NoStandard(
                f"The reference set has no scores of '{scorer}', so it cannot be combined with "
                f"others. {suggest(scorer, self.standards)} Measure it: {HOW}"
            )
        return self.standards[scorer]


def measure(rows: Iterable[Mapping[str, float]], about: str) -> Reference:
    """Measure the standard of each scorer from the raw scores of one image after another.

    Constant memory (Welford's running sums). A score that is absent or nan is left out. Raises
    NoStandard for a scorer with fewer than two scores or with equal ones, and for no scores at all.
    """
    sums: dict[str, _Running] = {}
    for row in rows:
        for name, score in row.items():
            if math.isfinite(score):
                sums.setdefault(name, _Running()).add(score)
    if not sums:
        raise NoStandard("The reference set has no scores.")
    return Reference(about, {name: running.standard(name) for name, running in sums.items()})


def combine(
    scores: Mapping[str, float], weights: Mapping[str, float], reference: Reference
) -> float | None:
    """Give the weighted sum of the standardised scores of one image.

    None when there are no weights, or when a weighted score is absent or not finite; a weight of
    nought asks for nothing. Raises NoStandard for a scorer that the reference does not have.
    """
    total, terms = 0.0, 0
    for name, weight in weights.items():
        if weight == 0:
            continue
        standard, score = reference[name], scores.get(name, math.nan)
        if not math.isfinite(score):
            return None
        total, terms = total + weight * standard(score), terms + 1
    return total if terms else None


def read_reference(path: Path = REFERENCE) -> Reference:
    """Read what `write_reference` wrote. Raises NoStandard for no such file or another content."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        standards = {name: Standard(**row) for name, row in stored["standards"].items()}
        reference = Reference(stored["about"], standards)
        usable = all(math.isfinite(one.mean) and one.sd > 0 for one in standards.values())
    except FileNotFoundError:
        raise NoStandard(f"There is no reference set in {path}. Measure it: {HOW}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise NoStandard(f"{path} is not a reference set: {fault!r}") from fault
    if not usable:
        raise NoStandard(f"{path} is not a reference set: a standard deviation must be above 0.")
    return reference


def write_reference(reference: Reference, path: Path = REFERENCE) -> None:
    """Write the reference as JSON that people can read."""
    standards = {name: asdict(one) for name, one in sorted(reference.standards.items())}
    stored = {"about": reference.about, "standards": standards}
    path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


class _Running:
    """Mean and sum of squared deviations of the scores so far."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, score: float) -> None:
        self.count += 1
        before = score - self.mean
        self.mean += before / self.count
        self.squares += before * (score - self.mean)

    def standard(self, name: str) -> Standard:
        if self.count < 2:
            raise NoStandard(f"'{name}' scored one image of the reference set; 2 are needed.")
        if self.squares == 0:
            raise NoStandard(f"'{name}' gave {self.mean:g} to every image of the reference set.")
        return Standard(self.mean, math.sqrt(self.squares / (self.count - 1)), self.count)
