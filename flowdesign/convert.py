"""From one form of a workflow to another: what `python -m flowdesign convert` prints.

convert(Path("image.png"), "api").text
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from flowdesign import comfy
from flowdesign.catalog import Installed, installed
from flowdesign.comfy.foreign import WIDGETS
from flowdesign.comfy.replacing import DATE
from flowdesign.nodes import NODES
from flowdesign.tokens import NotInLanguage, encode, sentence_text
from flowdesign.workflow import Problem, Workflow, bind, canonical, show

MOST_NAMED = 12  # classes in a line of a report


@dataclass(frozen=True)
class Converted:
    """The text, empty where there is none, and what is lost or wrong: then it is incomplete."""

    text: str
    problems: tuple[Problem, ...] = ()


def convert(path: Path, form: str, models: Installed | None = None) -> Converted:
    """Turn the workflow in a JSON or PNG file into a form of FORMS. Total: problems say what is wrong."""
    return FORMS[form](path, models or installed())


def _to_api(path: Path, models: Installed) -> Converted:
    """ComfyUI's API format, whatever the nodes are."""
    graph, problems = comfy.read_graph(path)
    if not graph and not problems:
        problems = [Problem("prompt_no_outputs", "", "", "The file has no node that runs.")]
    return Converted(_json(graph) if graph else "", tuple(problems))


def _to_ui(path: Path, models: Installed) -> Converted:
    """The editor's format, of a workflow that FlowDesign knows; nodes that no output needs are left out."""
    found = comfy.read_file(path, models)
    if found.workflow is None:
        return Converted("", found.problems)
    bound = bind(found.workflow, found.prompt, found.seed)
    lost = (*found.problems, *_unneeded(found), *_rounded(bound))
    return Converted(_json(comfy.to_ui(bound, models)), lost)


def _rounded(workflow: Workflow) -> Iterator[Problem]:
    """Seeds that another number stands for once a browser has read them: its whole numbers end at 2^53."""
    for node, each in workflow.items():
        for name, value in each["inputs"].items():
            if type(value) is int and int(float(value)) != value:
                read = f"{Decimal(repr(float(value))):f}".removesuffix(".0")
                what = f"ComfyUI's editor reads {value} as {read}: it is exact up to 2^53 only."
                yield Problem("value_moved", node, name, what)


def _unneeded(found: comfy.Imported) -> Iterator[Problem]:
    """The nodes of a file that its workflow does not have, for no output needs them."""
    for node in (key for key in found.graph if key not in (found.workflow or {})):
        what = f"The node {show(found.graph[node]['class_type'])} is left out: no output needs it."
        yield Problem("not_needed", node, "", what)


def _to_sentence(path: Path, models: Installed) -> Converted:
    """The words of the policy; values between two words are moved to the nearest, which is said."""
    found = comfy.read_file(path, models)
    if found.workflow is None:
        return Converted("", found.problems)
    try:
        said = encode(canonical(bind(found.workflow, found.prompt, found.seed)))
    except NotInLanguage as fault:
        return Converted("", tuple(fault.problems))
    moved = tuple(Problem("value_moved", "", "", note) for note in said.notes)
    return Converted(sentence_text(said.tokens), moved)


def _to_report(path: Path, models: Installed) -> Converted:
    """What is in a file: which nodes are known, and whether and how exactly it is rendered here."""
    found = comfy.read_file(path, models)
    known = found.workflow is not None
    graph, problems = (found.graph, []) if known else comfy.read_graph(path)
    lines = [*_counted(graph), *_dates(graph), *(f"  {each.message}" for each in problems)]
    if found.workflow is None or found.problems:
        more = (each.message for each in found.problems if each not in problems)
        lines += ["It cannot be rendered here:", *(f"  {message}" for message in more)]
        return Converted("\n".join(lines), tuple(problems))
    from flowdesign.render.fidelity import fidelity  # loads torch

    label = fidelity(found.workflow, models)
    lines += [
        f"It can be rendered here: {label.label}",
        *(f"  {reason}" for reason in label.reasons),
    ]
    return Converted("\n".join(lines), tuple(problems))


def _to_diffusers(path: Path, models: Installed) -> Converted:
    """A Python script that makes the image with diffusers alone; its header says how exactly."""
    found = comfy.read_file(path, models)
    if found.workflow is None or found.problems:
        return Converted("", found.problems)
    from flowdesign.standalone import write_script  # loads torch

    made = write_script(found.workflow, found.prompt, found.seed, models)
    return Converted(made.text, made.problems)


def _dates(graph: Mapping[str, Any]) -> Iterator[str]:
    """What ComfyUI's browser side puts in when someone runs the workflow, so that it is nowhere written."""
    texts = {t for node in graph.values() for t in node["inputs"].values() if isinstance(t, str)}
    if dates := sorted({found[0] for text in texts for found in DATE.finditer(text)}):
        named = ", ".join(map(show, dates[:MOST_NAMED]))
        yield f"  {named} stays as it is: only ComfyUI's browser side writes the date of a run there"


def _counted(graph: Mapping[str, Any]) -> list[str]:
    """How many nodes there are of each standing."""
    kinds = Counter(str(node["class_type"]) for node in graph.values())
    standing = {
        "that FlowDesign renders": [kind for kind in kinds if kind in NODES],
        "of ComfyUI that it does not render": [k for k in kinds if k in WIDGETS and k not in NODES],
        "of nobody that it knows": [k for k in kinds if k not in WIDGETS and k not in NODES],
    }
    lines = [f"{len(graph)} nodes of {len(kinds)} classes"]
    for words, names in standing.items():
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            named = ", ".join(sorted(names)[:MOST_NAMED])
            count = sum(kinds[name] for name in names)
            lines.append(f"  {count} {words}: {named}{more}")
    return lines


def _json(value: object) -> str:
    """JSON in ASCII, as ComfyUI writes it: it is printed where other letters may fail."""
    return json.dumps(value, indent=2)


FORMS: Mapping[str, Callable[[Path, Installed], Converted]] = {
    "api": _to_api,
    "ui": _to_ui,
    "sentence": _to_sentence,
    "report": _to_report,
    "diffusers": _to_diffusers,
}
