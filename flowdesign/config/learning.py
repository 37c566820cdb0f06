"""The options of what learns: policies, reward ensembles, the miniature models."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from flowdesign.config.options import RunConfig, RunName, listed
from flowdesign.config.rendering import WeightConfig


class PromptConfig(RunConfig):
    """Which prompts a policy learns from."""

    prompt_source: str = Field(
        "grammar", description="file with a prompt a line, a fifth of them held out, or grammar"
    )
    variants: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the grammar's prompts, where rewards count, that want a LoRA; empty is a third",
    )

    @model_validator(mode="after")
    def _grammar(self) -> Self:
        """Refuse what only the grammar has."""
        if self.variants is not None and self.prompt_source != "grammar":
            raise ValueError(
                f"variants ({self.variants:g}) is a share of the grammar's prompts, and prompt_source names "
                f"{self.prompt_source}: leave it empty"
            )
        return self


class SFTConfig(PromptConfig):
    """Supervised fine-tuning on random valid workflows (paper, phase 1).

    A step is `prompts` prompts with `sentences` workflows each; the prompt's part of the forward
    pass is shared by its workflows. With `warm` above 0, a share of the workflows is not random but
    found for its prompt by search under a reward ensemble: a warm start for GRPO, not in the paper.
    """

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"save_every", "at_once"}

    run: RunName = Field("my_policy", description="name of the folder under checkpoints/")
    start: str = Field(
        "", description="run or folder of a policy to go on from; empty is a new one"
    )
    base: str = Field(
        "smollm2-135m-instruct", description="language model of a new one: known name or folder"
    )
    dtype: Literal["nf4", "bf16", "fp32"] = Field("nf4", description="how the base is held")
    device: str = Field("cpu", description="torch device")
    steps: int = Field(220, ge=1, description="optimiser steps")
    prompts: int = Field(4, ge=1, description="prompts in a step")
    sentences: int = Field(8, ge=1, description="random workflows for each prompt")
    at_once: int = Field(
        0, ge=0, description="prompts whose workflows are in memory at once; 0 is all"
    )
    rank: int = Field(16, ge=1, description="LoRA rank of a new one")
    lora_rate: float = Field(1e-3, gt=0, description="peak learning rate of the LoRA weights")
    rows_rate: float = Field(3e-3, gt=0, description="peak learning rate of the new token rows")
    grammar_weight: float = Field(20.0, ge=0, description="extra weight of the grammar in the loss")
    layers: int = Field(0, ge=0, description="uppermost layers whose LoRA learns; 0 is all")
    imported: float = Field(
        0.0, ge=0, le=1, description="share of the prompts that come with imported graphs"
    )
    scored: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the prompts that come with recorded workflows and are told their scores",
    )
    records: str = Field(
        "",
        description="folder of the records of both, or shipped for scored; empty is the usual one",
    )
    warm: float = Field(
        0.0, ge=0, le=1, description="share of the prompts whose workflows are searched for"
    )
    reward: str = Field(
        "reward", description="run or folder of the ensemble to search under and to look with"
    )
    trust: float = Field(1.0, ge=0, description="k of its reward: mean - k x spread")
    sweeps: int = Field(2, ge=1, description="times that the search visits every choice")
    judges: int = Field(
        0,
        ge=0,
        description="members of it that a step's search asks, others at each step; 0 is all",
    )
    heat: float = Field(
        0.02,
        ge=0,
        description="temperature of the search, in units of the reward; 0 takes the best",
    )
    warmup: int = Field(20, ge=0, description="steps until the peak learning rate")
    evaluate_every: int = Field(25, ge=1, description="steps between two looks at what it says")
    save_every: int = Field(50, ge=1, description="steps between two checkpoints")

    @model_validator(mode="after")
    def _share(self) -> "SFTConfig":
        """Refuse shares that are more than there is."""
        if self.warm + self.imported + self.scored > 1:
            raise ValueError(
                f"imported ({self.imported:g}), scored ({self.scored:g}) and warm ({self.warm:g}) are shares "
                "of the same prompts: together at most 1"
            )
        return self


class GRPOConfig(PromptConfig):
    """GRPO against the reward ensemble (paper, phase 2). Nothing is rendered.

    A step is `prompts` groups of `group` workflows that the policy says, and `updates` updates of its
    weights from them. The reward is the ensemble's lower bound.
    """

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {
        "save_every",
        "at_once",
        "judged",
    }

    run: RunName = Field("my_grpo", description="name of the folder under checkpoints/")
    start: str = Field("policy_sft", description="run or folder of the SFT policy to start from")
    reward: str = Field("reward", description="run or folder of the reward ensemble")
    trust: float = Field(1.0, ge=0, description="k of the reward: mean - k x spread")
    members: int = Field(0, ge=0, description="only so many of its members; 0 is all")
    dtype: Literal["nf4", "bf16", "fp32"] = Field("nf4", description="how the base is held")
    device: str = Field("cpu", description="torch device")
    steps: int = Field(200, ge=1, description="rollouts")
    prompts: int = Field(8, ge=1, description="prompts in a step")
    group: int = Field(8, ge=2, description="workflows for each prompt")
    at_once: int = Field(4, ge=1, description="prompts whose workflows are in memory at once")
    updates: int = Field(1, ge=1, description="updates of the weights from one rollout")
    temperature: float = Field(1.0, gt=0, le=2, description="of the rollout")
    layers: int = Field(0, ge=0, description="uppermost layers whose LoRA learns; 0 is all")
    lora_rate: float = Field(3e-4, gt=0, description="peak learning rate of the LoRA weights")
    rows_rate: float = Field(1e-3, gt=0, description="peak learning rate of the token rows")
    warmup: int = Field(5, ge=0, description="steps until the peak learning rate")
    scaled: bool = Field(True, description="divide advantages by the group's standard deviation")
    contrast: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of what a workflow earns for other prompts that its reward loses",
    )
    foils: int = Field(4, ge=1, description="other prompts that each workflow is judged for")
    clip_low: float = Field(0.2, gt=0, lt=1, description="the ratio is clipped to 1 - this")
    clip_high: float = Field(0.2, gt=0, description="the ratio is clipped to 1 + this")
    divergence: float = Field(
        0.02, ge=0, description="weight of the KL divergence from the SFT policy"
    )
    entropy: float = Field(
        0.0, ge=0, description="weight of the entropy of the choices, at the start"
    )
    least_entropy: float = Field(
        0.0,
        ge=0,
        description="nats a choice below which that weight grows; above, it shrinks to where it began; 0 "
        "leaves it as it is",
    )
    evaluate_every: int = Field(
        10, ge=1, description="steps between two looks at validation prompts"
    )
    judged: int = Field(
        64, ge=2, description="test prompts that the finished policy is measured on"
    )
    save_every: int = Field(10, ge=1, description="steps between two checkpoints")


class RewardConfig(RunConfig, WeightConfig):
    """The reward ensemble: predicts the scores of an image from prompt and workflow (paper, step 2.1).

    A step is, for each member, `prompts` prompts with up to `workflows` of their workflows, and
    `promising` more of those whose workflows score best. Members differ in their seed, their
    bootstrap sample and their random prior, and share no trained weight.
    """

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {
        "workers", "save_every", "records",
    }  # fmt: skip

    run: RunName = Field("my_reward", description="name of the folder under checkpoints/")
    records: str = Field(
        "", description="folder of records, or shipped; empty is the usual folder of records"
    )
    source: str = Field("", description="only records of this source, by comma; empty is all")
    without: str = Field(
        "", description="words (<lora:night_crowd>), by comma, whose sentences are not learned from"
    )
    members: int = Field(4, ge=1, le=32, description="reward models in the ensemble")
    encoder: str = Field(
        "all-minilm-l6-v2", description="encoder: known name, folder or repository"
    )
    reader: Literal["staged", "matched", "pooled", "crossed", "joint"] = Field(
        "matched",
        description="staged: a network over a vector of the encoded prompt and one of the first pass, "
        "then a step for each later pass; matched: staged, with products of both vectors; "
        "pooled: all passes in one vector; "
        "crossed: a small transformer reads the sentence and looks at the encoded prompt; "
        "joint: the encoder reads both as one text",
    )
    tuning: Literal["lora", "full", "frozen"] = Field("lora", description="how the encoder learns")
    rank: int = Field(8, ge=1, description="LoRA rank")
    width: int = Field(256, ge=32, multiple_of=32, description="width of a reader other than joint")
    layers: int = Field(2, ge=1, description="layers of a reader other than joint")
    prior: float = Field(0.15, ge=0, description="scale of each member's fixed random prior")
    bootstrap: Literal["pairs", "prompts", "none"] = Field(
        "pairs", description="what a member's training sample is drawn from, with replacement"
    )
    sample: float = Field(
        3.0, gt=0, description="size of that sample, in multiples of the number of pairs or prompts"
    )
    dtype: Literal["fp32", "bf16"] = Field("fp32", description="type that is trained in")
    device: str = Field("cpu", description="torch device")
    steps: int = Field(1250, ge=1, description="optimiser steps of a member")
    prompts: int = Field(16, ge=1, description="prompts in a step")
    promising: int = Field(
        8, ge=0, description="more of them, of the fifth of prompts whose workflows score best"
    )
    workflows: int = Field(9, ge=1, description="workflows of each prompt in a step")
    rate: float = Field(3e-3, gt=0, description="peak learning rate of the reader")
    encoder_rate: float = Field(2e-4, gt=0, description="peak learning rate of the encoder")
    decay: float = Field(0.01, ge=0, description="weight decay")
    dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share of the activations of a reader other than joint that a step leaves out",
    )
    beta: float = Field(
        0.5, ge=0, le=1, description="weight of the variance in the loss (beta-NLL)"
    )
    order_weight: float = Field(
        1.0, ge=0, description="weight, in the loss, of the order of a prompt's workflows"
    )
    averaging: float = Field(
        0.98, ge=0, lt=1, description="share of the old in each step's running mean of the weights"
    )
    vote_weight: float = Field(0.5, ge=0, description="weight of the votes in the loss")
    votes: int = Field(32, ge=1, description="votes in a step, where there are any")
    warmup: int = Field(40, ge=0, description="steps until the peak learning rate")
    evaluate_every: int = Field(
        50, ge=1, description="steps between two looks at validation prompts"
    )
    patience: int = Field(10, ge=1, description="looks without gain after which a member stops")
    trust: float = Field(1.0, ge=0, description="k of the lower bound: mean - k x spread")
    workers: int = Field(2, ge=1, description="members that learn at once, one thread each")
    save_every: int = Field(50, ge=1, description="steps between two checkpoints")

    @property
    def left_out(self) -> tuple[str, ...]:
        """The words in `without`."""
        return tuple(listed(self.without))


class ZooConfig(RunConfig):
    """Train the miniature models from nothing."""

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"workers", "stages"}

    run: RunName = Field("zoo", description="name of the folder under checkpoints/")
    workers: int = Field(2, ge=1, description="stages trained at once, one thread each")
    stages: str = Field("", description="only these stages, by comma, and what they need")
