"""How a reward model reads prompt and sentence together.

`Pooled`, the default, is made for few data: one vector of the prompt, one of the sentence, and a
network over both. `Crossed` is a small transformer over the sentence that looks at the prompt's hidden
states in every layer. For both the encoder reads a prompt once, however many sentences there are. In
`Joint` it reads both as one text, as a cross-encoder does: the plain setting, dear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdesign.reward.encoder import Encoder, Pieces, mean_of

HEADS_WIDTH = 32  # attention heads are so wide


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
    """Prompts that were read: `states` (prompts, longest, width), with one place for a reader that pools,
    `there` (prompts, longest), and the
    prior's `mark` (prompts, PRIOR_WIDTH)."""

    states: Tensor
    there: Tensor
    mark: Tensor


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


class Pooled(nn.Module):
    """A network over the mean of the prompt's hidden states and the sum of the sentence's words.

    Nothing in it is normalised but the prompt's mean, to a fixed length: layer norms, which tie all that
    a word adds to what the others add, cost a fifth of the error on the miniature world.
    """

    words_std = 0.1  # of a word's vector at the start
    length = 8.0  # of a prompt's vector

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width = self.words_width = shape.width
        self.dropout = Dropout(shape.dropout)
        self.heard = nn.Sequential(nn.Linear(encoder.width, shape.width), nn.GELU())
        widths = [2 * shape.width, *[shape.width] * shape.layers]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(inside, outside), nn.GELU())
            for inside, outside in zip(widths, widths[1:], strict=False)
        )

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """One vector for each prompt."""
        mean = mean_of(encoder.read(pieces), pieces.there)
        states = self.length * functional.normalize(mean, dim=-1)[:, None]
        return states, torch.ones_like(pieces.there[:, :1])

    def forward(
        self, encoder: Encoder, prompts: Prompts, which: Tensor, vectors: Tensor, there: Tensor
    ) -> Tensor:
        """Vectors (pairs, places, width) to (pairs, width)."""
        heard = self.heard(prompts.states[:, 0])[which]
        said = functional.gelu((vectors * there.to(vectors)[..., None]).sum(1))
        hidden: Tensor = self.dropout(torch.cat([heard, said], -1))
        for layer in self.layers:
            hidden = self.dropout(layer(hidden))
        return hidden


class Crossed(nn.Module):
    """A small transformer over the sentence that looks at the prompt in every layer.

    Only the first place, which stands for the whole, is needed after the last layer, so that one
    computes no other.
    """

    words_std = 0.5

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

    def forward(
        self, encoder: Encoder, prompts: Prompts, which: Tensor, vectors: Tensor, there: Tensor
    ) -> Tensor:
        """Vectors (pairs, places, width) to (pairs, width)."""
        hidden = self.dropout(vectors)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            asks = 1 if number == last else hidden.shape[1]
            hidden = layer(hidden, there, asks, prompts, which)
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

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width = self.words_width = encoder.width
        self.exit = nn.LayerNorm(encoder.width)

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """The input vectors of the prompts."""
        return encoder.words(pieces.ids), pieces.there

    def forward(
        self, encoder: Encoder, prompts: Prompts, which: Tensor, vectors: Tensor, there: Tensor
    ) -> Tensor:
        """Input vectors (pairs, places, width) to the mean hidden state of the sentence."""
        before = prompts.states[which]
        mask = torch.cat([prompts.there[which].bool(), there], 1)
        said = torch.cat([torch.zeros_like(prompts.there[which]).bool(), there], 1)
        # Padding moves to the end: an encoder counts places, and company must not change them.
        order = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        packed = torch.cat([before, vectors], 1).take_along_dim(order[..., None], 1)
        mask, said = (flags.take_along_dim(order, 1) for flags in (mask, said))
        read: Tensor = self.exit(mean_of(encoder.read_vectors(packed, mask.long()), said))
        return read


def _linears(*sizes: tuple[int, int]) -> tuple[nn.Linear, ...]:
    return tuple(nn.Linear(inside, outside) for inside, outside in sizes)


READERS: dict[str, Any] = {"pooled": Pooled, "crossed": Crossed, "joint": Joint}
