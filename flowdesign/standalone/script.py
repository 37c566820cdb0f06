"""From a workflow to the text of a script: its header, what it copies, what it loads, and its steps."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowdesign.catalog import Installed
from flowdesign.render.checkpoint import described, read_checkpoint
from flowdesign.render.errors import RenderError
from flowdesign.render.fidelity import APPROXIMATE, REFUSED, fidelity
from flowdesign.standalone.copying import copied, merged
from flowdesign.standalone.statements import STATEMENTS
from flowdesign.standalone.writing import Writing
from flowdesign.workflow import (
    PROMPT,
    Problem,
    Workflow,
    bind,
    describe,
    outputs_of,
    source,
    topological_order,
)

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
NEEDS = 'torch "diffusers>=0.42" transformers peft pillow'
EXACT = (
    "Exact: the image is the one that ComfyUI (0.3.64) makes of this workflow on a CPU in float32, but for "
    "rounding: it changes few pixel values, by 1 or 2 of 255."
)
LEVELS = (
    "Stock schedulers visit ComfyUI's own noise levels and training steps, listed below: the flags of "
    "diffusers come near them for some schedules only."
)


@dataclass(frozen=True)
class Script:
    """The text of a script, empty when there is none, and the problems that keep it from being."""

    text: str
    problems: tuple[Problem, ...] = ()


def write_script(workflow: Workflow, prompt: str, seed: int, models: Installed) -> Script:
    """Write the script of a valid, unbound workflow. What cannot be rendered here has none."""
    label = fidelity(bind(workflow, prompt, seed), models)  # a prompt may call embeddings
    if label.label == REFUSED:
        return Script("", tuple(Problem("refused", "", "", reason) for reason in label.reasons))
    unwritten = tuple(_unwritten(workflow, models))
    if unwritten:
        return Script("", unwritten)
    writing = Writing(models, prompt)
    if label.label == APPROXIMATE:
        writing.approximate += label.reasons
    try:
        _write_nodes(writing, bind(workflow, PROMPT, 0))
        return Script(_assembled(writing, workflow, prompt, seed))
    except RenderError as fault:  # what is found out only where a model's files are read
        return Script("", (Problem("not_in_script", "", "", str(fault)),))


def _unwritten(workflow: Workflow, models: Installed) -> Iterator[Problem]:
    """Yield what is rendered here and cannot be written with the pipelines of diffusers."""
    for node in topological_order(workflow, outputs_of(workflow)):
        class_type, inputs = workflow[node]["class_type"], workflow[node]["inputs"]
        if class_type not in STATEMENTS:
            message = f"Node '{node}' ({class_type}) cannot be written as a script for diffusers."
            yield Problem("not_in_script", node, "", message)
        elif "ckpt_name" in inputs and (why := _no_pipeline(inputs["ckpt_name"], models)):
            message = f"'{inputs['ckpt_name']}' cannot be loaded by a script: {why}."
            yield Problem("not_in_script", node, "ckpt_name", message)


def _no_pipeline(name: str, models: Installed) -> str:
    """Why scripts load no pipeline of a checkpoint; an empty text if they do."""
    found = read_checkpoint(models.path("checkpoints", name))
    if found.pipeline not in PIPELINES:
        return f"it is for {found.pipeline}; only SD 1, SD 2 and SDXL can, without its refiner"
    if found.folder is not None:
        return ""
    held = {part.role for part in (*found.texts, found.codec) if part is not None}
    absent = [p.role for p in described(found.network.config.parent)[1:] if p.role not in held]
    return f"the file has no {' and no '.join(absent)}" if absent else ""


def _write_nodes(writing: Writing, workflow: Workflow) -> None:
    """Write the statements of every node that an output needs, in order."""
    given: dict[tuple[str, int], object] = {}
    for node in topological_order(workflow, outputs_of(workflow)):
        class_type, inputs = workflow[node]["class_type"], dict(workflow[node]["inputs"])
        for name in inputs:
            link = source(workflow, node, name)
            if link is not None:
                inputs[name] = given[link]
        for slot, output in enumerate(STATEMENTS[class_type](writing, inputs)):
            given[node, slot] = output


def _assembled(writing: Writing, workflow: Workflow, prompt: str, seed: int) -> str:
    for image in writing.saved or writing.previewed:
        writing.lines.append(f"print(*{writing.call('save')}({image}, {_place(writing, image)}))")
    loads = writing.loads()
    made = copied(writing.used)
    imports = merged({*made.imports, *writing.imports, "from pathlib import Path"})
    body = ["@torch.no_grad()", "def main(path: Path) -> None:", '    """Make the image."""']
    body += [f"    {line}".rstrip() for line in [*loads, "", *writing.lines]]
    parts = [
        _header(writing, describe(workflow)),
        "\n".join(imports),
        f"PROMPT = {prompt!r}\nSEED = {seed}\n"
        'DEVICE = "cpu"  # or "cuda", where results differ in rounding',
        made.source,
        "\n".join(_single_blanks(body)),
        'if __name__ == "__main__":\n    main(Path(sys.argv[1] if sys.argv[1:] else "image.png"))',
    ]
    script = "\n\n\n".join(part for part in parts if part)
    return script.encode("ascii", "backslashreplace").decode()  # it goes through any terminal


def _place(writing: Writing, image: str) -> str:
    """Where an image goes: the asked path, or a numbered one beside it when there are several."""
    outputs = writing.saved or writing.previewed
    return "path" if len(outputs) == 1 else f'path.with_stem(f"{{path.stem}}_{image}")'


def _header(writing: Writing, description: str) -> str:
    needs = NEEDS + " spandrel" * bool(writing.upscalers)
    lines = [
        "A workflow of FlowDesign as a script for diffusers: python THIS_FILE [image.png]",
        "",
        *_wrapped(f"{description}."),
        "",
        f"It needs: pip install {needs}",
        *_wrapped(
            "Models are loaded from the paths in main; the name of a hub repository does as well."
        ),
        "",
    ]
    if writing.approximate:
        lines += ["Approximate, for these reasons:", *_items(writing.approximate)]
    if writing.approximate and writing.exact:
        lines += ["", "Exact:", *_items(writing.exact)]
    elif not writing.approximate:
        lines += [*_wrapped(EXACT), *_items(writing.exact)]
    lines += ["", *_wrapped(LEVELS)]
    text = "\n".join(lines).replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{text}\n"""'


def _items(texts: Iterable[str]) -> list[str]:
    return [
        line
        for text in dict.fromkeys(texts)
        for line in textwrap.wrap(text, 96, initial_indent="- ", subsequent_indent="  ")
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96)


def _single_blanks(lines: list[str]) -> list[str]:
    """Leave one of several blank lines."""
    pairs = zip(lines, ["x", *lines[:-1]], strict=True)
    return [line for line, before in pairs if line or before]
