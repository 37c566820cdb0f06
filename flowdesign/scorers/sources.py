"""Where a learned scorer's weights are. No torch.

In this order: a folder or hub repository that is named, <folder>/<scorer> in FLOWDESIGN_SCORERS or
in checkpoints/scorers, the hub. Only .safetensors are looked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flowdesign.catalog import ROOT
from flowdesign.scorers.scorer import ScorerMissing

FOLDER = ROOT / "checkpoints" / "scorers"
VARIABLE = "FLOWDESIGN_SCORERS"  # another folder of scorers, looked at first


@dataclass(frozen=True)
class Published:
    """What its authors published: `repository` and `file` on the hub, or an address in words.

    `pickled` means that the file must be converted once before it is used.
    """

    file: str
    repository: str = ""
    address: str = ""
    pickled: bool = False

    @property
    def where(self) -> str:
        """The place in words."""
        return self.address or f"https://huggingface.co/{self.repository}"


def folders() -> tuple[Path, ...]:
    """Give the folders that hold one folder per scorer."""
    more = os.environ.get(VARIABLE, "")
    return (*([Path(more).expanduser()] if more else []), FOLDER)


def local(name: str, file: str, source: str = "") -> Path | None:
    """Find the folder on this machine that has a scorer's file; None when there is none."""
    places = [Path(source)] if source else [folder / name for folder in folders()]
    return next((place for place in places if (place / file).is_file()), None)


def find(name: str, file: str, published: Published, source: str = "") -> str:
    """Give the folder or hub repository of a scorer's weights. Raises ScorerMissing."""
    folder = local(name, file, source)
    if folder is not None:
        return str(folder)
    if source and is_repository(source):
        return source
    if source or published.pickled:
        raise ScorerMissing(advice(name, file, published, source))
    return published.repository


def fetch(place: str, file: str) -> Path:
    """Give the path of a file in a folder or a hub repository. Raises ScorerMissing."""
    if (Path(place) / file).is_file():
        return Path(place) / file
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(place, file))
    except (OSError, ValueError) as fault:  # not there, no network, not a repository's name
        raise ScorerMissing(f"The hub does not give {file} of '{place}': {fault}") from fault


def is_cached(repository: str, file: str) -> bool:
    """Whether the hub's file has been fetched to this machine before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file), str)


def is_repository(source: str) -> bool:
    """Whether this can be a hub repository's name, owner/name, and is no folder here."""
    parts = source.split("/")
    plain = len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~")
    return plain and not Path(source).exists()


def advice(name: str, file: str, published: Published, source: str = "") -> str:
    """Say where a scorer's weights were looked for and how to get them."""
    looked = [source] if source else [str(folder / name) for folder in folders()]
    start = f"No weights for scorer '{name}': there is no {file} in {' or '.join(looked)}."
    if not published.pickled:
        return f"{start} Copy the files of {published.where} there."
    return (
        f"{start} {published.where} has them as {published.file}; convert it once: "
        f"python -m flowdesign scorers convert {name} {published.file}"
    )
