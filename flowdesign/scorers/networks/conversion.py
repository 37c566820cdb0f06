"""Published pickles to safetensors, once and on request: three scorers are published as .pt only.

A pickle can run code. `torch.load(weights_only=True)` builds tensors and plain containers and
refuses everything else, and it happens here alone, when a person asks for it by name.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPModel

from flowdesign.catalog import suggest
from flowdesign.scorers.networks import blip
from flowdesign.scorers.networks.clip import config_of, from_open_clip
from flowdesign.scorers.networks.head import build_head
from flowdesign.scorers.networks.loading import fill
from flowdesign.scorers.scorer import ScorerError

FORMAT = {"format": "pt"}  # transformers asks for it


def convert(name: str, file: Path, folder: Path) -> Path:
    """Write the weights of a published file to a new folder, and give that folder.

    Raises ScorerError for a scorer that needs no conversion, for a file that holds anything but
    that scorer's weights, and when the folder is there already.
    """
    if name not in CONVERSIONS:
        raise ScorerError(f"'{name}' has nothing to convert. {suggest(name, CONVERSIONS)}")
    if folder.exists():
        raise ScorerError(f"{folder} is there already. Delete it to convert again.")
    weights = read_pickle(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        draft = Path(place) / folder.name  # a crash leaves no folder that is half full
        draft.mkdir()
        CONVERSIONS[name](weights, draft)
        draft.rename(folder)
    return folder


def read_pickle(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pt or .pth file without running any code of it. Raises ScorerError."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ScorerError(f"There is no file {file}.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as fault:
        raise ScorerError(f"{file} holds more than weights, or none: {fault}") from fault
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise ScorerError(f"{file} holds no weights by name.")
    return {str(key): value for key, value in found.items() if isinstance(value, Tensor)}


def _hps_v2(weights: dict[str, Tensor], folder: Path) -> None:
    """Write open_clip's ViT-H/14 as a CLIPModel of transformers."""
    try:
        config = config_of(weights)
    except KeyError as fault:
        raise ScorerError(f"These are not the weights of HPS v2: {fault} is absent.") from None
    renamed = from_open_clip(weights)
    fill(lambda: CLIPModel(config), renamed, "HPS v2")
    config.save_pretrained(folder)
    save_file(_plain(renamed), folder / "model.safetensors", FORMAT)


def _imagereward(weights: dict[str, Tensor], folder: Path) -> None:
    blip.build(weights)
    used = {name: one for name, one in weights.items() if not name.startswith(blip.UNUSED)}
    save_file(_plain(used), folder / "model.safetensors", FORMAT)


def _aesthetic(weights: dict[str, Tensor], folder: Path) -> None:
    build_head(weights)
    save_file(_plain(weights), folder / "head.safetensors", FORMAT)


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor memory of its own, as safetensors wants it."""
    return {name: one.contiguous().clone() for name, one in weights.items()}


CONVERSIONS: Mapping[str, Callable[[dict[str, Tensor], Path], None]] = {
    "hps_v2": _hps_v2,
    "imagereward": _imagereward,
    "aesthetic": _aesthetic,
}
