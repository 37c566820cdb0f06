"""How many images a second are rendered and scored, and what 100,000 of them take.

Random workflows, as `collect` plans them, rendered by worker processes of one thread each. Two runs
of different length are compared, so that starting and loading do not count. Processor time is what
the figures rest on: on a machine that does other things too, the clock says little.

Where the miniature models are not installed, models of their size with random weights stand in: the
speed does not depend on what the weights are.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flowdesign.bench.measured import Measured, Say
from flowdesign.catalog import ASSETS, KINDS, MODELS_VARIABLE, installed, known_assets
from flowdesign.collect import collect
from flowdesign.collect.cost import evaluations
from flowdesign.config import CollectConfig, build
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence

IMAGES = 100_000  # as many scored triplets as arXiv 2505.21478 trains its reward models on
CORES = 2
# SDXL base, 1024 x 1024, 30 steps with guidance, bfloat16, scaled-dot-product attention, no
# compilation, NVIDIA A100 80 GB: https://pytorch.org/blog/accelerating-generative-ai-3/
SDXL_SECONDS, SDXL_EVALUATIONS = 3.31, 60
SDXL_NOTE = (
    f"SDXL is calculated: {SDXL_SECONDS} s for 1024 px, 30 steps, on one A100 80 GB "
    "(pytorch.org/blog/accelerating-generative-ai-3)"
)


@dataclass(frozen=True)
class Spent:
    """What one run took: images, seconds of the clock, seconds of the processor."""

    images: int
    clock: float
    processor: float


def measure(quick: bool, say: Say) -> Measured:
    """Collect twice and compare."""
    with _models(say), tempfile.TemporaryDirectory(prefix="flowdesign-bench-") as name:
        small, large = (
            _spent(Path(name), pairs, say) for pairs in ((8, 24) if quick else (24, 144))
        )
    images = large.images - small.images
    seconds = (large.processor - small.processor) / images
    relative = _relative_cost()
    row = {
        "workers": CORES,
        "images": images,
        "images_per_s": images / (large.clock - small.clock),
        "core_s_per_image": seconds,
        "hours_100k_2_cores": IMAGES * seconds / CORES / 3600,
        "hours_100k_sdxl_plain": IMAGES * SDXL_SECONDS / 3600,
        "hours_100k_sdxl_random": IMAGES * SDXL_SECONDS * relative / 3600,
    }
    notes = (
        "images_per_s is by the clock of a machine whose load average was "
        f"{os.getloadavg()[0]:.1f}; hours_100k_2_cores is by processor time",
        f"{SDXL_NOTE}; a random workflow asks for {relative:.2f} times as much sampling",
    )
    return Measured([row], notes)


def _spent(folder: Path, pairs: int, say: Say) -> Spent:
    """Run a collection of so many pairs, seven images for four of them."""
    asked = {"run": f"pairs_{pairs}", "n": pairs, "prompt_count": pairs, "seed": pairs}
    asked |= {"repeated": 0.25, "workers": CORES, "records": str(folder / f"records_{pairs}")}
    config = build(CollectConfig, asked)
    place = folder / config.run
    place.mkdir()
    began, before = time.monotonic(), _processor()
    images = 0
    for step in collect(config, place):
        images = int(step.metrics["images"])
        say(f"{images} of {step.metrics['of']:.0f} images")
    return Spent(images, time.monotonic() - began, _processor() - before)


def _processor() -> float:
    """Processor seconds of this process and of all its children that have ended."""
    spent = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _relative_cost(count: int = 2000) -> float:
    """How much sampling a random workflow asks for, beside a plain pass of 30 steps."""
    grammar, chance = Automaton(VOCABULARY, known_assets()), random.Random(0)
    found = (decode(random_sentence(grammar, chance)).workflow for _ in range(count))
    native = {asset.native_size for asset in ASSETS if asset.native_size}
    return fmean(evaluations(one, max(native)) for one in found if one) / SDXL_EVALUATIONS


@contextmanager
def _models(say: Say) -> Iterator[None]:
    """Make sure that every model of the catalogue is there, for this process and its workers."""
    have = installed()
    if all(asset.name in have.names(asset.kind) for asset in ASSETS):
        yield
        return
    say("the miniature models are not installed: random ones of their size stand in")
    before = os.environ.get(MODELS_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="flowdesign-models-") as name:
        _write_stand_ins(Path(name))
        os.environ[MODELS_VARIABLE] = name
        try:
            yield
        finally:
            os.environ.pop(MODELS_VARIABLE)
            if before is not None:
                os.environ[MODELS_VARIABLE] = before


def _write_stand_ins(folder: Path) -> None:
    """Models as the zoo trains them, untrained."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    from flowdesign.zoo.codec import new_codec
    from flowdesign.zoo.lora import add_lora, save_lora
    from flowdesign.zoo.text import new_encoder, new_tokenizer
    from flowdesign.zoo.unet import new_unet
    from flowdesign.zoo.upscaler import new_upscaler, save_upscaler

    for kind in KINDS:
        (folder / kind).mkdir()
    tokenizer, codec = new_tokenizer(), new_codec(0, 64)
    pipeline = StableDiffusionXLPipeline(
        vae=codec, text_encoder=None, text_encoder_2=new_encoder(tokenizer), tokenizer=None,
        tokenizer_2=tokenizer, unet=new_unet(), add_watermarker=False,
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", prediction_type="v_prediction"
        ),
    )  # fmt: skip
    for asset in ASSETS:
        path = folder / asset.kind / asset.name
        if asset.kind == "checkpoints":
            pipeline.save_pretrained(path)
        elif asset.kind == "vae":
            codec.save_pretrained(path)
        elif asset.kind == "loras":
            unet = new_unet()
            add_lora(unet)
            save_lora(unet, path.with_suffix(".safetensors"))
        else:
            save_upscaler(new_upscaler(asset.scale), path.with_suffix(".safetensors"))
