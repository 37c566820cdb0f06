"""Commands that are runs: collect, zoo, sft, reward, grpo, evaluate, and reproduce, which is all of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from flowdesign import runs
from flowdesign.catalog import ROOT
from flowdesign.collect.command import tell_figures, tell_step
from flowdesign.commands.answers import UsageError, add_json, quiet, show, tell, telling
from flowdesign.config import (
    CollectConfig,
    EvaluateConfig,
    GRPOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    Step,
    ZooConfig,
    add_flags,
    from_flags,
    load,
)
from flowdesign.foreground import add_lease, at_work
from flowdesign.reproduce.chain import StageStopped
from flowdesign.reproduce.command import add_reproduce
from flowdesign.reproduce.command import reproduce as the_paper

CHECKPOINTS = ROOT / "checkpoints"


def collect(flags: argparse.Namespace) -> int:
    """Render and score many workflows for many prompts, and keep the records; or show figures."""
    config = from_flags(CollectConfig, flags)
    folder = CHECKPOINTS / config.run
    if not flags.report:
        quiet()
        from flowdesign.collect import collect as work

        runs.prepare(folder, config)
        with at_work(folder, flags, tell):
            say = None if flags.json else lambda step: print(tell_step(step), flush=True)
            runs.execute(folder, lambda place: work(config, place), say)
    figures = runs.read_figures(folder)
    if figures is None:
        return _without_figures(config, folder, flags)
    show(figures, flags.json, tell_figures(figures))
    return 0


def _without_figures(config: CollectConfig, folder: Path, flags: argparse.Namespace) -> int:
    """Say why a collection has none. One that found all its images made has no rate to tell."""
    status = runs.read_status(folder)
    if status is not None and status.state == "finished":
        words = f"{config.run} is finished: all its images were there before, so none was made or timed."
    else:
        words = f"{config.run} is not finished, so there are no figures. The same command goes on."
    show({"error": words}, flags.json, words)
    return int(flags.report)


def zoo(flags: argparse.Namespace) -> int:
    """Train the miniature models, measure them, or print their stored figures."""
    from flowdesign.zoo.command import command
    from flowdesign.zoo.schedule import StageFailed

    config = from_flags(ZooConfig, flags)
    if flags.report or flags.measure:
        return command(config, flags)
    with telling(StageFailed), at_work(CHECKPOINTS / config.run, flags, tell):
        return command(config, flags)


def sft(flags: argparse.Namespace) -> int:
    """Train the first policy as a run, measure it, or print its stored figures."""
    return _learn(from_flags(SFTConfig, flags), flags, "flowdesign.sft.command")


def reward(flags: argparse.Namespace) -> int:
    """Train the reward ensemble as a run, measure it again, or print its stored figures."""
    return _learn(from_flags(RewardConfig, flags), flags, "flowdesign.reward.command")


def grpo(flags: argparse.Namespace) -> int:
    """Improve a policy against the reward ensemble as a run, measure it, or print its figures."""
    return _learn(from_flags(GRPOConfig, flags), flags, "flowdesign.grpo.command")


def evaluate(flags: argparse.Namespace) -> int:
    """Compare policies and baselines on held-out prompts, rendered and judged, or print stored figures."""
    config = from_flags(EvaluateConfig, flags)
    if flags.so_far:
        return _so_far(config, flags)
    return _learn(config, flags, "flowdesign.evaluate.command")


def _so_far(config: EvaluateConfig, flags: argparse.Namespace) -> int:
    """Print the figures of an evaluation that is not finished."""
    work, folder = import_module("flowdesign.evaluate.command"), CHECKPOINTS / config.run
    if not (folder / "config.json").exists():
        raise UsageError(f"There is no evaluation in {folder}: name one with --run.")
    quiet()
    with telling(*work.faults()):
        figures = work.so_far(_as_made(config, folder), folder)
    show(figures, flags.json, f"So far, without the search: {work.tell(figures)}")
    return 0


def reproduce(flags: argparse.Namespace) -> int:
    """Run the whole paper, stage after stage, and write RESULTS.md; goes on where it was."""
    with telling(StageStopped):
        result, text = the_paper(flags, tell)
    show(result, flags.json, text)
    return 0


def _learn(config: RunConfig, flags: argparse.Namespace, module: str) -> int:
    """What a kind of run that learns is asked for; `module` knows how. Some measure themselves."""
    folder, work = CHECKPOINTS / config.run, import_module(module)
    asked = flags.report or flags.measure
    if asked and not folder.exists() and config.run == type(config).model_fields["run"].default:
        folder = CHECKPOINTS / work.SHIPPED
    if not flags.report:
        quiet()
        with telling(*work.faults()):
            if flags.measure:
                work.measure(_as_made(config, folder), folder)
            elif not _train(config, folder, flags, work.train):
                return 0
    figures = runs.read_figures(folder)
    none = f"No figures are stored in {folder}. {work.HOW}"
    text = none if figures is None else _told(figures, folder, work)
    show(figures or {"error": text}, flags.json, text)
    return int(asked and not figures)


def _told(figures: dict[str, Any], folder: Path, work: Any) -> str:
    """Figures in words. Raises UsageError for those of another kind of run, or of another version."""
    try:
        text: str = work.tell(figures)
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise UsageError(
            f"The figures in {folder} are those of another kind of run, or of another version: {fault!r}. "
            "Name another run (--run NAME), or measure this one again (--measure)."
        ) from fault
    return text


def _as_made(config: RunConfig, folder: Path) -> RunConfig:
    """The options that a run was made with, but for the threads: figures are of what it was made for."""
    path = folder / "config.json"
    made = load(type(config), path) if path.exists() else config
    return made.model_copy(update={"threads": config.threads})


def _train(
    config: RunConfig, folder: Path, flags: argparse.Namespace, train: Callable[..., runs.Steps]
) -> bool:
    """Train; whether it came to its end. A run that was stopped has no figures yet.

    One that is finished is not made again: without its checkpoint it would begin anew, over its result.
    """
    before = runs.read_status(folder)
    if before is not None and before.state == "finished":
        raise UsageError(
            f"Run '{config.run}' has finished: see it with --report, or start another (--run NAME)."
        )
    runs.prepare(folder, config)
    with at_work(folder, flags, tell):
        say = None if flags.json else _print_step
        status = runs.execute(folder, lambda place: train(config, place), say)
    if status.state == "finished":
        return True
    words = f"{config.run} stopped after step {status.step} of {status.total}. The same command goes on."
    show({"run": config.run, "state": status.state, "step": status.step}, flags.json, words)
    return False


def add_collect(command: argparse.ArgumentParser) -> None:
    """Declare the flags of collect."""
    command.add_argument("--report", action="store_true", help="print the stored figures")
    add_flags(command, CollectConfig)
    add_lease(command)
    add_json(command)


def add_training(command: argparse.ArgumentParser, model: type[RunConfig]) -> None:
    """Declare the flags of a kind of run that learns or measures."""
    what = command.add_mutually_exclusive_group()
    what.add_argument("--report", action="store_true", help="print the stored figures")
    what.add_argument("--measure", action="store_true", help="measure the figures again")
    add_flags(command, model)
    add_lease(command)
    add_json(command)


def add_evaluation(command: argparse.ArgumentParser) -> None:
    """Declare the flags of evaluate."""
    add_training(command, EvaluateConfig)
    command.add_argument(
        "--so-far",
        action="store_true",
        help="print the figures of the prompts that are rendered by now; nothing is made",
    )


def add_whole(command: argparse.ArgumentParser) -> None:
    """Declare the flags of reproduce."""
    add_reproduce(command)
    add_json(command)


def _print_step(step: Step) -> None:
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in step.metrics.items())
    print(f"step {step.index + 1}/{step.total}  {metrics}", flush=True)
