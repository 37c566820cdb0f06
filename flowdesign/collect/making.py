"""What a worker does: render a batch, score it, and put each image into a PNG.

Nothing here is random and nothing is written, so a batch whose worker was lost is simply made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from flowdesign.catalog import Installed, installed
from flowdesign.collect.batches import Job
from flowdesign.config import RenderConfig
from flowdesign.designs import renderer_version, say_fault
from flowdesign.provenance import ModelHashes
from flowdesign.workflow import bind

if TYPE_CHECKING:
    from PIL.Image import Image

    from flowdesign.render import Picture, Renderer
    from flowdesign.scorers import Scorer

log = logging.getLogger(__name__)


class OtherModels(RuntimeError):
    """A worker's model files are not those that the run was planned with."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a PNG (empty when images are not kept) and scores, or a failure."""

    png: bytes = b""
    scores: dict[str, float] = field(default_factory=dict)
    fidelity: str = ""
    seconds: float = 0.0
    failure: str = ""


Make = Callable[[Sequence[Job]], list[Outcome]]


class Recipe(Protocol):
    """How a worker gets ready; it is sent to other processes and machines."""

    def open(self) -> Make:
        """Load what is needed and give the function that makes outcomes, one for each job."""


@dataclass(frozen=True)
class RenderRecipe:
    """Render with this installation's models and score with the config's scorers."""

    config: RenderConfig

    def open(self) -> Make:
        """Load the scorers; models are loaded when a workflow first asks for them."""
        import torch

        from flowdesign.render import Renderer
        from flowdesign.scorers import load_all

        config, models = self.config, installed()
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # nothing here is quantised
        torch.set_num_threads(max(1, config.threads // config.workers))
        renderer = Renderer(
            models, config.device, getattr(torch, config.dtype), batch=config.batch
        )  # fmt: skip
        scorers = load_all(config.all_scorers, config.score_device, config.score_batch)
        return Maker(renderer, scorers, models, config.images)


class Maker:
    """Renders and scores batches."""

    def __init__(
        self, renderer: Renderer, scorers: Sequence[Scorer], models: Installed, images: bool = True
    ) -> None:
        self._renderer = renderer
        self._scorers = scorers
        self._models = models
        self._hashes = ModelHashes(models)
        self._images = images

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Give the outcome of every job, in order. Raises OtherModels.

        A render that fails takes no other one along; a scorer that fails is a fault of the run.
        """
        for job in jobs:
            self._check_models(job)
        pictures = self._render(jobs)
        good = [at for at, each in enumerate(pictures) if not isinstance(each, str)]
        scores = self._score([jobs[at] for at in good], [pictures[at] for at in good])
        found = [Outcome(failure=each) if isinstance(each, str) else None for each in pictures]
        for at, row in zip(good, scores, strict=True):
            found[at] = self._outcome(jobs[at], pictures[at], row)
        return [each for each in found if each is not None]

    def _check_models(self, job: Job) -> None:
        mine = self._hashes.of(job.workflow)
        if mine != job.assets:
            differ = ", ".join(n for n in job.assets if mine.get(n) != job.assets[n])
            raise OtherModels(
                f"This worker has other files for {differ} than the machine that planned the run. "
                "Every machine needs the same models folder."
            )

    def _render(self, jobs: Sequence[Job]) -> list[Any]:
        """Give each job's picture, or in words why there is none."""
        from flowdesign.render import Job as Bound

        bound = [Bound(bind(job.workflow, job.prompt, job.seed)) for job in jobs]
        try:
            return [_fit(picture) for picture in self._renderer.render(bound)]
        except Exception as fault:  # whatever it is, it belongs to one job and into its record
            if len(jobs) == 1:
                log.exception("A render failed: %s", jobs[0].sentence)
                return [f"The render failed: {say_fault(fault)}"]
        return [each for job in jobs for each in self._render([job])]

    def _score(self, jobs: Sequence[Job], pictures: Sequence[Picture]) -> list[dict[str, float]]:
        from flowdesign.scorers import score_all

        images = [picture.images[0] for picture in pictures]
        return score_all(self._scorers, [job.prompt for job in jobs], images)

    def _outcome(self, job: Job, picture: Picture, scores: dict[str, float]) -> Outcome:
        fidelity = picture.fidelity
        png = self._png(job, picture.images[0], scores, fidelity) if self._images else b""
        return Outcome(png, scores, fidelity.label, picture.seconds)

    def _png(self, job: Job, image: Image, scores: dict[str, float], fidelity: Any) -> bytes:
        from flowdesign import comfy

        record = {
            "scores": scores,
            "fidelity": fidelity.label,
            "reasons": list(fidelity.reasons),
            "renderer": renderer_version(),
        }
        file = BytesIO()
        info = comfy.png_info(job.workflow, job.prompt, job.seed, record, self._models)
        image.save(file, "PNG", pnginfo=info)
        return file.getvalue()


def _fit(picture: Picture) -> Picture | str:
    """The picture, or why it was refused."""
    if picture.images and picture.fidelity.label != "refused":
        return picture
    return "; ".join(picture.fidelity.reasons) or "The workflow saves no image."
