"""Sentences that are being said, and what is read of them: a row for each prompt, equal beginnings once.

The sentences that follow a prompt share it, and often what they have said so far: at guidance scale 2 five of six
choices of 16 designs follow a beginning that another of them has as well. Those are one *strand*, whose next
tokens are read once. Strands of a prompt lie side by side in its row, and each sees its own places only, so it is
read as if it stood alone (`flowdesign.packing` does the same for whole sentences, to learn from).

Beside tokens that were said, guesses of what follows may be read: a pass reads all weights, whatever the number of
tokens. Guesses that came true are not read again, and others are seen by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Which of the places that are read at once count (rows, time), and which places of its row each of
    them sees (rows, time, earlier ones and these). A place of padding sees itself."""

    there: Tensor
    sees: Tensor

    @property
    def positions(self) -> Tensor:
        """Where each place that counts stands in its own sequence (rows, time): how many others it sees."""
        return self.sees.sum(-1) - 1

    def times(self, copies: int) -> Places:
        """The same for so many times as many rows."""
        return Places(self.there.repeat(copies, 1), self.sees.repeat(copies, 1, 1))


@dataclass(frozen=True)
class Lot:
    """Tokens to be read at once (rows, time), 0 where there are none.

    `ends` (strands, 1 + longest guess) has the flat places (row x time + column) at which a strand has read what
    was said, and then each token of its guess; sentence i is strand `which[i]`.
    """

    ids: Tensor
    places: Places
    ends: Tensor
    which: list[int]


@dataclass(eq=False)
class Strand:
    """A beginning: its row, the columns of what was said, and a guess at what follows with its columns."""

    row: int
    said: list[int]
    guess: Sequence[int] = ()
    ahead: list[int] = field(default_factory=list)

    def after(self, tokens: Sequence[int], guess: Sequence[int]) -> tuple[Strand, Sequence[int]]:
        """The strand with tokens after it, and those of them that are to be read: the first were if they were
        guessed."""
        right = 0
        for one, other in zip(self.guess, tokens, strict=False):
            if one != other:
                break
            right += 1
        if right == len(tokens):
            raise ValueError("The last token that is appended must be one that was not guessed.")
        return Strand(self.row, self.said + self.ahead[:right], guess), tokens[right:]

    def place(self, new: int, first: int) -> int:
        """Take columns from `first` on for so many new tokens and the guess; give the next free one."""
        after = first + new + len(self.guess)
        self.said += range(first, first + new)
        self.ahead = list(range(first + new, after))
        return after


class Growing:
    """Sentences that grow after their prompts: `prompts[i]` is the number of sentence i's row, and `there`
    (rows, width) says where the rows have their prompts."""

    def __init__(self, prompts: Sequence[int], there: Tensor) -> None:
        begun = [Strand(row, own.nonzero()[:, 0].tolist()) for row, own in enumerate(there)]
        self._strands = [begun[row] for row in prompts]  # of each sentence
        self.rows, self._width = there.shape

    def grow(self, tokens: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]] = ()) -> Lot:
        """Append one or more tokens to each sentence, and guess which follow. Raises ValueError where equal
        beginnings guess differently, or nothing was appended but what was guessed."""
        keys = [(strand, tuple(new)) for strand, new in zip(self._strands, tokens, strict=True)]
        asked = dict(zip(keys, guesses or [()] * len(keys), strict=True))
        if guesses and any(asked[key] != own for key, own in zip(keys, guesses, strict=True)):
            raise ValueError("Sentences that have said the same must guess the same.")
        grown = {key: key[0].after(key[1], guess) for key, guess in asked.items()}
        numbers = {key: number for number, key in enumerate(grown)}
        self._strands = [grown[key][0] for key in keys]
        return self._lay(list(grown.values()), [numbers[key] for key in keys])

    def keep(self, indices: Sequence[int]) -> list[int]:
        """Go on with these sentences only; give the rows that they need, which are numbered anew."""
        self._strands = [self._strands[index] for index in indices]
        strands = dict.fromkeys(self._strands)
        kept = sorted({strand.row for strand in strands})
        for strand in strands:
            strand.row = kept.index(strand.row)
        self.rows = len(kept)
        return kept

    def _lay(self, pieces: Sequence[tuple[Strand, Sequence[int]]], which: list[int]) -> Lot:
        """Lay what is to be read of each strand beside that of others in its row."""
        width, used = self._width, [self._width] * self.rows
        for strand, new in pieces:
            used[strand.row] = strand.place(len(new), used[strand.row])
        self._width = max(used)
        time = self._width - width
        ids, there = torch.zeros(2, self.rows, time, dtype=torch.long)
        sees = torch.eye(time, self._width).roll(width, 1).bool().repeat(self.rows, 1, 1)
        for strand, new in pieces:
            path, read = strand.said + strand.ahead, [*new, *strand.guess]
            own = strand.row, slice(path[-len(read)] - width, path[-1] + 1 - width)
            ids[own], there[own] = torch.tensor(read), 1
            sees[own][:, path] = _before(len(read), len(path))
        ends = _ends([strand for strand, _ in pieces], width, time)
        return Lot(ids, Places(there.bool(), sees), ends, which)


def in_order(sequences: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Places]:
    """Sequences as (rows, longest), padded on the right, of which each place sees those before it."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[*one, *[pad] * (longest - len(one))] for one in sequences])
    there = torch.arange(longest) < torch.tensor([[len(one)] for one in sequences])
    return ids, Places(there, _before(longest, longest).repeat(len(ids), 1, 1))


def _ends(strands: Sequence[Strand], width: int, time: int) -> Tensor:
    """`Lot.ends`; a guess that is shorter than the longest stays at its last place."""
    longest = max(len(strand.guess) for strand in strands)
    rows = []
    for strand in strands:
        columns = [strand.said[-1], *strand.ahead]
        columns += columns[-1:] * (longest - len(strand.guess))
        rows.append([strand.row * time + column - width for column in columns])
    return torch.tensor(rows)


def _before(places: int, path: int) -> Tensor:
    """What the last so many places of a path see of it: all before them, and themselves."""
    return torch.ones(places, path).tril(path - places).bool()
