"""Tables of made-up scores, for tests of what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowdesign.records import Split
from flowdesign.reward.bootstrap import Values
from flowdesign.reward.data import Table
from flowdesign.reward.pairing import Pairs

Row = tuple[int, int, int, float]  # prompt, sentence, seed, score


def table_of(
    rows: Sequence[Row],
    prompt_split: Sequence[Split] | None = None,
    sentence_split: Sequence[Split] | None = None,
    prompts: Sequence[str] | None = None,
    sentences: Sequence[tuple[int, ...]] | None = None,
) -> Table:
    """A table of these images; all of it is test unless splits are given. Record i is row i + 100."""
    columns = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3).T
    many, more = ((int(part.max()) + 1 if len(rows) else 0) for part in columns[:2])
    return Table(
        tuple(prompts or (f"prompt {number}" for number in range(many))),
        tuple(sentences or ((number,) for number in range(more))),
        columns[0], columns[1], columns[2],
        {"combined": np.array([row[3] for row in rows], float)},
        tuple(prompt_split or ["test"] * many), tuple(sentence_split or ["test"] * more),
        np.arange(len(rows)) + 100, {},
    )  # fmt: skip


def pairs_of(rows: Sequence[Row]) -> Pairs:
    """The pairs of all these images."""
    return Pairs.of(table_of(rows), np.arange(len(rows)))


def cube_pairs(cube: Values, own_seeds: bool = False) -> Pairs:
    """The pairs of scores (prompts, workflows, seeds); NaN was not rendered.

    The workflows of a prompt share its seeds, or each has its own.
    """
    rows = [
        (p, w, s + (cube.shape[2] * w if own_seeds else 0), float(cube[p, w, s]))
        for p, w, s in np.argwhere(np.isfinite(cube)).tolist()
    ]
    return pairs_of(rows)
