"""What all configs are made of, and the way from one to flags, to a file, and back."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
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


def listed(text: str) -> list[str]:
    """The names in "a, b"; none in an empty text."""
    return [name.strip() for name in text.split(",") if name.strip()]


class Options(BaseModel):
    """Options that are named once and make flags, form and file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunConfig(Options):
    """What every run has: the name of its folder under checkpoints/ and a seed.

    `incidental` names the fields that do not change what the run makes, only how it gets there; a
    run may go on with other values of them.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"run", "threads"})

    run: RunName = Field(description="name of the folder under checkpoints/")
    seed: int = Field(0, ge=0, description="all chance in the run follows from it")
    threads: int = Field(
        1, ge=1, description="CPU threads for torch; processes that render share them"
    )


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
