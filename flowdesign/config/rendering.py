"""The options of what renders and scores: weights of scorers, collections, evaluations."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from flowdesign.config.options import Options, RunConfig, RunName, listed


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


RANDOM = "random"  # instead of a policy
Weights = Annotated[dict[str, FiniteFloat], BeforeValidator(read_weights)]


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
    variants: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the grammar's prompts that want a LoRA; empty is about a quarter",
    )
    split: Literal["all", "train", "validation", "test"] = Field(
        "all", description="only prompts and workflows of this split of the records"
    )
    policy: str = Field(RANDOM, description="run or folder of a policy, or random")
    temperature: float = Field(1.0, ge=0, le=2, description="of the policy; 0 is the likeliest")
    redrawn: str = Field(
        "",
        description="choices of what the policy says that are drawn anew, by comma: ckpt, lora, ...",
    )
    searched: str = Field(
        "",
        description="run or folder of a reward ensemble: what is said is changed to what this expects much of",
    )
    sweeps: int = Field(1, ge=1, le=8, description="of that search: visits to every choice")
    heat: float = Field(
        0.05, ge=0, description="of that search: 0 takes the best, more any good one"
    )
    trust: float = Field(1.0, ge=0, description="k of its lower bound: mean - k x spread")
    n: int = Field(5000, ge=1, description="pairs of a prompt and a workflow")
    seeds: int = Field(4, ge=1, le=64, description="seeds of a prompt")
    repeated: float = Field(1.0, ge=0, le=1, description="share of the pairs with all seeds")
    per_workflow: int = Field(4, ge=1, description="prompts that a random workflow is tried on")
    foils: int = Field(
        0, ge=0, description="more prompts that a workflow which was said for one is tried on"
    )
    price: float = Field(0.0, ge=0, description="what one worker costs an hour, in your currency")
    retry: bool = Field(False, description="render again what failed before")

    @property
    def is_random(self) -> bool:
        """Whether workflows begin as random walks through the grammar: no policy says them."""
        return self.policy == RANDOM

    @property
    def is_said(self) -> bool:
        """Whether workflows are made for their prompts, by a policy or a search, which can give equal ones."""
        return bool(not self.is_random or self.searched)


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
    learned: str = Field(
        "shipped",
        description="records that baselines take workflows from and designs are compared with: a folder, or "
        "shipped; empty is the usual one",
    )
    reward: str = Field("reward", description="run or folder of the ensemble that ranks designs")
    trust: float = Field(1.0, ge=0, description="k of its lower bound: mean - k x spread")
    scales: str = Field("0.5,1.5,2,3,5,8", description="guidance scales, by comma")
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
