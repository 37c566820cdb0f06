"""Attention for one sampling: keys and values of the texts are computed once, small maps are plain.

A text does not change while an image is sampled, so its projections are kept from step to step: about
a tenth of the work of a miniature model. On so few places the fused kernel is slower than a product,
a softmax and a product. Neither choice depends on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

MOST_PLAIN = 256 * 128  # entries of one attention map; a larger one goes to the fused kernel


@contextmanager
def texts_once(unet: nn.Module) -> Iterator[None]:
    """Use this module's attention while the context is open."""
    changed = [(each, each.processor) for each in unet.modules() if _replaceable(each)]
    try:
        for module, _ in changed:
            module.set_processor(_Attention())
        yield
    finally:
        for module, processor in changed:
            module.set_processor(processor)


def _replaceable(module: Any) -> bool:
    """Whether a module is attention of the plain kind that transformer blocks have."""
    return (
        hasattr(module, "to_q")
        and hasattr(module, "set_processor")
        and module.group_norm is None
        and module.spatial_norm is None
        and module.norm_cross is None
        and not module.norm_q
        and not module.norm_k
        and not module.residual_connection
        and not module.upcast_attention
        and not module.upcast_softmax
        and module.rescale_output_factor == 1
    )


class _Attention:
    """One module's attention, and the keys and values of the texts it has seen."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # the text itself stays alive

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Attend; hidden states are (batch, places, channels), as in diffusers' processors."""
        query = _heads(attn, attn.to_q(hidden_states))
        if encoder_hidden_states is None:
            key, value = _project(attn, hidden_states)
        else:
            key, value = self._text(attn, encoder_hidden_states)
        if attention_mask is None and query.shape[2] * key.shape[2] <= MOST_PLAIN:
            weights = ((query * attn.scale) @ key.transpose(-1, -2)).softmax(-1)
            found = weights @ value
        else:
            mask = None if attention_mask is None else attention_mask.unsqueeze(1)
            found = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=attn.scale
            )
        joined: Tensor = attn.to_out[0](found.transpose(1, 2).flatten(2))
        return joined

    def _text(self, attn: Any, text: Tensor) -> tuple[Tensor, Tensor]:
        held = self._texts.get(id(text))
        if held is None:
            held = self._texts[id(text)] = (text, *_project(attn, text))
        return held[1], held[2]


def _project(attn: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    return _heads(attn, attn.to_k(states)), _heads(attn, attn.to_v(states)).contiguous()


def _heads(attn: Any, states: Tensor) -> Tensor:
    """(batch, places, channels) to (batch, heads, places, channels / heads)."""
    return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
