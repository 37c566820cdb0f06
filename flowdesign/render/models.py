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
from safetensors.torch import load_file
from torch import Tensor, nn

from flowdesign.catalog import Installed
from flowdesign.headers import SUFFIX, SUFFIXES
from flowdesign.render.checkpoint import Checkpoint, read_checkpoint, read_codec, read_network
from flowdesign.render.errors import BadWorkflow, UnsupportedModel
from flowdesign.render.files import Part, stamp
from flowdesign.render.layouts import text_encoder
from flowdesign.render.lora import change, match, part_of
from flowdesign.render.single_file import class_of, load_network, load_text_encoder
from flowdesign.render.text import Encoder
from flowdesign.render.tokenizers import special, tokenizer
from flowdesign.render.values import Clip, LoraUse, Model, UpscaleModel, Vae

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

DEFAULT_BYTES = 6 * 2**30
Changes = Mapping[str, Tensor]
_ROLES = ("clip_l", "clip_h", "clip_g", "t5")  # the order in which hidden states are joined


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

    def checkpoint(self, name: str, kind: str = "checkpoints") -> Checkpoint:
        """Return what a model's files say; raises UnsupportedModel and UnknownAsset."""
        path = self._installed.path(kind, name)
        read = read_checkpoint if kind == "checkpoints" else read_network
        found: Checkpoint = self._keep(("files", kind, name), lambda: read(path))
        return found

    def network(self, model: Model) -> nn.Module:
        """Return the diffusion model with its LoRAs merged."""
        part = self.checkpoint(model.checkpoint, model.kind).network
        merged = self._keep(
            ("network", model.kind, model.checkpoint),
            lambda: Merged(self._load(part, self._dtype)),
        )
        name = part_of(part.role, part.settings())
        merged.merge(model.loras, partial(self._changes, name, merged.weights))
        module: nn.Module = merged.module
        return module

    def encoders(self, clip: Clip) -> dict[str, Encoder]:
        """Return the text encoders with their LoRAs merged, by role, in the order of hidden states."""
        parts = self.checkpoint(clip.checkpoint).texts if clip.checkpoint else ()
        parts = parts or tuple(self.text_encoder(name) for name in clip.files)
        family, found = self.family(clip), {}
        for part in sorted(parts, key=lambda each: _ROLES.index(each.role)):
            make = partial(self._encoder, part, family)
            key = ("encoder", family, str(part.weights), part.prefix)
            merged, encoder = self._keep(key, make)
            name = part_of(part.role)
            merged.merge(clip.loras, partial(self._changes, name, merged.weights))
            found[part.role] = encoder
        return found

    def family(self, clip: Clip) -> str:
        """Return the family whose texts are encoded."""
        return clip.family or self.checkpoint(clip.checkpoint).family

    def text_encoder(self, name: str) -> Part:
        """Return the part that a text encoder's own file holds; raises UnsupportedModel."""
        path = self._installed.path("text_encoders", name)
        found: Part = self._keep(("files", "text_encoders", name), lambda: text_encoder(path))
        return found

    def vae(self, vae: Vae) -> nn.Module:
        """Return an image codec: an AutoencoderKL, or the miniature's own."""
        own = vae.kind == "checkpoints"
        part = self.checkpoint(vae.name).codec if own else None
        if own and part is None:
            raise BadWorkflow(f"'{vae.name}' holds no VAE; load one with VAELoader.")
        part = part or read_codec(self._installed.path(vae.kind, vae.name))
        found: nn.Module = self._keep(
            ("vae", vae.kind, vae.name), lambda: self._load(part, torch.float32)
        )
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

    def _load(self, part: Part, dtype: torch.dtype) -> Any:
        kind = class_of(part)
        if part.weights.is_file():
            module = load_network(part, dtype)
        else:
            module = kind.from_pretrained(
                part.weights,
                local_files_only=True,
                use_safetensors=True,
                variant=_variant(part.weights),
                torch_dtype=dtype,
            )
        return module.to(self._device).eval().requires_grad_(False)

    def _encoder(self, part: Part, family: str) -> tuple[Merged, Encoder]:
        kind = class_of(part)
        dtype = self._dtype if part.role == "t5" else torch.float32  # T5-XXL alone has 4.8 billion
        if part.weights.is_file():
            module = load_text_encoder(part, dtype)
        else:
            module = kind.from_pretrained(
                part.weights, local_files_only=True, use_safetensors=True, dtype=dtype,
                variant=_variant(part.weights),
            )  # fmt: skip
        module = module.to(self._device).eval().requires_grad_(False)
        words = tokenizer(part)
        return Merged(module), Encoder(
            module,
            words,
            special(words, part, module.config, family),
            normed=family in ("sd1", "sd2"),
            bare=part.role == "clip_l" and family in ("sd3", "flux"),
            left_out=int(part.role == "clip_h"),
            vectors=partial(self._vectors, part.role),
            known=self._installed.names("embeddings"),
        )

    def _vectors(self, role: str, name: str) -> Tensor | None:
        """Return the vectors of an embedding for one text encoder, (tokens, width)."""
        path = self._installed.path("embeddings", name)
        tensors = self._keep(("embedding", name), lambda: load_file(path))
        return embedding_of(tensors, role)

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


def embedding_of(tensors: Mapping[str, Tensor], role: str) -> Tensor | None:
    """Return the vectors that an embedding file has for a text encoder, None when it has none.

    A file for several encoders names each; one that names none has a single tensor.
    """
    name = "t5xxl" if role == "t5" else role
    found = tensors.get(name)
    if found is None and not tensors.keys() & {"clip_l", "clip_g", "clip_h", "t5xxl"}:
        found = next(iter(tensors.values()), None)
    return None if found is None else found.reshape(-1, found.shape[-1])


def _variant(folder: Path) -> str | None:
    """Return "fp16" when the folder has its weights in that variant only."""
    names = [path.name for path in folder.glob(f"*{SUFFIX}")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _upscaler(path: Path) -> ImageModelDescriptor[nn.Module]:
    # Spandrel knows a hundred architectures: it is imported when an upscaler is first asked for.
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    if path.suffix.lower() not in SUFFIXES:
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
