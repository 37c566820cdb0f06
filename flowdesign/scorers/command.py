"""What `python -m flowdesign score` and `scorers` do: score images, list, convert, measure.

Each gives what is to be printed, as data for JSON and as text.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdesign import comfy
from flowdesign.config import ScoreConfig, add_command, add_flags, from_flags, listed
from flowdesign.scorers import sources, table
from flowdesign.scorers.scorer import ScorerError
from flowdesign.standards import (
    HOW,
    REFERENCE,
    NoStandard,
    Reference,
    combine,
    measure,
    read_reference,
    write_reference,
)

if TYPE_CHECKING:
    from PIL.Image import Image

Answer = tuple[Any, str]  # for JSON, for people
ABOUT = "scores of {count} images in {place}"


def score(flags: argparse.Namespace) -> Answer:
    """Score PNG files: each one's raw scores and, where there is a reference set, their sum."""
    config = from_flags(ScoreConfig, flags)
    names = _names(flags.scorers) or config.scorers
    table.check([*names, *config.scorers])
    images = [_open(path) for path in flags.images]
    prompts = [flags.prompt or _prompt_of(path) for path in flags.images]
    scorers = table.load_all(names, config.score_device, config.score_batch)
    found = table.score_all(scorers, prompts, images)
    wanted = flags.reference != REFERENCE or REFERENCE.exists()  # one that is named must be there
    reference = read_reference(flags.reference) if wanted else None
    rows = [
        {"image": str(path), "prompt": prompt, "scores": scores}
        | {"combined": _combined(scores, config, reference)}
        for path, prompt, scores in zip(flags.images, prompts, found, strict=True)
    ]
    return rows, "\n".join(_tell(row, names) for row in rows)


def show(flags: argparse.Namespace) -> Answer:
    """List all scorers and say what is missing here."""
    rows = [_described(name) for name in table.SCORERS]
    lines = [
        f"{row['name']:<16} {row['kind']:<8} {row['licence']:<11} {row['about']}"
        + (f"\n    {row['missing']}" if row["missing"] else "")
        for row in rows
    ]
    return rows, "\n".join(lines)


def convert(flags: argparse.Namespace) -> Answer:
    """Convert a published .pt or .pth file to safetensors, once."""
    table.check([flags.name])
    from flowdesign.scorers.networks import conversion

    target = flags.out or sources.folders()[0] / flags.name
    folder = conversion.convert(flags.name, flags.file, target)
    return {"folder": str(folder)}, f"Written to {folder}"


def reference(flags: argparse.Namespace) -> Answer:
    """Measure mean and standard deviation of every scorer on a reference set."""
    rows = _Counted(_stored(flags.source) if not flags.files else _from_files(flags.files))
    measured = measure(rows, "")
    place = ", ".join(path.name for path in flags.files) or "the records"
    about = flags.about or ABOUT.format(count=rows.count, place=place)
    made = Reference(about, measured.standards)
    write_reference(made, flags.out)
    lines = [
        f"{name:<16} mean {one.mean:.4g}  sd {one.sd:.4g}  of {one.count}"
        for name, one in sorted(made.standards.items())
    ]
    return json.loads(flags.out.read_text()), "\n".join([*lines, f"Written to {flags.out}"])


def add_score(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Declare the options of `score` on its parser, and give it back."""
    command.set_defaults(work=score)
    command.add_argument("images", type=Path, nargs="+", help="image files", metavar="IMAGE")
    command.add_argument("--prompt", help="what they show (default: the prompt inside each PNG)")
    command.add_argument("--scorers", help="names by comma (default: those of the weights)")
    command.add_argument("--reference", type=Path, default=REFERENCE, help="the reference set")
    add_flags(command, ScoreConfig)
    return command


def add_scorers(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Declare what `scorers` can do; gives the parsers of the actions."""
    actions = command.add_subparsers(required=True, metavar="ACTION")
    shown = add_command(actions, "list", show)
    converted = add_command(actions, "convert", convert)
    converted.add_argument("name", help="scorer", metavar="NAME")
    converted.add_argument("file", type=Path, help="the published .pt or .pth file")
    converted.add_argument("--out", type=Path, help="folder to make (default: where it is found)")
    measured = add_command(actions, "reference", reference)
    measured.add_argument(
        "files", type=Path, nargs="*", metavar="FILE",
        help="JSONL of records, or what score --json printed (default: the stored records)",
    )  # fmt: skip
    measured.add_argument("--source", help="only stored records of this source")
    measured.add_argument("--about", default="", help="which images these are, in words")
    measured.add_argument("--out", type=Path, default=REFERENCE, help="file to write")
    return [shown, converted, measured]


# --- one image -----------------------------------------------------------------------------------


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(listed(text or "")))


def _open(path: Path) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise ScorerError(f"There is no file {path}.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as fault:
        raise ScorerError(f"{path} is not an image that can be read: {fault}") from fault


def _prompt_of(path: Path) -> str:
    """Give the prompt that a PNG of ours or ComfyUI's carries. Raises ScorerError when it has none."""
    prompt = comfy.read_file(path).prompt
    if not prompt:
        raise ScorerError(f"{path} carries no prompt. Give it: --prompt 'what the picture shows'")
    return prompt


def _combined(
    scores: Mapping[str, float], config: ScoreConfig, reference: Reference | None
) -> float | None:
    if reference is None or not config.weights.keys() & scores.keys():
        return None
    return combine(scores, config.weights, reference)


def _tell(row: Mapping[str, Any], names: Sequence[str]) -> str:
    figures = [
        f"{name} {row['scores'][name]:.4g}" if name in row["scores"] else f"{name} -"
        for name in names
    ]
    if row["combined"] is not None:
        figures.append(f"combined {row['combined']:.4g}")
    return f"{row['image']}: " + "  ".join(figures)


def _described(name: str) -> dict[str, Any]:
    scorer = table.find(name)
    described = {key: getattr(scorer, key) for key in ("name", "kind", "about", "licence", "extra")}
    described |= {"low": scorer.low, "high": scorer.high, "uses_prompt": scorer.uses_prompt}
    return described | {"missing": table.available(name)}


# --- a reference set -----------------------------------------------------------------------------


class _Counted(Iterable[Mapping[str, float]]):
    """Counts what it hands on."""

    def __init__(self, rows: Iterable[Mapping[str, float]]) -> None:
        self.rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Mapping[str, float]]:
        for row in self.rows:
            self.count += 1
            yield row


def _stored(source: str | None) -> Iterator[Mapping[str, float]]:
    """Yield the scores of the stored records that have any."""
    from flowdesign.records import PREDICTIONS, Filter, Store

    with Store.open() as store:
        for record in store.stream(Filter(source=source)):
            if scores := {n: v for n, v in record.scores.items() if n not in PREDICTIONS}:
                yield scores


def _from_files(paths: Sequence[Path]) -> Iterator[Mapping[str, float]]:
    return chain.from_iterable(_from_file(path) for path in paths)


def _from_file(path: Path) -> Iterator[Mapping[str, float]]:
    """Yield the "scores" of each line of a JSONL file, or of each member of a JSON list."""
    with path.open(encoding="utf-8") as lines:
        first = lines.read(1)
        lines.seek(0)
        try:
            rows = json.load(lines) if first == "[" else map(json.loads, filter(str.strip, lines))
            for row in rows:
                scores = {
                    name: float(one) for name, one in row["scores"].items() if one is not None
                }
                if scores:
                    yield scores
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise NoStandard(
                f"{path} holds no scores that can be read: {fault!r}. {HOW}"
            ) from fault
