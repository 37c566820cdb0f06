"""Sentences packed as trees: every beginning is read once, and sees only what stands before it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from flowdesign.packing import Packed, pack

BEGIN = 9
SENTENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8)


def read_by(packed: Packed, lengths: list[int], node: int) -> tuple[int, list[int], list[int]]:
    """A node's row, and what it sees: columns of the prompt, and tokens of the tree in order."""
    width = packed.sees.shape[-1]
    row, column = divmod(int(packed.nodes[node]), width)
    seen = packed.sees[row, column].nonzero()[:, 0].tolist()
    length = lengths[row]
    said = [packed.tokens[row][place - length] for place in seen if place >= length]
    return row, [place for place in seen if place < length], said


@given(SENTENCES, st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 99))
def test_every_token_is_predicted_from_its_prompt_and_what_was_said_before_it(
    sentences: list[list[int]], lengths: list[int], seed: int
) -> None:
    rows = [random.Random(seed + at).randrange(len(lengths)) for at in range(len(sentences))]
    packed = pack(lengths, rows, sentences, BEGIN)
    for row, sentence, places in zip(rows, sentences, packed.places, strict=True):
        for count in range(len(sentence)):
            node = int(places[count])
            found = read_by(packed, lengths, node)
            assert found == (row, list(range(lengths[row])), [BEGIN, *sentence[:count]])
            flat = int(packed.nodes[node])
            assert packed.positions.flatten()[flat] == lengths[row] + count


@given(SENTENCES)
def test_equal_beginnings_are_read_once(sentences: list[list[int]]) -> None:
    packed = pack([2], [0] * len(sentences), sentences, BEGIN)
    beginnings = {tuple(s[:count]) for s in sentences for count in range(len(s))}
    assert len(packed.tokens[0]) == len(packed.nodes) == len(beginnings)


def test_a_prompt_reads_from_left_to_right_and_padding_sees_itself() -> None:
    packed = pack([3, 1], [0, 1], [[1, 2], [1]], BEGIN)
    assert packed.sees[0, :3, :3].tolist() == [
        [True, False, False],
        [True, True, False],
        [True] * 3,
    ]
    assert not packed.sees[0, :3, 3:].any()
    assert packed.sees[1].sum(-1).tolist() == [1, 2, 1, 1, 1]
