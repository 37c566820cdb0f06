"""Of which family a model file is, and of what kind: told from the names and shapes of its tensors.

Names are those of the original code (LDM, SGM, MMDiT, FLUX), in which single files are published, of
diffusers, or of LoRA trainers. One table, tried from the top: the first row that fits tells the family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowdesign.headers import BrokenFile, Header, read_header

Shapes = Mapping[str, tuple[int, ...]]
UNKNOWN = "unknown"
SD15, SD2, SDXL, REFINER = "SD 1.5", "SD 2", "SDXL", "SDXL refiner"
SD35, FLUX, MINIATURE = "SD3.5", "FLUX.1", "miniature"
_TEXT_WIDTHS = {768: SD15, 1024: SD2, 2048: SDXL, 1280: REFINER}  # of cross-attention
_LORA = re.compile(
    r"lora_(down|up|A|B)\b|lora_linear_layer|lora\.(down|up)|hada_w\d|lokr_w\d|\.alpha$"
)
FLUX_WIDTH = 3072  # of FLUX.1's hidden states; SD3.5 has 1536 or 2432
_EMBEDDED = {768: SD15, 1024: SD2, 1280: SDXL}  # width of a textual inversion


@dataclass(frozen=True)
class Detected:
    """What a file holds (checkpoint, diffusion model, LoRA, ...) and for which family."""

    holds: str
    family: str


def detect(shapes: Shapes) -> Detected:
    """Tell kind and family of a file from its tensors; both may be unknown."""
    for kind, is_kind, family in _KINDS:
        if is_kind(shapes):
            return Detected(kind, family(shapes))
    return Detected(UNKNOWN, UNKNOWN)


def detect_file(path: Path) -> Detected:
    """Tell kind and family of a safetensors file. Raises BrokenFile."""
    return detect(read_header(path).shapes)


def detect_folder(path: Path) -> Detected:
    """Tell kind and family of a diffusers folder. Raises BrokenFile when its weights are not whole."""
    parts = [part for part in ("unet", "transformer") if (path / part).is_dir()]
    headers = [_folder_header(path / part) for part in parts]
    if not headers:
        return detect(_folder_header(path).shapes)
    for part in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        if (path / part).is_dir():
            _folder_header(path / part)
    found = Detected("checkpoint", _diffusion_family(headers[0].shapes))
    if _says(path / "vae" / "config.json") == "PatchCodec":
        return Detected("checkpoint", MINIATURE)
    return found


def _folder_header(folder: Path) -> Header:
    """The tensors of all weight files of a folder together."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = any(folder.glob(f"*{end}") for end in (".bin", ".ckpt", ".pt"))
        what = "as a pickle only, which can run code: convert it" if pickles else "at all"
        raise BrokenFile(f"its folder '{folder.name}' has no safetensors weights {what}".strip())
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            shapes |= read_header(file).shapes
        except BrokenFile as broken:
            raise BrokenFile(f"its file {folder.name}/{file.name} {broken}") from None
    return Header(shapes, {})


def _says(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8")).get("_class_name"))
    except (OSError, ValueError, AttributeError):
        return ""


# --- families ------------------------------------------------------------------------------------


def _has(shapes: Shapes, *parts: str) -> bool:
    """Whether each of these is a part of the name of some tensor."""
    return all(any(part in name for name in shapes) for part in parts)


def _width(shapes: Shapes, *ends: str) -> int:
    """The last side of the first tensor whose name has one of these ends, else 0."""
    return next((s[-1] for n, s in shapes.items() if n.endswith(ends) and len(s) > 1), 0)


def _diffusion_family(shapes: Shapes) -> str:
    """The family of a diffusion model, in the original naming or in that of diffusers."""
    if _has(shapes, "double_blocks.", "single_blocks.") or _has(
        shapes, "single_transformer_blocks."
    ):
        return FLUX
    if _has(shapes, "joint_blocks.") or (
        _has(shapes, "add_k_proj") and _has(shapes, "pos_embed.proj")
    ):
        return SD35
    # Both layouts call the projection of the texts the same.
    return _by_text_width(_width(shapes, "attn2.to_k.weight"), shapes)


def _by_text_width(width: int, shapes: Shapes) -> str:
    if width == 128 and _has(shapes, "add_embedding."):
        return MINIATURE
    return _TEXT_WIDTHS.get(width, UNKNOWN)


def _lora_family(shapes: Shapes) -> str:
    """The family of what a LoRA changes, from its names and the width of its text projections."""
    if _has(shapes, "double_blocks") or _has(shapes, "single_transformer_blocks"):
        return FLUX
    if _has(shapes, "joint_blocks") or _has(shapes, "transformer_blocks", "add_k_proj"):
        return FLUX if _width(shapes, "add_k_proj.lora_A.weight") == FLUX_WIDTH else SD35
    ends = ("attn2_to_k.lora_down.weight", "attn2.to_k.lora_A.weight", "attn2.to_k.lora.down.weight",
            "attn2.processor.to_k_lora.down.weight")  # fmt: skip
    family = _by_text_width(_width(shapes, *ends), {})
    if family == UNKNOWN and _width(shapes, *ends) == 128:
        return MINIATURE
    if family == UNKNOWN and _has(shapes, "lora_te2_"):
        return SDXL
    return family


def _vae_family(shapes: Shapes) -> str:
    """The families whose latents a VAE makes: its channels, and of 4 the first two look the same."""
    if _has(shapes, "analysis", "synthesis"):
        return MINIATURE
    first = next((s for n, s in shapes.items() if n.endswith("decoder.conv_in.weight")), (0, 0))
    return {4: "SD 1.5, SD 2 or SDXL", 16: "SD3.5 or FLUX.1"}.get(first[1], UNKNOWN)


def _embedding_family(shapes: Shapes) -> str:
    if {"clip_g", "clip_l"} <= shapes.keys():
        return SDXL
    width = next(shape[-1] for shape in shapes.values())
    return _EMBEDDED.get(width, UNKNOWN)


def _text_family(shapes: Shapes) -> str:
    """What a text encoder is, rather than of which family: several use the same."""
    if _has(shapes, "encoder.block.0.layer.0.SelfAttention.q.weight"):
        return "T5"
    width = next((s[-1] for n, s in shapes.items() if "token_embedding.weight" in n), 0)
    return {768: "CLIP-L", 1024: "CLIP-H", 1280: "CLIP-G"}.get(width, UNKNOWN)


# --- kinds ---------------------------------------------------------------------------------------


def _is_embedding(shapes: Shapes) -> bool:
    if {"clip_g", "clip_l"} <= shapes.keys():
        return True
    flat = len(shapes) == 1 and all(1 <= len(shape) <= 2 for shape in shapes.values())
    return flat and any("emb" in name or shape[-1] in _EMBEDDED for name, shape in shapes.items())


def _is_diffusion(shapes: Shapes) -> bool:
    return _diffusion_family(shapes) != UNKNOWN


def _is_checkpoint(shapes: Shapes) -> bool:
    """Whether a diffusion model comes with its VAE, under the names of the original code."""
    has_vae = any(name.startswith(("first_stage_model.", "vae.")) for name in shapes)
    return has_vae and _has(shapes, "model.diffusion_model.")


def _is_vae(shapes: Shapes) -> bool:
    return _has(shapes, "decoder.conv_in", "encoder.conv_in") or _has(
        shapes, "analysis", "synthesis"
    )


def _is_upscaler(shapes: Shapes) -> bool:
    """Convolutions only, from 3 colours: ESRGAN, Real-ESRGAN compact, and what spandrel calls alike."""
    firsts = ("conv_first.weight", "model.0.weight", "body.0.weight")
    first = next((s for n, s in shapes.items() if n.endswith(firsts)), ())
    return len(first) == 4 and first[1] in (3, 12, 48)


_KINDS: tuple[tuple[str, Callable[[Shapes], bool], Callable[[Shapes], str]], ...] = (
    ("LoRA", lambda shapes: any(map(_LORA.search, shapes)), _lora_family),
    ("checkpoint", _is_checkpoint, _diffusion_family),
    ("diffusion model", _is_diffusion, _diffusion_family),
    ("VAE", _is_vae, _vae_family),
    ("text encoder", lambda shapes: _text_family(shapes) != UNKNOWN, _text_family),
    ("embedding", _is_embedding, _embedding_family),
    ("upscale model", _is_upscaler, lambda shapes: "any"),
)
