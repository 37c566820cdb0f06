"""One pydantic model per kind of run: it makes the command line, the saved file and the checks.

A run's options are named here and nowhere else. `add_flags` turns a model's fields into argparse
flags, `from_flags` turns parsed flags back into a model, `save` and `load` keep it beside the run.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

ConfigT = TypeVar("ConfigT", bound="RunConfig")
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


class RunConfig(BaseModel):
    """What every run has: the name of its folder under checkpoints/ and a seed.

    `incidental` names the fields that do not change what the run makes, only how it gets there; a
    run may go on with other values of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    incidental: ClassVar[frozenset[str]] = frozenset({"run", "threads"})

    run: RunName = Field(description="name of the folder under checkpoints/")
    seed: int = Field(0, ge=0, description="all chance in the run follows from it")
    threads: int = Field(1, ge=1, description="CPU threads for torch")


class SFTConfig(RunConfig):
    """Supervised fine-tuning on random valid workflows (paper, phase 1).

    A step is `prompts` prompts with `sentences` workflows each; the prompt's part of the forward
    pass is shared by its workflows.
    """

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"save_every"}

    run: RunName = Field("policy_sft", description="name of the folder under checkpoints/")
    base: str = Field("smollm2-135m-instruct", description="language model: known name or folder")
    dtype: Literal["nf4", "bf16", "fp32"] = Field("nf4", description="how the base is held")
    device: str = Field("cpu", description="torch device")
    steps: int = Field(220, ge=1, description="optimiser steps")
    prompts: int = Field(4, ge=1, description="prompts in a step")
    sentences: int = Field(8, ge=1, description="random workflows for each prompt")
    rank: int = Field(16, ge=1, description="LoRA rank")
    lora_rate: float = Field(1e-3, gt=0, description="peak learning rate of the LoRA weights")
    rows_rate: float = Field(3e-3, gt=0, description="peak learning rate of the new token rows")
    grammar_weight: float = Field(20.0, ge=0, description="extra weight of the grammar in the loss")
    warmup: int = Field(20, ge=0, description="steps until the peak learning rate")
    save_every: int = Field(50, ge=1, description="steps between two checkpoints")


class ZooConfig(RunConfig):
    """Train the miniature models from nothing."""

    incidental: ClassVar[frozenset[str]] = RunConfig.incidental | {"workers", "stages"}

    run: RunName = Field("zoo", description="name of the folder under checkpoints/")
    workers: int = Field(2, ge=1, description="stages trained at once, one thread each")
    stages: str = Field("", description="only these stages, by comma, and what they need")


def add_flags(parser: argparse.ArgumentParser, model: type[RunConfig]) -> None:
    """Add one flag per field of the model; a flag that is not given keeps the field's default."""
    for name, info in model.model_fields.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, **_argument(info))


def from_flags(model: type[ConfigT], flags: argparse.Namespace) -> ConfigT:
    """Build the config from parsed flags. Raises ConfigError that lists every fault at once."""
    given = {name: value for name, value in vars(flags).items() if name in model.model_fields}
    return build(model, given)


def build(model: type[ConfigT], values: Any) -> ConfigT:
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


def _argument(info: FieldInfo) -> dict[str, Any]:
    """Keywords of argparse's add_argument for one field."""
    required = info.is_required()
    words = info.description or ""
    about = words if required else f"{words} (default: {info.get_default()})"
    about = about.replace("%", "%%")
    kind = _plain_type(info.annotation)
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": about}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "help": about, "required": required}
    return {"type": kind, "help": about, "required": required, "metavar": kind.__name__.upper()}


def _plain_type(annotation: Any) -> Any:
    """The one type a flag's text is parsed as: `int` for int | None, Path for Path."""
    if get_origin(annotation) is Literal:
        return annotation
    options = [option for option in get_args(annotation) if option is not NoneType]
    return options[0] if options else annotation


def _complaint(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "config"
    return f"{where}: {fault['msg']} (given: {str(fault['input'])[:60]!r})"
