"""The image codec of the miniature models: patches of 8x8 pixels to a few latent channels, and back.

It stands where an AutoencoderKL stands in a diffusers folder (`vae/`), with the same calls. The encoder
is closed form: a principal component analysis of patches. The decoder is the transposed projection plus a
small convolutional correction, trained on noisy latents so that it draws clean edges and no seams.
A convolutional encoder of the same cost was much worse after ten minutes of training.

The pipelines of diffusers find the class only after `import flowdesign.render.codec`: they look for the
module that model_index.json names among those already imported.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn
from torch.nn import functional

PATCH = 8


@dataclass(frozen=True)
class Posterior:
    """A distribution without spread, so that callers may treat the codec as they treat a VAE."""

    mean: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The latent itself."""
        return self.mean

    def mode(self) -> Tensor:
        """The latent itself."""
        return self.mean


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, h, w) to the same."""
        return x + self.second(functional.silu(self.first(functional.silu(x))))


class PatchCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Pixels (batch, 3, 8h, 8w) in -1..1 to latents (batch, channels, h, w) and back."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        width: int = 128,
        fine_width: int = 64,
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),  # 8x: pipelines count these
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        values = 3 * PATCH * PATCH
        self.centre = nn.Parameter(torch.zeros(values), requires_grad=False)
        self.analysis = nn.Parameter(torch.zeros(latent_channels, values), requires_grad=False)
        self.synthesis = nn.Parameter(torch.zeros(values, latent_channels), requires_grad=False)
        self.enter = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.coarse = nn.Sequential(_Block(width), _Block(width))
        self.widen = nn.Conv2d(width, 4 * fine_width, 3, padding=1)
        self.fine = nn.Sequential(_Block(fine_width), _Block(fine_width))
        self.leave = nn.Conv2d(fine_width, 3 * 16, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def encode(self, pixels: Tensor) -> AutoencoderKLOutput:
        """Project every patch on the principal components."""
        patches = functional.pixel_unshuffle(pixels, PATCH)
        centred = patches - self.centre.view(1, -1, 1, 1)
        latents = torch.einsum("cv,bvhw->bchw", self.analysis, centred)
        return AutoencoderKLOutput(latent_dist=Posterior(latents))

    def decode(
        self, latents: Tensor, return_dict: bool = True, generator: object = None
    ) -> DecoderOutput:
        """Patches from their components, corrected by what the neighbours say."""
        patches = torch.einsum("vc,bchw->bvhw", self.synthesis, latents)
        plain = functional.pixel_shuffle(patches + self.centre.view(1, -1, 1, 1), PATCH)
        hidden = self.coarse(self.enter(latents * self.config.scaling_factor))
        hidden = self.fine(functional.pixel_shuffle(self.widen(hidden), 2))
        pixels = plain + functional.pixel_shuffle(self.leave(functional.silu(hidden)), 4)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)

    @torch.no_grad()
    def fit_components(self, pixels: Tensor, whiten: float = 0.5) -> None:
        """Set the projection from pictures (n, 3, 8h, 8w); `whiten` 0 keeps variances, 1 equals them.

        Half whitened, small components still matter to a diffusion model, and noise does not rule them.
        """
        patches = (
            functional.pixel_unshuffle(pixels, PATCH).permute(0, 2, 3, 1).flatten(0, 2).double()
        )
        mean = patches.mean(0)
        variance, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        channels = self.config.latent_channels
        variance, vectors = variance.flip(0)[:channels], vectors.flip(1)[:, :channels]
        scale = variance.sqrt().pow(whiten)
        self.centre.copy_(mean)
        self.analysis.copy_((vectors / scale).T)
        self.synthesis.copy_(vectors * scale)
        latents = self.encode(pixels).latent_dist.mean
        self.register_to_config(scaling_factor=float(1 / latents.std()))
