"""Seconds to sample 16 guided designs, against what a program without own sampling would do.

That is `transformers.generate` twice, once for each policy, with a logits processor that forbids what the
grammar does: of the same base with a LoRA adapter, 16 sequences as long as ours are on average. Both hold their
base in each of the ways there are; from 4 bits ours unpacks it once, for float32, so that these two take it equally
long, and theirs at every product. In bfloat16 both are quick where the CPU multiplies it itself (AMX), and slow elsewhere.
Ours reads the layers that GRPO left as they were once for both policies, equal beginnings of the designs once, and
with them guesses at what follows (`flowdesign.habits`). It has said designs for another prompt before, to warm up;
`first` is what that one took.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowdesign.bench import stock
from flowdesign.bench.measured import Measured, Say, Value
from flowdesign.catalog import known_assets
from flowdesign.heldout import held_out

if TYPE_CHECKING:
    from flowdesign.lm import Dtype

DESIGNS, ROUNDS, SCALE, THREADS = 16, 5, 2.0, 2
GRPO = "policy_grpo"  # of the shipped policies


def measure(quick: bool, say: Say) -> Measured:
    """Time both for the same prompts, in turn."""
    import torch

    torch.set_num_threads(THREADS)
    rounds = 2 if quick else ROUNDS
    prompts = held_out("test", rounds + 1, 0)
    guided = {dtype: _guided(dtype) for dtype in stock.HELD}
    tokens = round(statistics.fmean(guided["nf4"](prompts[0])))
    ways: dict[tuple[str, Dtype], Callable[[str], Any]] = {
        ("flowdesign", dtype): way for dtype, way in guided.items()
    }
    ways |= {("generate twice", dtype): _generate(dtype, tokens) for dtype in guided}
    times: dict[tuple[str, Dtype], list[float]] = {name: [] for name in ways}
    for prompt in prompts:
        for name, way in ways.items():
            began = time.perf_counter()
            way(prompt)
            took = time.perf_counter() - began
            say(f"{' from '.join(name)}: {took:.2f} s")
            times[name].append(took)
    firsts = {name: each[0] for name, each in times.items()}  # to warm up
    medians = {name: statistics.median(each[1:]) for name, each in times.items()}
    rows: list[dict[str, Value]] = [
        {
            f"{DESIGNS} designs by": who,
            "base": dtype,
            "seconds": seconds,
            "first": firsts[who, dtype],
            "times_longer": seconds / medians["flowdesign", dtype],
        }
        for (who, dtype), seconds in medians.items()
    ]
    note = (
        f"medians of {rounds} prompts, {tokens} tokens a design on average, scale {SCALE:g}, {THREADS} "
        f"threads, load average {os.getloadavg()[0]:.1f}"
    )
    return Measured(rows, (note,))


def _guided(dtype: Dtype) -> Callable[[str], list[int]]:
    """Sample between the shipped policies before and after GRPO; how many tokens each design has."""
    from flowdesign.guidance import Pair
    from flowdesign.policies import Policies
    from flowdesign.policy import Policy

    models = known_assets()
    known = Policies(models).check(GRPO, SCALE)
    assert known.start is not None, "guidance was checked"
    grpo = Policy.load(known.folder, dtype, models=models)
    sft = Policy.load(known.start, dtype, models=models, beside=grpo)
    speaker = Pair(sft, grpo).at(SCALE)

    def sample(prompt: str) -> list[int]:
        return [len(one.tokens) for one in speaker.sample(prompt, DESIGNS, 0)]

    return sample


def _generate(dtype: Dtype, tokens: int) -> Callable[[str], Any]:
    """The same number of tokens from `transformers.generate`, for two policies."""
    import torch
    from peft import get_peft_model
    from transformers import LogitsProcessor

    from flowdesign.policy import TEMPLATE
    from flowdesign.tokens import VOCABULARY

    base, tokenizer, lora = stock.load(dtype)
    model = get_peft_model(base, lora).eval()

    class Only(LogitsProcessor):  # type: ignore[misc]
        """Lets as many words be said as there are workflow tokens."""

        def __call__(self, ids: Any, scores: Any) -> Any:
            forbidden = torch.full_like(scores, -torch.inf)
            forbidden[:, 1000 : 1000 + len(VOCABULARY.tokens)] = 0.0
            return scores + forbidden

    def generate(prompt: str) -> None:
        inputs = tokenizer([prompt.join(TEMPLATE)] * DESIGNS, return_tensors="pt")
        for _ in range(2):
            model.generate(
                **inputs, do_sample=True, min_new_tokens=tokens, max_new_tokens=tokens,
                logits_processor=[Only()], pad_token_id=tokenizer.eos_token_id,
            )  # fmt: skip

    return generate
