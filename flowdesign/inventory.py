"""The models on this machine: what `python -m flowdesign models` lists.

Folders are laid out as ComfyUI's `models/` and are only read. Of every file its header tells the family;
what is damaged or a pickle is listed with the reason and never loaded.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowdesign.catalog import (
    KINDS,
    MODELS,
    MODELS_VARIABLE,
    CatalogError,
    Installed,
    asset,
    installed,
    models_folders,
)
from flowdesign.detection import UNKNOWN, Detected, detect_file, detect_folder
from flowdesign.headers import SUFFIX, BrokenFile, read_header
from flowdesign.provenance import ModelHashes

SOON = 64 * 2**20  # bytes of a model whose hash is worth no question
_LICENCES = ("modelspec.license", "license", "ss_license")  # in the metadata of a file
_CARD = re.compile(r"\A---\s*\n(?:.*\n)*?license:[ \t]*['\"]?([^\s'\"]+)")
_HOLDS = {
    "checkpoints": "checkpoint",
    "loras": "LoRA",
    "vae": "VAE",
    "upscale_models": "upscale model",
    "embeddings": "embedding",
    "diffusion_models": "diffusion model",
    "text_encoders": "text encoder",
}


@dataclass(frozen=True)
class Entry:
    """One model: its folder (`kind`), its name as ComfyUI lists it, and what is known of it.

    `holds` is what its tensors are, whatever the folder. `hash` is the sha256 of the file, empty while it
    is not known; `fault` is why it is not loaded, empty when it is.
    """

    kind: str
    name: str
    family: str
    holds: str
    licence: str
    hash: str
    bytes: int
    path: str
    fault: str = ""


def entries(models: Installed, hashes: ModelHashes, every_hash: bool = False) -> Iterator[Entry]:
    """Yield what is installed, kind by kind, then what lies there broken.

    A hash is read when it is remembered, when the model is small, or when every one is asked for.
    """
    for kind in KINDS:
        for name in models.names(kind):
            yield _entry(kind, name, models, hashes, every_hash)
        for name, broken in models.broken(kind).items():
            shown = name if broken.path.suffix != SUFFIX else f"{name}{SUFFIX}"
            size, path = _bytes(broken.path), str(broken.path)
            yield Entry(kind, shown, UNKNOWN, UNKNOWN, "", "", size, path, broken.reason)


def _entry(kind: str, name: str, models: Installed, hashes: ModelHashes, every_hash: bool) -> Entry:
    path = models.path(kind, name)
    size, shown = _bytes(path), models.listed(kind, name)
    try:
        found = detect_folder(path) if path.is_dir() else detect_file(path)
    except BrokenFile as broken:
        return Entry(kind, shown, UNKNOWN, UNKNOWN, "", "", size, str(path), str(broken))
    known = hashes.remembered(kind, name)
    if known is None and (every_hash or size <= SOON):
        known = hashes.hash(kind, name)
    found = _as_shipped(kind, name, path, found)
    licence = _licence(kind, name, path)
    return Entry(kind, shown, found.family, found.holds, licence, known or "", size, str(path))


def _as_shipped(kind: str, name: str, path: Path, found: Detected) -> Detected:
    """What the catalogue says of its own models, which are smaller than any published one."""
    row = asset(kind, name) if path.is_relative_to(MODELS) else None
    return Detected(_HOLDS[kind], row.family) if row else found


def _licence(kind: str, name: str, path: Path) -> str:
    """The licence that the catalogue, the file or the folder's card names; empty when none does."""
    row = asset(kind, name) if path.is_relative_to(MODELS) else None
    if row:
        return row.licence
    if path.is_file():
        metadata = read_header(path).metadata
        return next((metadata[key] for key in _LICENCES if metadata.get(key)), "")
    try:
        card = _CARD.match((path / "README.md").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return card[1] if card else ""


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)


# --- the command ---------------------------------------------------------------------------------


def show(flags: argparse.Namespace) -> tuple[Any, str]:
    """List the models of this machine, or of other folders. Raises CatalogError for one not there."""
    folders = tuple(flags.folders) or models_folders()
    for folder in folders:
        if not folder.is_dir():
            raise CatalogError(
                f"There is no models folder {folder}. Name folders laid out as ComfyUI's models/, here "
                f"or in {MODELS_VARIABLE}."
            )
    models = installed(folders)
    found = list(entries(models, ModelHashes(models), flags.hash))
    result = {"folders": [str(folder) for folder in folders], "models": [asdict(e) for e in found]}
    return result, told(found, folders)


def told(found: Sequence[Entry], folders: Sequence[Path]) -> str:
    """The list as text: a block for each kind, a line for each model."""
    lines = [f"Models in {', '.join(map(str, folders))}"]
    for kind in dict.fromkeys(each.kind for each in found):
        own = [each for each in found if each.kind == kind]
        lines += ["", kind, *(_line(each, max(len(e.name) for e in own)) for each in own)]
    return "\n".join(lines if found else [*lines, "", "None is there."])


def _line(each: Entry, width: int) -> str:
    start = f"  {each.name:<{width}}  "
    if each.fault:
        return f"{start}not loaded: it {each.fault}"
    odd = each.holds not in (UNKNOWN, _HOLDS[each.kind])
    family = f"{each.family} {each.holds}" if odd else each.family
    digest = f"sha256 {each.hash[:12]}" if each.hash else "sha256 with --hash"
    large = each.bytes >= 2**20
    size = f"{each.bytes / 2**20:,.1f} MB" if large else f"{each.bytes / 2**10:,.0f} kB"
    return f"{start}{family:<14} {size:>12}  {digest:<20} {each.licence or 'licence unknown'}"


def add_models(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Declare the options of `models` on its parser, and give it back."""
    command.set_defaults(work=show)
    command.add_argument(
        "folders", type=Path, nargs="*", metavar="FOLDER",
        help=f"models folders (default: the shipped one, then those in {MODELS_VARIABLE})",
    )  # fmt: skip
    command.add_argument(
        "--hash", action="store_true", help="read large files as well, whose hash is not known yet"
    )
    return command
