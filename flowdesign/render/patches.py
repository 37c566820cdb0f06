"""Changes to a UNet for the time of one sampling: FreeU_V2 and perturbed attention.

Both are made from the outside, with hooks and an attention processor, and taken back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowdesign.render.values import FreeU

FOURIER_THRESHOLD = 1  # half the side of the low-frequency square that s scales


@contextmanager
def free_u(unet: nn.Module, patches: Sequence[FreeU]) -> Iterator[None]:
    """Apply FreeU_V2 (Si et al. 2023, arXiv 2309.11497) while the context is open.

    Where an up block joins backbone and skip connection, half of the backbone's channels are scaled
    by b where it is active, and the low frequencies of the skip connection by s. As in ComfyUI the
    factors belong to a number of channels: 4 or 2 times those of the first level.
    """
    base = unet.config.block_out_channels[0]
    with ExitStack() as stack:
        for resnet, channels in _joins(unet) if patches else ():
            factors = [_factors(patch, channels, base) for patch in patches]
            wanted = [each for each in factors if each is not None]
            if wanted:
                handle = resnet.register_forward_pre_hook(_Rescale(channels, wanted))
                stack.callback(handle.remove)
        yield


def _factors(patch: FreeU, channels: int, base: int) -> tuple[float, float] | None:
    return {base * 4: (patch.b1, patch.s1), base * 2: (patch.b2, patch.s2)}.get(channels)


def _joins(unet: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Yield every resnet that gets a skip connection, with the channels of the backbone there."""
    channels = unet.config.block_out_channels[-1]
    for block in unet.up_blocks:
        for resnet in block.resnets:
            yield resnet, channels
            channels = resnet.out_channels


class _Rescale:
    """Rescale the two halves of a resnet's input: backbone, then skip connection."""

    def __init__(self, channels: int, factors: Sequence[tuple[float, float]]) -> None:
        self._channels = channels
        self._factors = factors

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        joined, *rest = arguments
        backbone, skip = joined[:, : self._channels], joined[:, self._channels :]
        for b, s in self._factors:
            backbone, skip = _amplify(backbone, b), _filter(skip, s)
        return (torch.cat([backbone, skip], dim=1), *rest)


def _amplify(backbone: Tensor, factor: float) -> Tensor:
    mean = backbone.mean(dim=1, keepdim=True)
    low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    half = backbone.shape[1] // 2
    gain = (factor - 1) * (mean - low) / (high - low) + 1
    return torch.cat([backbone[:, :half] * gain, backbone[:, half:]], dim=1)


def _filter(skip: Tensor, factor: float) -> Tensor:
    frequencies = torch.fft.fftshift(torch.fft.fftn(skip.float(), dim=(-2, -1)), dim=(-2, -1))
    mask = torch.ones_like(frequencies.real)
    row, column = skip.shape[-2] // 2, skip.shape[-1] // 2
    near = FOURIER_THRESHOLD
    mask[..., row - near : row + near, column - near : column + near] = factor
    shifted = torch.fft.ifftshift(frequencies * mask, dim=(-2, -1))
    return torch.fft.ifftn(shifted, dim=(-2, -1)).real.to(skip.dtype)


@contextmanager
def perturbed_attention(unet: nn.Module) -> Iterator[None]:
    """Let the middle block's self-attention see each place alone (Ahn et al., arXiv 2403.17377)."""
    changed = [(module, module.processor) for module in _middle_self_attention(unet)]
    try:
        for module, _ in changed:
            module.set_processor(_ValueOnly())
        yield
    finally:
        for module, processor in changed:
            module.set_processor(processor)


def _middle_self_attention(unet: nn.Module) -> Iterator[Any]:
    for transformer in getattr(unet.mid_block, "attentions", None) or ():
        for block in transformer.transformer_blocks:
            yield block.attn1


class _ValueOnly:
    """Self-attention with the identity for an attention map."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        projected: Tensor = attn.to_out[0](attn.to_v(hidden_states))
        result: Tensor = attn.to_out[1](projected)
        return result
