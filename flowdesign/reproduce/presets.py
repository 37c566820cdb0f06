"""What `reproduce` does, stage by stage. A stage is a run with its own folder, so that each resumes by itself.

PRESETS is the one place to add another: from the name of the reproduction to its stages, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowdesign.config import (
    CollectConfig,
    EvaluateConfig,
    GRPOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    ZooConfig,
    build,
)


@dataclass(frozen=True)
class Stage:
    """A run of a reproduction: the command that makes it, its config, and what it is for."""

    kind: str
    config: RunConfig
    about: str


Stages = Callable[[str], list[Stage]]


def quick(name: str) -> list[Stage]:
    """Everything once, small: does the whole chain work here? Its figures say nothing."""
    return _chain(
        name,
        collect={"n": 32, "prompt_count": 16, "seeds": 2, "repeated": 0.5},
        reward={"records": "shipped", "members": 2, "steps": 60, "evaluate_every": 30},
        sft={"steps": 40, "warmup": 4, "evaluate_every": 40},
        warm={"steps": 6, "sweeps": 1, "prompts": 8, "evaluate_every": 6},
        scored={"steps": 20, "warmup": 4, "evaluate_every": 20},
        grpo={"steps": 8, "prompts": 4, "judged": 8, "evaluate_every": 8},
        evaluate={
            "prompt_count": 8, "curve_prompts": 8, "seeds": 2, "choose_prompts": 4, "table_prompts": 8,
            "table_workflows": 4, "searched": 2, "rounds": 1, "tries": 2, "free": 20, "best_of": 4,
            "scales": "2",
        },
    )  # fmt: skip


def laptop(name: str) -> list[Stage]:
    """The paper on two CPU cores within 90 minutes, on the miniature world."""
    return _chain(
        name,
        collect={"n": 400, "prompt_count": 100, "seeds": 2, "split": "train"},
        reward={"steps": 350},
        sft={"steps": 120},
        warm={"steps": 40},
        scored={"steps": 60},
        grpo={"steps": 30},
        evaluate={
            "prompt_count": 60, "curve_prompts": 30, "seeds": 2, "choose_prompts": 16, "table_prompts": 24,
            "table_workflows": 16, "searched": 8, "rounds": 3, "tries": 4, "free": 60, "scales": "1.5,2,3",
        },
    )  # fmt: skip


def full(name: str) -> list[Stage]:
    """The paper at its size on one GPU of 24 GB or more: SDXL models in your models folder, an 8B policy,
    learned scorers."""
    scorers = {
        "weights": {"pickscore": 1.0, "imagereward": 0.5, "aesthetic": 0.25}, "held_out": "hps_v2",
        "also": "", "score_device": "cuda",
    }  # fmt: skip
    rendering = {"device": "cuda", "dtype": "float16", "workers": 1, "prompts": "prompts.txt"}
    return _chain(
        name,
        collect={**scorers, **rendering, "n": 25_000, "seeds": 4, "repeated": 1.0},
        reward={"device": "cuda", "dtype": "bf16", "encoder": "answerdotai/ModernBERT-base",
                "steps": 4000, "weights": scorers["weights"], "held_out": "hps_v2"},
        sft={"base": "meta-llama/Llama-3.1-8B-Instruct", "device": "cuda", "steps": 4000},
        warm={"device": "cuda", "steps": 400},
        scored={"base": "meta-llama/Llama-3.1-8B-Instruct", "device": "cuda", "steps": 1000},
        grpo={"device": "cuda", "steps": 1000, "prompts": 16, "layers": 0, "lora_rate": 5e-5, "rows_rate": 2e-4},
        evaluate={**scorers, **rendering, "prompt_count": 500},
        seeds=3,
    )  # fmt: skip


PRESETS: Mapping[str, Stages] = {"quick": quick, "laptop": laptop, "full": full}

# What each preset changes again.
_WARM = {
    "warm": 1.0, "heat": 0.03, "sweeps": 3, "judges": 2, "prompts": 16, "sentences": 2, "warmup": 5,
    "rows_rate": 2e-3, "grammar_weight": 1.0, "save_every": 15, "threads": 2,
}  # fmt: skip
_GRPO = {
    "threads": 2, "prompts": 12, "layers": 10, "at_once": 6, "lora_rate": 6e-4, "rows_rate": 1.2e-3,
    "warmup": 3, "divergence": 0.03, "entropy": 0.06, "least_entropy": 0.45, "save_every": 5,
}  # fmt: skip
_SCORED = {"scored": 1.0, "records": "shipped", "prompts": 16, "sentences": 2, "threads": 2}


def _chain(
    name: str,
    collect: dict[str, Any],
    reward: dict[str, Any],
    sft: dict[str, Any],
    warm: dict[str, Any],
    scored: dict[str, Any],
    grpo: dict[str, Any],
    evaluate: dict[str, Any],
    seeds: int = 1,
) -> list[Stage]:
    """The stages with these options; whatever is not said is the default of its command."""
    run = {stage: f"{name}_{stage}" for stage in ("collect", "reward", "sft", "warm", "scored")}
    grpos = [f"{name}_grpo{seed or ''}" for seed in range(seeds)]
    learns = {"reward": run["reward"]}
    of_warm = {"start": run["sft"], **learns, **_WARM, **warm, "run": run["warm"]}
    compared = {"policy": ",".join(grpos), "conditioned": run["scored"], **learns}
    return [
        Stage("collect", build(CollectConfig, {**collect, "run": run["collect"]}), "render and score"),
        Stage("reward", build(RewardConfig, {**reward, "run": run["reward"]}), "the reward ensemble"),
        Stage("sft", build(SFTConfig, {"threads": 2, **learns, **sft, "run": run["sft"]}),
              "phase 1: SFT on random valid workflows"),
        Stage("sft", build(SFTConfig, of_warm), "a warm start on workflows that a search finds"),
        *(
            Stage("grpo", build(GRPOConfig, {
                **_GRPO, "start": run["warm"], **learns, **grpo, "run": one, "seed": seed,
            }), "phase 2: GRPO against the ensemble")
            for seed, one in enumerate(grpos)
        ),
        Stage("sft", build(SFTConfig, {**_SCORED, **learns, **scored, "run": run["scored"]}),
              "a baseline: ComfyGen-FT's policy, told scores"),
        Stage("evaluate", build(EvaluateConfig, {
            "threads": 2, **compared, **evaluate, "run": f"{name}_evaluate",
        }), "compare on held-out prompts"),
    ]  # fmt: skip


def zoo(name: str) -> Stage:
    """The stage before all others, where no models are installed."""
    return Stage("zoo", build(ZooConfig, {"run": f"{name}_zoo"}), "train the miniature models")
