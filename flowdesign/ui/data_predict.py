"""What a reward ensemble expects of records, from prompt and workflow alone.

Kept under the names `records.PREDICTIONS` it can be filtered, sorted and charted as any score. It is no
scorer: it has no weight, and reward models do not learn from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowdesign.critic import Critic, Expected, expect
from flowdesign.records import PREDICTIONS, StoredRecord
from flowdesign.tokens import UnknownToken, parse_sentence


def expected_of(critic: Critic, records: Sequence[StoredRecord]) -> list[Expected | None]:
    """Predict records; None for one outside the language of sentences.

    Raises what the ensemble raises, for words that it does not know.
    """
    sentences = [_sentence(record) for record in records]
    known = [at for at, sentence in enumerate(sentences) if sentence]
    found: list[Expected | None] = [None] * len(records)
    if known:
        prompts = [records[at].prompt for at in known]
        said = expect(critic, prompts, [sentences[at] for at in known])
        for at, expected in zip(known, said, strict=True):
            found[at] = expected
    return found


def kept_as(expected: Expected) -> dict[str, float]:
    """The scores under which a record keeps what was expected of it."""
    values = (expected.mean, expected.low, expected.high)
    return dict(zip(PREDICTIONS, values, strict=True))


def _sentence(record: StoredRecord) -> tuple[int, ...]:
    try:
        return parse_sentence(record.sentence) if record.sentence else ()
    except UnknownToken:
        return ()
