"""The command line: python -m flowdesign COMMAND, where --help lists the commands.

Heavy libraries are imported by the command that needs them, so that --help answers at once.
"""

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from flowdesign import convert as conversion
from flowdesign import runs
from flowdesign.catalog import ROOT, CatalogError, installed
from flowdesign.collect.again import again
from flowdesign.collect.command import tell_figures, tell_step
from flowdesign.collect.pictures import pictures
from flowdesign.config import (
    CollectConfig,
    ConfigError,
    EvaluateConfig,
    GRPOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    Step,
    ZooConfig,
    add_command,
    add_flags,
    from_flags,
    load,
)
from flowdesign.designs import restore
from flowdesign.foreground import add_lease, at_work
from flowdesign.inventory import add_models
from flowdesign.policies import Policies
from flowdesign.records import RecordsError
from flowdesign.records.command import add_records
from flowdesign.reproduce.chain import StageStopped
from flowdesign.reproduce.command import add_reproduce
from flowdesign.reproduce.command import reproduce as the_paper
from flowdesign.request import BadRequest, Request
from flowdesign.scorers import ScorerError
from flowdesign.scorers.command import add_score, add_scorers
from flowdesign.shipped.command import add_shipped
from flowdesign.standards import NoStandard
from flowdesign.studio import render_file
from flowdesign.tokens import VocabularyMismatch, decode, sentence_text
from flowdesign.workflow import Problem, bind, validate

CHECKPOINTS = ROOT / "checkpoints"
MAX_DESIGNS = 1000  # without images a design takes no memory


class UsageError(Exception):
    """A command that cannot be carried out; the message goes to the person who typed it."""


# What a person can put right; any other error is a fault of the program and keeps its traceback.
# Errors that live beside torch are turned into UsageError where they may occur.
TOLD = (
    UsageError, ConfigError, BadRequest, runs.RunError, CatalogError, VocabularyMismatch, OSError,
    ScorerError, NoStandard, RecordsError,
)  # fmt: skip


def design(flags: argparse.Namespace) -> int:
    """Print workflows that the policy designs for a prompt."""
    asked = Request(
        flags.prompt, flags.n, flags.seed, flags.temperature, flags.top_p, policy=flags.policy,
        scale=flags.scale,
    ).checked(MAX_DESIGNS)  # fmt: skip
    folder = Path(asked.policy)
    policies = Policies(root=folder.parent) if len(folder.parts) > 1 else Policies()
    policies.check(folder.name, asked.scale)
    _quiet()
    policy = policies.speaker(folder.name, asked.scale)
    samples = policy.sample(
        asked.prompt, asked.count, asked.seed, asked.temperature, asked.top_p,
        constrained=not flags.free,
    )  # fmt: skip
    found = [_designed(sample.tokens, asked.prompt, asked.seed) for sample in samples]
    _show(found, flags.json, "\n".join(_tell_design(one) for one in found))
    return 0


def render(flags: argparse.Namespace) -> int:
    """Render a workflow file and write the PNG, with its graph inside, to a folder."""
    _quiet()
    result = render_file(flags.workflow, flags.prompt, flags.seed, flags.out)
    _show(result, flags.json, json.dumps(result, indent=2))
    return 0


def check(flags: argparse.Namespace) -> int:
    """Print what is wrong with a workflow file; status 1 when anything is."""
    found = restore(_existing(flags.file))
    result = {"valid": found.runnable, "problems": [asdict(problem) for problem in found.problems]}
    lines = [_tell_problem(problem) for problem in found.problems]
    _show(result, flags.json, "\n".join(lines) or f"Valid: {found.description}")
    return 0 if found.runnable else 1


def convert(flags: argparse.Namespace) -> int:
    """Print the workflow in a file in another form; status 1 when something of it is lost."""
    _quiet()
    found = conversion.convert(_existing(flags.file), flags.to)
    if found.text:
        print(found.text)
    for problem in found.problems:
        _tell(_tell_problem(problem))
    return int(bool(found.problems))


def models(flags: argparse.Namespace) -> int:
    """List the model files on this machine: family, licence, hash, and what is not loaded and why."""
    return _act(flags)


def score(flags: argparse.Namespace) -> int:
    """Score image files with any scorers, and combine the scores."""
    return scorers(flags)


def scorers(flags: argparse.Namespace) -> int:
    """List the scorers, convert published weights, or measure the reference set."""
    _quiet()
    return _act(flags)


def records(flags: argparse.Namespace) -> int:
    """Import and export records: JSONL, CSV, Parquet, and ComfyUI output folders."""
    return _act(flags)


def _act(flags: argparse.Namespace) -> int:
    """Do the action of a command that has several, and show its answer."""
    result, text = flags.work(flags)
    _show(result, flags.json, text)
    return 0


def votes(flags: argparse.Namespace) -> int:
    """Turn votes into scores with standard errors, and tell how far raters agree."""
    from flowdesign.records import Store
    from flowdesign.votes.command import report

    if not 0 <= flags.weight <= 1:
        raise UsageError(f"--weight is from 0 to 1, not {flags.weight:g}.")
    with Store.open(flags.data) as store:
        result, text = report(store, flags.weight, flags.save)
    _show(result, flags.json, text)
    return 0


def collect(flags: argparse.Namespace) -> int:
    """Render and score many workflows for many prompts, and keep the records; or show figures."""
    config = from_flags(CollectConfig, flags)
    folder = CHECKPOINTS / config.run
    if not flags.report:
        _quiet()
        from flowdesign.collect import collect as work

        runs.prepare(folder, config)
        with at_work(folder, flags, _tell):
            tell = None if flags.json else lambda step: print(tell_step(step), flush=True)
            runs.execute(folder, lambda place: work(config, place), tell)
    figures = runs.read_figures(folder)
    if figures is None:
        words = f"{config.run} is not finished, so there are no figures. The same command goes on."
        _show({"error": words}, flags.json, words)
        return int(flags.report)
    _show(figures, flags.json, tell_figures(figures))
    return 0


def bench(flags: argparse.Namespace) -> int:
    """Measure speed and memory: all benchmarks, or those that are named."""
    _quiet()
    from flowdesign.bench import UnknownBenchmark, as_text, run

    with _telling(UnknownBenchmark):
        found = run(flags.names, flags.quick, _tell)
    text = "\n\n".join(f"{name}\n{as_text(measured)}" for name, measured in found.items())
    _show({name: asdict(measured) for name, measured in found.items()}, flags.json, text)
    return 0


def fidelity(flags: argparse.Namespace) -> int:
    """Compare samplers and schedules with references and with diffusers; status 1 above 1e-5."""
    _quiet()
    from flowdesign.parity import TOLERANCE, as_markdown, measure
    from flowdesign.render.errors import UnknownSampler

    with _telling(UnknownSampler):
        found = measure(flags.names, _tell)
    _show(asdict(found), flags.json, as_markdown(found))
    return int(found.largest > TOLERANCE)


def shipped(flags: argparse.Namespace) -> int:
    """Pack a collection into the file that is shipped, store it, render some again, or draw misses."""
    _quiet()
    return _act(flags)


def zoo(flags: argparse.Namespace) -> int:
    """Train the miniature models, measure them, or print their stored figures."""
    from flowdesign.zoo.command import command
    from flowdesign.zoo.schedule import StageFailed

    config = from_flags(ZooConfig, flags)
    if flags.report or flags.measure:
        return command(config, flags)
    with _telling(StageFailed), at_work(CHECKPOINTS / config.run, flags, _tell):
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
    return _learn(from_flags(EvaluateConfig, flags), flags, "flowdesign.evaluate.command")


def reproduce(flags: argparse.Namespace) -> int:
    """Run the whole paper, stage after stage, and write RESULTS.md; goes on where it was."""
    with _telling(StageStopped):
        result, text = the_paper(flags, _tell)
    _show(result, flags.json, text)
    return 0


def _learn(config: RunConfig, flags: argparse.Namespace, module: str) -> int:
    """What a kind of run that learns is asked for; `module` knows how. Some measure themselves."""
    folder, work = CHECKPOINTS / config.run, import_module(module)
    asked = flags.report or flags.measure
    if asked and not folder.exists() and config.run == type(config).model_fields["run"].default:
        folder = CHECKPOINTS / work.SHIPPED
    if not flags.report:
        _quiet()
        with _telling(*work.faults()):
            if flags.measure:
                work.measure(_as_made(config, folder), folder)
            elif not _train(config, folder, flags, work.train):
                return 0
    figures = runs.read_figures(folder)
    none = f"No figures are stored in {folder}. {work.HOW}"
    text = none if figures is None else work.tell(figures)
    _show(figures or {"error": text}, flags.json, text)
    return int(asked and not figures)


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
    with at_work(folder, flags, _tell):
        tell = None if flags.json else _print_step
        status = runs.execute(folder, lambda place: train(config, place), tell)
    if status.state == "finished":
        return True
    words = f"{config.run} stopped after step {status.step} of {status.total}. The same command goes on."
    _show({"run": config.run, "state": status.state, "step": status.step}, flags.json, words)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give the exit status: 0 well, 1 a problem was found, 2 cannot be done."""
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
    _add_design(add("design", design))
    _add_render(add("render", render))
    _add_validate(add("validate", check))
    _add_convert(add("convert", convert))
    for action in (
        add_models(add("models", models)),
        add_score(add("score", score)),
        *add_scorers(add("scorers", scorers)),
        *add_records(add("records", records)),
        *add_shipped(add("shipped", shipped), again, pictures),
    ):
        _add_json(action)
    _add_votes(add("votes", votes))
    _add_collect(add("collect", collect))
    _add_bench(add("bench", bench))
    _add_fidelity(add("fidelity", fidelity))
    _add_training(add("zoo", zoo), ZooConfig)
    _add_training(add("sft", sft), SFTConfig)
    _add_training(add("reward", reward), RewardConfig)
    _add_training(add("grpo", grpo), GRPOConfig)
    _add_training(add("evaluate", evaluate), EvaluateConfig)
    _add_reproduce(add("reproduce", reproduce))
    return top


def _add_design(command: argparse.ArgumentParser) -> None:
    command.add_argument("prompt", help="what the picture shows")
    command.add_argument("-n", type=int, default=4, help="number of designs (default: 4)")
    command.add_argument("--seed", type=int, default=0, help="all chance follows from it")
    command.add_argument("--temperature", type=float, default=1.0, help="0 is the likeliest design")
    command.add_argument(
        "--top-p", type=float, default=1.0, help="only the likeliest words that hold this much"
    )
    command.add_argument(
        "--policy", default="", help="run or folder of a policy (default: the shipped one)"
    )
    command.add_argument(
        "--scale", type=float, help="guidance: 0 is the policy before GRPO, 1 after it"
    )
    command.add_argument("--free", action="store_true", help="without the grammar, to see faults")
    _add_json(command)


def _add_render(command: argparse.ArgumentParser) -> None:
    command.add_argument("workflow", type=Path, help="ComfyUI API or UI JSON, or a PNG with one")
    command.add_argument("--prompt", required=True, help="what the picture shows")
    command.add_argument("--seed", type=int, default=0, help="seed of the first sampling pass")
    command.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the PNG")
    _add_json(command)


def _add_validate(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="ComfyUI API or UI JSON, or a PNG with one")
    _add_json(command)


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="ComfyUI API or UI JSON, or a PNG with one")
    command.add_argument("--to", choices=conversion.FORMS, required=True, help="what to print")


def _add_votes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--save", action="store_true", help="store them as scores of 'votes'")
    command.add_argument(
        "--weight", type=float, default=0.5, help="votes beside automatic scores (default: 0.5)"
    )
    command.add_argument("--data", type=Path, help="folder of the records")
    _add_json(command)


def _add_collect(command: argparse.ArgumentParser) -> None:
    command.add_argument("--report", action="store_true", help="print the stored figures")
    add_flags(command, CollectConfig)
    add_lease(command)
    _add_json(command)


def _add_bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="benchmarks (default: all)")
    command.add_argument("--quick", action="store_true", help="a small version, to try it out")
    _add_json(command)


def _add_reproduce(command: argparse.ArgumentParser) -> None:
    add_reproduce(command)
    _add_json(command)


def _add_fidelity(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="SAMPLER", help="samplers (default: all)")
    _add_json(command)


def _add_training(command: argparse.ArgumentParser, model: type[RunConfig]) -> None:
    what = command.add_mutually_exclusive_group()
    what.add_argument("--report", action="store_true", help="print the stored figures")
    what.add_argument("--measure", action="store_true", help="measure the figures again")
    add_flags(command, model)
    add_lease(command)
    _add_json(command)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON only")


def _designed(tokens: tuple[int, ...], prompt: str, seed: int) -> dict[str, Any]:
    """One design as printed; the workflow is bound, so ComfyUI can run it as it is."""
    decoded = decode(tokens)
    problems = list(decoded.problems)
    if decoded.workflow is not None:
        problems += [one for one in validate(decoded.workflow, installed()) if one not in problems]
    workflow = None if decoded.workflow is None else bind(decoded.workflow, prompt, seed)
    return {
        "workflow": workflow,
        "sentence": sentence_text(tokens),
        "valid": not problems,
        "problems": [asdict(problem) for problem in problems],
    }


def _tell_design(one: dict[str, Any]) -> str:
    faults = "".join(f"\n    {problem['message']}" for problem in one["problems"])
    return f"{one['sentence']}{faults}"


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise UsageError(f"There is no file {file}")
    return file


def _tell_problem(problem: Problem) -> str:
    place = " ".join(str(part) for part in (problem.node, problem.input) if part)
    return f"{problem.code} {place + ': ' if place else ''}{problem.message}"


def _print_step(step: Step) -> None:
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in step.metrics.items())
    print(f"step {step.index + 1}/{step.total}  {metrics}", flush=True)


def _show(result: object, as_json: bool, text: str) -> None:
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text)


@contextmanager
def _telling(*kinds: type[Exception]) -> Iterator[None]:
    """Turn these errors, whose modules are too heavy for the top of this one, into UsageError."""
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _quiet() -> None:
    """Keep the libraries' progress bars and advice out of the output."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    sys.exit(main())
