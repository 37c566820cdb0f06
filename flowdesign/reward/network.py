"""A reward model: prompt and sentence in, a normal distribution for every score out.

A fixed random function of prompt and sentence is added to what is learned (a randomised prior, Osband
et al. 2018, arXiv 1806.03335): where there were data the learned part has cancelled it, elsewhere the
members of an ensemble, each with its own, disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdesign.reward.encoder import Encoder, Pieces
from flowdesign.reward.readers import READERS, Dropout, Prompts, Said, Shape
from flowdesign.reward.words import Words

SMALLEST_NOISE = 0.05  # standard deviations of the reference set
BUCKETS = 1024  # pieces of prompts share this many rows of the random prior
PRIOR_WIDTH = 64


@dataclass(frozen=True)
class Output:
    """For every pair and head (pairs, heads): mean, and standard deviation of one image's score."""

    mean: Tensor
    noise: Tensor


class RewardModel(nn.Module):
    """One member of the ensemble. Starts from torch's global seed."""

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.encoder = encoder
        self.shape = shape
        self.reader = reader = READERS[shape.reader](encoder, shape)
        self.words = Words(shape.tokens, reader.words_width, reader.words_std, reader.roles)
        self.head = nn.Linear(reader.width, 2 * shape.heads)
        self.prior = Prior(shape)
        nn.init.zeros_(self.head.bias)
        # Logarithms of how often votes are ties, and of how sharply they follow the score.
        self.tie, self.sharpness = (nn.Parameter(torch.tensor(0.0)) for _ in range(2))
        self._learned = [name for name, p in self.named_parameters() if p.requires_grad]

    def read_prompts(self, prompts: Sequence[str]) -> Prompts:
        """Read prompts, each once."""
        pieces = self.encoder.pieces(prompts)
        states, there = self.reader.read_prompts(self.encoder, pieces)
        return Prompts(states, there, self.prior.mark(pieces))

    def forward(self, prompts: Prompts, which: Tensor, sentences: Tensor) -> Output:
        """Predict for pairs: `which` (pairs,) prompt, and its sentence (pairs, longest), -1 after its
        end."""
        there = functional.pad(sentences >= 0, (1, 0), value=True)
        begin = self.shape.tokens
        ids = functional.pad(sentences, (1, 0), value=begin).clamp(min=0)
        stages = self.words.stages(ids)
        said = Said(self.words(ids, stages), there, stages)
        read = self.reader(self.encoder, prompts, which, said)
        mean, spread = self.head(read).float().chunk(2, -1)
        mean = mean + self.prior(prompts.mark[which], ids, there)
        return Output(mean, functional.softplus(spread) + SMALLEST_NOISE)

    def leave_out(self, generator: torch.Generator | None) -> None:
        """Let this generator decide what dropout leaves out; with None it leaves out nothing."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    def learned(self) -> dict[str, Tensor]:
        """What training changes, by name; also of a model that is done learning."""
        parameters = dict(self.named_parameters())
        return {name: parameters[name] for name in self._learned}

    def kept(self) -> dict[str, Tensor]:
        """What must be saved: what was learned, and the prior."""
        return self.learned() | {f"prior.{n}": b for n, b in self.prior.named_buffers()}


class Prior(nn.Module):
    """A random function that is never trained: (pairs, heads), of which words are there, in any order."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.scale = shape.prior
        self.register_buffer("pieces", torch.randn(BUCKETS, PRIOR_WIDTH))
        self.register_buffer("words", torch.randn(shape.tokens + 1, PRIOR_WIDTH))
        self.register_buffer("out", torch.randn(PRIOR_WIDTH, shape.heads) / PRIOR_WIDTH**0.5)

    def mark(self, pieces: Pieces) -> Tensor:
        """What a prompt brings (prompts, PRIOR_WIDTH): about 1 in size, whatever its length."""
        return _sum(self.pieces[pieces.ids % BUCKETS], pieces.there)

    def forward(self, mark: Tensor, ids: Tensor, there: Tensor) -> Tensor:
        """The prior of pairs, from the marks of their prompts and their sentences."""
        added: Tensor = torch.sin(mark + _sum(self.words[ids], there)) @ self.out
        return self.scale * 2**0.5 * added


def _sum(vectors: Tensor, there: Tensor) -> Tensor:
    """The sum (n, width) of the vectors (n, places, width) that are there, divided by the root of their
    number, so that the size of a sum of random vectors does not depend on how many there are."""
    weights = there.to(vectors)[..., None]
    return (vectors * weights).sum(1) / weights.sum(1).clamp(min=1) ** 0.5
