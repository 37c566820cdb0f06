"""The kinds of run that the Train tab starts: one row each, with presets and what they cost.

A new kind is a command of `python -m flowdesign`, a config and one row of KINDS.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowdesign.config import (
    CollectConfig,
    GRPOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    ZooConfig,
)
from flowdesign.policies import HEAD as POLICY_FILE
from flowdesign.records.store import FILE as RECORDS_FILE
from flowdesign.reward import HEAD as REWARD_FILE
from flowdesign.runs import folder_of
from flowdesign.ui import policy_card, reward_card

Rows = Sequence[Mapping[str, Any]]  # of metrics.jsonl


@dataclass(frozen=True)
class Thing:
    """What a run may need: its name, and the file that makes a folder one."""

    name: str
    file: str


POLICY = Thing("policy", POLICY_FILE)
ENSEMBLE = Thing("reward ensemble", REWARD_FILE)
STORE = Thing("store of records", RECORDS_FILE)

# What comes with FlowDesign: to be looked at, not to be changed or removed.
SHIPPED = frozenset({
    "policy_sft", "policy_warm", "policy_scored", "policy_grpo", "policy_grpo1", "policy_grpo2", "reward",
})  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A choice of options: those that differ from the defaults, and what it is for.

    `after` (option, kind, preset): the option names the newest run of that kind that was finished with
    that preset, where there is one.
    """

    name: str
    about: str
    values: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Stated:
    """What was measured once, elsewhere: seconds for a unit of work, memory in bytes, and its source.

    `options` are those of a cost's `same` that were not the defaults.
    """

    seconds: float
    memory: float | None
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """How long a run takes, from what it has to do and how fast it was done before.

    `size` is the work that a config asks for, in units that take about equally long (None: cannot be
    said before the start). `pace` gives the seconds of a unit from a former run's config and metrics,
    None when it does not tell. A former run tells only about configs with equal `same` fields and an
    equal `model`, and each of `stated` about those with its options of them and the usual model.
    """

    size: Callable[[Any], float | None]
    pace: Callable[[Any, Rows], float | None]
    same: tuple[str, ...]
    stated: tuple[Stated, ...] = ()
    model: Callable[[Any], str] = lambda config: ""


@dataclass(frozen=True)
class Kind:
    """A kind of run: the command and the config it takes, and how the page presents it.

    `first` are the fields that the form shows at once, the others are folded away. `report` makes the
    HTML that stands below the curves of an opened run, from its folder; `told` are the figures that it
    shows, which the table of figures leaves out. `needs` gives the options of a config that name what
    must be there.
    """

    name: str
    title: str
    about: str
    config: type[RunConfig]
    first: tuple[str, ...]
    presets: tuple[Preset, ...]
    cost: Cost
    report: Callable[[Path], str] | None = None
    told: tuple[str, ...] = ()
    needs: Callable[[Any], Mapping[str, Thing]] = lambda config: {}


def step_seconds(rows: Rows) -> float | None:
    """The usual time of a step: the median of the differences, which pauses do not change."""
    times = [float(row["time"]) for row in rows if "time" in row]
    gaps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    return gaps[len(gaps) // 2] if len(gaps) >= 3 else None


def _stepwise(
    units: Callable[[Any], float],
    same: tuple[str, ...],
    stated: tuple[Stated, ...] = (),
    model: Callable[[Any], str] = lambda config: "",
    besides: Callable[[Any], float] = lambda config: 0.0,
) -> Cost:
    """What `config.steps` steps of so many units each cost, and as many `besides`; a run that stops early
    costs less."""

    def pace(config: Any, rows: Rows) -> float | None:
        seconds = step_seconds(rows)
        return None if seconds is None else seconds / units(config)

    def size(config: Any) -> float:
        return float(config.steps * units(config) + besides(config))

    return Cost(size, pace, same, stated, model)


def _sft_needs(config: SFTConfig) -> Mapping[str, Thing]:
    start = {"start": POLICY} if config.start else {}
    made = _records_need(config.records) if config.imported or config.scored else {}
    return {**start, **made, **({"reward": ENSEMBLE} if config.warm else {})}


def _reward_needs(config: RewardConfig) -> Mapping[str, Thing]:
    return _records_need(config.records)


def _records_need(records: str) -> Mapping[str, Thing]:
    return {} if records in ("", "shipped") else {"records": STORE}


def _grpo_needs(config: GRPOConfig) -> Mapping[str, Thing]:
    return {"start": POLICY, "reward": ENSEMBLE}


def _sft_units(config: SFTConfig) -> float:
    """Texts that go through the model in a step; the prompt of a group goes through once."""
    return config.prompts * (config.sentences + 1)


def _grpo_units(config: GRPOConfig) -> float:
    """Workflows that are said once, and learned from as often as asked."""
    return config.prompts * config.group * (1 + config.updates)


def _grpo_besides(config: GRPOConfig) -> float:
    """Yardsticks at the start and at the end, looks at validation prompts, and the measuring of the finished
    policy, from the times of the shipped runs in units of their steps."""
    looks = math.ceil(config.steps / config.evaluate_every)
    return 555 + 80 * looks + 31 * config.judged


def _sft_model(config: SFTConfig) -> str:
    return _base_of(config.start) if config.start else config.base


def _base_of(name: str) -> str:
    """The language model of a policy, or of a run that will be one; nothing where that is not known."""
    for file in (POLICY_FILE, "config.json"):
        try:
            return str(json.loads((folder_of(name) / file).read_text(encoding="utf-8"))["base"])
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return ""


def _collect_size(config: CollectConfig) -> float:
    """Images: pairs with all seeds, and the others with one."""
    repeated = round(config.n * config.repeated)
    return repeated * config.seeds + config.n - repeated


def _collect_pace(config: CollectConfig, rows: Rows) -> float | None:
    last = rows[-1] if rows else {}
    images, seconds = float(last.get("images", 0)), float(last.get("seconds", 0))
    return seconds / images if images and seconds else None


def _reward_units(config: RewardConfig) -> float:
    """Pairs that a worker's members read in a step."""
    return config.prompts * config.workflows * math.ceil(config.members / config.workers)


def _zoo_size(config: ZooConfig) -> float | None:
    return None if config.stages else 1.0


def _zoo_pace(config: ZooConfig, rows: Rows) -> float | None:
    """The whole zoo: the seconds of its stages, shared among the workers."""
    stages = [float(row["seconds"]) for row in rows if math.isfinite(row.get("seconds", math.nan))]
    return sum(stages) / config.workers if len(stages) >= ZOO_STAGES else None


ZOO_STAGES = 19
CORES = "on two CPU cores"  # where costs were measured

KINDS: tuple[Kind, ...] = (
    Kind(
        "sft",
        "SFT: learn the vocabulary",
        "A language model learns to say workflows: random valid ones, for many prompts (phase 1 of the "
        "paper). It prefers none of them yet.",
        SFTConfig,
        ("steps", "prompts", "sentences", "base", "dtype", "device"),
        (
            Preset("Laptop", "the policy that is shipped: 220 steps on two CPU cores", {"threads": 2}),
            Preset(
                "Quick demo",
                "a few minutes on two CPU cores: the loss falls, the policy is still poor",
                {
                    "steps": 30, "prompts": 2, "sentences": 4, "warmup": 4, "evaluate_every": 10,
                    "save_every": 10, "threads": 2,
                },
            ),
            Preset(
                "Warm start",
                "the shipped policy goes on with workflows that a search finds for each prompt under the "
                "shipped reward ensemble",
                {
                    "start": "policy_sft", "warm": 1.0, "variants": 0.5, "heat": 0.03, "sweeps": 3,
                    "judges": 2, "prompts": 16, "sentences": 2, "steps": 150, "warmup": 5,
                    "rows_rate": 2e-3, "grammar_weight": 1.0, "save_every": 15, "evaluate_every": 50,
                    "threads": 2,
                },
            ),
            Preset(
                "Paper",
                "500,000 pairs on one GPU with 24 GB. The paper names no base model, rank or rate: "
                "these are ComfyGen's base and rank, the others our own choice",
                {
                    "base": "meta-llama/Llama-3.1-8B-Instruct", "device": "cuda", "steps": 3907,
                    "prompts": 16, "sentences": 8, "at_once": 4, "lora_rate": 2e-4, "rows_rate": 1e-3,
                    "warmup": 100, "save_every": 100,
                },
            ),
        ),
        _stepwise(
            _sft_units,
            ("dtype", "device", "layers", "warm", "sweeps", "judges"),
            (
                Stated(2.1 / 36, 4.8e9, f"steps like the shipped policy's, {CORES}"),
                Stated(0.15, 5.2e9, f"steps of a warm start, {CORES}", {"warm": 1.0, "sweeps": 3, "judges": 2}),
            ),
            _sft_model,
        ),
        policy_card.report,
        needs=_sft_needs,
    ),
    Kind(
        "collect",
        "Collect: render and score",
        "Prompts meet workflows: each pair is rendered, scored and kept as a record. This is what reward "
        "models learn from.",
        CollectConfig,
        ("prompt_count", "n", "seeds", "policy", "prompts", "workers"),
        (
            Preset("Laptop", "20,000 images of the miniature world, some hours on two CPU cores"),
            Preset(
                "Quick demo",
                "24 images, some minutes on two CPU cores",
                {"prompt_count": 12, "n": 12, "seeds": 2, "per_workflow": 2, "batch": 4},
            ),
            Preset(
                "Paper",
                "100,000 scored images, the number that the paper names",
                {"prompt_count": 2000, "n": 25_000, "seeds": 4},
            ),
        ),
        Cost(_collect_size, _collect_pace, ("device", "dtype", "workers", "ray", "policy")),
    ),
    Kind(
        "reward",
        "Reward: predict the score",
        "An ensemble learns to predict the scores of an image from prompt and workflow alone, with an "
        "interval that says how sure it is. It learns from the records and the votes.",
        RewardConfig,
        ("records", "source", "members", "steps", "prompts", "workflows"),
        (
            Preset("Laptop", "four members on two CPU cores; members that gain no more stop early"),
            Preset(
                "Quick demo",
                "two small members on the shipped records: the loss falls, the ranking is rough",
                {
                    "records": "shipped", "members": 2, "steps": 60, "prompts": 6, "workflows": 12,
                    "width": 64, "warmup": 6, "evaluate_every": 15, "save_every": 15,
                },
            ),
        ),
        _stepwise(
            _reward_units,
            ("encoder", "reader", "tuning", "width", "layers", "dtype", "device"),
            (Stated(2.1e-3, None, f"the shipped ensemble, {CORES}"),),
        ),
        reward_card.report,
        ("parts", "bars", "growth", "settings"),
        _reward_needs,
    ),
    Kind(
        "grpo",
        "GRPO: learn what suits the prompt",
        "The policy says workflows, the reward ensemble judges them, and those that are better than their "
        "group become likelier (phase 2 of the paper). Nothing is rendered.",
        GRPOConfig,
        ("start", "reward", "steps", "prompts", "group", "contrast"),
        (
            Preset(
                "Laptop",
                "as the shipped policy was made, from the shipped warm start, on two CPU cores",
                {
                    "start": "policy_warm", "variants": 0.5, "steps": 30, "prompts": 12, "layers": 10, "at_once": 6,
                    "lora_rate": 6e-4, "rows_rate": 1.2e-3, "warmup": 3, "divergence": 0.03,
                    "entropy": 0.06, "least_entropy": 0.45, "save_every": 5, "threads": 2,
                },
            ),
            Preset(
                "Quick demo",
                "a few minutes on two CPU cores: the reward begins to rise, from where the newest quick "
                "demo of SFT ended, or else from the shipped policy",
                {
                    "steps": 20, "prompts": 6, "group": 6, "layers": 10, "evaluate_every": 10,
                    "lora_rate": 1e-3, "judged": 8, "warmup": 2, "entropy": 0.06, "threads": 2,
                },
                ("start", "sft", "Quick demo"),
            ),
            Preset(
                "Paper",
                "larger groups on one GPU with 24 GB, from an SFT policy of 8 billion weights; the paper "
                "names no numbers, so these are our own choice",
                {
                    "start": "policy_sft_8b", "device": "cuda", "steps": 1000, "prompts": 16, "group": 8,
                    "lora_rate": 5e-5, "rows_rate": 2e-4,
                },
                ("start", "sft", "Paper"),
            ),
        ),
        _stepwise(
            _grpo_units,
            ("dtype", "device", "layers"),
            (
                Stated(0.068, 4.9e9, f"steps with all layers, {CORES}"),
                Stated(0.07, 4.1e9, f"the shipped policies, {CORES}", {"layers": 10}),
            ),
            lambda config: _base_of(config.start),
            _grpo_besides,
        ),
        policy_card.report,
        ("reward", "distinct"),
        _grpo_needs,
    ),
    Kind(
        "zoo",
        "Zoo: train the miniature models",
        "The image models of the miniature world, from nothing: encoder, four specialists, LoRAs, "
        "upscalers. Stages that are done are not trained again.",
        ZooConfig,
        ("workers", "stages", "seed"),
        (
            Preset("Laptop", "the whole zoo on two CPU cores"),
            Preset(
                "Quick demo",
                "one upscaler alone, some minutes on one core",
                {"stages": "mini_2x", "workers": 1},
            ),
        ),
        Cost(
            _zoo_size,
            _zoo_pace,
            ("workers",),
            (Stated(13_253 / 2, None, "the run that made the shipped models, on two CPU cores"),),
        ),
    ),
)  # fmt: skip
