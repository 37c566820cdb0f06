"""RESULTS.md: what a reproduction found, with the commands, hardware, seeds and times behind it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowdesign import __version__, runs
from flowdesign.evaluate.tables import interval, tables_of
from flowdesign.reproduce.chain import (
    CHECKPOINTS,
    before_of,
    command_of,
    is_done,
    seconds_of,
    stages_of,
)
from flowdesign.reproduce.plots import Line, chart
from flowdesign.reproduce.presets import Stage

RESULTS = "RESULTS.md"


def write_results(preset: str, name: str) -> Path:
    """Write the results of what is done of a reproduction, with its plots beside it; the file's path."""
    folder = CHECKPOINTS / name
    stages = stages_of(preset, name)
    parts = [
        f"# Results of `python -m flowdesign reproduce --preset {preset} --run {name}`",
        _setting(preset),
        "## Stages",
        _stages(stages, seconds_of(folder)),
    ]
    for stage in stages:
        figures = runs.read_figures(CHECKPOINTS / stage.config.run) if is_done(stage) else None
        if figures is not None and stage.kind in TOLD:
            parts += TOLD[stage.kind](stage, figures, folder)
    path = folder / RESULTS
    runs.replace_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def hardware() -> str:
    """This machine in words."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {memory:.0f} GiB of memory, {gpu}"


def _setting(preset: str) -> str:
    import torch

    return (
        f"Preset {preset}, on {hardware()}; FlowDesign {__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}. Scores are in standard deviations of the reference set; intervals are "
        "95 %, over prompts."
    )


def _stages(stages: Sequence[Stage], seconds: Mapping[str, float]) -> str:
    lines = ["| stage | command | seed | minutes |", "| --- | --- | ---: | ---: |"]
    for stage in stages:
        taken = seconds.get(stage.config.run)
        minutes = f"{taken / 60:.1f}" if taken is not None else "not done here"
        if taken is not None and not is_done(stage):
            minutes += ", not finished"
        commands = "<br>".join(f"`{one}`" for one in (before_of(stage), command_of(stage)) if one)
        lines.append(f"| {stage.about} | {commands} | {stage.config.seed} | {minutes} |")
    total = sum(seconds.get(stage.config.run, 0.0) for stage in stages) / 60
    return "\n".join([*lines, f"| all | | | {total:.1f} |"])


def _collected(stage: Stage, figures: Mapping[str, Any], folder: Path) -> list[str]:
    return [
        "## Records",
        f"{figures['images']:,} images of {figures['prompts']:,} prompts and {figures['workflows']:,} workflows, "
        f"{figures['rate']:.2f} a second.",
    ]


def _rewarded(stage: Stage, figures: Mapping[str, Any], folder: Path) -> list[str]:
    from flowdesign.reward.command import tell

    return ["## Reward ensemble", f"```text\n{tell(dict(figures))}\n```"]


def _improved(stage: Stage, figures: Mapping[str, Any], folder: Path) -> list[str]:
    from flowdesign.grpo.command import tell

    told = [f"## GRPO: {stage.config.run}", f"```text\n{tell(dict(figures))}\n```"]
    rows = runs.read_metrics(CHECKPOINTS / stage.config.run)
    lines = [
        Line(words, [(row["step"] + 1, row[key]) for row in rows if key in row])
        for key, words in (("reward", "reward"), ("fixed", "best fixed workflow"))
    ]
    return [*told, _plot(folder, stage.config.run, chart("Reward in training", "step", lines))]


def _compared(stage: Stage, figures: Mapping[str, Any], folder: Path) -> list[str]:
    parts = ["## Evaluation"]
    for table in tables_of(figures):
        parts += [f"### {table.title}", table.markdown(), table.note]
    parts.append(_plot(folder, "guidance", guidance_plot(figures)))
    return parts


def guidance_plot(figures: Mapping[str, Any]) -> str:
    """True and predicted score against the guidance scale; empty where there is none."""
    curve = [one for one in figures["curve"] if interval(one["scores"]["combined"])]

    def line(name: str, of: Any) -> Line:
        found = [(float(one["scale"]), of(one)) for one in curve]
        points = [(scale, each["value"]) for scale, each in found]
        return Line(
            name,
            points,
            [_ends(each) for _, each in found],
        )

    lines = [
        line("true score", lambda one: one["scores"]["combined"]),
        line("predicted", lambda one: one["predicted"]),
    ]
    return chart("Guidance", "guidance scale s", lines)


def _ends(found: Mapping[str, Any]) -> tuple[float, float]:
    """The ends of an interval; the estimate itself where there is none."""
    if found["low"] is None:
        return found["value"], found["value"]
    return found["low"], found["high"]


def _plot(folder: Path, name: str, drawn: str) -> str:
    """Keep a plot beside the results; how Markdown shows it."""
    if not drawn:
        return ""
    path = folder / f"{name}.svg"
    runs.replace_text(path, drawn)
    return f"![{name}]({path.name})"


TOLD = {"collect": _collected, "reward": _rewarded, "grpo": _improved, "evaluate": _compared}
