"""The data of a run as they were when it began: a store grows and is scored again, a resumed run must
not notice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from flowdesign.reward.data import Ballots, Table
from flowdesign.runs import replace_file
from flowdesign.standards import Standard
from flowdesign.tokens import VOCABULARY, VocabularyMismatch

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
        "vocabulary": VOCABULARY.tokens,
    }
    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    metadata = {"head": json.dumps(head)}
    replace_file(folder / SNAPSHOT, lambda draft: save_file(whole, draft, metadata=metadata))


def load_table(folder: Path) -> Table | None:
    """Read what `save_table` wrote; None where nothing was.

    Raises tokens.VocabularyMismatch for a run that was begun with another vocabulary.
    """
    path = folder / SNAPSHOT
    if not path.exists():
        return None
    with safe_open(path, "np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        head = json.loads(file.metadata()["head"])
    _check_words(folder, head.get("vocabulary", VOCABULARY.tokens))
    return _table(arrays, head)


def _check_words(folder: Path, words: Sequence[str]) -> None:
    """Weights have a row for each word, so half a run of one vocabulary is no half of another."""
    if tuple(words) != tuple(VOCABULARY.tokens):
        raise VocabularyMismatch(
            f"Run '{folder.name}' was begun with another vocabulary ({len(words)} words, here there are "
            f"{len(VOCABULARY)}), so it cannot go on. Nothing of it was changed. Go on with the version that "
            "began it, or start another run (--run NAME)."
        )


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
