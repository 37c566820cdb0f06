"""What a finished design comes to, by the scorers that cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from PIL import Image

from flowdesign.config import WeightConfig, build
from flowdesign.critic import Expected
from flowdesign.scorers import SCORERS, load, score_all
from flowdesign.standards import NoStandard, Reference, combine, read_reference
from flowdesign.studio import Rendered

FREE = tuple(name for name, scorer in SCORERS.items() if scorer.kind != "learned")


class Scoring:
    """Scores finished designs."""

    def scores(self, event: Rendered) -> dict[str, float]:
        """The raw scores of a design's image. Raises OSError when its file has gone."""
        with Image.open(event.image) as picture:
            (found,) = score_all(self._scorers, [event.design.prompt], [picture.convert("RGB")])
        return found

    def combined(
        self, scores: Mapping[str, float], expected: Expected | None = None
    ) -> float | None:
        """Their weighted sum, with the weights of what was expected, else the usual ones.

        None where a weighted score or the reference set is missing.
        """
        if self._reference is None:
            return None
        weights = expected.weights if expected else build(WeightConfig, {}).weights
        try:
            return combine(scores, weights, self._reference)
        except NoStandard:
            return None

    @cached_property
    def _reference(self) -> Reference | None:
        try:
            return read_reference()
        except NoStandard:
            return None

    @cached_property
    def _scorers(self) -> Any:
        return [load(name) for name in FREE]
