"""Sentences packed for one forward pass: a row for each prompt, and in it every beginning once.

The sentences that follow a prompt share it, and often their first tokens too. As a tree whose nodes are
the beginnings that occur, each is read once, whatever the number of sentences that go on from it. A node
sees the prompt and the nodes on its way from the root, so it is read as if its sentence stood alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Tree:
    """The beginnings of a prompt's sentences. Node n reads `tokens[n]` after its parent; 0 is the root."""

    tokens: list[int]
    parents: list[int] = field(default_factory=lambda: [-1])
    _nodes: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, sentence: Sequence[int]) -> list[int]:
        """Add a sentence; give for each of its tokens the node that has read all before it."""
        path = [0]
        for token in sentence[:-1]:
            path.append(self._child(path[-1], token))
        return path

    def sees(self) -> Tensor:
        """Which nodes each node sees (nodes, nodes): itself and those on its way from the root."""
        sees = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents[1:], 1):
            sees[node] |= sees[parent]
        return sees

    def _child(self, node: int, token: int) -> int:
        known = self._nodes.setdefault((node, token), len(self.tokens))
        if known == len(self.tokens):
            self.tokens.append(token)
            self.parents.append(node)
        return known


@dataclass(frozen=True)
class Packed:
    """What is read at once: rows of a prompt and then its tree, padded on the right to one width.

    `nodes` are the flat places (row x width + column) of all nodes, and `places` (sentences, longest)
    says which of them, counted in that order, predicts each token; 0 after a sentence's end.
    """

    tokens: list[list[int]]  # of each row's tree
    sees: Tensor  # (rows, width, width); a place of padding sees itself
    nodes: Tensor
    places: Tensor

    @property
    def positions(self) -> Tensor:
        """Where each place stands in its own sequence (rows, width): how many others it sees."""
        return self.sees.sum(-1) - 1


def pack(
    prompts: Sequence[int], rows: Sequence[int], sentences: Sequence[Sequence[int]], begin: int
) -> Packed:
    """Pack sentences, of which number i follows the prompt of row `rows[i]`.

    `prompts` has the length of each row's prompt in tokens; `begin` is the token that opens a sentence.
    """
    trees = [Tree([begin]) for _ in prompts]
    paths = [trees[row].add(sentence) for row, sentence in zip(rows, sentences, strict=True)]
    sizes = [len(tree.tokens) for tree in trees]
    width = max(length + size for length, size in zip(prompts, sizes, strict=True))
    sees = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
    nodes = []
    for row, (length, tree) in enumerate(zip(prompts, trees, strict=True)):
        end = length + len(tree.tokens)
        sees[row, :length, :length] = torch.ones(length, length).tril().bool()
        sees[row, length:end, :length] = True
        sees[row, length:end, length:end] = tree.sees()
        nodes.append(torch.arange(row * width + length, row * width + end))
    first = [sum(sizes[:row]) for row in range(len(sizes))]
    places = torch.zeros(len(sentences), max(map(len, sentences)), dtype=torch.long)
    for line, row, path in zip(places, rows, paths, strict=True):
        line[: len(path)] = torch.tensor(path) + first[row]
    return Packed([tree.tokens for tree in trees], sees, torch.cat(nodes), places)
