"""Commands on single workflows: design, render, validate, convert."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowdesign import convert as conversion
from flowdesign.catalog import installed
from flowdesign.commands.answers import add_json, existing, quiet, show, tell
from flowdesign.designs import restore
from flowdesign.policies import Policies
from flowdesign.request import Request
from flowdesign.studio import render_file
from flowdesign.tokens import decode, sentence_text
from flowdesign.workflow import Problem, bind, validate

MAX_DESIGNS = 1000  # without images a design takes no memory


def design(flags: argparse.Namespace) -> int:
    """Print workflows that the policy designs for a prompt."""
    asked = Request(
        flags.prompt, flags.n, flags.seed, flags.temperature, flags.top_p, policy=flags.policy,
        scale=flags.scale,
    ).checked(MAX_DESIGNS)  # fmt: skip
    folder = Path(asked.policy)
    policies = Policies(root=folder.parent) if len(folder.parts) > 1 else Policies()
    policies.check(folder.name, asked.scale)
    quiet()
    policy = policies.speaker(folder.name, asked.scale)
    samples = policy.sample(
        asked.prompt, asked.count, asked.seed, asked.temperature, asked.top_p,
        constrained=not flags.free,
    )  # fmt: skip
    found = [_designed(sample.tokens, asked.prompt, asked.seed) for sample in samples]
    show(found, flags.json, "\n".join(_tell_design(one) for one in found))
    return 0


def render(flags: argparse.Namespace) -> int:
    """Render a workflow file and write the PNG, with its graph inside, to a folder."""
    quiet()
    result = render_file(flags.workflow, flags.prompt, flags.seed, flags.out)
    show(result, flags.json, json.dumps(result, indent=2))
    return 0


def check(flags: argparse.Namespace) -> int:
    """Print what is wrong with a workflow file; status 1 when anything is."""
    found = restore(existing(flags.file))
    result = {"valid": found.runnable, "problems": [asdict(problem) for problem in found.problems]}
    lines = [_tell_problem(problem) for problem in found.problems]
    show(result, flags.json, "\n".join(lines) or f"Valid: {found.description}")
    return 0 if found.runnable else 1


def convert(flags: argparse.Namespace) -> int:
    """Print the workflow in a file in another form; status 1 when something of it is lost."""
    quiet()
    found = conversion.convert(existing(flags.file), flags.to)
    if found.text:
        print(found.text)
    for problem in found.problems:
        tell(_tell_problem(problem))
    return int(bool(found.problems))


def add_design(command: argparse.ArgumentParser) -> None:
    """Declare the flags of design."""
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
    add_json(command)


def add_render(command: argparse.ArgumentParser) -> None:
    """Declare the flags of render."""
    command.add_argument("workflow", type=Path, help="ComfyUI API or UI JSON, or a PNG with one")
    command.add_argument("--prompt", required=True, help="what the picture shows")
    command.add_argument("--seed", type=int, default=0, help="seed of the first sampling pass")
    command.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the PNG")
    add_json(command)


def add_validate(command: argparse.ArgumentParser) -> None:
    """Declare the flags of validate."""
    command.add_argument("file", type=Path, help="ComfyUI API or UI JSON, or a PNG with one")
    add_json(command)


def add_convert(command: argparse.ArgumentParser) -> None:
    """Declare the flags of convert."""
    command.add_argument("file", type=Path, help="ComfyUI API or UI JSON, or a PNG with one")
    command.add_argument("--to", choices=conversion.FORMS, required=True, help="what to print")


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


def _tell_problem(problem: Problem) -> str:
    place = " ".join(str(part) for part in (problem.node, problem.input) if part)
    return f"{problem.code} {place + ': ' if place else ''}{problem.message}"
