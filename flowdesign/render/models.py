"""Loaded models, kept by how recently they were used, and LoRAs merged into them for a while.

Weights are float32 unless the diffusion model is asked for in another type; text encoders and VAEs
always are. Everything comes from local safetensors files that the catalogue lists.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

from flowdesign.catalog import Installed
from flowdesign.headers import SUFFIX
from flowdesign.render.codec import PatchCodec
from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.files import Checkpoint, read_checkpoint, read_json, read_vae, stamp
from flowdesign.render.lora import change, match
from flowdesign.render.text import Encoder, Special
from flowdesign.render.values import Clip, LoraUse, Model, UpscaleModel, Vae

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

DEFAULT_BYTES = 6 * 2**30
Changes = Mapping[str, Tensor]


class Library:
    """Loads what descriptions name. Holds at most `limit` bytes, dropping what was used longest ago.

    The merged state of a model belongs to its last user: ask again before every use.
    """

    def __init__(
        self,
        installed: Installed,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        limit: int = DEFAULT_BYTES,
    ) -> None:
        self._installed = installed
        self._device = torch.device(device)
        self._dtype = dtype
        self._limit = limit
        self._held: OrderedDict[tuple[str, ...], tuple[Any, int]] = OrderedDict()
        self._stamps: dict[tuple[str, str], tuple[int, int]] = {}

    def changed(self, assets: Sequence[tuple[str, str]]) -> bool:
        """Whether a file of these (kind, name) is not what it was; then everything is let go."""
        now = {each: stamp(self._installed.path(*each)) for each in assets}
        differs = any(self._stamps.get(each, found) != found for each, found in now.items())
        self._stamps.update(now)
        if differs:
            self._held.clear()
        return differs

    def checkpoint(self, name: str) -> Checkpoint:
        """Return what a checkpoint's files say; raises UnsupportedModel and UnknownAsset."""
        path = self._installed.path("checkpoints", name)
        found: Checkpoint = self._keep(("files", name), lambda: read_checkpoint(path))
        return found

    def unet(self, model: Model) -> nn.Module:
        """Return the diffusion model with its LoRAs merged."""
        folder = self.checkpoint(model.checkpoint).folder / "unet"
        merged = self._keep(
            ("unet", model.checkpoint),
            lambda: Merged(self._load(UNet2DConditionModel, folder, self._dtype)),
        )
        merged.merge(model.loras, partial(self._changes, "unet", merged.weights))
        module: nn.Module = merged.module
        return module

    def encoders(self, clip: Clip) -> list[Encoder]:
        """Return the text encoders with their LoRAs merged, in the order of the hidden states."""
        checkpoint = self.checkpoint(clip.checkpoint)
        found = []
        for part in checkpoint.text_encoders:
            make = partial(self._encoder, checkpoint, part)
            merged, encoder = self._keep((part, clip.checkpoint), make)
            merged.merge(clip.loras, partial(self._changes, part, merged.weights))
            found.append(encoder)
        return found

    def vae(self, vae: Vae) -> nn.Module:
        """Return an image codec: an AutoencoderKL, or the miniature's own."""
        folder = self._installed.path(vae.kind, vae.name)
        if vae.kind == "checkpoints":
            folder = self.checkpoint(vae.name).folder / "vae"

        def load() -> nn.Module:
            own = read_vae(folder)["_class_name"] == PatchCodec.__name__
            module: nn.Module = self._load(
                PatchCodec if own else AutoencoderKL, folder, torch.float32
            )
            return module

        found: nn.Module = self._keep(("vae", vae.kind, vae.name), load)
        return found

    def upscaler(self, model: UpscaleModel) -> ImageModelDescriptor[nn.Module]:
        """Return an upscale model; spandrel tells its architecture from the file."""
        path = self._installed.path("upscale_models", model.name)
        found: tuple[ImageModelDescriptor[nn.Module], nn.Module] = self._keep(
            ("upscaler", model.name), lambda: self._upscaler(path)
        )
        return found[0]

    def _upscaler(self, path: Path) -> tuple[ImageModelDescriptor[nn.Module], nn.Module]:
        found = _upscaler(path).to(self._device).float().eval()
        return found, found.model.requires_grad_(False)  # the module, for its size in memory

    def _load(self, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
        module = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=_variant(folder),
            torch_dtype=dtype,
        )
        return module.to(self._device).eval().requires_grad_(False)

    def _encoder(self, checkpoint: Checkpoint, part: str) -> tuple[Merged, Encoder]:
        folder = checkpoint.folder / part
        architecture = read_json(folder / "config.json").get("architectures") or ["CLIPTextModel"]
        projects = architecture[0] == "CLIPTextModelWithProjection"
        kind = CLIPTextModelWithProjection if projects else CLIPTextModel
        module = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            variant=_variant(folder),
        )  # fmt: skip
        module = module.to(self._device).eval().requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder / part.replace("text_encoder", "tokenizer"), local_files_only=True
        )
        special = _special(tokenizer, module.config.max_position_embeddings)
        return Merged(module), Encoder(module, tokenizer, special, normed=not checkpoint.is_xl)

    def _changes(self, part: str, weights: Mapping[str, Tensor], use: LoraUse) -> Changes:
        """Return what a LoRA adds to the weights of one part."""
        path = self._installed.path("loras", use.name)
        tensors = self._keep(("lora", use.name), lambda: load_file(path))
        pairs = match(tensors, {part: weights}).pairs[part]
        return {n: change(pair, tensors, weights[n], use.strength) for n, pair in pairs.items()}

    def _keep(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        made = make()
        self._held[key] = made, _bytes(made)
        while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._limit:
            self._held.popitem(last=False)
        return made


class Merged:
    """A module and the LoRAs that are merged into it just now."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.weights: dict[str, Tensor] = dict(module.named_parameters())
        self._uses: tuple[LoraUse, ...] = ()
        self._originals: dict[str, Tensor] = {}

    def merge(self, uses: tuple[LoraUse, ...], changes: Callable[[LoraUse], Changes]) -> None:
        """Make the module its own self plus these LoRAs, in order, bit for bit the same each time."""
        uses = tuple(use for use in uses if use.strength != 0)
        if uses == self._uses:
            return
        for name, original in self._originals.items():
            self.weights[name].data.copy_(original)
        self._originals, self._uses = {}, ()
        total: dict[str, Tensor] = {}
        for use in uses:
            for name, added in changes(use).items():
                before = total.get(name)
                total[name] = (self.weights[name].float() if before is None else before) + added
        for name, value in total.items():
            self._originals[name] = self.weights[name].detach().clone()
            self.weights[name].data.copy_(value)
        self._uses = uses


def _special(tokenizer: Any, length: int) -> Special:
    ids = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    if ids[0] is None or ids[1] is None:
        raise UnsupportedModel("The tokenizer has no start or end token.")
    return Special(ids[0], ids[1], ids[1] if ids[2] is None else ids[2], min(length, 77))


def _variant(folder: Path) -> str | None:
    """Return "fp16" when the folder has its weights in that variant only."""
    names = [path.name for path in folder.glob(f"*{SUFFIX}")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _upscaler(path: Path) -> ImageModelDescriptor[nn.Module]:
    # Spandrel knows a hundred architectures: it is imported when an upscaler is first asked for.
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    if path.suffix != SUFFIX:
        raise UnsupportedModel(f"The upscale model '{path.name}' is no safetensors file.")
    try:
        found = ModelLoader().load_from_state_dict(load_file(path))
    except UnsupportedModelError:
        raise UnsupportedModel(
            f"The upscale model '{path.stem}' has an unknown architecture."
        ) from None
    if not isinstance(found, ImageModelDescriptor) or found.input_channels != 3:
        raise UnsupportedModel(f"The model '{path.stem}' does not enlarge colour images.")
    return found


def _bytes(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(_bytes(each) for each in value)
    if isinstance(value, Merged):
        value = value.module
    if isinstance(value, Encoder):
        return 0  # shares the module that is counted beside it
    tensors = value.parameters() if isinstance(value, nn.Module) else ()
    tensors = value.values() if isinstance(value, Mapping) else tensors
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
