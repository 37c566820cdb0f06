"""How a reward model reads prompt and sentence together.

`Staged`, the default, follows the workflow: a network over one vector of the prompt and one of the
first pass, then one step for every later pass. `Pooled` puts all passes into one vector. `Crossed` is a
small transformer over the sentence that looks at the prompt's hidden states in every layer. For all three
the encoder reads a prompt once, however many sentences there are. In `Joint` it reads both as one text, as a
cross-encoder does, which is the usual way and costs most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdesign.reward.encoder import Encoder, Pieces, mean_of
from flowdesign.reward.words import LAST

HEADS_WIDTH = 32  # attention heads are so wide
EACH = tuple(range(LAST + 1))  # a role for the words of each stage


@dataclass(frozen=True)
class Shape:
    """What must be known to build a reward model before its weights are read."""

    reader: str  # one of READERS
    tokens: int  # words of the vocabulary
    heads: int
    width: int
    layers: int
    prior: float
    dropout: float = 0.0  # while it learns


@dataclass(frozen=True)
class Prompts:
    """Prompts that were read: their hidden `states` (prompts, longest, width), or the mean of them
    (prompts, 1, width), the places that are `there`, and the prior's `mark` (prompts, PRIOR_WIDTH)."""

    states: Tensor
    there: Tensor
    mark: Tensor


@dataclass(frozen=True)
class Said:
    """Sentences: `vectors` (pairs, places, width), the places that are `there` (pairs, places), and the
    `stages` (pairs, places) in which they speak (words.Words.stages)."""

    vectors: Tensor
    there: Tensor
    stages: Tensor


class Dropout(nn.Module):
    """Leaves out a share of the activations, as long as it has a generator, which decides which.

    torch's own draws from the global seed, which members that learn side by side would share.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape, some of them 0 and the others larger."""
        if self.generator is None or not self.share:
            return values
        chance = torch.rand(values.shape, generator=self.generator, device=values.device)
        return values * (chance >= self.share) / (1 - self.share)


class Network(nn.Module):
    """Layers (inputs to width, then width to width), with dropout before the first and after each."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        widths = [inputs, *[shape.width] * shape.layers]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(inside, outside), nn.GELU())
            for inside, outside in zip(widths, widths[1:], strict=False)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Vectors (n, inputs) to (n, width)."""
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = self.dropout(layer(hidden))
        return hidden


class Heard(nn.Module):
    """A reader for which a prompt is one vector: the mean of its hidden states.

    Nothing in it is normalised but that mean, to a fixed length: layer norms, which tie all that a word
    adds to what the others add, cost a fifth of the error on the miniature world.
    """

    words_std = 0.1  # of a word's vector at the start
    length = 8.0  # of a prompt's vector

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width = self.words_width = shape.width
        self.heard = nn.Sequential(nn.Linear(encoder.width, shape.width), nn.GELU())

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """One vector for each prompt."""
        mean = mean_of(encoder.read(pieces), pieces.there)
        states = self.length * functional.normalize(mean, dim=-1)[:, None]
        return states, torch.ones_like(pieces.there[:, :1])


class Pooled(Heard):
    """A network over the prompt's vector and the sum of the sentence's words."""

    roles = EACH

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__(encoder, shape)
        self.network = Network(2 * shape.width, shape)

    def forward(self, encoder: Encoder, prompts: Prompts, which: Tensor, said: Said) -> Tensor:
        """Sentences of pairs to (pairs, width)."""
        heard = self.heard(prompts.states[:, 0])[which]
        spoken = functional.gelu((said.vectors * said.there.to(heard)[..., None]).sum(1))
        hidden: Tensor = self.network(torch.cat([heard, spoken], -1))
        return hidden


class Staged(Heard):
    """`Pooled` for what happens up to the first pass's end; then every later pass changes what is there.

    As a workflow is rendered: a pass takes the image so far and makes another of it, less or more. One
    network, for all later passes and the resize after them, gives from the state so far, the prompt, the
    pass's words and those of stage 0 a new state and how far to move there. So what is learned
    of a pass holds wherever it stands, and a third pass needs no records of its own.
    """

    roles = (0, *[1] * (LAST - 1), 2)  # a word says the same in every later pass
    parts, later_parts = 2, 4  # that `meet` and `meet_later` give

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__(encoder, shape)
        self.first = Network(self.parts * shape.width, shape)
        self.later = Network(self.later_parts * shape.width, shape)
        self.change = nn.Linear(shape.width, 2 * shape.width)

    def forward(self, encoder: Encoder, prompts: Prompts, which: Tensor, said: Said) -> Tensor:
        """Sentences of pairs to (pairs, width)."""
        heard = self.heard(prompts.states[:, 0])[which]
        stages = functional.one_hot(said.stages, LAST + 1) * said.there[..., None]
        sums = torch.einsum("bps,bpw->sbw", stages.to(heard), said.vectors)
        first, *later = functional.gelu(sums)
        hidden: Tensor = self.first(torch.cat(self.meet(heard, first), -1))
        for words, there in zip(later, stages.any(1).T[1:], strict=True):
            rows = there.nonzero()[:, 0]
            before, *parts = (part[rows] for part in (hidden, heard, words, first))
            met = self.later(torch.cat([before, *self.meet_later(*parts)], -1))
            aim, gate = self.change(met).chunk(2, -1)
            hidden = hidden.index_add(0, rows, gate.sigmoid() * (aim - before))
        return hidden

    def meet(self, heard: Tensor, first: Tensor) -> list[Tensor]:
        """What the first network reads (pairs, width) each, from vectors of the prompt and of the first pass's words."""
        return [heard, first]

    def meet_later(self, heard: Tensor, words: Tensor, first: Tensor) -> list[Tensor]:
        """What the other reads beside the state: the same, and the words of the later pass."""
        return [heard, words, first]


class Matched(Staged):
    """`Staged`, whose networks are also given products of what the prompt and what the pass's words say.

    A LoRA helps the prompts that ask for what it draws and harms all others, and so does a later pass by
    another checkpoint: from the two vectors alone that was not learned in 1,500 steps.
    """

    parts, later_parts = 3, 5

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__(encoder, shape)
        self.wanted, self.offered = _linears(*[(shape.width, shape.width)] * 2)

    def meet(self, heard: Tensor, first: Tensor) -> list[Tensor]:
        """As in `Staged`, and the products."""
        return [*super().meet(heard, first), self._products(heard, first)]

    def meet_later(self, heard: Tensor, words: Tensor, first: Tensor) -> list[Tensor]:
        """As in `Staged`, and the products."""
        return [*super().meet_later(heard, words, first), self._products(heard, words)]

    def _products(self, heard: Tensor, words: Tensor) -> Tensor:
        return self.wanted(heard) * self.offered(words)


class Crossed(nn.Module):
    """A small transformer over the sentence that looks at the prompt in every layer.

    Only the first place, which stands for the whole, is needed after the last layer, so that one
    computes no other.
    """

    words_std = 0.5
    roles = EACH

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width = self.words_width = shape.width
        self.entrance, self.exit = nn.LayerNorm(encoder.width), nn.LayerNorm(shape.width)
        self.dropout = Dropout(shape.dropout)
        self.layers = nn.ModuleList(
            Layer(shape.width, encoder.width, self.dropout) for _ in range(shape.layers)
        )

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """The encoder's hidden states, normalised."""
        return self.dropout(self.entrance(encoder.read(pieces))), pieces.there

    def forward(self, encoder: Encoder, prompts: Prompts, which: Tensor, said: Said) -> Tensor:
        """Sentences of pairs to (pairs, width)."""
        hidden = self.dropout(said.vectors)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            asks = 1 if number == last else hidden.shape[1]
            hidden = layer(hidden, said.there, asks, prompts, which)
        read: Tensor = self.exit(hidden[:, 0])
        return read


class Layer(nn.Module):
    """Pre-norm transformer layer: the sentence itself, then the prompt, then each place alone."""

    def __init__(self, width: int, prompt_width: int, dropout: Dropout) -> None:
        super().__init__()
        self.heads = max(1, width // HEADS_WIDTH)
        self.dropout = dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.ask, self.offer, self.answer = _linears(
            (width, width), (width, 2 * width), (width, width)
        )
        self.ask_prompt, self.offer_prompt, self.answer_prompt = _linears(
            (width, width), (prompt_width, 2 * width), (width, width)
        )
        self.alone = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, hidden: Tensor, there: Tensor, asks: int, prompts: Prompts, which: Tensor
    ) -> Tensor:
        """Hidden (pairs, places, width) to the first `asks` places of it."""
        normed = self.norms[0](hidden)
        keys, values = self.offer(normed).chunk(2, -1)
        hidden = hidden[:, :asks]
        heard = self._attend(self.ask(normed[:, :asks]), keys, values, there)
        hidden = hidden + self.dropout(self.answer(heard))
        keys, values = self.offer_prompt(prompts.states)[which].chunk(2, -1)
        question = self.ask_prompt(self.norms[1](hidden))
        seen = self._attend(question, keys, values, prompts.there[which].bool())
        hidden = hidden + self.dropout(self.answer_prompt(seen))
        added: Tensor = hidden + self.dropout(self.alone(self.norms[2](hidden)))
        return added

    def _attend(self, asks: Tensor, keys: Tensor, values: Tensor, there: Tensor) -> Tensor:
        """Attention (pairs, asks, width) over the places that are there (pairs, places)."""
        asks, keys, values = (self._split(each) for each in (asks, keys, values))
        found = functional.scaled_dot_product_attention(asks, keys, values, there[:, None, None, :])
        return found.transpose(1, 2).flatten(2)

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Joint(nn.Module):
    """The encoder reads the prompt's pieces and the sentence's words as one text."""

    words_std = 0.05
    roles = EACH

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width, self.words_width = encoder.width, encoder.inputs
        self.exit = nn.LayerNorm(encoder.width)

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """The input vectors of the prompts."""
        return encoder.words(pieces.ids), pieces.there

    def forward(self, encoder: Encoder, prompts: Prompts, which: Tensor, said: Said) -> Tensor:
        """Sentences of pairs, as input vectors, to the mean hidden state of the sentence."""
        before = prompts.states[which]
        mask = torch.cat([prompts.there[which].bool(), said.there], 1)
        spoken = torch.cat([torch.zeros_like(prompts.there[which]).bool(), said.there], 1)
        # Padding moves to the end: an encoder counts places, and company must not change them.
        order = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        packed = torch.cat([before, said.vectors], 1).take_along_dim(order[..., None], 1)
        mask, spoken = (flags.take_along_dim(order, 1) for flags in (mask, spoken))
        read: Tensor = self.exit(mean_of(encoder.read_vectors(packed, mask.long()), spoken))
        return read


def _linears(*sizes: tuple[int, int]) -> tuple[nn.Linear, ...]:
    return tuple(nn.Linear(inside, outside) for inside, outside in sizes)


READERS: dict[str, Any] = {
    "pooled": Pooled,
    "staged": Staged,
    "matched": Matched,
    "crossed": Crossed,
    "joint": Joint,
}
