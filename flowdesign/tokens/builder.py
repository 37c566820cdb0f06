"""From choices to the graph: every node and every wire that they imply."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowdesign.catalog import PREFIXES
from flowdesign.nodes import NODES
from flowdesign.tokens.choices import Choices, Pass, Resize
from flowdesign.tokens.vocabulary import BASE, ZERO, phrase
from flowdesign.workflow import PROMPT, Workflow, canonical

Link = list[Any]  # [id, slot]
FILENAME_PREFIX = "FlowDesign"
ALL_STEPS = 10000  # ComfyUI's "to the end"
_PREFIXES = {phrase(text): text for text in PREFIXES}


class Conditioned(NamedTuple):
    """A checkpoint ready to sample with."""

    model: Link
    positive: Link
    negative: Link


def switch_step(steps: int, switch: float) -> int:
    """Return the step at which the second checkpoint takes over; at least one step is left to each."""
    return min(max(int(steps * switch), 1), steps - 1)


def build(choices: Choices) -> Workflow:
    """Return the canonical, unbound workflow of choices."""
    builder = _Builder(choices)
    image = builder.image()
    builder.add("SaveImage", images=image, filename_prefix=FILENAME_PREFIX)
    return canonical(builder.workflow)


class _Builder:
    """Adds nodes one after the other; equal ones are merged by the canonical form."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.workflow: Workflow = {}
        loader = self.add("CheckpointLoaderSimple", ckpt_name=choices.checkpoint)
        self.vae = self.add("VAELoader", vae_name=choices.vae) if choices.vae else [loader[0], 2]
        self.conditioned = {BASE: self._base(loader)}

    def add(self, class_type: str, **inputs: Any) -> Link:
        """Add a node and return a link to its first output."""
        node = str(len(self.workflow) + 1)
        self.workflow[node] = {"class_type": class_type, "inputs": inputs}
        return [node, 0]

    def image(self) -> Link:
        """Add all passes and the final resize; return the image."""
        width, height = self.choices.size
        latent = self.add("EmptyLatentImage", width=width, height=height, batch_size=1)
        following = (*self.choices.passes[1:], None)
        for each, after in zip(self.choices.passes, following, strict=True):
            if each.kind == "refine":
                latent = self._half(latent, self.choices.passes[0], each, first=False)
            elif after is not None and after.kind == "refine":
                latent = self._half(latent, each, after, first=True)
            else:
                latent = self._sample(self._enlarged(latent, each), each)
        image = self.add("VAEDecode", samples=latent, vae=self.vae)
        return self._resized(image, self.choices.final)

    def _base(self, loader: Link) -> Conditioned:
        choices, model, clip = self.choices, loader, [loader[0], 1]
        for name, strength in choices.loras:
            model = self.add(
                "LoraLoader",
                model=model,
                clip=clip,
                lora_name=name,
                strength_model=strength,
                strength_clip=strength,
            )
            clip = [model[0], 1]
        if choices.clip_skip is not None:
            clip = self.add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=choices.clip_skip)
        if choices.freeu is not None:
            preset = NODES["FreeU_V2"].presets[choices.freeu]
            model = self.add("FreeU_V2", model=model, **preset)
        if choices.pag is not None:
            model = self.add("PerturbedAttentionGuidance", model=model, scale=choices.pag)
        return self._conditioned(model, clip)

    def _conditioned(self, model: Link, clip: Link) -> Conditioned:
        choices = self.choices
        text = _PREFIXES[choices.prefix or ""] + PROMPT
        positive = self.add("CLIPTextEncode", text=text, clip=clip)
        if choices.concat is not None:
            extra = self.add("CLIPTextEncode", text=choices.concat, clip=clip)
            positive = self.add(
                "ConditioningConcat", conditioning_to=positive, conditioning_from=extra
            )
        if choices.negative == ZERO:
            negative = self.add("ConditioningZeroOut", conditioning=positive)
        else:
            negative = self.add("CLIPTextEncode", text=choices.negative or "", clip=clip)
        return Conditioned(model, positive, negative)

    def _inputs(self, each: Pass) -> dict[str, Any]:
        """Return the model inputs of a sampler; a second checkpoint is loaded when first used."""
        if each.model not in self.conditioned:
            loader = self.add("CheckpointLoaderSimple", ckpt_name=each.model)
            self.conditioned[each.model] = self._conditioned(loader, [loader[0], 1])
        return self.conditioned[each.model]._asdict()

    def _sample(self, latent: Link, each: Pass) -> Link:
        return self.add(
            "KSampler",
            **self._inputs(each),
            seed=0,
            steps=each.steps,
            cfg=each.cfg,
            sampler_name=each.sampler,
            scheduler=each.scheduler,
            latent_image=latent,
            denoise=each.denoise,
        )

    def _half(self, latent: Link, whole: Pass, refine: Pass, first: bool) -> Link:
        """Add one half of a schedule that two checkpoints share."""
        step = switch_step(whole.steps, refine.switch)
        each = whole if first else refine
        return self.add(
            "KSamplerAdvanced",
            **self._inputs(each),
            add_noise="enable" if first else "disable",
            noise_seed=0,
            steps=whole.steps,
            cfg=each.cfg,
            sampler_name=whole.sampler,
            scheduler=whole.scheduler,
            latent_image=latent,
            start_at_step=0 if first else step,
            end_at_step=step if first else ALL_STEPS,
            return_with_leftover_noise="enable" if first else "disable",
        )

    def _enlarged(self, latent: Link, each: Pass) -> Link:
        if each.kind == "latent":
            return self.add(
                "LatentUpscaleBy",
                samples=latent,
                upscale_method=each.resize.method,
                scale_by=each.resize.scale,
            )
        if each.kind == "pixel":
            image = self.add("VAEDecode", samples=latent, vae=self.vae)
            return self.add("VAEEncode", pixels=self._resized(image, each.resize), vae=self.vae)
        return latent

    def _resized(self, image: Link, resize: Resize) -> Link:
        if resize.upscaler:
            model = self.add("UpscaleModelLoader", model_name=resize.upscaler)
            image = self.add("ImageUpscaleWithModel", upscale_model=model, image=image)
        if resize.method:
            image = self.add(
                "ImageScaleBy", image=image, upscale_method=resize.method, scale_by=resize.scale
            )
        return image
