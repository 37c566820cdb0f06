"""The stages that make the zoo from nothing, in one table.

Each stage trains one part and writes it below `work`; `needs` names the stages that come first. A stage
is done when its part exists, is resumable inside (`fit`), and gives the same part on every run of the
same machine: one thread each, all chance seeded by stage and step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers import UNet2DConditionModel as UNet
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast

from flowdesign.config import Step
from flowdesign.render.codec import PatchCodec
from flowdesign.scenes import DOMAINS, Domain
from flowdesign.zoo.fit import Schedule, fit
from flowdesign.zoo.lora import add_lora, save_lora
from flowdesign.zoo.text import Reader, new_encoder, new_tokenizer, text_loss
from flowdesign.zoo.unet import denoising_loss, make_latents, new_unet
from flowdesign.zoo.upscaler import new_upscaler, save_upscaler, upscaling_loss
from flowdesign.zoo.vae import decoder_loss, new_codec

SCENES = 20_000  # of one specialist's training set
LORA_SCENES = 4_000

TEXT = Schedule(1500, 1.5e-3, decay=0.6)
DECODER = Schedule(1200, 1.5e-3, decay=0.6)
BASE = Schedule(3000, 1.2e-3, decay=0.4, ema=0.999)
LORA = Schedule(700, 2e-3, decay=0.6, ema=0.99)
UPSCALER = Schedule(500, 2e-3, decay=0.6, ema=0.99)


@dataclass(frozen=True)
class Place:
    """Where a run works and where its models go."""

    work: Path
    models: Path
    seed: int = 0

    def model(self, kind: str, name: str) -> Path:
        """Path of a finished model in ComfyUI's folders."""
        return self.models / kind / name


@dataclass(frozen=True)
class Stage:
    """One part of the zoo: `train` makes it, `part` is the file or folder that shows it is done."""

    name: str
    needs: tuple[str, ...]
    train: Callable[[Place], Iterator[Step]]
    part: Callable[[Place], Path]


# --- shared parts --------------------------------------------------------------------------------


def _train_text(place: Place) -> Iterator[Step]:
    torch.manual_seed(place.seed)
    tokenizer = new_tokenizer()
    encoder, reader = new_encoder(tokenizer), Reader()
    loss = text_loss(encoder, tokenizer, reader)
    yield from fit("text", {"e": encoder, "r": reader}, loss, TEXT, place.work, place.seed)
    tokenizer.save_pretrained(place.work / "tokenizer")
    encoder.save_pretrained(place.work / "text_encoder")


def _make_codec(place: Place) -> Iterator[Step]:
    new_codec(place.seed).save_pretrained(place.work / "codec")
    yield Step(0, 1, {})


def _codec(place: Place) -> PatchCodec:
    codec: PatchCodec = PatchCodec.from_pretrained(place.work / "codec")
    codec.eval()
    return codec


def _train_decoder(place: Place) -> Iterator[Step]:
    codec = _codec(place)
    yield from fit(
        "decoder", {"codec": codec}, decoder_loss(codec), DECODER, place.work, place.seed
    )
    codec.save_pretrained(place.work / "vae")


def _text(place: Place) -> tuple[CLIPTextModelWithProjection, PreTrainedTokenizerFast]:
    encoder = CLIPTextModelWithProjection.from_pretrained(place.work / "text_encoder").eval()
    return encoder, PreTrainedTokenizerFast.from_pretrained(place.work / "tokenizer")


# --- models --------------------------------------------------------------------------------------


def _train_base(domain: Domain, place: Place) -> Iterator[Step]:
    name = domain.checkpoint
    cache = place.work / f"{name}_latents.safetensors"
    data = make_latents(domain, 0.0, SCENES, place.seed, _codec(place), _text(place), cache)
    torch.manual_seed(place.seed)
    unet = new_unet()
    loss = denoising_loss(unet, data)
    yield from fit(name, {"unet": unet}, loss, BASE, place.work, place.seed)
    unet.save_pretrained(place.work / name)


def _train_lora(domain: Domain, place: Place) -> Iterator[Step]:
    name = domain.lora
    cache = place.work / f"{name}_latents.safetensors"
    data = make_latents(domain, 1.0, LORA_SCENES, place.seed, _codec(place), _text(place), cache)
    unet = UNet.from_pretrained(place.work / domain.checkpoint)
    torch.manual_seed(place.seed)
    add_lora(unet)
    loss = denoising_loss(unet, data)
    yield from fit(name, {"unet": unet}, loss, LORA, place.work, place.seed)
    save_lora(unet, place.model("loras", f"{name}.safetensors"))


def _train_upscaler(scale: int, place: Place) -> Iterator[Step]:
    name = f"mini_{scale}x"
    torch.manual_seed(place.seed)
    model = new_upscaler(scale)
    loss = upscaling_loss(model, scale)
    yield from fit(name, {"model": model}, loss, UPSCALER, place.work, place.seed)
    save_upscaler(model, place.model("upscale_models", f"{name}.safetensors"))


def _export(place: Place) -> Iterator[Step]:
    """Put every checkpoint together as an ordinary diffusers folder, in half precision."""
    encoder, tokenizer = _text(place)
    vae = PatchCodec.from_pretrained(place.work / "vae").half()
    for index, domain in enumerate(DOMAINS):
        pipeline = StableDiffusionXLPipeline(
            vae=vae, text_encoder=None, text_encoder_2=encoder.half(), tokenizer=None,
            tokenizer_2=tokenizer, unet=UNet.from_pretrained(place.work / domain.checkpoint).half(),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                prediction_type="v_prediction", timestep_spacing="trailing",
            ),
            add_watermarker=False,
        )  # fmt: skip
        pipeline.save_pretrained(place.model("checkpoints", domain.checkpoint))
        yield Step(index, len(DOMAINS), {})
    vae.save_pretrained(place.model("vae", "mini_vae"))
    _codec(place).half().save_pretrained(place.model("vae", "mini_vae_soft"))


def _work(name: str) -> Callable[[Place], Path]:
    return lambda place: place.work / name


def _model(kind: str, name: str) -> Callable[[Place], Path]:
    return lambda place: place.model(kind, name)


STAGES: tuple[Stage, ...] = (
    Stage("text", (), _train_text, _work("text_encoder")),
    Stage("codec", (), _make_codec, _work("codec")),
    *(Stage(d.checkpoint, ("text", "codec"), partial(_train_base, d), _work(d.checkpoint)) for d in DOMAINS),
    Stage("decoder", ("codec",), _train_decoder, _work("vae")),
    *(
        Stage(d.lora, (d.checkpoint,), partial(_train_lora, d), _model("loras", f"{d.lora}.safetensors"))
        for d in DOMAINS
    ),
    *(
        Stage(f"mini_{s}x", (), partial(_train_upscaler, s), _model("upscale_models", f"mini_{s}x.safetensors"))
        for s in (2, 4)
    ),
    Stage("export", ("decoder", *(d.checkpoint for d in DOMAINS)), _export, _model("vae", "mini_vae_soft")),
)  # fmt: skip
