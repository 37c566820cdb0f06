"""What a model's files say about it, read without loading a weight.

Only safetensors are loaded: a pickle can run code. Of a single file, a LoRA and an upscale model only
the header is read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowdesign import headers
from flowdesign.catalog import CONFIG_SUFFIX
from flowdesign.headers import PICKLES, SUFFIX
from flowdesign.render.errors import UnsupportedModel

CONFIGS = Path(__file__).parent / "configs"  # diffusers folders without weights, one per layout
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """Where one network of a model is. The role is network, vae, clip_l, clip_g, clip_h or t5."""

    role: str
    weights: Path  # the part's diffusers folder, or a single file
    config: Path  # the folder of its config.json
    prefix: str = ""  # of the names of its tensors in a single file
    tokenizer: Path | None = None  # None: the one that is shipped

    def settings(self) -> dict[str, Any]:
        """Return its configuration; raises UnsupportedModel."""
        return read_json(self.config / "config.json")


def own_configs(path: Path, file: str) -> Path | None:
    """Return the folder beside a single file that tells its configuration, if it has this in it."""
    folder = path.with_suffix(CONFIG_SUFFIX)
    return folder if (folder / file).exists() else None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; raises UnsupportedModel when it is absent or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UnsupportedModel(
            f"Cannot read {path.name} of '{path.parent.name}': {fault}"
        ) from None
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{path.name} of '{path.parent.name}' is not a JSON object.")
    return found


def check_weights(folder: Path) -> None:
    """Raise UnsupportedModel unless the folder has safetensors weights."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        raise UnsupportedModel(f"'{folder.parent.name}' has no folder '{folder.name}'.") from None
    if any(name.endswith(SUFFIX) for name in names):
        return
    where = f"'{folder.parent.name}/{folder.name}'"
    if any(name.endswith(PICKLES) for name in names):
        raise UnsupportedModel(
            f"{where} holds its weights as a pickle, which can run code when it is opened; "
            "only safetensors are loaded. Convert it first."
        )
    raise UnsupportedModel(f"{where} holds no safetensors weights.")


def read_header(path: Path) -> tuple[Shapes, Mapping[str, str]]:
    """Return (shape of every tensor, metadata) of a safetensors file; raises UnsupportedModel."""
    try:
        found = headers.read_header(path)
    except headers.BrokenFile as broken:
        raise UnsupportedModel(f"'{path.name}' {broken}") from None
    return found.shapes, found.metadata


def stamp(path: Path) -> tuple[int, int]:
    """Return (newest change, bytes) of a model's weights, so that a changed file is another model."""
    files = [path] if path.is_file() else [*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}")]
    found = [file.stat() for file in files]
    return max((s.st_mtime_ns for s in found), default=0), sum(s.st_size for s in found)
