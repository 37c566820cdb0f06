"""What a scorer is. No torch here: a table of scorers must be readable in a moment.

A scorer is called with prompts and as many images and gives a raw score for each, the higher the
better. A nan means that it cannot say, as when a prompt asks for nothing that it knows.

Errors: ScorerError
        |- UnknownScorer   no row of the table has the name
        |- ScorerMissing   its weights or its packages are not here; the message says what to do
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal, Self

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 8  # images at once


class ScorerError(ValueError):
    """A scorer was asked for something that it cannot do."""


class UnknownScorer(ScorerError):
    """No scorer has this name; the message suggests one."""


class ScorerMissing(ScorerError):
    """The scorer is known but cannot run here: weights or packages are missing."""


class Scorer(ABC):
    """One way to judge an image, perhaps against its prompt.

    A new one is a class with these attributes and `score`, and a line in `flowdesign.scorers`.
    `low` and `high` bound its scores, None where nothing does; `uses_prompt` is False for a scorer
    of the image alone; `extra` names the optional dependencies of pyproject.toml that bring
    `packages`, when requirements.txt does not.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    kind: ClassVar[Literal["exact", "figure", "learned"]]
    licence: ClassVar[str]
    low: ClassVar[float | None] = None
    high: ClassVar[float | None] = None
    uses_prompt: ClassVar[bool] = True
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()

    batch: int = BATCH

    @classmethod
    def open(cls, source: str = "", device: str = "cpu") -> Self:
        """Make the scorer ready; `source` and `device` matter to learned ones only.

        Raises ScorerMissing.
        """
        return cls()

    @classmethod
    def lacks(cls, source: str = "") -> str:
        """Say what is missing before the scorer can be opened here; "" when nothing is."""
        absent = [package for package in cls.packages if find_spec(package) is None]
        if not absent:
            return ""
        return (
            f"Scorer '{cls.name}' needs {', '.join(absent)}. Install it: "
            f"uv pip install -r pyproject.toml --extra {cls.extra}"
        )

    @classmethod
    def is_on_hub(cls, source: str = "") -> bool:
        """Whether all that is missing is a download, which `open` makes by itself."""
        return False

    @abstractmethod
    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Score a batch: as many prompts as images, at most `self.batch`."""

    def __call__(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Score images of any size against their prompts, batch by batch, in order.

        Raises ScorerError when there are not as many prompts as images.
        """
        if len(prompts) != len(images):
            raise ScorerError(
                f"'{self.name}' was given {len(prompts)} prompts for {len(images)} images."
            )
        found: list[float] = []
        for start in range(0, len(images), self.batch):
            part = slice(start, start + self.batch)
            found += self.score(prompts[part], images[part])
        return found
