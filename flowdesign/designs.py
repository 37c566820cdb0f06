"""A design: a workflow for a prompt, the files it leaves, and the way back from a file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from flowdesign import __version__, comfy
from flowdesign.catalog import Installed, installed
from flowdesign.tokens import sentence_text
from flowdesign.workflow import PROMPT, TEXTS, Problem, Workflow, bind, describe

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Design:
    """A workflow for a prompt. `workflow` still has its `{prompt}`, `bound` is ready to run.

    `policy` is what said it, with guidance at `scale`; none where a person gave it.
    """

    prompt: str
    seed: int
    workflow: Workflow
    bound: Workflow
    description: str
    sentence: str = ""
    tokens: tuple[int, ...] = ()
    policy: str = ""
    scale: float | None = None


@dataclass(frozen=True)
class Restored:
    """What a dropped file held: the unbound workflow, or None, and all that is wrong with it.

    Where there is no workflow, `nodes` are those of the file as they are, if it has any.
    """

    workflow: Workflow | None
    prompt: str
    seed: int | None
    description: str
    problems: tuple[Problem, ...]
    nodes: Workflow = field(default_factory=dict)

    @property
    def runnable(self) -> bool:
        """Whether the workflow can be rendered as it is."""
        return self.workflow is not None and not self.problems


def make_design(workflow: Workflow, prompt: str, seed: int, tokens: tuple[int, ...] = ()) -> Design:
    """Bind a valid workflow to a prompt and a seed and put it into words."""
    bound = bind(workflow, prompt, seed)
    sentence = sentence_text(tokens) if tokens else ""
    return Design(prompt, seed, workflow, bound, describe(workflow), sentence, tokens)


def takes_prompt(workflow: Workflow) -> bool:
    """Whether an unbound workflow has a place for the prompt, or only texts of its own."""
    return any(
        PROMPT in str(node["inputs"].get(name, ""))
        for node in workflow.values()
        for name in TEXTS.get(node["class_type"], ())
    )


def write_files(
    folder: Path, stem: str, design: Design, image: Image, fidelity: str, reasons: Sequence[str]
) -> tuple[Path, Path, Path]:
    """Write the PNG (with prompt and workflow inside), the API JSON and the UI JSON.

    The PNG's record says how near the image is to ComfyUI's, why, and what rendered it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    png, api, ui = (folder / f"{stem}{end}" for end in (".png", ".api.json", ".ui.json"))
    said_by = {"policy": design.policy, "guidance": design.scale} if design.policy else {}
    how = {"fidelity": fidelity, "reasons": list(reasons), "renderer": renderer_version()}
    record = {**how, **said_by}
    models = installed()
    info = comfy.png_info(design.workflow, design.prompt, design.seed, record, models)
    image.save(png, pnginfo=info)
    api.write_text(json.dumps(comfy.to_api(design.bound, models), indent=2), encoding="utf-8")
    ui.write_text(json.dumps(comfy.to_ui(design.bound, models), indent=2), encoding="utf-8")
    return png, api, ui


@cache
def renderer_version() -> str:
    """What renders here: this package and the libraries that decide the numbers."""
    libraries = (f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
    return ", ".join((f"flowdesign {__version__}", *libraries))


def restore(path: Path, models: Installed | None = None) -> Restored:
    """Read a dropped PNG or JSON. Total: whatever the file holds, the problems say what is wrong."""
    found = comfy.read_file(path, models)
    workflow = found.workflow
    description = describe(workflow) if workflow is not None and not found.problems else ""
    seed = None if workflow is None else found.seed
    nodes = dict(found.graph) if workflow is None else {}
    return Restored(workflow, found.prompt, seed, description, tuple(found.problems), nodes)


def tell(problems: Sequence[Problem]) -> str:
    """Problems as one line."""
    return " ".join(problem.message for problem in problems)


def say_fault(fault: BaseException) -> str:
    """A fault in words; some have none of their own."""
    return str(fault) or type(fault).__name__


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete the result folders in `folder` that are older than `keep_seconds`.

    Another thread or process may be sweeping too: what is gone already is no fault.
    """
    oldest = time.time() - keep_seconds
    children = list(folder.iterdir()) if folder.is_dir() else []
    for child in children:
        with suppress(FileNotFoundError):
            if child.is_dir() and child.stat().st_mtime < oldest:
                shutil.rmtree(child, ignore_errors=True)
