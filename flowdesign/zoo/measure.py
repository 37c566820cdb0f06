"""Measure the zoo: strict accuracy of each checkpoint, and how much the best workflow depends on the prompt.

Every image is rendered and judged; nothing is predicted. Work is cut into jobs of one workflow over many
prompts and seeds; each job's verdicts are kept in a file, so that an interrupted measurement goes on.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from flowdesign.catalog import installed
from flowdesign.config import Step
from flowdesign.judge import judge
from flowdesign.provenance import ModelHashes
from flowdesign.render import Renderer
from flowdesign.scenes import DOMAINS, prompt_set
from flowdesign.tokens.builder import build
from flowdesign.workflow import Workflow, workflow_hash
from flowdesign.zoo.report import FIGURES, figures_of
from flowdesign.zoo.workflows import plain, with_lora, workflows

PER_CATEGORY = 50  # prompts of each category in a domain: 300 in all
STRICT_SEEDS = 4
SPREAD_SEEDS = 8
SPREAD_PER_CATEGORY = 5  # 30 plain prompts of a domain, and 20 of its variant: 200 in all
PROMPT_SEED = 7
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """One workflow over prompts and seeds; verdicts (prompts, seeds) are strict scores."""

    workflow: Workflow
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """Where the verdicts are kept: named by what was asked and by the models that drew it."""
        asked = json.dumps(
            [workflow_hash(self.workflow), self.prompts, self.seeds, _hashes().of(self.workflow)]
        )
        return self.folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npy"


@cache
def _hashes() -> ModelHashes:
    """What the models are: other weights are other verdicts."""
    return ModelHashes(installed())


def _judge_job(job: Job) -> Path:
    if job.path.exists():
        return job.path
    torch.set_num_threads(1)
    pairs = [(prompt, seed) for prompt in job.prompts for seed in job.seeds]
    images = _renderer().render_many(job.workflow, [p for p, _ in pairs], [s for _, s in pairs])
    verdicts = [judge(prompt, image) for (prompt, _), image in zip(pairs, images, strict=True)]
    strict = np.array([v.strict if v else 0.0 for v in verdicts])
    np.save(job.path, strict.reshape(len(job.prompts), len(job.seeds)))
    return job.path


@cache
def _renderer() -> Renderer:
    """One for each worker process: models stay loaded between jobs."""
    return Renderer(installed())


def spread_prompts() -> list[tuple[str, str]]:
    """The 200 (group, prompt) of the spread: four domains, plain and variant."""
    found = []
    for domain in DOMAINS:
        ordinary = prompt_set(domain, SPREAD_PER_CATEGORY, PROMPT_SEED)
        odd = prompt_set(domain, 20, PROMPT_SEED, variant=True)
        odd = odd[:: max(1, len(odd) // 20)][:20]
        found += [(domain.style, p) for p in ordinary] + [
            (f"{domain.style} variant", p) for p in odd
        ]
    return found


def _strict_jobs(folder: Path) -> dict[tuple[str, str], Job]:
    """Every checkpoint on every domain, and each LoRA on its variant."""
    seeds = tuple(range(1000, 1000 + STRICT_SEEDS))
    jobs = {}
    for domain in DOMAINS:
        prompts = tuple(prompt_set(domain, PER_CATEGORY, PROMPT_SEED))
        for other in DOMAINS:
            jobs[domain.style, other.checkpoint] = Job(build(plain(other.checkpoint)), prompts, seeds, folder)  # fmt: skip
        odd = tuple(prompt_set(domain, PER_CATEGORY, PROMPT_SEED, variant=True))
        for name, design in (
            ("", plain(domain.checkpoint)),
            (f" + {domain.lora}", with_lora(domain)),
        ):
            key = (f"{domain.style} variant", domain.checkpoint + name)
            jobs[key] = Job(build(design), odd, seeds, folder)
    return jobs


def _spread_jobs(folder: Path) -> dict[str, Job]:
    prompts = tuple(prompt for _, prompt in spread_prompts())
    seeds = tuple(range(2000, 2000 + SPREAD_SEEDS))
    return {
        name: Job(build(design), prompts, seeds, folder) for name, design in workflows().items()
    }


def measure(folder: Path, workers: int) -> Iterator[Step]:
    """Render and judge what is not judged yet, then write the figures to `FIGURES`."""
    folder = folder / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    strict, spread = _strict_jobs(folder), _spread_jobs(folder)
    jobs = [*strict.values(), *spread.values()]
    yield from _render(jobs, workers)
    verdicts = {key: np.load(job.path) for key, job in strict.items()}
    cube = np.stack([np.load(job.path) for job in spread.values()])
    groups = [group for group, _ in spread_prompts()]
    prompts = {key: job.prompts for key, job in strict.items()}
    figures = figures_of(verdicts, prompts, cube, list(spread), groups)
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _render(jobs: Sequence[Job], workers: int) -> Iterator[Step]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        for index, _ in enumerate(pool.imap_unordered(_judge_job, jobs)):
            yield Step(index, len(jobs), {})
