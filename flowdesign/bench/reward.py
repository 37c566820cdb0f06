"""How many scores the reward ensemble predicts in a second, against rendering and judging the images.

1,024 pairs of a prompt and a workflow, as training meets them (16 prompts with 64 workflows each) and
at worst (a prompt of its own for every workflow), on two cores; "again" is when the prompts were read before.
Where no ensemble is shipped one of random weights stands in: the speed does not depend on what they are.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

from flowdesign.bench import collect
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.catalog import known_assets
from flowdesign.config import RewardConfig, build
from flowdesign.records import COMBINED
from flowdesign.scenes import random_prompt
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence

PAIRS, PROMPTS = 1024, 16
Pairs = tuple[list[str], list[tuple[int, ...]]]


def measure(quick: bool, say: Say) -> Measured:
    """Predict, collect, and compare."""
    import torch

    torch.set_num_threads(1)  # the members share the cores among themselves
    pairs = PAIRS // (8 if quick else 1)
    ensemble, name = _ensemble(say)
    shared, single = _pairs(pairs, PROMPTS), _pairs(pairs, pairs)
    ensemble.predict(*_pairs(8, 8))
    seconds = {
        f"{PROMPTS} prompts": _time(ensemble, shared),
        f"{PROMPTS} prompts, again": _time(ensemble, shared),
        f"{pairs} prompts": _time(ensemble, single),
    }
    say("rendering and judging random workflows, to compare")
    rendered = collect.measure(quick, say).rows[0]
    each = float(rendered["core_s_per_image"]) / collect.CORES
    rows: list[dict[str, Value]] = [
        {
            "pairs of": of,
            "predictions_per_s": pairs / took,
            "times_faster_than_rendering": each * pairs / took,
            "times_faster_than_sdxl": collect.SDXL_SECONDS * pairs / took,
        }
        for of, took in seconds.items()
    ]
    notes = (
        f"{name}, {len(ensemble.members)} members, {collect.CORES} threads, load average "
        f"{os.getloadavg()[0]:.1f}; an image of the miniature world takes {each:.3f} s on "
        f"{collect.CORES} cores by processor time",
        f"{collect.SDXL_NOTE}, without judging",
    )
    return Measured(rows, notes)


def _ensemble(say: Say) -> tuple[Any, str]:
    """The shipped ensemble, or an untrained one of the usual shape; and what to call it."""
    from flowdesign.reward.encoder import Encoder
    from flowdesign.reward.ensemble import Anatomy, Ensemble, RewardError

    try:
        return Ensemble.load(threads=collect.CORES), "the shipped ensemble"
    except RewardError:
        say("no reward ensemble is shipped: one of random weights stands in")
    config = build(RewardConfig, {})
    anatomy = Anatomy.of(config, (COMBINED, *config.weights), {}, data="")
    base = Encoder.load(config.encoder)
    models = [anatomy.member(base) for _ in range(config.members)]
    return Ensemble(models, anatomy, threads=collect.CORES), "an untrained ensemble"


def _pairs(count: int, prompts: int) -> Pairs:
    """So many pairs of so many distinct prompts, the same at every call."""
    rng = random.Random(f"bench/reward/{count}/{prompts}")
    language, texts = Automaton(VOCABULARY, known_assets()), dict[str, None]()
    while len(texts) < prompts:
        texts[random_prompt(rng)] = None
    sentences = [random_sentence(language, rng) for _ in range(count)]
    return [text for text in texts for _ in range(count // prompts)], sentences


def _time(ensemble: Any, pairs: Pairs) -> float:
    began = time.monotonic()
    ensemble.predict(*pairs)
    return time.monotonic() - began
