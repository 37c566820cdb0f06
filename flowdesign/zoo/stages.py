"""The stages that make the zoo from nothing, in one table.

Each stage trains one part in a folder of its own and gives the same part on every run of the same
machine: one thread each, all chance seeded by stage and step. What a stage is made of (its settings, its
seed and the stages it needs) has a fingerprint; a folder that holds another one is made anew, so that no
part ever meets the wrong partner.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers import UNet2DConditionModel as UNet
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast

from flowdesign.config import Step
from flowdesign.render.codec import PatchCodec
from flowdesign.scenes import DOMAINS, Domain
from flowdesign.zoo.codec import decoder_loss, new_codec
from flowdesign.zoo.fit import Schedule, fit
from flowdesign.zoo.lora import add_lora, save_lora
from flowdesign.zoo.pairs import is_fine
from flowdesign.zoo.text import Reader, new_encoder, new_tokenizer, text_loss
from flowdesign.zoo.unet import denoising_loss, make_latents, new_unet
from flowdesign.zoo.upscaler import new_upscaler, save_upscaler, upscaling_loss

FAR_LORAS = ("flat_dusk", "night_crowd")
RECIPE = 2  # raise it when the same settings no longer give the same parts


@dataclass(frozen=True)
class Sizes:
    """How long every kind of part is trained, and on how much."""

    text: Schedule = Schedule(1500, 1.5e-3, decay=0.6)
    pictures: int = 3000  # from which the codec's components are computed
    decoder: Schedule = Schedule(1200, 1.5e-3, decay=0.6)
    base: Schedule = Schedule(3600, 1.5e-3, decay=0.4, ema=0.999)
    # Of a domain with fine detail.
    fine_base: Schedule = Schedule(5800, 1.5e-3, decay=0.4, ema=0.999)
    scenes: int = 20_000  # of one specialist's training set
    lora: Schedule = Schedule(700, 2e-3, decay=0.6, ema=0.99)
    # Of a variant far from its base: another palette, or more objects than it ever drew.
    far_lora: Schedule = Schedule(2000, 2e-3, decay=0.6, ema=0.99)
    lora_scenes: int = 4_000
    upscaler: Schedule = Schedule(500, 2e-3, decay=0.6, ema=0.99)


@dataclass(frozen=True)
class Place:
    """Where a run works, with what seed and sizes; every stage has a folder below `work`."""

    work: Path
    seed: int = 0
    sizes: Sizes = Sizes()

    def folder(self, stage: str) -> Path:
        """The folder of a stage; its finished part is `part` inside."""
        return self.work / stage.replace(" ", "_")

    def part(self, stage: str) -> Path:
        """What a stage has made."""
        return self.folder(stage) / "part"


@dataclass(frozen=True)
class Stage:
    """One part of the zoo: what it needs first, how it is trained, and as what it is published."""

    name: str
    needs: tuple[str, ...]
    train: Callable[[Place], Iterator[Step]]
    uses: tuple[str, ...] = ()  # the fields of `Sizes` that it depends on
    publish: str = ""  # path below a models folder; empty for what only other stages use


# --- shared parts --------------------------------------------------------------------------------


def _train_text(place: Place) -> Iterator[Step]:
    torch.manual_seed(place.seed)
    tokenizer = new_tokenizer()
    encoder, reader = new_encoder(tokenizer), Reader()
    loss = text_loss(encoder, tokenizer, reader)
    modules = {"e": encoder, "r": reader}
    yield from fit("text", modules, loss, place.sizes.text, place.folder("text"), place.seed)
    tokenizer.save_pretrained(place.part("text") / "tokenizer")
    encoder.save_pretrained(place.part("text") / "text_encoder")


def _text(place: Place) -> tuple[CLIPTextModelWithProjection, PreTrainedTokenizerFast]:
    encoder = CLIPTextModelWithProjection.from_pretrained(place.part("text") / "text_encoder")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(place.part("text") / "tokenizer")
    return encoder.eval(), tokenizer


def _make_codec(place: Place) -> Iterator[Step]:
    new_codec(place.seed, place.sizes.pictures).save_pretrained(place.part("codec"))
    yield Step(0, 1, {})


def _codec(place: Place, stage: str = "codec") -> PatchCodec:
    codec: PatchCodec = PatchCodec.from_pretrained(place.part(stage))
    codec.eval()
    return codec


def _train_decoder(place: Place) -> Iterator[Step]:
    codec = _codec(place)
    loss, folder = decoder_loss(codec), place.folder("decoder")
    yield from fit("decoder", {"codec": codec}, loss, place.sizes.decoder, folder, place.seed)
    codec.save_pretrained(place.part("decoder"))


def _copy_codec(stage: str, source: str, place: Place) -> Iterator[Step]:
    """A codec in half precision, as a model of its own."""
    _codec(place, source).half().save_pretrained(place.part(stage))
    yield Step(0, 1, {})


# --- models --------------------------------------------------------------------------------------


def _train_base(domain: Domain, place: Place) -> Iterator[Step]:
    name = _unet_stage(domain)
    cache = place.folder(name) / "latents.safetensors"
    data = make_latents(domain, 0.0, place.sizes.scenes, place.seed, _codec(place), _text(place), cache)  # fmt: skip
    torch.manual_seed(place.seed)
    unet = new_unet()
    loss = denoising_loss(unet, data)
    schedule = getattr(place.sizes, _base_schedule(domain))
    yield from fit(domain.checkpoint, {"unet": unet}, loss, schedule, place.folder(name), place.seed)  # fmt: skip
    unet.save_pretrained(place.part(name))


def _pack(domain: Domain, place: Place) -> Iterator[Step]:
    """Put a checkpoint together as a diffusers folder, in half precision."""
    encoder, tokenizer = _text(place)
    pipeline = StableDiffusionXLPipeline(
        vae=_codec(place, "decoder").half(), text_encoder=None, text_encoder_2=encoder.half(),
        tokenizer=None, tokenizer_2=tokenizer,
        unet=UNet.from_pretrained(place.part(_unet_stage(domain))).half(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            prediction_type="v_prediction", timestep_spacing="trailing",
        ),
        add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(place.part(domain.checkpoint))
    yield Step(0, 1, {})


def _train_lora(domain: Domain, place: Place) -> Iterator[Step]:
    name = domain.lora
    cache = place.folder(name) / "latents.safetensors"
    data = make_latents(domain, 1.0, place.sizes.lora_scenes, place.seed, _codec(place), _text(place), cache)  # fmt: skip
    unet = UNet.from_pretrained(place.part(_unet_stage(domain)))
    torch.manual_seed(place.seed)
    add_lora(unet)
    loss = denoising_loss(unet, data)
    schedule = getattr(place.sizes, _lora_schedule(domain))
    yield from fit(name, {"unet": unet}, loss, schedule, place.folder(name), place.seed)
    save_lora(unet, place.part(name))


def _base_schedule(domain: Domain) -> str:
    """The field of `Sizes` that says how long the domain's checkpoint is trained."""
    return "fine_base" if is_fine(domain) else "base"


def _lora_schedule(domain: Domain) -> str:
    """The field of `Sizes` that says how long the domain's LoRA is trained."""
    return "far_lora" if domain.lora in FAR_LORAS else "lora"


def _train_upscaler(scale: int, place: Place) -> Iterator[Step]:
    name = f"mini_{scale}x"
    torch.manual_seed(place.seed)
    model = new_upscaler(scale)
    loss = upscaling_loss(model, scale)
    yield from fit(name, {"model": model}, loss, place.sizes.upscaler, place.folder(name), place.seed)  # fmt: skip
    save_upscaler(model, place.part(name))


def _unet_stage(domain: Domain) -> str:
    return f"{domain.checkpoint} unet"


STAGES: tuple[Stage, ...] = (
    Stage("text", (), _train_text, ("text",)),
    Stage("codec", (), _make_codec, ("pictures",)),
    *(
        Stage(
            _unet_stage(d), ("text", "codec"), partial(_train_base, d),
            (_base_schedule(d), "scenes"),
        )
        for d in DOMAINS
    ),
    Stage("decoder", ("codec",), _train_decoder, ("decoder",)),
    *(
        Stage(
            d.lora, (_unet_stage(d),), partial(_train_lora, d),
            (_lora_schedule(d), "lora_scenes"), f"loras/{d.lora}.safetensors",
        )
        for d in DOMAINS
    ),
    *(
        Stage(
            f"mini_{s}x", (), partial(_train_upscaler, s), ("upscaler",),
            f"upscale_models/mini_{s}x.safetensors",
        )
        for s in (2, 4)
    ),
    *(
        Stage(
            d.checkpoint, (_unet_stage(d), "decoder"), partial(_pack, d), (),
            f"checkpoints/{d.checkpoint}",
        )
        for d in DOMAINS
    ),
    *(
        Stage(name, (source,), partial(_copy_codec, name, source), (), f"vae/{name}")
        for name, source in (("mini_vae", "decoder"), ("mini_vae_soft", "codec"))
    ),
)  # fmt: skip
BY_NAME = {stage.name: stage for stage in STAGES}


# --- what is done --------------------------------------------------------------------------------


def fingerprint(name: str, place: Place) -> str:
    """Hash of all that decides a part: recipe, sizes, seed, and the same of what it needs."""
    needs = [fingerprint(need, place) for need in BY_NAME[name].needs]
    sizes = [repr(getattr(place.sizes, each)) for each in BY_NAME[name].uses]
    text = json.dumps([RECIPE, name, sizes, place.seed, needs])
    return hashlib.sha256(text.encode()).hexdigest()


def is_done(name: str, place: Place) -> bool:
    """Whether the part exists as these settings would make it."""
    return _mark(place, name, "done.json") == fingerprint(name, place)


def train_stage(name: str, place: Place) -> Iterator[Step]:
    """Train one stage, or go on with it; what other settings left in its folder is removed."""
    folder = place.folder(name)
    if _mark(place, name, "begun.json") != fingerprint(name, place):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "begun.json").write_text(json.dumps(fingerprint(name, place)))
    yield from BY_NAME[name].train(place)
    (folder / "done.json").write_text(json.dumps(fingerprint(name, place)))


def _mark(place: Place, name: str, file: str) -> str:
    path = place.folder(name) / file
    return str(json.loads(path.read_text())) if path.exists() else ""


def publish(place: Place, models: Path) -> Iterator[Path]:
    """Copy every finished model into a models folder, each replaced as a whole."""
    for stage in STAGES:
        if not stage.publish or not is_done(stage.name, place):
            continue
        target = models / stage.publish
        draft = target.with_name(f".{target.name}.new")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        copy = shutil.copytree if place.part(stage.name).is_dir() else shutil.copyfile
        copy(place.part(stage.name), draft)
        if target.is_dir():
            shutil.rmtree(target)
        draft.replace(target)
        yield target


def smaller(sizes: Sizes, steps: int, scenes: int) -> Sizes:
    """The same stages cut down, for tests."""

    def cut(schedule: Schedule) -> Schedule:
        return replace(schedule, steps=steps)

    return Sizes(
        cut(sizes.text), scenes, cut(sizes.decoder), cut(sizes.base), cut(sizes.fine_base), scenes, cut(sizes.lora),
        cut(sizes.far_lora), scenes, cut(sizes.upscaler),
    )  # fmt: skip
