"""Reading with a policy's trunk on a CPU, fast: for saying workflows, where no gradients are needed.

A library's model spends more time around the matrix products than in them when it reads a token of each
of a few dozen sentences: LoRA alone is three products for one, and every layer copies what was read before
to append a place. Here LoRA is merged into copies of the weights, products of the same input are one,
and what was read lies in memory that was set aside. The numbers are those of the library's model to
rounding; a test compares them. Two trunks of one base read the halves of a group in one pass: the base's
weights, which the time goes into, are read once, and each half adds its own LoRA. Where their lowest layers are
the same and the halves read the same, one half goes through these for both.

It knows Llama's layers (arXiv 2302.13971; SmolLM2 has them), in plain weights. `decoder_of` gives None for
another trunk, which is then read by the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaModel

from flowdesign.growing import Places
from flowdesign.lm import model_of

ROOM = 64  # places that a memory grows by, at least
KINDS = ((torch.float32, "cpu"), (torch.bfloat16, "cpu"))  # of trunks that are read here
Product = Callable[[Tensor], Tensor]  # of input vectors (..., inputs) with weights


@dataclass
class Layer:
    """One layer's products, one for all that have the same input."""

    attention_norm: Any
    asks: Product  # for queries, keys and values
    answers: Product
    mlp_norm: Any
    opens: Product  # for the gate and what it lets through
    closes: Product


class Decoder:
    """A trunk's weights, ready to read with; or those of two, of which the lowest `shared` layers are the same."""

    def __init__(self, models: Sequence[LlamaModel], alike: bool = False) -> None:
        model, config = models[0], models[0].config
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.rotate, self.norm, self.dtype = model.rotary_emb, model.norm, model.dtype
        layers = list(zip(*(each.layers for each in models), strict=True))
        self.shared = _shared(layers) if alike else 0
        self.layers = [
            _layer(each[:1], _merged)
            if len(each) == 1 or number < self.shared
            else _layer(each, Halved)
            for number, each in enumerate(layers)
        ]

    def open(self) -> Memory:
        """Get ready to read a group of rows."""
        return Memory(self)

    def read(self, memory: Memory, vectors: Tensor, places: Places) -> Tensor:
        """Read input vectors (group, time, width) after what is in memory; hidden states like them, in the
        trunk's type.
        """
        memory.extend(*places.there.shape)
        vectors, there, seen = vectors.to(self.dtype), places.there, places.sees[:, None]
        turn, half = self.rotate(vectors, places.positions), len(vectors) // 2
        lower, upper = range(self.shared), range(self.shared, len(self.layers))
        if self.shared:
            first = vectors[:half], there[:half], seen[:half], (turn[0][:half], turn[1][:half])
            vectors = self._through(lower, memory, *first).repeat(2, 1, 1)
        return self.norm(self._through(upper, memory, vectors, there, seen, turn))

    def _through(
        self,
        numbers: Iterable[int],
        memory: Memory,
        vectors: Tensor,
        there: Tensor,
        seen: Tensor,
        turn: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Hidden states (group, time, width) after some of the layers."""
        counting = _Counting(there)
        hidden = counting.take(vectors)
        for number in numbers:
            layer = self.layers[number]
            asked = counting.spread(layer.asks(layer.attention_norm(hidden)))
            heard = self._attend(asked, memory, number, seen, turn)
            hidden = hidden + layer.answers(counting.take(heard))
            gate, value = layer.opens(layer.mlp_norm(hidden)).chunk(2, -1)
            hidden = hidden + layer.closes(functional.silu(gate) * value)
        return counting.spread(hidden)

    def _attend(
        self, asked: Tensor, memory: Memory, number: int, seen: Tensor, turn: tuple[Tensor, Tensor]
    ) -> Tensor:
        """What each place hears (group, time, width), from queries, keys and values side by side."""
        sizes = [heads * self.size for heads in (self.heads, self.groups, self.groups)]
        parts = asked.split(sizes, -1)
        asks, keys, values = (part.unflatten(-1, (-1, self.size)).transpose(1, 2) for part in parts)
        asks, keys = _turned(asks, *turn), _turned(keys, *turn)
        keys, values = memory.remember(number, keys, values)
        heard = functional.scaled_dot_product_attention(asks, keys, values, seen, enable_gqa=True)
        return heard.transpose(1, 2).flatten(2)


class Memory:
    """The keys and values of a group's rows (as `lm.Context`)."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._kept = torch.zeros(len(decoder.layers), 2, 0, decoder.groups, 0, decoder.size)
        self._used = 0

    device = torch.device("cpu")

    def read(self, vectors: Tensor, places: Places) -> Tensor:
        """Read input vectors (group, time, width); give hidden states of the same shape."""
        return self.decoder.read(self, vectors, places)

    def extend(self, rows: int, time: int) -> None:
        """Make room for so many new places in each of the rows."""
        if not self._used:
            self._kept = self._kept.new_zeros(
                *self._kept.shape[:2], rows, *self._kept.shape[3:], dtype=self.decoder.dtype
            )
        self._used += time
        if (short := self._used - self._kept.shape[4]) > 0:
            self._kept = functional.pad(self._kept, (0, 0, 0, max(short, ROOM)))

    def remember(self, number: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values (group, heads, time, size); give all of them. The group is the first
        half alone where that reads for both."""
        first, group = self._used - keys.shape[2], len(keys)
        for part, new in zip(self._kept[number], (keys, values), strict=True):
            part[:group, :, first : self._used] = new
        kept, held = self._kept[number, :, :group, :, : self._used]
        return kept, held

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these rows only."""
        self._kept = self._kept[..., : self._used, :][:, :, torch.tensor(indices)]


class _Counting:
    """Which places of a group count. Padding takes part in attention only, not in products."""

    def __init__(self, there: Tensor) -> None:
        self.counts = there
        self.all = bool(self.counts.all())

    def take(self, vectors: Tensor) -> Tensor:
        """Of vectors (group, time, width) those that count, one after the other."""
        return vectors.flatten(0, 1) if self.all else vectors[self.counts]

    def spread(self, vectors: Tensor) -> Tensor:
        """Put them back, with 0 at the other places: (group, time, width)."""
        if self.all:
            return vectors.view(*self.counts.shape, -1)
        found = vectors.new_zeros(*self.counts.shape, vectors.shape[-1])
        found[self.counts] = vectors
        return found


def decoder_of(*trunks: Any, alike: bool = False) -> Decoder | None:
    """What reads like this trunk, as its weights are now, or like two of one base, each of them half of a
    group; None where only the library can. `alike` says that both halves are given the same vectors."""
    models = [model_of(trunk) for trunk in trunks]
    return Decoder(models, alike) if all(map(_known, models)) else None


def _shared(layers: Sequence[Sequence[Any]]) -> int:
    """How many of the lowest layers are the same in all trunks, LoRA and all."""
    different = (number for number, each in enumerate(layers) if not _same(*each))
    return next(different, len(layers))


def _same(layer: Any, other: Any) -> bool:
    pairs = zip(layer.parameters(), other.parameters(), strict=True)
    return all(one is another or torch.equal(one, another) for one, another in pairs)


def _known(model: Any) -> bool:
    if not isinstance(model, LlamaModel) or model.config.hidden_act != "silu":
        return False
    if (model.dtype, model.device.type) not in KINDS:
        return False
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return all(type(each) is nn.Linear and each.bias is None for each in linear)


def _layer(layers: Sequence[Any], product: Callable[[Sequence[Sequence[Any]]], Product]) -> Layer:
    """The same layer of one trunk or of two."""

    def of(part: str, *names: str) -> Product:
        return product([[getattr(getattr(each, part), name) for name in names] for each in layers])

    return Layer(
        layers[0].input_layernorm,
        of("self_attn", "q_proj", "k_proj", "v_proj"),
        of("self_attn", "o_proj"),
        layers[0].post_attention_layernorm,
        of("mlp", "gate_proj", "up_proj"),
        of("mlp", "down_proj"),
    )


def _merged(linears: Sequence[Sequence[Any]]) -> Product:
    """The product with one trunk's weights (outputs, inputs), stacked, with LoRA where there is any."""
    (own,) = linears
    weights = []
    for each in own:
        weight = _base(each)
        lora = isinstance(each, LoraLayer)
        weights.append(weight + each.get_delta_weight("default").detach() if lora else weight)
    return partial(functional.linear, weight=torch.cat(weights).to(_base(own[0]).dtype))


class Halved:
    """The product with the base's weights; each half of the group adds that with its own LoRA."""

    def __init__(self, linears: Sequence[Sequence[Any]]) -> None:
        self.weight = torch.cat([_base(each) for each in linears[0]])
        self.loras = [_lora(own) for own in linears]

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors (2 n, ..., inputs) to (2 n, ..., outputs)."""
        found = functional.linear(vectors, self.weight)
        halves = zip(found.chunk(2), vectors.chunk(2), self.loras, strict=True)
        for half, own, (first, second) in halves:
            half += functional.linear(functional.linear(own, first), second)
        return found


def _lora(linears: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """The LoRA of layers with the same input as one: factors (ranks, inputs) and (outputs, ranks)."""
    firsts, seconds = [], []
    for each in linears:
        lora = isinstance(each, LoraLayer)
        base = _base(each)
        firsts.append(each.lora_A["default"].weight if lora else base[:0])
        scaled = each.scaling["default"] * each.lora_B["default"].weight if lora else base[:, :0]
        seconds.append(scaled)
    kind = _base(linears[0]).dtype
    return torch.cat(firsts).detach().to(kind), torch.block_diag(*seconds).detach().to(kind)


def _base(linear: Any) -> Tensor:
    found: Tensor = (linear.get_base_layer() if isinstance(linear, LoraLayer) else linear).weight
    return found.detach()


def _turned(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864): vectors (group, heads, time, size)."""
    first, second = vectors.chunk(2, -1)
    return vectors * cosine[:, None] + torch.cat([-second, first], -1) * sine[:, None]
