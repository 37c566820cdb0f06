"""Reading with a policy's trunk on a CPU, fast: for saying workflows, where no gradients are needed.

A library's model spends more time around the matrix products than in them when it reads one token of each
of a few dozen sentences: LoRA alone is three products for one, and every layer copies what was read before
to append a place. Here LoRA is merged into copies of the weights, products of the same input are one,
and what was read lies in memory that was set aside. The numbers are those of the library's model to
rounding; a test compares them.

It knows Llama's layers (arXiv 2302.13971; SmolLM2 has them), in plain weights. `decoder_of` gives None for
another trunk, which is then read by the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaModel

PLACES = 64  # that a memory grows by


@dataclass
class Layer:
    """One layer's weights, with LoRA merged: (outputs, inputs), where inputs are shared stacked."""

    attention_norm: Any
    asks: Tensor  # of queries, keys and values
    answers: Tensor
    mlp_norm: Any
    opens: Tensor  # of the gate and what it lets through
    closes: Tensor


class Decoder:
    """A trunk's weights, ready to read with."""

    def __init__(self, model: LlamaModel) -> None:
        config = model.config
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.rotate, self.norm = model.rotary_emb, model.norm
        self.layers = [_merged(layer) for layer in model.layers]

    def open(self, group: int) -> Memory:
        """Get ready to read so many sequences."""
        return Memory(self, group)

    def read(self, memory: Memory, vectors: Tensor, there: Tensor) -> Tensor:
        """Read input vectors (group, time, width) after what is in memory; hidden states like them.

        `there` (group, time) is 0 where a place is padding.
        """
        seen, positions = memory.extend(there)
        turn = self.rotate(vectors, positions)
        hidden = vectors
        for number, layer in enumerate(self.layers):
            hidden = hidden + self._attend(
                layer, layer.attention_norm(hidden), memory, number, seen, turn
            )
            gate, value = functional.linear(layer.mlp_norm(hidden), layer.opens).chunk(2, -1)
            hidden = hidden + functional.linear(functional.silu(gate) * value, layer.closes)
        found: Tensor = self.norm(hidden)
        return found

    def _attend(
        self,
        layer: Layer,
        vectors: Tensor,
        memory: Memory,
        number: int,
        seen: Tensor,
        turn: tuple[Tensor, Tensor],
    ) -> Tensor:
        sizes = [heads * self.size for heads in (self.heads, self.groups, self.groups)]
        parts = functional.linear(vectors, layer.asks).split(sizes, -1)
        asks, keys, values = (part.unflatten(-1, (-1, self.size)).transpose(1, 2) for part in parts)
        asks, keys = _turned(asks, *turn), _turned(keys, *turn)
        keys, values = memory.remember(number, keys, values)
        heard = functional.scaled_dot_product_attention(asks, keys, values, seen, enable_gqa=True)
        return functional.linear(heard.transpose(1, 2).flatten(2), layer.answers)


class Memory:
    """The keys and values of a group's sequences, and which places count (as `lm.Context`)."""

    def __init__(self, decoder: Decoder, group: int) -> None:
        self.decoder = decoder
        self.there = torch.zeros(group, 0, dtype=torch.long)
        self._kept = torch.zeros(len(decoder.layers), 2, group, decoder.groups, 0, decoder.size)
        self._used = 0

    device = torch.device("cpu")

    def read(self, vectors: Tensor, there: Tensor) -> Tensor:
        """Read input vectors (group, time, width); give hidden states of the same shape."""
        return self.decoder.read(self, vectors, there)

    def extend(self, there: Tensor) -> tuple[Tensor, Tensor]:
        """Make room for new places: what each of them sees (group, 1, time, all), and its position."""
        positions = self.there.sum(1, keepdim=True) + there.cumsum(1) - 1
        self.there = torch.cat([self.there, there], 1)
        self._used, time = self.there.shape[1], there.shape[1]
        if (short := self._used - self._kept.shape[4]) > 0:
            room = -(-short // PLACES) * PLACES
            self._kept = functional.pad(self._kept, (0, 0, 0, room))
        earlier = torch.ones(time, self._used, dtype=torch.bool).tril(self._used - time)
        itself = torch.eye(self._used, dtype=torch.bool)[-time:]
        seen = (self.there[:, None, None] > 0) & earlier | itself  # padding sees itself
        return seen, positions.clamp(min=0)

    def remember(self, number: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values (group, heads, time, size); give all of them."""
        first = self._used - keys.shape[2]
        for part, new in zip(self._kept[number], (keys, values), strict=True):
            part[:, :, first : self._used] = new
        kept, held = self._kept[number, :, :, :, : self._used]
        return kept, held

    def keep(self, indices: Sequence[int]) -> None:
        """Make the group these of its sequences, in this order; one may be taken many times."""
        places = torch.tensor(indices)
        self._kept, self.there = self._kept[:, :, places], self.there[places]


def decoder_of(trunk: Any) -> Decoder | None:
    """What reads like this trunk, as its weights are now; None where only the library can."""
    model = trunk.get_base_model() if hasattr(trunk, "get_base_model") else trunk
    if (
        not isinstance(model, LlamaModel)
        or model.dtype != torch.float32
        or model.device.type != "cpu"
    ):
        return None
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if any(type(m) is not nn.Linear or m.bias is not None for m in linear):
        return None
    return Decoder(model)


def _merged(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        layer.input_layernorm,
        torch.cat(
            [_weight(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
        ),
        _weight(attention.o_proj),
        layer.post_attention_layernorm,
        torch.cat([_weight(part) for part in (mlp.gate_proj, mlp.up_proj)]),
        _weight(mlp.down_proj),
    )


def _weight(linear: Any) -> Tensor:
    """A layer's weight with its LoRA, if it has one."""
    if not isinstance(linear, LoraLayer):
        return linear.weight.detach()
    delta = linear.get_delta_weight("default").detach()
    return linear.get_base_layer().weight.detach() + delta


def _turned(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864): vectors (group, heads, time, size)."""
    first, second = vectors.chunk(2, -1)
    return vectors * cosine[:, None] + torch.cat([-second, first], -1) * sine[:, None]
