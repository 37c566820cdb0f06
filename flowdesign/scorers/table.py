"""The table of scorers: adding one is a class and a line here. Order is the order of display."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING

from flowdesign.catalog import suggest
from flowdesign.scorers.figures import Sharpness
from flowdesign.scorers.learned import Aesthetic, ClipSimilarity, HpsV2, ImageReward, PickScore
from flowdesign.scorers.scene import SceneGist, SceneSoft, SceneStrict
from flowdesign.scorers.scorer import BATCH, Scorer, UnknownScorer

if TYPE_CHECKING:
    from PIL.Image import Image

_CLASSES: tuple[type[Scorer], ...] = (
    SceneStrict,
    SceneSoft,
    SceneGist,
    Sharpness,
    ClipSimilarity,
    PickScore,
    HpsV2,
    ImageReward,
    Aesthetic,
)
SCORERS: Mapping[str, type[Scorer]] = MappingProxyType({one.name: one for one in _CLASSES})


def find(name: str) -> type[Scorer]:
    """Give the class of a scorer; raises UnknownScorer."""
    if name not in SCORERS:
        raise UnknownScorer(f"Unknown scorer '{name}'. {suggest(name, SCORERS)}")
    return SCORERS[name]


def check(names: Iterable[str]) -> tuple[str, ...]:
    """Give the names as they are when every one is known; raises UnknownScorer."""
    return tuple(find(name).name for name in names)


def available(name: str, source: str = "") -> str:
    """Say why a scorer cannot be loaded here at once, or "" when it can; loads nothing."""
    return find(name).lacks(source)


def is_on_hub(name: str, source: str = "") -> bool:
    """Whether `load` would fetch a scorer's weights first; they are not here yet."""
    return find(name).is_on_hub(source)


def load(name: str, source: str = "", device: str = "cpu", batch: int = BATCH) -> Scorer:
    """Open a scorer. `source` is a folder or hub repository of its weights, "" the usual place.

    Raises UnknownScorer, ScorerMissing (the message says what to install or where to put what) or
    ScorerError for weights that are not this scorer's.
    """
    scorer = find(name).open(source, device)
    scorer.batch = max(1, batch)
    return scorer


def load_all(names: Iterable[str], device: str = "cpu", batch: int = BATCH) -> list[Scorer]:
    """Open several scorers; an unknown name is told before any is loaded. Raises as `load`."""
    return [load(name, "", device, batch) for name in check(names)]


def score_all(
    scorers: Iterable[Scorer], prompts: Sequence[str], images: Sequence[Image]
) -> list[dict[str, float]]:
    """Give each image's raw scores by scorer; a scorer that cannot say is left out."""
    columns = {scorer.name: scorer(prompts, images) for scorer in scorers}
    rows = ({name: column[at] for name, column in columns.items()} for at in range(len(images)))
    return [{name: one for name, one in row.items() if isfinite(one)} for row in rows]
