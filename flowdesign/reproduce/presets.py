"""What `reproduce` does, stage by stage. A stage is a run with its own folder, so that each resumes by itself.

PRESETS is the one place to add another: from the name of the reproduction to its stages, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    before: tuple[str, ...] = ()  # words of a command to do before it, as often as it is begun


Stages = Callable[[str], list[Stage]]
_LAPTOP_GRPO = {"steps": 30}


def quick(name: str) -> list[Stage]:
    """Everything once, small: does the whole chain work here? Its figures say nothing."""
    return _chain(
        name,
        {
            "collect": {"n": 32, "prompt_count": 16, "seeds": 2, "repeated": 0.5},
            "reward": {"records": "shipped", "members": 2, "steps": 60, "evaluate_every": 30},
            "sft": {"steps": 40, "warmup": 4, "evaluate_every": 40},
            "warm": {"steps": 6, "sweeps": 1, "prompts": 8, "evaluate_every": 6},
            "scored": {"steps": 20, "warmup": 4, "evaluate_every": 20},
            "grpo": {"steps": 8, "prompts": 4, "judged": 8, "evaluate_every": 8},
            "evaluate": {
                "prompt_count": 8, "curve_prompts": 8, "seeds": 2, "choose_prompts": 4, "table_prompts": 8,
                "table_workflows": 4, "searched": 2, "rounds": 1, "tries": 2, "free": 20, "best_of": 4,
                "scales": "2",
            },
        },
    )  # fmt: skip


def laptop(name: str) -> list[Stage]:
    """The paper on two CPU cores within 90 minutes, on the miniature world."""
    return _chain(
        name,
        {
            "collect": {"n": 400, "prompt_count": 100, "seeds": 2, "split": "train"},
            "reward": {"steps": 350},
            "sft": {"steps": 120},
            "warm": {"steps": 40},
            "scored": {"steps": 60},
            "grpo": _LAPTOP_GRPO,
            "evaluate": {
                "prompt_count": 60, "curve_prompts": 30, "seeds": 2, "choose_prompts": 16, "table_prompts": 24,
                "table_workflows": 16, "searched": 8, "rounds": 3, "tries": 4, "free": 60, "scales": "1.5,2,3",
            },
        },
        shipped=True,
    )  # fmt: skip


def ablations(name: str) -> list[Stage]:
    """The laptop preset, whose runs it shares, and five more GRPO runs, each with one thing changed (VARIANTS):
    about 100 minutes more."""
    *stages, last = laptop(name)
    more = _variants(name, _LAPTOP_GRPO)
    changes = {"run": f"{name}_ablations", "variants": _names(name, more)}
    config = build(EvaluateConfig, last.config.model_dump() | changes)
    return [*stages, *more, Stage(last.kind, config, "compare the ablations too")]


def full(name: str) -> list[Stage]:
    """The paper at its size on one GPU of 24 GB or more: SDXL, an 8B policy, learned scorers, three seeds.

    It needs prompts.txt, a prompt a line; SDXL models in a folder that FLOWDESIGN_MODELS names, each with its row at
    the end of ASSETS in flowdesign/catalog.py and its word at the end of tokens/vocabulary.txt; and weights of
    the scorers and of the language model, in folders or from the hub. It was never run as a whole.
    """
    scorers = {
        "weights": {"pickscore": 1.0, "imagereward": 0.5, "aesthetic": 0.25}, "held_out": "hps_v2",
        "also": "", "score_device": "cuda",
    }  # fmt: skip
    rendering = {"device": "cuda", "dtype": "float16", "workers": 1, "prompts": "prompts.txt"}
    said = {"device": "cuda", "prompt_source": "prompts.txt", "variants": None}
    return _chain(
        name,
        {
            "collect": {**scorers, **rendering, "n": 25_000, "seeds": 4, "repeated": 1.0},
            "reward": {"device": "cuda", "dtype": "bf16", "encoder": "answerdotai/ModernBERT-base",
                    "steps": 4000, "weights": scorers["weights"], "held_out": "hps_v2"},
            "sft": {**said, "base": "meta-llama/Llama-3.1-8B-Instruct", "steps": 4000},
            "warm": {**said, "steps": 400},
            "scored": {**said, "steps": 1000, "records": ""},
            "grpo": {**said, "steps": 1000, "prompts": 16, "layers": 0, "lora_rate": 5e-5, "rows_rate": 2e-4},
            "evaluate": {**scorers, **rendering, "prompt_count": 500, "learned": ""},
        },
        seeds=3, ablated=True, standardised=True,
    )  # fmt: skip


PRESETS: Mapping[str, Stages] = {
    "quick": quick,
    "laptop": laptop,
    "ablations": ablations,
    "full": full,
}

_CONFIGS: Mapping[str, tuple[str, type[RunConfig]]] = {
    "collect": ("collect", CollectConfig),
    "reward": ("reward", RewardConfig),
    "sft": ("sft", SFTConfig),
    "warm": ("sft", SFTConfig),
    "scored": ("sft", SFTConfig),
    "grpo": ("grpo", GRPOConfig),
    "evaluate": ("evaluate", EvaluateConfig),
}

# What each preset changes again.
_WARM = {
    "warm": 1.0, "variants": 0.5, "heat": 0.03, "sweeps": 3, "judges": 2, "prompts": 16, "sentences": 2, "warmup": 5,
    "rows_rate": 2e-3, "grammar_weight": 1.0, "save_every": 15, "threads": 2,
}  # fmt: skip
_GRPO = {
    "threads": 2, "prompts": 12, "variants": 0.5, "layers": 10, "at_once": 6, "lora_rate": 6e-4, "rows_rate": 1.2e-3,
    "warmup": 3, "divergence": 0.03, "entropy": 0.06, "least_entropy": 0.45, "save_every": 5,
}  # fmt: skip
# GRPO with one thing changed; "cold" begins with the SFT policy, without the warm start.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "one": {"members": 1},
    "mean": {"trust": 0.0},
    "unbound": {"divergence": 0.0},
    "cool": {"temperature": 0.7},
    "cold": {},
}
_ABOUT = {
    "one": "ablation: GRPO against one member of the ensemble",
    "mean": "ablation: GRPO against the ensemble's mean, not its lower bound",
    "unbound": "ablation: GRPO without the KL divergence",
    "cool": "ablation: GRPO at temperature 0.7",
    "cold": "ablation: GRPO without a warm start",
}
_SCORED = {"scored": 1.0, "records": "shipped", "prompts": 16, "sentences": 2, "threads": 2}


def _chain(
    name: str,
    options: Mapping[str, Mapping[str, Any]],
    seeds: int = 1,
    shipped: bool = False,
    ablated: bool = False,
    standardised: bool = False,
) -> list[Stage]:
    """The stages with these options; whatever is not said is the default of its command.

    `shipped` stores the shipped records first, so that there is enough to learn from; `ablated` adds VARIANTS;
    `standardised` measures the scorers' reference set on what was collected.
    """
    run = {stage: f"{name}_{stage}" for stage in options}
    learns = {"reward": run["reward"]}

    def stage(
        key: str, about: str, usual: Mapping[str, Any], before: tuple[str, ...] = (), **own: Any
    ) -> Stage:
        kind, config = _CONFIGS[key]
        return Stage(
            kind, build(config, {**usual, **options[key], "run": run[key], **own}), about, before
        )

    grpos = [f"{name}_grpo{seed or ''}" for seed in range(seeds)]
    more = _variants(name, options["grpo"]) if ablated else []
    reference = ("scorers", "reference", "--source", f"collect:{run['collect']}")
    compared = {
        "policy": ",".join(grpos),
        "conditioned": run["scored"],
        "variants": _names(name, more),
    }
    return [
        stage("collect", "render and score", {}, ("shipped", "load") if shipped else ()),
        stage("reward", "the reward ensemble", {}, reference if standardised else ()),
        stage("sft", "phase 1: SFT on random valid workflows", {"threads": 2, **learns}),
        stage("warm", "a warm start on workflows that a search finds", {"start": run["sft"], **learns, **_WARM}),
        *(
            stage("grpo", "phase 2: GRPO against the ensemble", {**_GRPO, "start": run["warm"], **learns},
                  run=one, seed=seed)
            for seed, one in enumerate(grpos)
        ),
        *more,
        stage("scored", "a baseline: ComfyGen-FT's policy, told scores", {**_SCORED, "start": run["sft"], **learns}),
        stage("evaluate", "compare on held-out prompts", {"threads": 2, **compared, **learns}),
    ]  # fmt: skip


def _variants(name: str, grpo: Mapping[str, Any]) -> list[Stage]:
    """GRPO runs with one thing changed."""
    starts = {"cold": f"{name}_sft"}
    return [
        Stage("grpo", build(GRPOConfig, {
            **_GRPO, "reward": f"{name}_reward", **grpo, **changes,
            "start": starts.get(key, f"{name}_warm"), "run": f"{name}_grpo_{key}",
        }), _ABOUT[key])
        for key, changes in VARIANTS.items()
    ]  # fmt: skip


def _names(name: str, more: Sequence[Stage]) -> str:
    """The policies to look at beside the usual ones: that of phase 1, and the ablations."""
    return ",".join([f"{name}_sft", *(stage.config.run for stage in more)])


def zoo(name: str) -> Stage:
    """The stage before all others, where no models are installed."""
    return Stage("zoo", build(ZooConfig, {"run": f"{name}_zoo"}), "train the miniature models")
