"""What `python -m flowdesign reproduce` does, for the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from flowdesign.reproduce.chain import StageStopped, before_of, command_of, do, is_done, stages_of
from flowdesign.reproduce.presets import PRESETS
from flowdesign.reproduce.results import write_results

NAME = "paper"  # of the reproduction, unless another is given


def add_reproduce(command: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    command.add_argument(
        "--preset", choices=tuple(PRESETS), default="laptop",
        help="how much: quick is 15 minutes, laptop 90 on two cores, ablations 100 more, full one GPU "
        "(default: laptop)",
    )  # fmt: skip
    command.add_argument(
        "--run", default=NAME, help=f"beginning of the runs' names (default: {NAME})"
    )
    command.add_argument(
        "--show", action="store_true", help="print the commands of all stages, and do nothing"
    )


def reproduce(flags: argparse.Namespace, tell: Callable[[str], object]) -> tuple[Any, str]:
    """Do what is left, and write the results. Raises chain.StageStopped."""
    if flags.show:
        stages = stages_of(flags.preset, flags.run)
        found = [
            {"about": s.about, "before": before_of(s), "command": command_of(s), "done": is_done(s)}
            for s in stages
        ]
        return found, "\n".join([_about(flags.preset), *map(_shown, found)])
    try:
        do(flags.preset, flags.run, tell)
    except StageStopped:
        write_results(flags.preset, flags.run)  # of what is done
        raise
    path = write_results(flags.preset, flags.run)
    return {"results": str(path)}, f"The results are in {path}"


def _about(preset: str) -> str:
    """What a preset is and needs, as comments of a script."""
    lines = (PRESETS[preset].__doc__ or "").strip().splitlines()
    return "\n".join(f"# {line.strip()}".rstrip() for line in lines)


def _shown(stage: dict[str, Any]) -> str:
    return "\n".join(
        ["", f"# {stage['about']}", *filter(None, [stage["before"], stage["command"]])]
    )
