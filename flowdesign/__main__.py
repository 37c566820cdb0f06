"""The command line, python -m flowdesign: --help lists the commands.

Heavy libraries are imported by the command that needs them, so that --help answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from flowdesign import runs
from flowdesign.catalog import CatalogError
from flowdesign.collect.again import again
from flowdesign.collect.pictures import pictures
from flowdesign.commands import designing, training
from flowdesign.commands.answers import (
    UsageError,
    act,
    add_json,
    any_letter,
    quiet,
    show,
    tell,
    telling,
)
from flowdesign.config import (
    ConfigError,
    GRPOConfig,
    RewardConfig,
    SFTConfig,
    ZooConfig,
    add_command,
)
from flowdesign.inventory import add_models
from flowdesign.records import RecordsError
from flowdesign.records.command import add_records
from flowdesign.request import BadRequest
from flowdesign.scorers import ScorerError
from flowdesign.scorers.command import add_score, add_scorers
from flowdesign.shipped.command import add_shipped
from flowdesign.standards import NoStandard
from flowdesign.tokens import VocabularyMismatch

# What a person can put right; any other error is a fault of the program and keeps its traceback.
# Errors that live beside torch are turned into UsageError where they may occur.
TOLD = (
    UsageError, ConfigError, BadRequest, runs.RunError, CatalogError, VocabularyMismatch, OSError,
    ScorerError, NoStandard, RecordsError, runs.NotANumber,
)  # fmt: skip


def models(flags: argparse.Namespace) -> int:
    """List the model files on this machine: family, licence, hash, and what is not loaded and why."""
    return act(flags)


def score(flags: argparse.Namespace) -> int:
    """Score image files with any scorers, and combine the scores."""
    return scorers(flags)


def scorers(flags: argparse.Namespace) -> int:
    """List the scorers, convert published weights, or measure the reference set."""
    quiet()
    return act(flags)


def records(flags: argparse.Namespace) -> int:
    """Import and export records: JSONL, CSV, Parquet, and ComfyUI output folders."""
    return act(flags)


def votes(flags: argparse.Namespace) -> int:
    """Turn votes into scores with standard errors, and tell how far raters agree."""
    from flowdesign.records import Store
    from flowdesign.votes.command import report

    if not 0 <= flags.weight <= 1:
        raise UsageError(f"--weight is from 0 to 1, not {flags.weight:g}.")
    with Store.open(flags.data) as store:
        result, text = report(store, flags.weight, flags.save)
    show(result, flags.json, text)
    return 0


def bench(flags: argparse.Namespace) -> int:
    """Measure speed and memory: all benchmarks, or those that are named."""
    quiet()
    from flowdesign.bench import UnknownBenchmark, as_text, run

    with telling(UnknownBenchmark):
        found = run(flags.names, flags.quick, tell)
    text = "\n\n".join(f"{name}\n{as_text(measured)}" for name, measured in found.items())
    show({name: asdict(measured) for name, measured in found.items()}, flags.json, text)
    return 0


def fidelity(flags: argparse.Namespace) -> int:
    """Compare samplers and schedules with references and with diffusers; status 1 where any is off."""
    quiet()
    from flowdesign.parity import as_markdown, measure
    from flowdesign.render.errors import UnknownSampler

    with telling(UnknownSampler):
        found = measure(flags.names, tell)
    show(asdict(found), flags.json, as_markdown(found))
    return int(not found.close)


def shipped(flags: argparse.Namespace) -> int:
    """Pack a collection into the file that is shipped, store it, render some again, or draw misses."""
    quiet()
    return act(flags)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give the exit status: 0 well, 1 a problem was found, 2 cannot be done."""
    any_letter()
    flags = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = flags.command
    try:
        return command(flags)
    except TOLD as error:
        print(f"flowdesign: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m flowdesign",
        description="Design text-to-image workflows for a prompt, and render them.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add = partial(add_command, commands, dest="command")
    designing.add_design(add("design", designing.design))
    designing.add_render(add("render", designing.render))
    designing.add_validate(add("validate", designing.check))
    designing.add_convert(add("convert", designing.convert))
    for action in (
        add_models(add("models", models)),
        add_score(add("score", score)),
        *add_scorers(add("scorers", scorers)),
        *add_records(add("records", records)),
        *add_shipped(add("shipped", shipped), again, pictures),
    ):
        add_json(action)
    _add_votes(add("votes", votes))
    training.add_collect(add("collect", training.collect))
    _add_bench(add("bench", bench))
    _add_fidelity(add("fidelity", fidelity))
    training.add_training(add("zoo", training.zoo), ZooConfig)
    training.add_training(add("sft", training.sft), SFTConfig)
    training.add_training(add("reward", training.reward), RewardConfig)
    training.add_training(add("grpo", training.grpo), GRPOConfig)
    training.add_evaluation(add("evaluate", training.evaluate))
    training.add_whole(add("reproduce", training.reproduce))
    return top


def _add_votes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--save", action="store_true", help="store them as scores of 'votes'")
    command.add_argument(
        "--weight", type=float, default=0.5, help="votes beside automatic scores (default: 0.5)"
    )
    command.add_argument("--data", type=Path, help="folder of the records")
    add_json(command)


def _add_bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="benchmarks (default: all)")
    command.add_argument("--quick", action="store_true", help="a small version, to try it out")
    add_json(command)


def _add_fidelity(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="SAMPLER", help="samplers (default: all)")
    add_json(command)


if __name__ == "__main__":
    sys.exit(main())
