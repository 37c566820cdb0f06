"""Seconds for 64 workflows that share parts, against a call of a stock diffusers pipeline for each.

They are what an ablation asks for: 4 seeds x 4 values of cfg x 4 ways to finish the image. The pipeline is loaded
once, in the same process, and has the same model, scheduler, steps, size and precision; its calls end with the
plain image, so the enlarging is in our time alone. A second row samples each workflow by itself, which gives the
same bytes whatever else is rendered; the first samples 16 at a time.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.catalog import installed
from flowdesign.tokens import workflow_of
from flowdesign.workflow import Workflow, bind

THREADS, ROUNDS, BATCH = 2, 3, 16
CHECKPOINT, STEPS, SIDE = "mini_flat", 20, 64
PROMPT, CFGS = "a red star on a blue square, flat style", (3, 5, 7, 9)
FINISHES = (
    "",
    "<upscaler:mini_2x> ",
    "<upscaler:mini_4x> <resize:area> <scale:0.5> ",
    "<resize:bicubic> <scale:2> ",
)
SENTENCE = (
    f"<ckpt:{CHECKPOINT}> <lora:none> <clip_skip:none> <vae:none> <freeu:none> <pag:none> <prefix:none> "
    f"<concat:none> <negative:none> <size:{SIDE}x{SIDE}> <sampler:euler> <scheduler:normal> "
    f"<steps:{STEPS}> <cfg:{{cfg}}> {{finish}}<end>"
)  # fmt: skip


def measure(quick: bool, say: Say) -> Measured:
    """Time all three for the same workflows, in turn."""
    import torch

    torch.set_num_threads(THREADS)
    asked = list(itertools.product(range(2 if quick else 4), CFGS, FINISHES))
    ways: dict[str, Callable[[], Any]] = {
        f"flowdesign, {BATCH} at a time": lambda: _ours(asked, BATCH),
        "flowdesign, one at a time": lambda: _ours(asked, 1),
        "a stock pipeline's calls": _stock(asked),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 if quick else ROUNDS):
        for name, way in ways.items():
            times[name].append(_seconds(way))
            say(f"{name}: {times[name][-1]:.2f} s")
    theirs = statistics.median(times["a stock pipeline's calls"])
    rows: list[dict[str, Value]] = [
        {
            f"{len(asked)} workflows by": name,
            "seconds": statistics.median(each),
            "times_faster": theirs / statistics.median(each),
        }
        for name, each in times.items()
    ]
    note = f"{THREADS} threads, float32, {STEPS} steps, load average {os.getloadavg()[0]:.1f}"
    return Measured(rows, (note,))


def _bound(seed: int, cfg: int, finish: str) -> Workflow:
    workflow = workflow_of(SENTENCE.format(cfg=cfg, finish=finish))
    assert workflow is not None
    return bind(workflow, PROMPT, seed)


def _ours(asked: list[tuple[int, int, str]], batch: int) -> None:
    """Render by a new renderer, with nothing in its cache; loading its model counts too."""
    from flowdesign.render import Job, Renderer

    renderer = Renderer(installed(), batch=batch)
    jobs = [Job(_bound(*each)) for each in asked]
    for picture in renderer.render(jobs):
        assert picture.images, picture.fidelity


def _stock(asked: list[tuple[int, int, str]]) -> Callable[[], None]:
    """A call for each workflow, of a pipeline that is loaded already."""
    import torch
    from diffusers import DiffusionPipeline

    import flowdesign.render.codec  # noqa: F401  (diffusers loads the codec of a model by this name)

    folder = installed().path("checkpoints", CHECKPOINT)
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def call() -> None:
        for seed, cfg, _ in asked:
            pipeline(
                prompt=PROMPT, negative_prompt="", num_inference_steps=STEPS, guidance_scale=float(cfg),
                height=SIDE, width=SIDE, generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip

    return call


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
