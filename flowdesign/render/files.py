"""What a model's files say about it, read without loading a weight.

Only diffusers folders with safetensors are loaded: a pickle can run code. Of a LoRA and an upscale
model only the header is read here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowdesign import headers
from flowdesign.headers import PICKLES, SUFFIX
from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.sigmas import NoiseLevels
from flowdesign.workflow import VAE_FACTOR

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
TEXT_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")
TOKENIZER = "CLIPTokenizer"  # how the names of the tokenizers begin that ComfyUI has
CODECS = ("AutoencoderKL", "PatchCodec")  # the second is the miniature's own, in `codec`
PREDICTIONS = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("scaled_linear", "linear")


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers folder of the Stable Diffusion 1.x or XL layout."""

    folder: Path
    is_xl: bool
    text_encoders: tuple[str, ...]  # subfolders, in the order in which hidden states are joined
    prediction: str
    levels: NoiseLevels
    latent_channels: int
    scaling: float
    shift: float
    notes: tuple[str, ...]  # why an image may differ from ComfyUI's
    own_parts: tuple[str, ...] = ()  # what ComfyUI has no loader for


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the configuration of a checkpoint; raises UnsupportedModel."""
    if not folder.is_dir():
        raise UnsupportedModel(
            f"'{folder.name}' is a single file: only diffusers folders are loaded as checkpoints."
        )
    index = read_json(folder / "model_index.json")
    kind = str(index.get("_class_name"))
    if kind not in PIPELINES:
        raise UnsupportedModel(
            f"The checkpoint '{folder.name}' is a {kind}; supported: {', '.join(PIPELINES)}."
        )
    encoders = tuple(n for n in ("text_encoder", "text_encoder_2") if _present(index, n))
    _check_encoders(folder, index, encoders)
    for part in ("unet", "vae", *encoders):
        check_weights(folder / part)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    codec = read_vae(folder / "vae")
    return Checkpoint(
        folder=folder,
        is_xl=kind == PIPELINES[1],
        text_encoders=encoders,
        prediction=_prediction(folder, scheduler),
        levels=_levels(folder, scheduler),
        latent_channels=int(codec.get("latent_channels", 4)),
        scaling=float(codec.get("scaling_factor", 0.18215)),
        shift=float(codec.get("shift_factor") or 0.0),
        notes=_notes(scheduler),
        own_parts=tuple(_own_parts(index, codec)),
    )


def read_vae(folder: Path) -> dict[str, Any]:
    """Return the configuration of the folder of an image codec; raises UnsupportedModel."""
    if not folder.is_dir():
        raise UnsupportedModel(f"The VAE '{folder.name}' is a single file, not a diffusers folder.")
    config = read_json(folder / "config.json")
    if config.get("_class_name") not in CODECS:
        kind = config.get("_class_name")
        raise UnsupportedModel(
            f"The VAE '{folder.name}' is a {kind}; supported: {', '.join(CODECS)}."
        )
    factor = 2 ** (len(config.get("block_out_channels", ())) - 1)
    if factor != VAE_FACTOR:
        raise UnsupportedModel(
            f"The VAE in '{folder}' scales by {factor}; only {VAE_FACTOR} is supported."
        )
    check_weights(folder)
    return config


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


def read_header(path: Path) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, str]]:
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


def _present(index: dict[str, Any], part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def _own_parts(index: dict[str, Any], codec: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of a checkpoint that only diffusers and this project can load."""
    if codec["_class_name"] != CODECS[0]:
        yield "image codec"
    tokenizers = [index[n][1] for n in ("tokenizer", "tokenizer_2") if _present(index, n)]
    if not all(str(kind).startswith(TOKENIZER) for kind in tokenizers):
        yield "tokenizer"


def _check_encoders(folder: Path, index: dict[str, Any], encoders: tuple[str, ...]) -> None:
    if not encoders:
        raise UnsupportedModel(f"The checkpoint '{folder.name}' has no text encoder.")
    for part in encoders:
        if index[part][1] not in TEXT_ENCODERS:
            raise UnsupportedModel(
                f"The {part} of '{folder.name}' is a {index[part][1]}; "
                f"supported: {', '.join(TEXT_ENCODERS)}."
            )


def _prediction(folder: Path, scheduler: dict[str, Any]) -> str:
    kind = str(scheduler.get("prediction_type", "epsilon"))
    if kind not in PREDICTIONS:
        raise UnsupportedModel(
            f"The checkpoint '{folder.name}' predicts '{kind}'; supported: {', '.join(PREDICTIONS)}."
        )
    return kind


def _levels(folder: Path, scheduler: dict[str, Any]) -> NoiseLevels:
    kind = scheduler.get("beta_schedule", "linear")
    if kind not in BETA_SCHEDULES or scheduler.get("trained_betas") is not None:
        raise UnsupportedModel(
            f"The checkpoint '{folder.name}' has the noise schedule '{kind}'; "
            f"supported: {', '.join(BETA_SCHEDULES)}."
        )
    return NoiseLevels(
        float(scheduler.get("beta_start", 0.0001)),
        float(scheduler.get("beta_end", 0.02)),
        int(scheduler.get("num_train_timesteps", 1000)),
        kind == "scaled_linear",
    )


def _notes(scheduler: dict[str, Any]) -> tuple[str, ...]:
    if scheduler.get("rescale_betas_zero_snr"):
        return (
            "the checkpoint was trained to zero signal at the last step, which is left out here",
        )
    return ()
