"""Stand-ins for what renders in a collection: quick, and able to fail in every way that is asked."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flowdesign import catalog
from flowdesign.catalog import ASSETS
from flowdesign.collect.batches import Batch, Job
from flowdesign.collect.making import Make, Outcome, RenderRecipe
from flowdesign.config import CollectConfig, RenderConfig


@dataclass(frozen=True)
class ToyRecipe:
    """Paints a square from the job's hash, after `pause` seconds where its prompt has `slow` in it.

    A job with `fails` in its prompt fails. One with `kills` in it kills its worker: once, when
    `once` is a path (the file then tells that it happened), else every time. Every job that is
    begun leaves a line in the file `begun`.
    """

    pause: float = 0.0
    slow: str = ""
    fails: str = "\0"
    kills: str = "\0"
    once: Path | None = None
    begun: Path | None = None

    def open(self) -> Callable[[Sequence[Job]], list[Outcome]]:
        return self.make

    def make(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Outcome:
        if self.begun is not None:
            with self.begun.open("a") as file:
                file.write(f"{os.getpid()} {job.key}\n")
        time.sleep(self.pause * (self.slow in job.prompt))
        if self.kills in job.prompt and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails in job.prompt:
            return Outcome(failure="The render failed: no more paint")
        return Outcome(picture_of(job), {"scene_soft": score_of(job)}, "exact", 0.01)


def score_of(job: Job) -> float:
    return int(job.key[:4], 16) / 0xFFFF


def picture_of(job: Job) -> bytes:
    colour = tuple(hashlib.sha256(job.key.encode()).digest()[:3])
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")  # type: ignore[arg-type]
    return file.getvalue()


def small(run: str, records: Path, **options: Any) -> CollectConfig:
    """A collection of 24 pairs, 42 images, in a store of its own."""
    values = {"n": 24, "seeds": 4, "repeated": 0.25, "prompt_count": 12, "batch": 4, "workers": 2}
    return CollectConfig(run=run, records=str(records), **(values | options))  # type: ignore[arg-type]


def job(number: int, prompt: str = "a red star") -> Job:
    return Job(prompt, {}, "", number, {}, f"{number:064x}")


def batch(number: int, *prompts: str) -> Batch:
    return Batch(number, tuple(job(100 * number + at, text) for at, text in enumerate(prompts)))


@dataclass(frozen=True)
class RecipeOf:
    """`RenderRecipe` with the models of one folder, also in workers, which see no monkeypatch."""

    folder: Path
    config: RenderConfig

    def open(self) -> Make:
        catalog.MODELS = self.folder
        return RenderRecipe(self.config).open()


def use_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let collections find the models of this folder alone, whatever is shipped."""
    monkeypatch.setattr(catalog, "MODELS", folder)
    monkeypatch.setattr("flowdesign.collect.rendering.RenderRecipe", partial(RecipeOf, folder))


def tiny_catalogue(folder: Path) -> Path:
    """A models folder with the catalogue's names: random models that render in milliseconds."""
    from tiny_models import write_tiny_models  # not at the top: workers import this module too

    source = write_tiny_models(folder / "source")
    from_kind = {
        "checkpoints": source / "checkpoints" / "tiny_mini",
        "loras": source / "loras" / "mini_lora.safetensors",
        "vae": source / "vae" / "tiny_vae",
        "upscale_models": source / "upscale_models" / "tiny_2x.safetensors",
    }
    for asset in ASSETS:
        path = from_kind[asset.kind]
        target = folder / "models" / asset.kind / (asset.name + path.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
    return folder / "models"
