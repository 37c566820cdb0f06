"""The dataset card of packed records: what they are, how they were made, and what can be learned."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev, variance

from flowdesign.config import CollectConfig, build
from flowdesign.records import Record, split_of_both, split_of_prompt
from flowdesign.records.splits import SPLITS, split_of_digest
from flowdesign.shipped.packed import GRID, MORE, PACKED, Head, read_head, unpack
from flowdesign.workflow import workflow_hash

TITLES = {
    PACKED.name: "FlowDesign miniature records",
    **{one.name: "FlowDesign miniature records, more of the training split" for one in MORE},
    GRID.name: "FlowDesign miniature grid, prompts and workflows of the test split",
}


def card_of(path: Path) -> str:
    """The card of a packed file, a README.md that the Hugging Face Hub reads."""
    head, records = read_head(path), list(unpack(path))
    parts = (
        _header(head, path),
        _about(head, path),
        _splits(records),
        _scores(head, records),
        _how(head, path),
    )
    return "\n\n".join(parts) + "\n"


def noise_ceiling(groups: Iterable[Sequence[float]]) -> float:
    """How much of a single score is the pair's own, not the seed's: ICC(1) of equal-sized groups.

    One-way random effects (Shrout and Fleiss, 1979): (MSB - MSW) / (MSB + (k - 1) MSW), where each
    group holds the scores of one pair with k seeds. 1 is no noise, 0 is nothing but noise; nan with
    fewer than two groups. No predictor of a pair's score can correlate with single scores by more
    than the square root of it.
    """
    kept = [group for group in groups if len(group) > 1]
    k = Counter(map(len, kept)).most_common(1)[0][0] if kept else 0
    kept = [group for group in kept if len(group) == k]
    if len(kept) < 2:
        return float("nan")
    within = fmean(variance(group) for group in kept)
    between = k * variance([fmean(group) for group in kept])
    total = between + (k - 1) * within
    return (between - within) / total if total else float("nan")


def _title(path: Path) -> str:
    return TITLES.get(path.name, TITLES[PACKED.name])


def _header(head: Head, path: Path) -> str:
    size = "10K<n<100K" if head.records >= 10_000 else "1K<n<10K"
    return (
        f"---\npretty_name: {_title(path)}\nlicense: apache-2.0\nlanguage:\n- en\ntask_categories:\n"
        f"- text-to-image\ntags:\n- comfyui\n- flowdesign\nsize_categories:\n- {size}\n---"
    )


def _about(head: Head, path: Path) -> str:
    return (
        f"# {_title(path)}\n\n"
        f"{head.records:,} scored images of {head.prompts:,} prompts and {head.workflows:,} text-to-image "
        "workflows, rendered by\nFlowDesign's miniature models: prompts of a small world of shapes, "
        "colours and styles in GenEval's\nsix categories, judged by an exact checker. Made by this "
        "project; nobody's pictures or words are in it.\n\n"
        f"The file is `{path.name}`, {path.stat().st_size / 1e6:.1f} MB. It holds no images: each record "
        "has prompt, workflow,\nseed, raw scores and the hashes of the models, from which its image is "
        "rendered again. Images were\nrendered in batches, where rounding may change a pixel value by 1; "
        "a score that hangs on a threshold\nmay then differ."
    )


def _splits(records: Sequence[Record]) -> str:
    digests = {one.sentence: split_of_digest(workflow_hash(one.workflow)) for one in records}
    counts = Counter(
        split_of_both(split_of_prompt(one.prompt), digests[one.sentence]) for one in records
    )
    rows = "\n".join(f"| {split} | {counts[split]:,} |" for split in SPLITS)
    return (
        "## Splits\n\nBy hash of the prompt and of the workflow, 80/10/10 each; a record belongs to the "
        "stricter of both,\nso nothing of validation or test is in train. The diffusion models never saw "
        f"a prompt of validation or test.\n\n| split | records |\n| --- | ---: |\n{rows}"
    )


def _scores(head: Head, records: Sequence[Record]) -> str:
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for one in records:
        groups[one.prompt, one.sentence].append(one)
    repeated = sum(len(group) > 1 for group in groups.values())
    rows = [_score_row(name, records, groups) for name in head.scorers]
    failed = sum(bool(one.failure) for one in records)
    return (
        "## Scores\n\n"
        "Raw. *Ceiling* is the share of a single score's variance that belongs to the pair of prompt and "
        "workflow\nand not to the seed (ICC(1)), from "
        f"{repeated:,} of {len(groups):,} pairs, rendered with several seeds.\n"
        f"{failed:,} renders failed and have no scores.\n\n"
        "| scorer | records | mean | sd | ceiling |\n| --- | ---: | ---: | ---: | ---: |\n"
        + "\n".join(rows)
    )


def _score_row(
    name: str, records: Sequence[Record], groups: Mapping[tuple[str, str], Sequence[Record]]
) -> str:
    values = [one.scores[name] for one in records if name in one.scores]
    seeds = [[o.scores[name] for o in group if name in o.scores] for group in groups.values()]
    spread = stdev(values) if len(values) > 1 else 0.0
    known = noise_ceiling(seeds)
    ceiling = "-" if math.isnan(known) else f"{known:.2f}"
    return f"| {name} | {len(values):,} | {fmean(values):.4g} | {spread:.4g} | {ceiling} |"


def _how(head: Head, path: Path) -> str:
    config = build(CollectConfig, head.config)
    asked = config.model_dump(exclude_defaults=True)
    flags = " ".join(_flag(name, value) for name, value in asked.items())
    hashes = json.dumps(dict(head.assets), indent=1)
    return (
        "## How it was made\n\n"
        f"{_workflows(config)} All "
        f"pairs of a prompt share its {config.seeds} seeds; a share of {config.repeated} of the "
        "pairs has all of them,\nthe others one.\n\n"
        f"```\npython -m flowdesign collect {flags}\npython -m flowdesign shipped make --run "
        f"{config.run}{_flag_of(path)}\n```\n\n"
        f"{_stopped(head, config)}Rendered by {head.renderer}; the last record is of {head.created}. Models (sha256):\n\n"
        f"```json\n{hashes}\n```\n\n"
        "## Use\n\nThe app takes it in when it first starts with an empty store. By hand:\n"
        f"`python -m flowdesign shipped load{_flag_of(path)}`.\n`python -m flowdesign shipped check"
        f"{_flag_of(path)}` renders some of its records again and\ncompares the scores. In Python, "
        "`flowdesign.shipped.unpack(path)` yields the records."
    )


def _workflows(config: CollectConfig) -> str:
    """Where the workflows are from, and how they meet the prompts."""
    if config.is_said:
        source = (
            "random walks through the grammar"
            if config.is_random
            else f"what the policy `{config.policy}`, as it was then, says for each prompt"
        )
        anew = f", with {config.redrawn} drawn anew, each value as likely" if config.redrawn else ""
        found = (
            f", changed to what the reward ensemble\n`{config.searched}`, as it was then, expects much of"
            f" ({config.sweeps} sweeps at temperature {config.heat:g})"
            if config.searched
            else ""
        )
        others = f"Each is tried on {config.foils} other prompts, too.\n" if config.foils else ""
        return (
            f"Workflows are {source}{anew}{found}.\n{others}"
            "Equal ones of a prompt are taken once, and only those of the wanted split that were rendered\nwhen this was packed."
        )
    return (
        "Workflows are random walks through the grammar, each tried on "
        f"{config.per_workflow} prompts, of every domain; every\nprompt meets equally many."
    )


def _stopped(head: Head, config: CollectConfig) -> str:
    """A word on a collection that did not come to its end."""
    asked = round(config.n * (1 + config.repeated * (config.seeds - 1)))
    if head.records >= asked or config.is_said:
        return ""
    return f"The collection was stopped after {head.records:,} of {asked:,} images. "


def _flag_of(path: Path) -> str:
    return f" --file assets/{path.name}" if path.name in TITLES.keys() - {PACKED.name} else ""


def _flag(name: str, value: object) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if isinstance(value, Mapping):
        value = ",".join(f"{key}={number}" for key, number in value.items())
    return f"--{flag} {value}"
