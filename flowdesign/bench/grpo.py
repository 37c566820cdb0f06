"""Seconds for a step of GRPO, against the trainer that most people use.

8 prompts with 8 workflows each, SmolLM2-135M with LoRA on all projections, KL divergence to the SFT policy.
Ours is the whole step: the workflows are said, judged by the reward ensemble, and learned from. TRL's
GRPOTrainer (pip install trl) has the same base, LoRA, prompts and number of tokens, in its own vocabulary, with
a reward that costs nothing, and speaks without a grammar. Both hold the base in each of the ways there are: ours unpacks
4 bits once, for float32, so that these two take it equally long, TRL at every product. In bfloat16 TRL computes
under autocast, as it does by default.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

from flowdesign.bench import stock
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.bench.steps import grpo_step, timed
from flowdesign.catalog import known_assets
from flowdesign.config import GRPOConfig, build
from flowdesign.heldout import held_out

if TYPE_CHECKING:
    from flowdesign.lm import Dtype

PROMPTS, GROUP, STEPS = 8, 8, 6
THREADS = 2


def measure(quick: bool, say: Say) -> Measured:
    """Time our step and TRL's, in turn where TRL is installed."""
    import torch

    torch.set_num_threads(THREADS)
    steps = 2 if quick else STEPS
    held = stock.HELD[1:] if quick else stock.HELD
    times: dict[tuple[str, Dtype], list[float]] = {}
    for dtype in held:
        times["flowdesign", dtype], tokens = _ours(dtype, steps, say)
    if importlib.util.find_spec("trl"):
        for dtype in held:
            times["trl", dtype] = _trl(dtype, 1 if quick else 3, tokens, say)
    medians = {name: statistics.median(each) for name, each in times.items()}
    rows: list[dict[str, Value]] = [
        {
            "step of": who,
            "base": dtype,
            "seconds": seconds,
            "shortest": min(times[who, dtype]),
            "times_longer": seconds / medians["flowdesign", dtype],
        }
        for (who, dtype), seconds in medians.items()
    ]
    missing = (
        ()
        if len(times) > len(held)
        else ("without TRL (pip install trl) there is nothing to compare",)
    )
    note = (
        f"{PROMPTS} prompts x {GROUP} workflows of {tokens} tokens on average, {THREADS} threads, load "
        f"average {os.getloadavg()[0]:.1f}"
    )
    return Measured(rows, (note, *missing))


def _ours(dtype: Dtype, steps: int, say: Say) -> tuple[list[float], int]:
    """Seconds of each step but the first, and the mean length of a sentence in tokens."""
    from flowdesign.policy import Policy
    from flowdesign.sampling import roll

    asked = {
        "prompts": PROMPTS,
        "group": GROUP,
        "at_once": PROMPTS,
        "foils": 1,
        "threads": THREADS,
        "dtype": dtype,
    }
    sft = Policy.load(dtype=dtype, models=known_assets())
    take = grpo_step(build(GRPOConfig, asked), sft)
    said = [one for group in roll(sft, held_out("train", 4, 0), 8, 0) for one in group]
    return timed(take, steps, f"flowdesign, {dtype}", say), round(statistics.fmean(map(len, said)))


def _trl(dtype: Dtype, steps: int, tokens: int, say: Say) -> list[float]:
    """The same for TRL."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig as Settings
    from trl import GRPOTrainer

    from flowdesign.policy import TEMPLATE

    model, tokenizer, lora = stock.load(dtype)
    prompts = [{"prompt": prompt.join(TEMPLATE)} for prompt in held_out("train", 64, 0)]
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Takes the time of each step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter() - self.began)
            say(f"trl, {dtype}: step {len(times) - 1} took {times[-1]:.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            output_dir=folder, per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
            max_completion_length=tokens, max_steps=steps + 1, beta=0.02, report_to=[], use_cpu=True,
            bf16=dtype == "bf16", save_strategy="no", logging_strategy="no", gradient_checkpointing=False,
            generation_kwargs={"min_new_tokens": tokens}, disable_tqdm=True, seed=0,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        trainer = GRPOTrainer(
            model,
            lambda completions, **_: torch.rand(len(completions), generator=generator).tolist(),
            settings,
            Dataset.from_list(prompts),
            processing_class=tokenizer,
            callbacks=[Clock()],
            peft_config=lora,
        )
        trainer.train()
    return times[1:]
