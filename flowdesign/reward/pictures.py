"""Small pictures of the pairs that an ensemble misses most, kept beside its figures.

Records of a store have images, the shipped ones have none: what was measured on those keeps the
pictures that are there already, and `python -m flowdesign shipped pictures --run NAME` renders the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from flowdesign.config import RewardConfig
from flowdesign.records import DATA, Store, UnknownRecord
from flowdesign.reward.data import SHIPPED

FOLDER = "misses"
SIDE = 192  # pixels


def picture_name(miss: Mapping[str, Any]) -> str:
    """The file of a miss: by prompt, sentence and seed, which decide what its image looks like."""
    key = repr((miss["prompt"], list(miss["sentence"]), miss["seed"]))
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16] + ".webp"


def misses_of(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The misses of all parts of a report."""
    return [miss for part in figures["parts"].values() for miss in part["misses"]]


def keep_pictures(figures: Mapping[str, Any], config: RewardConfig, folder: Path) -> int:
    """Write the pictures of a report's misses into the run's folder; how many there were.

    Those of an earlier report go.
    """
    misses = misses_of(figures)
    _forget_others({picture_name(miss) for miss in misses}, folder / FOLDER)
    if config.records == SHIPPED:
        return 0
    with closing(Store.open(Path(config.records) if config.records else DATA)) as store:
        return sum(_keep(miss, store, folder / FOLDER) for miss in misses)


def _keep(miss: Mapping[str, Any], store: Store, folder: Path) -> bool:
    try:
        record = store.get(miss["record"])
        path = store.image_path(record.image)
        if path is None or (record.prompt, record.seed) != (miss["prompt"], miss["seed"]):
            return False
        with Image.open(path) as image:
            small = image.convert("RGB")
    except (UnknownRecord, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    save_picture(small, folder, miss)
    return True


def save_picture(image: Image.Image, folder: Path, miss: Mapping[str, Any]) -> None:
    """Keep a miss's image, made small."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    folder.mkdir(exist_ok=True)
    small.save(folder / picture_name(miss), "WEBP", quality=80, method=4)


def _forget_others(wanted: Collection[str], folder: Path) -> None:
    for path in folder.glob("*.webp"):
        if path.name not in wanted:
            path.unlink()
