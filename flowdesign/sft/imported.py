"""Workflows that people made, to learn from beside random ones (paper, phase 1).

Records that were imported with their graphs (`python -m flowdesign records history`, or the Data tab) have a
prompt and, where the vocabulary can say the graph, a sentence. A run keeps the pairs that it began with,
so what is imported meanwhile changes nothing in it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from flowdesign.records import DATA, IMPORTED, RecordsError, Store, StoredRecord, is_store
from flowdesign.reward.data import SHIPPED
from flowdesign.runs import replace_text
from flowdesign.tokens import Automaton, UnknownToken, parse_sentence, sentence_text

KEPT = "imported.jsonl"  # in the run's folder
Pool = dict[str, list[tuple[int, ...]]]  # prompt -> its sentences


def pool_of(folder: Path, records: str, language: Automaton) -> Pool:
    """The pairs of a run: those kept in its folder, else those among the records now, which it keeps.

    Raises RecordsError where there are none.
    """
    path = folder / KEPT
    if path.exists():
        kept = map(json.loads, path.read_text("utf-8").splitlines())
        return _grouped((one["prompt"], parse_sentence(one["sentence"])) for one in kept)
    if records == SHIPPED:
        raise RecordsError(
            "The shipped records were rendered here, none was imported: name a folder of your own with "
            "--records, or leave --imported at 0."
        )
    place = Path(records) if records else DATA
    if not is_store(place):
        raise RecordsError(f"There are no records in {place} to learn imported graphs from.")
    with closing(Store.open(place)) as store:
        pairs = list(said_in(store.stream(), language))
    if not pairs:
        raise RecordsError(
            f"None of the records in {place} was imported with a graph that the vocabulary can say. Import "
            "some in the Data tab, or leave --imported at 0."
        )
    lines = [json.dumps({"prompt": p, "sentence": sentence_text(said)}) for p, said in pairs]
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, "\n".join(lines) + "\n")
    return _grouped(pairs)


def said_in(
    records: Iterable[StoredRecord], language: Automaton
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The prompts and sentences of imported records that a policy may learn from: of the training split,
    and of the language as it is here."""
    for record in records:
        if not record.source.startswith(IMPORTED) or not record.prompt or record.split != "train":
            continue
        try:
            tokens = parse_sentence(record.sentence)
        except UnknownToken:
            continue
        if language.accepts(tokens):
            yield record.prompt, tokens


def drawn(
    pool: Pool, prompts: int, most: int, rng: random.Random
) -> list[tuple[str, tuple[int, ...]]]:
    """Some prompts, and of each at most so many of its sentences."""
    names = list(pool)
    chosen = [rng.choice(names) for _ in range(prompts)]
    return [
        (name, said)
        for name in chosen
        for said in rng.sample(pool[name], min(most, len(pool[name])))
    ]


def _grouped(pairs: Iterable[tuple[str, Sequence[int]]]) -> Pool:
    found: Pool = {}
    for prompt, said in pairs:
        found.setdefault(prompt, []).append(tuple(said))
    return found
