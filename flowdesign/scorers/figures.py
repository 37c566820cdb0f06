"""Scorers that are a formula of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowdesign.scorers.scorer import Scorer

if TYPE_CHECKING:
    from PIL.Image import Image


class Sharpness(Scorer):
    """How many edge widths fit across the picture, as a power of two."""

    name = "sharpness"
    about = "How narrow the edges are for the picture's size; one more is twice as sharp."
    kind = "figure"
    licence = "Apache-2.0"
    low = 0.0
    uses_prompt = False

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Measure each image; one without any edge gets 0."""
        import numpy as np

        from flowdesign.scorers.edges import sharpness

        return [sharpness(np.asarray(image.convert("RGB"), np.float64) / 255) for image in images]
