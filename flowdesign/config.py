"""One pydantic model per kind of run: it makes the command line, the saved file and the checks.

A run's options are named here and nowhere else. `add_flags` turns a model's fields into argparse
flags, `from_flags` turns parsed flags back into a model, `save` and `load` keep it beside the run.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

ConfigT = TypeVar("ConfigT", bound="RunConfig")
OptionsT = TypeVar("OptionsT", bound="Options")
# A plain folder name: no separators and no leading dot, so a run cannot leave checkpoints/.
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class ConfigError(ValueError):
    """Options that cannot be used; the message names every one of them and what is allowed."""


@dataclass(frozen=True)
class Step:
    """One finished step of a run: number `index` (from 0) of `total`, with what was measured."""

    index: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


def read_weights(value: object) -> object:
    """Read "a=1,b=0.5" as {"a": "1", "b": "0.5"}; another value passes unread, to be checked."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise ValueError("write weights as NAME=NUMBER,NAME=NUMBER")
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    return {name.strip(): number.strip() for name, _, number in pairs}


Weights = Annotated[dict[str, FiniteFloat], BeforeValidator(read_weights)]


def listed(text: str) -> list[str]:
    """The names in "a, b"; none in an empty text."""
    return [name.strip() for name in text.split(",") if name.strip()]


class Options(BaseModel):
    """Options that are named once and make flags, form and file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightConfig(Options):
    """Which scorers' scores make one figure, and how.

    The combined score is the weighted sum of standardised scores (flowdesign.standards). The
    held-out scorer is kept for evaluation: it has no weight, so nothing is ever trained on it.
    """

    weights: Weights = Field(
        {"scene_soft": 1.0, "sharpness": 0.25},
        description="weight of each scorer in the sum, as NAME=NUMBER,NAME=NUMBER",
    )
    held_out: str = Field(
        "scene_strict", description="scorer kept for evaluation; it has no weight"
    )

    @model_validator(mode="after")
    def _keep_apart(self) -> "WeightConfig":
        """Refuse a held-out scorer that is in the sum, and a sum of nothing."""
        if self.held_out and self.weights.get(self.held_out, 0.0) != 0.0:
            raise ValueError(
                f"'{self.held_out}' is held out for evaluation, so it cannot have a weight"
            )
        if not any(self.weights.values()):
            raise ValueError("weights: at least one scorer needs a weight that is not 0")
        return self

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of all scorers that an image needs: the weighted ones, then the held-out one."""
        names = [name for name, weight in self.weights.items() if weight]
        return tuple(dict.fromkeys([*names, *filter(None, [self.held_out])]))


class ScoreConfig(WeightConfig):
    """Which scorers judge an image, and where the learned ones work."""

    score_device: str = Field("cpu", description="torch device of the learned scorers")
    score_batch: int = Field(8, ge=1, description="images scored at once by a learned scorer")


class RunConfig(Options):
    """What every run has: the name of its folder under checkpoints/ and a seed.

    `incidental` names the fields that do not change what the run makes, only how it gets there; a
    run may go on with other values of them.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"run", "threads"})

    run: RunName = Field(description="name of the folder under checkpoints/")
    seed: int = Field(0, ge=0, description="all chance in the run follows from it")
    threads: int = Field(1, ge=1, description="CPU threads for torch")


class SFTConfig(RunConfig):
    """Supervised fine-tuning on random valid workflows (paper, phase 1).

    A step is `prompts` prompts with `sentences` workflows each; the prompt's part of the forward
    pass is shared by its workflows. With `warm` above 0, a share of the workflows is not random but
    found for its prompt by search under a reward ensemble: a warm start for GRPO, not in the paper.
    """

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"save_every"}

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
        "", description="folder of the records of both, or shipped; empty is the usual one"
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


class GRPOConfig(RunConfig):
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
        64, ge=1, description="test prompts that the finished policy is measured on"
    )
    save_every: int = Field(10, ge=1, description="steps between two checkpoints")


class ZooConfig(RunConfig):
    """Train the miniature models from nothing."""

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"workers", "stages"}

    run: RunName = Field("zoo", description="name of the folder under checkpoints/")
    workers: int = Field(2, ge=1, description="stages trained at once, one thread each")
    stages: str = Field("", description="only these stages, by comma, and what they need")


class RenderConfig(RunConfig, ScoreConfig):
    """What every run has that renders and scores: with what, where, and how many at once."""

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {
        "workers", "ray", "score_device", "score_batch",
    }  # fmt: skip

    also: str = Field("scene_gist", description="scorers to run beside the weighted ones, by comma")
    images: bool = Field(True, description="keep the images beside the records")
    records: str = Field("", description="folder of the records; empty is the usual one")
    device: str = Field("cpu", description="torch device of the renderer")
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="type of the diffusion model"
    )
    batch: int = Field(16, ge=1, description="images rendered at once")
    workers: int = Field(2, ge=1, description="processes that render")
    ray: str = Field("", description="address of a Ray cluster, or local; empty is without Ray")

    @property
    def all_scorers(self) -> tuple[str, ...]:
        """The names of all scorers to run: weighted, held out, and those beside them."""
        return tuple(dict.fromkeys([*self.scorers, *listed(self.also)]))


class CollectConfig(RenderConfig):
    """Render and score: prompts x workflows x seeds become records.

    A *pair* is a prompt with a workflow. Pairs that are not `repeated` are rendered with one of the
    prompt's seeds, the others with all of them, which tells how much of a score is chance.
    """

    incidental: ClassVar[frozenset[str]] = RenderConfig.incidental | {"price", "retry"}

    run: RunName = Field("collect", description="name of the folder under checkpoints/")
    prompts: str = Field("grammar", description="file with a prompt a line, or grammar")
    prompt_count: int = Field(400, ge=1, description="prompts to draw from the grammar")
    split: Literal["all", "train", "validation", "test"] = Field(
        "all", description="only prompts and random workflows of this split of the records"
    )
    policy: str = Field("random", description="run or folder of a policy, or random")
    temperature: float = Field(1.0, ge=0, le=2, description="of the policy; 0 is the likeliest")
    n: int = Field(5000, ge=1, description="pairs of a prompt and a workflow")
    seeds: int = Field(4, ge=1, le=64, description="seeds of a prompt")
    repeated: float = Field(1.0, ge=0, le=1, description="share of the pairs with all seeds")
    per_workflow: int = Field(4, ge=1, description="prompts that a random workflow is tried on")
    price: float = Field(0.0, ge=0, description="what one worker costs an hour, in your currency")
    retry: bool = Field(False, description="render again what failed before")


class EvaluateConfig(RenderConfig):
    """Ways to a workflow for a prompt, compared on held-out prompts by rendering and judging.

    Whatever has to be chosen (the baselines' workflows, the guidance scale, what a search keeps) is
    chosen on other prompts, or at least other seeds, than what is measured.
    """

    incidental: ClassVar[frozenset[str]] = RenderConfig.incidental | {"records"}

    run: RunName = Field("my_evaluation", description="name of the folder under checkpoints/")
    images: bool = Field(False, description="keep the images beside the records")
    records: str = Field("", description="folder of the records; empty is one in the run's folder")
    contestants: str = Field("", description="only these kinds, by comma; empty is all")
    policy: str = Field(
        "policy_grpo", description="runs of GRPO that differ in their seed, by comma"
    )
    conditioned: str = Field(
        "", description="run of an SFT policy that was told scores (sft --scored); empty is none"
    )
    variants: str = Field("", description="other policies to compare, by comma")
    reward: str = Field("reward", description="run or folder of the ensemble that ranks designs")
    trust: float = Field(1.0, ge=0, description="k of its lower bound: mean - k x spread")
    scales: str = Field("0.5,1.5,2,3,5", description="guidance scales, by comma")
    temperature: float = Field(1.0, ge=0, le=2, description="of the policies")
    best_of: int = Field(8, ge=2, description="designs of which the ensemble's favourite is taken")
    prompts: str = Field("grammar", description="file with a prompt a line, or grammar")
    prompt_count: int = Field(500, ge=2, description="held-out prompts to measure on")
    seeds: int = Field(4, ge=1, le=64, description="images of a prompt and a design")
    curve_prompts: int = Field(
        100, ge=2, description="of these prompts, those for all guidance scales and variants"
    )
    choose_prompts: int = Field(
        64, ge=2, description="validation prompts that the guidance scale is chosen on"
    )
    table_prompts: int = Field(
        64, ge=8, description="training prompts that baselines see every workflow of theirs on"
    )
    table_workflows: int = Field(32, ge=4, description="workflows that baselines choose from")
    searched: int = Field(
        40,
        ge=0,
        description="of the prompts, those for which workflows are searched for by rendering",
    )
    rounds: int = Field(6, ge=1, description="of that search")
    tries: int = Field(8, ge=1, description="changed workflows in a round")
    search_seeds: int = Field(2, ge=1, description="images by which the search judges a workflow")
    free: int = Field(
        200, ge=0, description="sentences without the grammar, to see how many are workflows"
    )

    @model_validator(mode="after")
    def _numbers(self) -> "EvaluateConfig":
        """Refuse scales that are no numbers, and parts that are larger than the whole."""
        _ = self.all_scales
        for name in ("curve_prompts", "searched"):
            if getattr(self, name) > self.prompt_count:
                raise ValueError(
                    f"{name} ({getattr(self, name)}) are some of the prompts: at most prompt_count "
                    f"({self.prompt_count})"
                )
        return self

    @property
    def all_scales(self) -> tuple[float, ...]:
        """The guidance scales in `scales` in order, without 0 and 1, which are policies themselves."""
        try:
            found = sorted({float(word) for word in listed(self.scales)} - {0.0, 1.0})
        except ValueError:
            raise ValueError(f"scales: write numbers by comma, not '{self.scales}'") from None
        return tuple(found)


class RewardConfig(RunConfig, WeightConfig):
    """The reward ensemble: predicts the scores of an image from prompt and workflow (paper, step 2.1).

    A step is, for each member, `prompts` prompts with up to `workflows` of their workflows. Members
    differ in their seed, their bootstrap sample and their random prior, and share no trained weight.
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
    reader: Literal["staged", "pooled", "crossed", "joint"] = Field(
        "staged",
        description="staged: a network over a vector of the encoded prompt and one of the first pass, "
        "then a step for each later pass; pooled: all passes in one vector; "
        "crossed: a small transformer reads the sentence and looks at the encoded prompt; "
        "joint: the encoder reads both as one text",
    )
    tuning: Literal["lora", "full", "frozen"] = Field("lora", description="how the encoder learns")
    rank: int = Field(8, ge=1, description="LoRA rank")
    width: int = Field(
        256, ge=32, multiple_of=32, description="width of a staged, pooled or crossed reader"
    )
    layers: int = Field(2, ge=1, description="layers of a staged, pooled or crossed reader")
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
    workflows: int = Field(9, ge=1, description="workflows of each prompt in a step")
    rate: float = Field(3e-3, gt=0, description="peak learning rate of the reader")
    encoder_rate: float = Field(2e-4, gt=0, description="peak learning rate of the encoder")
    decay: float = Field(0.01, ge=0, description="weight decay")
    dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share of the activations of a staged, pooled or crossed reader that a step leaves out",
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


def add_command(
    commands: Any, name: str, work: Callable[[argparse.Namespace], Any], dest: str = "work"
) -> argparse.ArgumentParser:
    """Add a command to argparse's `commands`, told by the docstring of `work`; it is kept in `dest`."""
    about = (work.__doc__ or "").strip()
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(**{dest: work})
    return command


def add_flags(parser: argparse.ArgumentParser, model: type[Options]) -> None:
    """Add one flag per field of the model; a flag that is not given keeps the field's default."""
    for name, info in model.model_fields.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, **_argument(info))


def from_flags(model: type[OptionsT], flags: argparse.Namespace) -> OptionsT:
    """Build the config from parsed flags. Raises ConfigError that lists every fault at once."""
    given = {name: value for name, value in vars(flags).items() if name in model.model_fields}
    return build(model, given)


def to_flags(config: Options) -> list[str]:
    """The flags that give this config: those of the options that differ from their defaults."""
    words: list[str] = []
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if info.is_required() or value != info.get_default(call_default_factory=True):
            words += _flag("--" + name.replace("_", "-"), value)
    return words


def build(model: type[OptionsT], values: Any) -> OptionsT:
    """Validate `values` (any JSON). Raises ConfigError that lists every fault at once."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_complaint(fault) for fault in error.errors())) from None


def save(config: RunConfig, path: Path) -> None:
    """Write the config as JSON, one field a line."""
    path.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(model: type[ConfigT], path: Path) -> ConfigT:
    """Read what `save` wrote. Raises ConfigError for a file that is not such a config."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    return build(model, values)


def as_text(value: object) -> str:
    """An option's value as it is typed: NAME=NUMBER,NAME=NUMBER for weights."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={number!r}" for name, number in value.items())
    return "" if value is None else str(value)


def _flag(flag: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    text = as_text(value)
    # argparse takes a word that begins with a dash for the next flag, unless it is tied to its own.
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _argument(info: FieldInfo) -> dict[str, Any]:
    """Keywords of argparse's add_argument for one field."""
    required = info.is_required()
    words = info.description or ""
    about = words if required else f"{words} (default: {info.get_default()})"
    about = about.replace("%", "%%")
    kind = plain_type(info.annotation)
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": about}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "help": about, "required": required}
    return {"type": kind, "help": about, "required": required, "metavar": kind.__name__.upper()}


def plain_type(annotation: Any) -> Any:
    """The one type a flag's text is parsed as: `int` for int | None, Path for Path."""
    if get_origin(annotation) is Literal:
        return annotation
    options = [option for option in get_args(annotation) if option is not NoneType]
    return options[0] if options else annotation


def _complaint(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "config"
    return f"{where}: {fault['msg']} (given: {str(fault['input'])[:60]!r})"
