"""A checkpoint: the parts of a model, and what its configuration says about noise and latents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open

from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.files import (
    Part,
    Shapes,
    check_weights,
    own_configs,
    read_header,
    read_json,
)
from flowdesign.render.layouts import (
    NETWORK,
    codec_file,
    layout_of,
    layout_of_settings,
    own_tokenizer,
    prefix_of,
)
from flowdesign.render.levels import FlowLevels, Levels, NoiseLevels
from flowdesign.workflow import VAE_FACTOR

PIPELINES: Mapping[str, str] = MappingProxyType(
    {  # the pipeline that a diffusers folder names -> family
        "StableDiffusionPipeline": "sd1",
        "StableDiffusionXLPipeline": "sdxl",
        "StableDiffusionXLImg2ImgPipeline": "sdxl",  # the refiner
        "StableDiffusion3Pipeline": "sd3",
        "FluxPipeline": "flux",
    }
)
INDEX = "model_index.json"
TEXT_PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
TEXT_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
TOKENIZERS = ("CLIPTokenizer", "T5Tokenizer")  # how the names of those begin that ComfyUI has
CODECS = ("AutoencoderKL", "PatchCodec")  # the second is the miniature's own, in `codec`
PREDICTIONS = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("scaled_linear", "linear")
FLUX_SHIFT = math.exp(1.15)  # ComfyUI's, whatever the size, unless ModelSamplingFlux says another
_V_SIGN = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_SPREAD = 0.09  # of that tensor: ComfyUI's test for the v-prediction of an SD 2 file


@dataclass(frozen=True)
class Checkpoint:
    """A model of one of the families: sd1, sd2, sdxl, sd3 or flux."""

    name: str
    family: str
    network: Part
    texts: tuple[Part, ...]  # in the order in which hidden states are joined
    codec: Part | None
    prediction: str  # epsilon, v_prediction or flow
    levels: Levels
    latent_channels: int
    scaling: float
    shift: float
    own_parts: tuple[str, ...] = ()  # what ComfyUI has no loader for
    pipeline: str = ""  # of diffusers
    folder: Path | None = None  # of diffusers; None for a single file

    @property
    def is_xl(self) -> bool:
        """Whether it is of SDXL's family: pooled text and sizes beside the timestep."""
        return self.family == "sdxl"

    @property
    def has_unet(self) -> bool:
        """Whether the network is a UNet; it is a transformer otherwise."""
        return self.family in ("sd1", "sd2", "sdxl")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what a diffusers folder or a single file says of a whole model; raises UnsupportedModel."""
    if path.is_dir():
        return _described(path, path, _folder_parts(path))
    names = read_header(path)[0]
    if prefix_of("network", names) is None:
        raise UnsupportedModel(
            f"'{path.name}' holds no whole model. A diffusion model alone belongs in "
            "diffusion_models and is loaded with UNETLoader."
        )
    configs = layout_of(path, names)
    return _described(path, configs, _file_parts(path, configs, names))


def read_network(path: Path) -> Checkpoint:
    """Read what the file or folder of a diffusion model alone says; raises UnsupportedModel."""
    if (path / INDEX).is_file():
        return read_checkpoint(path)
    if path.is_dir():
        check_weights(path)
        configs = layout_of_settings(read_json(path / "config.json"))
        return _described(path, configs, [Part("network", path, path)])
    names = read_header(path)[0]
    configs = layout_of(path, names)
    prefix = NETWORK if prefix_of("network", names) else ""
    config = configs / _network_name(read_json(configs / INDEX))
    return _described(path, configs, [Part("network", path, config, prefix)])


def read_codec(path: Path) -> Part:
    """Return the part of a VAE's own file or folder; raises UnsupportedModel."""
    if not path.is_dir():
        return codec_file(path, read_header(path)[0])
    part = Part("vae", path, path)
    _check_codec(part)
    check_weights(path)
    return part


def described(configs: Path) -> list[Part]:
    """Return the parts of a configuration folder, as if their weights were there."""
    index = read_json(configs / INDEX)
    parts = [
        Part("network", configs, configs / _network_name(index)),
        *_text_parts(configs, configs, index),
        Part("vae", configs, configs / "vae"),
    ]
    is_sd2 = PIPELINES[_pipeline(configs, index)] == "sd1" and _is_sd2(configs)
    return [replace(p, role="clip_h") if is_sd2 and p.role == "clip_l" else p for p in parts]


def _described(path: Path, configs: Path, parts: list[Part]) -> Checkpoint:
    index = read_json(configs / INDEX)
    family = PIPELINES[_pipeline(path, index)]
    by_role = {part.role: part for part in parts}
    codec = by_role.get("vae")
    settings = codec.settings() if codec else read_json(configs / "vae" / "config.json")
    scheduler = read_json(configs / "scheduler" / "scheduler_config.json")
    if path.is_file() and own_configs(path, INDEX) is None:
        scheduler |= _found(by_role["network"], family)
    if family == "sd1" and _is_sd2(configs):
        family = "sd2"
        by_role = {
            r: replace(p, role="clip_h") if r.startswith("clip") else p for r, p in by_role.items()
        }
    flow = family in ("sd3", "flux")
    return Checkpoint(
        name=path.name if path.is_dir() else path.stem,
        family=family,
        network=by_role["network"],
        texts=tuple(part for role, part in by_role.items() if role not in ("network", "vae")),
        codec=codec,
        prediction="flow" if flow else _prediction(path, scheduler),
        levels=_flow_levels(by_role["network"], scheduler) if flow else _levels(path, scheduler),
        latent_channels=int(settings.get("latent_channels", 4)),
        scaling=float(settings.get("scaling_factor", 0.18215)),
        shift=float(settings.get("shift_factor") or 0.0),
        own_parts=tuple(_own_parts(index, settings)),
        pipeline=_pipeline(path, index),
        folder=path if path.is_dir() else None,
    )


def _folder_parts(folder: Path) -> list[Part]:
    """Return the parts of a diffusers folder, with their weights."""
    index = read_json(folder / INDEX)
    name = _network_name(index) if _pipeline(folder, index) else ""
    parts = [Part("network", folder / name, folder / name)]
    parts += list(_text_parts(folder, folder, index))
    if not parts[1:]:
        raise UnsupportedModel(f"The checkpoint '{folder.name}' has no text encoder.")
    parts.append(Part("vae", folder / "vae", folder / "vae"))
    for part in parts:
        check_weights(part.weights)
    _check_codec(parts[-1])
    return parts


def _file_parts(path: Path, configs: Path, names: Shapes) -> list[Part]:
    """Return the parts that a single file holds; its text encoders and VAE may be elsewhere."""
    index = read_json(configs / INDEX)
    parts = [Part("network", path, configs / _network_name(index), NETWORK)]
    for part in _text_parts(configs, path, index):
        prefix = prefix_of(part.role, names)
        if prefix is None and part.role == "clip_l":  # SD 2's, before its family is known
            prefix = prefix_of("clip_h", names)
        if prefix is not None:
            words = own_tokenizer(path) if part.role == "t5" else None
            tokenizer = part.tokenizer or words
            parts.append(replace(part, weights=path, prefix=prefix, tokenizer=tokenizer))
    prefix = prefix_of("vae", names)
    if prefix is not None:
        parts.append(Part("vae", path, configs / "vae", prefix))
    return parts


def _text_parts(configs: Path, path: Path, index: dict[str, Any]) -> Iterator[Part]:
    for name in TEXT_PARTS:
        if not _present(index, name):
            continue
        if index[name][1] not in TEXT_ENCODERS:
            raise UnsupportedModel(
                f"The {name} of '{path.name}' is a {index[name][1]}; "
                f"supported: {', '.join(TEXT_ENCODERS)}."
            )
        role = "clip_l" if name == TEXT_PARTS[0] else "clip_g"
        role = "t5" if index[name][1] == TEXT_ENCODERS[2] else role
        tokenizer = configs / name.replace("text_encoder", "tokenizer")
        yield Part(
            role,
            configs / name,
            configs / name,
            tokenizer=tokenizer if tokenizer.is_dir() else None,
        )


def _is_sd2(configs: Path) -> bool:
    """Whether a Stable Diffusion reads its texts with OpenCLIP, which has an exact gelu."""
    return read_json(configs / "text_encoder" / "config.json").get("hidden_act") == "gelu"


def _pipeline(path: Path, index: dict[str, Any]) -> str:
    kind = str(index.get("_class_name"))
    if kind not in PIPELINES:
        raise UnsupportedModel(
            f"The checkpoint '{path.name}' is a {kind}; supported: {', '.join(PIPELINES)}."
        )
    return kind


def _network_name(index: dict[str, Any]) -> str:
    return "transformer" if _present(index, "transformer") else "unet"


def _present(index: dict[str, Any], part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def _found(network: Part, family: str) -> dict[str, Any]:
    """Return what the tensors of a single file say of its prediction, by ComfyUI's signs."""
    with safe_open(network.weights, "pt") as file:
        names = set(file.keys())
        sign = network.prefix + _V_SIGN
        if family == "sdxl" and "v_pred" in names:
            return {"prediction_type": PREDICTIONS[1], "rescale_betas_zero_snr": "ztsnr" in names}
        if family == "sd1" and _is_sd2(network.config.parent) and sign in names:
            spread = float(torch.std(file.get_tensor(sign).float(), correction=1))
            return {"prediction_type": PREDICTIONS[spread > _V_SPREAD]}
    return {}


def _check_codec(part: Part) -> None:
    config = part.settings()
    if config.get("_class_name") not in CODECS:
        raise UnsupportedModel(
            f"The VAE '{part.config.name}' is a {config.get('_class_name')}; "
            f"supported: {', '.join(CODECS)}."
        )
    factor = 2 ** (len(config.get("block_out_channels", ())) - 1)
    if factor != VAE_FACTOR:
        raise UnsupportedModel(
            f"The VAE in '{part.config}' scales by {factor}; only {VAE_FACTOR} is supported."
        )


def _own_parts(index: dict[str, Any], codec: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of a checkpoint that only diffusers and this project can load."""
    if codec["_class_name"] != CODECS[0]:
        yield "image codec"
    names = [part.replace("text_encoder", "tokenizer") for part in TEXT_PARTS]
    tokenizers = [index[name][1] for name in names if _present(index, name)]
    if not all(str(kind).startswith(TOKENIZERS) for kind in tokenizers):
        yield "tokenizer"


def _prediction(path: Path, scheduler: dict[str, Any]) -> str:
    kind = str(scheduler.get("prediction_type", "epsilon"))
    if kind not in PREDICTIONS:
        raise UnsupportedModel(
            f"The checkpoint '{path.name}' predicts '{kind}'; supported: {', '.join(PREDICTIONS)}."
        )
    return kind


def _levels(path: Path, scheduler: dict[str, Any]) -> NoiseLevels:
    kind = scheduler.get("beta_schedule", "linear")
    if kind not in BETA_SCHEDULES or scheduler.get("trained_betas") is not None:
        raise UnsupportedModel(
            f"The checkpoint '{path.name}' has the noise schedule '{kind}'; "
            f"supported: {', '.join(BETA_SCHEDULES)}."
        )
    return NoiseLevels(
        float(scheduler.get("beta_start", 0.0001)),
        float(scheduler.get("beta_end", 0.02)),
        int(scheduler.get("num_train_timesteps", 1000)),
        kind == "scaled_linear",
        bool(scheduler.get("rescale_betas_zero_snr")),
    )


def _flow_levels(network: Part, scheduler: dict[str, Any]) -> FlowLevels:
    settings = network.settings()
    if settings["_class_name"] == "SD3Transformer2DModel":
        return FlowLevels(float(scheduler.get("shift", 3.0)))
    if settings.get("guidance_embeds"):
        return FlowLevels(FLUX_SHIFT, count=10_000, scale=1.0)
    return FlowLevels(1.0, scale=1.0)  # schnell: evenly spaced
