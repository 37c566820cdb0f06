"""From a text to what conditions a model: how each family joins its text encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from flowdesign.render.errors import BadWorkflow
from flowdesign.render.models import Library
from flowdesign.render.values import Clip, Condition

Encoded = Mapping[str, tuple[Tensor, Tensor | None]]  # role -> hidden (1, tokens, width), pooled
Texts = Mapping[str, str]  # role -> text; "" is for every other encoder
POOLED = MappingProxyType({"clip_l": 768, "clip_g": 1280})  # widths, for an encoder that is absent
JOINT = 4096  # width of T5-XXL, and of SD 3's texts


def encode(library: Library, clip: Clip, texts: Texts) -> Condition:
    """Encode a text, or one for each encoder; raises BadWorkflow."""
    encoders, family = library.encoders(clip), library.family(clip)
    if not encoders:
        raise BadWorkflow(
            f"'{clip.checkpoint}' holds no text encoder; load one with CLIPLoader, DualCLIPLoader or "
            "TripleCLIPLoader."
        )
    if clip.skip is not None and family in ("sd3", "flux"):
        raise BadWorkflow("CLIPSetLastLayer is for SD 1, SD 2 and SDXL, not for SD 3 and FLUX.1.")
    # SDXL and SD 3 were trained on the second layer from the end, the others on the last.
    skip = -2 if clip.skip is None and family in ("sdxl", "sd3") else clip.skip
    laid = {
        role: encoder.tokenize(texts.get(role, texts.get("", "")))
        for role, encoder in encoders.items()
    }
    if len(texts) > 1:  # texts of their own are continued by empty chunks to one length
        longest = max(len(chunks) for chunks in laid.values())
        for role, chunks in laid.items():
            chunks += encoders[role].tokenize("") * (longest - len(chunks))
    encoded = {
        role: encoder.encode(laid[role], None if role == "t5" else skip)
        for role, encoder in encoders.items()
    }
    return _JOINS[family](encoded)


def _single(encoded: Encoded) -> Condition:
    (hidden, _), *_rest = encoded.values()
    return Condition(hidden, None)


def _beside(encoded: Encoded) -> Condition:
    """SDXL: hidden states side by side, the second encoder's pooled text."""
    hidden = [states for states, _ in encoded.values()]
    return Condition(_side_by_side(hidden), list(encoded.values())[-1][1])


def _sd3(encoded: Encoded) -> Condition:
    """SD 3: CLIP's states side by side, widened by zeros, then T5's; absent ones are left out."""
    pooled = [_pooled_or_zeros(encoded, role, width) for role, width in POOLED.items()]
    width = encoded["t5"][0].shape[-1] if "t5" in encoded else JOINT
    parts = []
    if clips := [encoded[role][0] for role in POOLED if role in encoded]:
        joined = _side_by_side(clips)
        before = 0 if "clip_l" in encoded else POOLED["clip_l"]
        parts.append(functional.pad(joined, (before, width - before - joined.shape[-1])))
    parts += [encoded["t5"][0]] if "t5" in encoded else []
    return Condition(torch.cat(parts, dim=1), torch.cat(pooled, dim=-1))


def _flux(encoded: Encoded) -> Condition:
    """FLUX.1: T5's states, and the pooled text of CLIP."""
    if not {"clip_l", "t5"} <= encoded.keys():
        raise BadWorkflow("FLUX.1 reads its texts with CLIP-L and T5-XXL: load both.")
    return Condition(encoded["t5"][0], encoded["clip_l"][1])


def _pooled_or_zeros(encoded: Encoded, role: str, width: int) -> Tensor:
    found = encoded[role][1] if role in encoded else None
    return torch.zeros(1, width).to(next(iter(encoded.values()))[0]) if found is None else found


def _side_by_side(hidden: list[Tensor]) -> Tensor:
    length = min(states.shape[1] for states in hidden)
    return torch.cat([states[:, :length] for states in hidden], dim=-1)


_JOINS: Mapping[str, Callable[[Encoded], Condition]] = MappingProxyType(
    {"sd1": _single, "sd2": _single, "sdxl": _beside, "sd3": _sd3, "flux": _flux}
)
