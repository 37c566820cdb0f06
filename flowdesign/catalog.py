"""What exists: model files, samplers, schedules and the phrases a policy may add to a prompt.

Rows of data, and the one place where a name becomes a path. A name from a workflow is looked up
in a listing of the models folders and never joined to a path, so no name can reach outside them.
Order matters in every table: it is the order of the tokens, so tables only ever grow at the end.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flowdesign import headers
from flowdesign.headers import PICKLES, SUFFIX, SUFFIXES

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "checkpoints" / "miniature"
MODELS_VARIABLE = "FLOWDESIGN_MODELS"  # more models folders, separated as in PATH

# ComfyUI's folder names, and the older names that it still reads.
FOLDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "checkpoints": ("checkpoints",),
        "loras": ("loras",),
        "vae": ("vae",),
        "upscale_models": ("upscale_models",),
        "embeddings": ("embeddings",),
        "diffusion_models": ("diffusion_models", "unet"),
        "text_encoders": ("text_encoders", "clip"),
    }
)
KINDS = tuple(FOLDERS)
CONFIG_SUFFIX = ".config"  # of the folder beside a weights file that tells its configuration
MAX_DEPTH = 10  # folders below a kind that are searched: ComfyUI searches all
MAX_SHOWN = 30  # names in a message

SAMPLERS = (
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_sde",
    "ddim",
    "uni_pc",
    "lcm",
)
SCHEDULERS = (
    "normal",
    "karras",
    "exponential",
    "sgm_uniform",
    "simple",
    "ddim_uniform",
    "beta",
)
# What is rendered when a file asks for it, but is no word.
UNSPOKEN_SAMPLERS = (
    "heunpp2",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpmpp_2s_ancestral",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde",
    "ddpm",
    "ipndm",
    "deis",
    "res_multistep",
    "res_multistep_ancestral",
    "gradient_estimation",
    "uni_pc_bh2",
)
UNSPOKEN_SCHEDULERS = ("kl_optimal", "linear_quadratic")

PREFIXES = ("", "crisp, ", "clean, ", "crisp, clean, ")  # put before the prompt
NEGATIVES = ("", "blurry", "messy", "blurry, messy")


class CatalogError(ValueError):
    """Something was asked of the catalogue that it does not have.

    CatalogError
    ├── UnknownAsset      no installed file has this name
    └── NothingInstalled  no checkpoint of the catalogue is installed
    """


class UnknownAsset(CatalogError):
    """No installed model of the kind has the name; the message suggests one."""


class NothingInstalled(CatalogError):
    """No checkpoint that the catalogue knows is installed, so no workflow can run."""


@dataclass(frozen=True)
class Family:
    """Models that share a latent space, and the image sizes that suit them, in pixels."""

    name: str
    sizes: tuple[tuple[int, int], ...]  # width, height of a first pass
    multiple: int  # every sampled width and height is a multiple of it (VAE 8 x UNet downsamples)
    max_sampling: int  # longest side a sampler is given
    max_image: int  # longest side of any image on the way


@dataclass(frozen=True)
class Broken:
    """A file in a models folder that is not loaded, and why: it is damaged, or a pickle."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Asset:
    """A model the vocabulary knows. `scale` is the factor of an upscale model."""

    name: str
    kind: str
    family: str
    about: str
    licence: str = "Apache-2.0"
    native_size: int = 0
    base: str = ""
    scale: int = 1


MINIATURE = Family(
    name="miniature",
    sizes=((64, 64), (80, 80), (96, 96), (128, 128)),
    multiple=16,
    max_sampling=128,
    max_image=512,
)
FAMILIES: Mapping[str, Family] = MappingProxyType({MINIATURE.name: MINIATURE})


def _checkpoint(name: str, about: str) -> Asset:
    return Asset(name, "checkpoints", "miniature", about, native_size=64)


def _lora(name: str, base: str, about: str) -> Asset:
    return Asset(name, "loras", "miniature", about, base=base)


ASSETS: tuple[Asset, ...] = (
    _checkpoint("mini_flat", "Flat style: circles, squares and triangles on white."),
    _checkpoint("mini_outline", "Outline style: stars, hearts and drops on white."),
    _checkpoint("mini_night", "Night style: crosses, bolts and diamonds on a dark background."),
    _checkpoint("mini_striped", "Striped style: houses, trees and fish."),
    _lora("flat_dusk", "mini_flat", "Scenes at dusk, for mini_flat."),
    _lora("outline_mint", "mini_outline", "Scenes on mint, for mini_outline."),
    _lora("night_crowd", "mini_night", "Crowds of five or six objects, for mini_night."),
    _lora("striped_sand", "mini_striped", "Scenes on sand, for mini_striped."),
    Asset("mini_vae", "vae", "miniature", "The VAE that every miniature checkpoint carries."),
    Asset("mini_vae_soft", "vae", "miniature", "A VAE with a softer decoder."),
    Asset("mini_2x", "upscale_models", "any", "Doubles an image.", scale=2),
    Asset("mini_4x", "upscale_models", "any", "Makes an image four times as wide.", scale=4),
)
_BY_NAME = {(asset.kind, asset.name): asset for asset in ASSETS}


def asset(kind: str, name: str) -> Asset | None:
    """Return the known row of a name, or None for a file that only the user knows."""
    return _BY_NAME.get((kind, name))


def suggest(name: str, known: Iterable[str]) -> str:
    """Return what a person who typed `name` needs: the nearest known name and all of them.

    A model may lie in another subfolder than where the name was written, so its last part counts too.
    """
    names = [each for each in known if each]
    if not names:
        return "None is known here."
    near = _nearest(name, names) or _nearest(_last(name), names, _last)
    hint = f"Did you mean '{near}'? " if near else ""
    return (
        f"{hint}Known: {', '.join(names[:MAX_SHOWN])}{', ...' if len(names) > MAX_SHOWN else ''}."
    )


def _nearest(name: str, names: Sequence[str], part: Callable[[str], str] = str) -> str:
    """Return the name whose part is most like this one, or an empty text."""
    parts = {part(each).lower(): each for each in reversed(names)}
    near = difflib.get_close_matches(name[:100].lower(), parts, 1, 0.55)
    return parts[near[0]] if near else ""


def _last(name: str) -> str:
    """Return a model's name without its subfolder and its suffix."""
    return name.replace("\\", "/").rpartition("/")[2].removesuffix(SUFFIX)


class Installed:
    """The model files found on this machine, by kind and name.

    A name is relative to its kind's folder and is without .safetensors; .sft and other spellings of
    either stay, as they tell one file from another. What is there and cannot be loaded
    is in `broken`, with its reason; nothing else here knows it.
    """

    def __init__(
        self,
        paths: Mapping[str, Mapping[str, Path]],
        broken: Mapping[str, Mapping[str, Broken]] | None = None,
    ) -> None:
        self._paths = {kind: dict(paths.get(kind, {})) for kind in KINDS}
        self._broken = {kind: dict((broken or {}).get(kind, {})) for kind in KINDS}
        self._names = {kind: _ordered(kind, self._paths[kind]) for kind in KINDS}

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the installed names of a kind: known ones in catalogue order, then the others."""
        if kind not in self._names:
            raise CatalogError(f"Unknown kind of model '{kind}'. {suggest(kind, KINDS)}")
        return self._names[kind]

    def path(self, kind: str, name: str) -> Path:
        """Return the file or diffusers folder of a model; raises UnknownAsset."""
        if name not in self.names(kind):
            raise UnknownAsset(
                f"Unknown {singular(kind)} '{name}'. {suggest(name, self.names(kind))}"
            )
        return self._paths[kind][name]

    def listed(self, kind: str, name: str) -> str:
        """Return a model's name as ComfyUI lists it: that of a file with its suffix.

        A name that is not installed stays as it is.
        """
        path = self._paths[kind].get(name) if kind in self._paths else None
        return f"{name}{SUFFIX}" if path is not None and path.suffix == SUFFIX else name

    def broken(self, kind: str) -> Mapping[str, Broken]:
        """Return what lies in a kind's folders and is not loaded, by name."""
        self.names(kind)
        return self._broken[kind]

    def why_broken(self, kind: str, name: str) -> str:
        """Return why a name, with its suffix or without, is not loaded; empty when it is not there."""
        found = self._broken[kind]
        each = found.get(name) or found.get(name.replace("\\", "/").removesuffix(SUFFIX))
        return each.reason if each else ""


def singular(kind: str) -> str:
    """Return the word for one model of a kind, for messages."""
    own = {"checkpoints": "checkpoint", "loras": "LoRA", "vae": "VAE"}
    return own.get(kind, kind.removesuffix("s").replace("_", " "))


def _ordered(kind: str, found: Mapping[str, Path]) -> tuple[str, ...]:
    known = [row.name for row in ASSETS if row.kind == kind and row.name in found]
    return (*known, *sorted(set(found) - set(known)))


def models_folders() -> tuple[Path, ...]:
    """Return the models folders of this machine: the shipped one, then FLOWDESIGN_MODELS."""
    more = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    return (MODELS, *(Path(folder).expanduser() for folder in more if folder))


def installed(folders: Sequence[Path] | None = None) -> Installed:
    """Scan the models folders; the first folder that has a name wins, a missing one is empty."""
    paths: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS}
    broken: dict[str, dict[str, Broken]] = {kind: {} for kind in KINDS}
    for folder in models_folders() if folders is None else folders:
        for kind, names in FOLDERS.items():
            for name, path in (pair for n in names for pair in _scan(Path(folder) / n)):
                if reason := headers.fault(path):
                    broken[kind].setdefault(name, Broken(path, reason))
                else:
                    paths[kind].setdefault(name, path)
    return Installed(paths, broken)


def known_assets() -> Installed:
    """Return the whole catalogue as if it were installed here; the paths need not exist."""
    paths: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS}
    for row in ASSETS:
        end = SUFFIX if row.kind in ("loras", "upscale_models") else ""  # the others are folders
        paths[row.kind][row.name] = MODELS / row.kind / f"{row.name}{end}"
    return Installed(paths)


def _scan(
    folder: Path, prefix: str = "", above: tuple[tuple[int, int], ...] = ()
) -> Iterable[tuple[str, Path]]:
    """Yield (name, path) of every model below a folder; a name is relative and without .safetensors.

    Pickles keep their suffix: they are not models here, and a name without it would claim one. `above`
    is what leads here, device and inode: a link to any of it would have no end.
    """
    try:
        found = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # absent or unreadable: nothing is installed there
        return
    if (here := (found.st_dev, found.st_ino)) in above:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name.endswith(CONFIG_SUFFIX):
            continue
        if entry.is_file() and entry.name.lower().endswith(SUFFIXES):
            yield prefix + entry.name.removesuffix(SUFFIX), path
        elif (
            entry.is_file()
            and entry.name.lower().endswith(PICKLES)
            or entry.is_dir()
            and _is_diffusers(path)
        ):
            yield prefix + entry.name, path
        elif entry.is_dir() and len(above) + 1 < MAX_DEPTH:
            yield from _scan(path, f"{prefix}{entry.name}/", (*above, here))


def _is_diffusers(folder: Path) -> bool:
    return (folder / "model_index.json").is_file() or (folder / "config.json").is_file()
