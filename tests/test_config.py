"""One model makes flags, checks and the saved file."""

import argparse
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from flowdesign import config
from flowdesign.config import ConfigError, RunConfig, SFTConfig


class Toy(RunConfig):
    """A config with every kind of field."""

    run: config.RunName = Field("toy", description="100 % yours")
    learning_rate: float = Field(0.1, gt=0, description="how fast")
    colour: Literal["red", "blue"] = Field("red", description="which")
    loud: bool = Field(False, description="whether")
    limit: int | None = Field(None, description="at most")
    place: Path = Field(Path("here"), description="where")


def parse(*arguments: str) -> Toy:
    parser = argparse.ArgumentParser()
    config.add_flags(parser, Toy)
    parser.format_help()  # a % in a description must not break it
    return config.from_flags(Toy, parser.parse_args(arguments))


def test_no_flags_give_the_defaults() -> None:
    assert parse() == Toy()


def test_every_field_has_a_flag() -> None:
    given = parse(
        "--learning-rate", "0.5", "--colour", "blue", "--loud", "--limit", "3", "--place", "x",
        "--seed", "7", "--threads", "2", "--run", "mine",
    )  # fmt: skip
    assert given == Toy(
        learning_rate=0.5, colour="blue", loud=True, limit=3, place=Path("x"),
        seed=7, threads=2, run="mine",
    )  # fmt: skip


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        parse("--learning-rate", "-1", "--seed", "-2")
    assert "learning_rate" in str(raised.value)
    assert "seed" in str(raised.value)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a\\b"])
def test_a_run_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="run"):
        parse("--run", name)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="step_count"):
        config.build(SFTConfig, {"step_count": 3})


def test_the_saved_file_gives_the_config_back(tmp_path: Path) -> None:
    given = Toy(learning_rate=0.25, place=Path("there"))
    config.save(given, tmp_path / "config.json")
    assert config.load(Toy, tmp_path / "config.json") == given


def test_a_file_that_is_no_config_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        config.load(Toy, path)
    path.write_text("[1]")
    with pytest.raises(ConfigError):
        config.load(Toy, path)
