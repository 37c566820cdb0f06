"""A reward model: prompt and sentence in, a normal distribution for every score out.

`Crossed`, the default, is made for many sentences of one prompt: the encoder reads the prompt once,
and a small transformer reads each sentence and looks at the prompt's hidden states in every layer. In
`Joint` the encoder itself reads both as one text, as a cross-encoder does: the plain setting, dear.

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

HEADS_WIDTH = 32  # attention heads are so wide
PLACES = 64  # the longest sentence has 43 tokens
SMALLEST_NOISE = 0.05  # standard deviations of the reference set
BUCKETS = 1024  # pieces of prompts share this many rows of the random prior
PRIOR_WIDTH = 64


@dataclass(frozen=True)
class Shape:
    """What must be known to build a reward model before its weights are read."""

    reader: str  # "crossed" or "joint"
    tokens: int  # words of the vocabulary
    heads: int
    width: int
    layers: int
    prior: float
    dropout: float = 0.0  # while it learns


@dataclass(frozen=True)
class Prompts:
    """Prompts that were read: `states` (prompts, longest, width), `there` (prompts, longest), and the
    prior's `mark` (prompts, PRIOR_WIDTH)."""

    states: Tensor
    there: Tensor
    mark: Tensor


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
        self.rows = nn.Embedding(shape.tokens + 1, _rows_width(encoder, shape))
        kind = Crossed if shape.reader == "crossed" else Joint
        self.reader = kind(encoder, shape)
        self.head = nn.Sequential(
            nn.LayerNorm(self.reader.width), nn.Linear(self.reader.width, 2 * shape.heads)
        )
        self.prior = Prior(shape)
        nn.init.normal_(self.rows.weight, std=0.5 if shape.reader == "crossed" else 0.05)
        nn.init.zeros_(self.head[1].bias)
        # Logarithms of how often votes are ties, and of how sharply they follow the score.
        self.tie, self.sharpness = (nn.Parameter(torch.tensor(0.0)) for _ in range(2))
        self._learned = [name for name, p in self.named_parameters() if p.requires_grad]

    def read_prompts(self, prompts: Sequence[str]) -> Prompts:
        """Read prompts, each once."""
        pieces = self.encoder.pieces(prompts)
        return Prompts(
            self.reader.read_prompts(self.encoder, pieces), pieces.there, self.prior.mark(pieces)
        )

    def forward(self, prompts: Prompts, which: Tensor, sentences: Tensor) -> Output:
        """Predict for pairs: `which` (pairs,) prompt, and its sentence (pairs, longest), -1 after its
        end."""
        there = functional.pad(sentences >= 0, (1, 0), value=True)
        begin = self.shape.tokens
        ids = functional.pad(sentences, (1, 0), value=begin).clamp(min=0)
        read = self.reader(self.encoder, prompts, which, self.rows(ids), there)
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


class Crossed(nn.Module):
    """A small transformer over the sentence that looks at the prompt in every layer.

    Only the first place, which stands for the whole, is needed after the last layer, so that one
    computes no other.
    """

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width = shape.width
        self.places = nn.Embedding(PLACES, shape.width)
        self.entrance = nn.LayerNorm(encoder.width)
        self.dropout = Dropout(shape.dropout)
        self.layers = nn.ModuleList(
            Layer(shape.width, encoder.width, self.dropout) for _ in range(shape.layers)
        )
        nn.init.normal_(self.places.weight, std=0.1)

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> Tensor:
        """The encoder's hidden states, normalised."""
        states: Tensor = self.dropout(self.entrance(encoder.read(pieces)))
        return states

    def forward(
        self, encoder: Encoder, prompts: Prompts, which: Tensor, vectors: Tensor, there: Tensor
    ) -> Tensor:
        """Vectors (pairs, places, width) to (pairs, width)."""
        hidden = self.dropout(vectors + self.places.weight[: vectors.shape[1]])
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            asks = 1 if number == last else hidden.shape[1]
            hidden = layer(hidden, there, asks, prompts, which)
        return hidden[:, 0]


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
    """The encoder reads the prompt's pieces and the sentence's rows as one text."""

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.width = encoder.width

    def read_prompts(self, encoder: Encoder, pieces: Pieces) -> Tensor:
        """The input vectors of the prompts."""
        return encoder.words(pieces.ids)

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
        return _mean(encoder.read_vectors(packed, mask.long()), said)


class Prior(nn.Module):
    """A random function that is never trained, of which words are there: (pairs, heads)."""

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
    """The sum (n, width) of the vectors (n, places, width) that are there, by the root of their
    number: as many random vectors as may be, of the same size."""
    weights = there.to(vectors)[..., None]
    return (vectors * weights).sum(1) / weights.sum(1).clamp(min=1) ** 0.5


def _mean(vectors: Tensor, there: Tensor) -> Tensor:
    weights = there.to(vectors)[..., None]
    return (vectors * weights).sum(1) / weights.sum(1)


def _linears(*sizes: tuple[int, int]) -> tuple[nn.Linear, ...]:
    return tuple(nn.Linear(inside, outside) for inside, outside in sizes)


def _rows_width(encoder: Encoder, shape: Shape) -> int:
    return shape.width if shape.reader == "crossed" else encoder.width


def padded(sentences: Sequence[Sequence[int]], device: str | torch.device = "cpu") -> Tensor:
    """Sentences as (sentences, longest), -1 after their end."""
    longest = max(map(len, sentences))
    rows = [[*sentence, *[-1] * (longest - len(sentence))] for sentence in sentences]
    return torch.tensor(rows, device=device)
