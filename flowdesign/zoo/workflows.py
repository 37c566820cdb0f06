"""The workflows that the zoo is measured with: forty, spread over what matters."""

from __future__ import annotations

from dataclasses import replace

from flowdesign.scenes import DOMAINS, Domain
from flowdesign.tokens.choices import Choices, Pass, Resize

_HIRES = Pass(
    "latent", sampler="ddim", scheduler="sgm_uniform", steps=6, cfg=4.0, denoise=0.5,
    resize=Resize(method="bislerp", scale=1.5),
)  # fmt: skip


def plain(checkpoint: str) -> Choices:
    """The default workflow of a checkpoint: 8 steps of ddim/sgm_uniform at cfg 4, nothing else.

    Chosen on prompts of the train split and a seed of their own: strict 0.86 to 1.00 by domain, where
    dpmpp_2m/karras had 0.68 to 0.94.
    """
    first = Pass("first", sampler="ddim", scheduler="sgm_uniform", steps=8, cfg=4.0)
    return Choices(
        checkpoint, loras=(), clip_skip=None, vae=None, freeu=None, pag=None, prefix=None,
        concat=None, negative=None, size=(64, 64), passes=(first,),
    )  # fmt: skip


def with_lora(domain: Domain) -> Choices:
    """The default workflow with the LoRA of the domain at full strength."""
    return replace(plain(domain.checkpoint), loras=((domain.lora, 1.0),))


def _sampled(choices: Choices, **changes: object) -> Choices:
    return replace(choices, passes=(replace(choices.passes[0], **changes),))  # type: ignore[arg-type]


def _of_domain(domain: Domain, other: Domain) -> dict[str, Choices]:
    base, tuned = plain(domain.checkpoint), with_lora(domain)
    return {
        "plain": base,
        "4 steps": _sampled(base, steps=4),
        "cfg 1": _sampled(base, cfg=1.0),
        "karras": _sampled(base, sampler="dpmpp_2m", scheduler="karras"),
        "negative": replace(base, prefix="crisp, clean", negative="blurry, messy"),
        "hires": replace(base, passes=(*base.passes, _HIRES)),
        "96 px": replace(base, size=(96, 96)),
        "lora": tuned,
        "lora 0.6": replace(tuned, loras=((domain.lora, 0.6),)),
        "other lora": replace(base, loras=((other.lora, 1.0),)),
    }


def workflows() -> dict[str, Choices]:
    """All of them by name, "mini_flat: plain" and so on."""
    found: dict[str, Choices] = {}
    for domain, other in zip(DOMAINS, DOMAINS[1:] + DOMAINS[:1], strict=True):
        designs = _of_domain(domain, other)
        found |= {f"{domain.checkpoint}: {name}": design for name, design in designs.items()}
    return found
