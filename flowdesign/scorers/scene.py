"""The exact judge of the miniature world as three scorers (flowdesign.judge)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import nan
from typing import TYPE_CHECKING, ClassVar

from flowdesign.drawing import NATIVE
from flowdesign.scorers.scorer import Scorer

if TYPE_CHECKING:
    from PIL.Image import Image

    from flowdesign.judge import Verdict

REMEMBERED = 1024  # verdicts: the three scorers ask for the same ones in turn


class SceneScorer(Scorer):
    """A figure of the judge's verdict; nan where a prompt names nothing of the miniature world."""

    kind = "exact"
    licence = "Apache-2.0"
    low = 0.0
    high = 1.0
    figure: ClassVar[str]

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Read each picture and compare it with its prompt."""
        found = [_verdict_of(prompt, image) for prompt, image in zip(prompts, images, strict=True)]
        return [nan if one is None else float(getattr(one, self.figure)) for one in found]


class SceneStrict(SceneScorer):
    """The share of images that are wholly right, as GenEval counts it."""

    name = "scene_strict"
    about = "1 when every object, colour, count, place, style and backdrop is right, else 0."
    figure = "strict"


class SceneSoft(SceneScorer):
    """How much of the scene is right."""

    name = "scene_soft"
    about = "The share of the scene's parts that is right."
    figure = "soft"


class SceneGist(SceneScorer):
    """Whether the colours and their number are right."""

    name = "scene_gist"
    about = "1 when the number of objects and their colours are right, whatever their shapes."
    figure = "gist"


def _verdict_of(prompt: str, image: Image) -> Verdict | None:
    """Judge the picture at the judge's own size; the reduced pixels are the key of the memory."""
    from PIL.Image import Resampling

    small = image.convert("RGB")
    if small.size != (NATIVE, NATIVE):
        small = small.resize((NATIVE, NATIVE), Resampling.BOX)
    return _verdict(prompt, small.tobytes())


@lru_cache(maxsize=REMEMBERED)
def _verdict(prompt: str, pixels: bytes) -> Verdict | None:
    from PIL import Image

    from flowdesign.judge import judge

    return judge(prompt, Image.frombytes("RGB", (NATIVE, NATIVE), pixels))
