"""Scorers judge an image, most of them against its prompt. Importing this loads no torch.

    scorer      what a scorer is
    scene, figures, learned   the scorers; edges is how sharpness is measured
    networks/   the torch side of the learned ones
    sources     where their weights are
    table       all of them by name, and how to open and call several

    scorer = load("pickscore")
    scorer(["a red circle"], [image])     -> [21.4]

How raw scores become one figure is `flowdesign.standards`; which of them count is ScoreConfig.
"""

from flowdesign.scorers.scorer import BATCH, Scorer, ScorerError, ScorerMissing, UnknownScorer
from flowdesign.scorers.table import (
    SCORERS,
    available,
    check,
    find,
    is_on_hub,
    load,
    load_all,
    score_all,
)

__all__ = [
    "BATCH",
    "SCORERS",
    "Scorer",
    "ScorerError",
    "ScorerMissing",
    "UnknownScorer",
    "available",
    "check",
    "find",
    "is_on_hub",
    "load",
    "load_all",
    "score_all",
]
