"""What `python -m flowdesign reproduce` does, for the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from flowdesign.reproduce.chain import command_of, do, is_done, stages_of
from flowdesign.reproduce.presets import PRESETS
from flowdesign.reproduce.results import write_results

NAME = "paper"  # of the reproduction, unless another is given


def add_reproduce(command: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    command.add_argument(
        "--preset", choices=tuple(PRESETS), default="laptop",
        help="how much: quick is 15 minutes, laptop 90 on two cores, full one GPU (default: laptop)",
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
        found = [{"about": s.about, "command": command_of(s), "done": is_done(s)} for s in stages]
        lines = [f"# {one['about']}\n{one['command']}" for one in found]
        return found, "\n".join(lines)
    do(flags.preset, flags.run, tell)
    path = write_results(flags.preset, flags.run)
    return {"results": str(path)}, f"The results are in {path}"
