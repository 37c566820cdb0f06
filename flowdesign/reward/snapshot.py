"""The data of a run as they were when it began: a store grows and is scored again, a resumed run must
not notice."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from flowdesign.reward.data import Ballots, Table
from flowdesign.runs import replace_file
from flowdesign.standards import Standard

SNAPSHOT = "resume_data.safetensors"
_ALIGNED = ("prompt", "sentence", "seed", "records")
_VOTES = ("prompt", "left", "right", "tie")


def save_table(table: Table, folder: Path) -> None:
    """Write the table into the run's folder, at once whole."""
    arrays = {name: getattr(table, name) for name in _ALIGNED}
    arrays |= {f"score/{name}": values for name, values in table.scores.items()}
    arrays |= {f"vote/{name}": getattr(table.ballots, name) for name in _VOTES}
    head = {
        "prompts": table.prompts,
        "sentences": table.sentences,
        "prompt_split": table.prompt_split,
        "sentence_split": table.sentence_split,
        "standards": {name: asdict(each) for name, each in table.standards.items()},
    }
    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    metadata = {"head": json.dumps(head)}
    replace_file(folder / SNAPSHOT, lambda draft: save_file(whole, draft, metadata=metadata))


def load_table(folder: Path) -> Table | None:
    """Read what `save_table` wrote; None where nothing was."""
    path = folder / SNAPSHOT
    if not path.exists():
        return None
    with safe_open(path, "np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        head = json.loads(file.metadata()["head"])
    return _table(arrays, head)


def _table(arrays: dict[str, Any], head: dict[str, Any]) -> Table:
    scores = {n.removeprefix("score/"): v for n, v in arrays.items() if n.startswith("score/")}
    return Table(
        prompts=tuple(head["prompts"]),
        sentences=tuple(map(tuple, head["sentences"])),
        prompt_split=tuple(head["prompt_split"]),
        sentence_split=tuple(head["sentence_split"]),
        standards={name: Standard(**each) for name, each in head["standards"].items()},
        scores=scores,
        ballots=Ballots(**{name: arrays[f"vote/{name}"] for name in _VOTES}),
        **{name: arrays[name] for name in _ALIGNED},
    )
