"""The policy's base as others would load it, for benchmarks to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowdesign.lm import Dtype

HELD: tuple[Dtype, ...] = ("nf4", "fp32", "bf16")  # ways to hold a base


def load(dtype: Dtype) -> tuple[Any, Any, Any]:
    """The whole language model, its tokenizer, and the LoRA that the shipped policy has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from flowdesign import lm
    from flowdesign.policy import Anatomy, lora_of

    anatomy = Anatomy()
    place = lm.resolve(anatomy.base)
    model = AutoModelForCausalLM.from_pretrained(place, **lm.load_options(dtype, "cpu"))
    lm.mind_cpu_faults(model)
    tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left")
    return model, tokenizer, lora_of(anatomy.rank)
