"""What travels between nodes. Loaders give descriptions; only sampling and coding touch weights.

Latents are unscaled, as a VAE gives them; images are (batch, height, width, 3) in 0..1: ComfyUI's
conventions. Everything is frozen, and no node changes a tensor it was given, so results can be cached.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from flowdesign.render.levels import FlowLevels


@dataclass(frozen=True)
class LoraUse:
    """A LoRA and how strongly it is applied."""

    name: str
    strength: float


@dataclass(frozen=True)
class FreeU:
    """Factors of FreeU_V2: b for the backbone, s for the skip connections."""

    b1: float
    b2: float
    s1: float
    s2: float


@dataclass(frozen=True)
class Model:
    """A diffusion model: whose, with which LoRAs in order, and what is patched.

    `kind` is the folder of its file: checkpoints, or diffusion_models where it stands alone.
    """

    checkpoint: str
    loras: tuple[LoraUse, ...] = ()
    freeu: tuple[FreeU, ...] = ()  # in the order of their nodes
    perturbed: float = 0.0  # scale of PerturbedAttentionGuidance; several nodes add up
    rescale: float | None = None  # multiplier of RescaleCFG
    kind: str = "checkpoints"
    levels: FlowLevels | None = None  # of ModelSamplingSD3 and ModelSamplingFlux


@dataclass(frozen=True)
class Clip:
    """The text encoders of a checkpoint; `skip` -k reads the k-th layer from the end.

    Without a checkpoint they are `files` of their own, for models of a `family`.
    """

    checkpoint: str
    loras: tuple[LoraUse, ...] = ()
    skip: int | None = None
    files: tuple[str, ...] = ()
    family: str = ""


@dataclass(frozen=True)
class Vae:
    """A VAE: a checkpoint's own, or a file of its own (kind "vae")."""

    kind: str
    name: str


@dataclass(frozen=True)
class UpscaleModel:
    """An upscale model."""

    name: str


@dataclass(frozen=True)
class Area:
    """A part of an image, in places of the latent; in shares of its sides when `shares`."""

    height: float
    width: float
    top: float
    left: float
    shares: bool = False

    def holds(self, other: Area) -> bool:
        """Whether another area lies inside this one."""
        return (
            self.top <= other.top
            and self.left <= other.left
            and self.top + self.height >= other.top + other.height
            and self.left + self.width >= other.left + other.width
        )


@dataclass(frozen=True)
class Sizes:
    """What SDXL is told of a picture, in pixels; None is what is sampled, or the usual score."""

    width: float | None = None
    height: float | None = None
    crop_x: float = 0
    crop_y: float = 0
    target_width: float | None = None
    target_height: float | None = None
    score: float | None = None  # of the refiner, which knows how much people liked pictures


@dataclass(frozen=True)
class Condition:
    """Encoded texts: hidden (n, tokens, width), pooled (n, width) where the model has it.

    A node makes n = 1; a sampler that runs several jobs at once puts theirs together. They count in
    `area` (None is everywhere) with `strength`, from `start` to `end` of the training steps, noisiest
    first, in shares.
    """

    hidden: Tensor
    pooled: Tensor | None
    area: Area | None = None
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    sizes: Sizes = Sizes()
    guidance: float | None = None  # that FLUX.1 dev is told, in place of cfg

    @property
    def besides(self) -> tuple[Area | None, float, float, float, Sizes, float | None]:
        """All but the texts themselves."""
        return self.area, self.strength, self.start, self.end, self.sizes, self.guidance


@dataclass(frozen=True)
class Conditioning:
    """The texts that guide a model; the predictions under several are averaged (`render.areas`)."""

    entries: tuple[Condition, ...]


@dataclass(frozen=True)
class Guider:
    """A model and the texts that guide it; without a negative text it follows the positive alone."""

    model: Model
    positive: Conditioning
    negative: Conditioning | None
    cfg: float


@dataclass(frozen=True)
class Noise:
    """A seed, and whether noise of it is added first."""

    seed: int
    added: bool = True


@dataclass(frozen=True)
class SamplerName:
    """A sampler, by its name."""

    name: str


@dataclass(frozen=True)
class Sigmas:
    """The noise levels that a sampler visits, falling, (steps + 1,)."""

    values: Tensor


@dataclass(frozen=True)
class Latent:
    """Unscaled latents, (batch, channels, height / 8, width / 8)."""

    samples: Tensor


@dataclass(frozen=True)
class Image:
    """Pixels in 0..1, (batch, height, width, 3)."""

    pixels: Tensor


@dataclass(frozen=True)
class Saved:
    """What an output node received. `keep` is false for a preview."""

    pixels: Tensor
    keep: bool


def size_in_bytes(value: Any) -> int:
    """Return the bytes of all tensors inside a value, plus a little for the object."""
    if isinstance(value, Tensor):
        return int(value.numel() * value.element_size())
    if isinstance(value, tuple | list):
        return 64 + sum(size_in_bytes(each) for each in value)
    if hasattr(value, "__dataclass_fields__"):
        return 64 + sum(size_in_bytes(getattr(value, each.name)) for each in fields(value))
    return 64
