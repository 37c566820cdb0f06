"""From a graph to its choices, if the vocabulary can say it.

Reading follows the chain back from the image and looks only at what it must; then its graph is
built again and compared, so whatever differs from what the sentence implies is found and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowdesign.catalog import NEGATIVES, PREFIXES
from flowdesign.nodes import NODES
from flowdesign.tokens.builder import build, switch_step
from flowdesign.tokens.choices import Choices, Pass, Resize
from flowdesign.tokens.vocabulary import BASE, SWITCHES, ZERO, phrase
from flowdesign.workflow import PROMPT, Problem, Workflow, digests, nodes_of, source

_PHRASES = {text + PROMPT: phrase(text) for text in PREFIXES}


class NotInLanguage(ValueError):
    """The vocabulary cannot say the workflow; `problems` says why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0].message}{more}")


def fail(node: str, message: str, name: str = "") -> NotInLanguage:
    """Return the error for one thing that the vocabulary cannot say."""
    return NotInLanguage([Problem("not_in_language", node, name, message)])


def read(workflow: Workflow) -> Choices:
    """Return the choices of a canonical, unbound and snapped workflow; raises NotInLanguage."""
    choices = _Reader(workflow).choices()
    said = set(digests(build(choices)).values())
    for node, digest in digests(workflow).items():
        if digest not in said:
            class_type = workflow[node]["class_type"]
            raise fail(
                node, f"Node '{node}' ({class_type}) is not wired as the vocabulary wires it."
            )
    return choices


class _Reader:
    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow

    def choices(self) -> Choices:
        outputs = nodes_of(self.workflow, "SaveImage")
        if len(outputs) != 1:
            raise fail("", f"A sentence has one image to save, this workflow has {len(outputs)}.")
        final, latent = self._image(self._behind(outputs[0], "images"))
        samplers = self._samplers(latent)
        first = samplers[0][0]
        model = self._behind(first, "model")
        pag = self._optional(model, "PerturbedAttentionGuidance")
        model = self._behind(pag, "model") if pag else model
        freeu = self._optional(model, "FreeU_V2")
        model = self._behind(freeu, "model") if freeu else model
        loras, checkpoint = self._loras(model)
        empty = self._inputs(self._expect(self._behind(first, "latent_image"), "EmptyLatentImage"))
        return Choices(
            checkpoint=checkpoint,
            loras=loras,
            clip_skip=self._clip_skip(first),
            vae=self._vae(),
            freeu=self._preset(freeu) if freeu else None,
            pag=self._inputs(pag)["scale"] if pag else None,
            **self._texts(first),
            size=(empty["width"], empty["height"]),
            passes=self._passes(samplers, checkpoint),
            final=final,
        )

    def _inputs(self, node: str) -> dict[str, Any]:
        inputs: dict[str, Any] = self.workflow[node]["inputs"]
        return inputs

    def _class(self, node: str) -> str:
        return str(self.workflow[node]["class_type"])

    def _behind(self, node: str, name: str) -> str:
        link = source(self.workflow, node, name)
        if link is None:
            raise fail(node, f"Node '{node}' has no link at '{name}'.", name)
        return link[0]

    def _optional(self, node: str, class_type: str) -> str | None:
        return node if self._class(node) == class_type else None

    def _expect(self, node: str, *class_types: str) -> str:
        if self._class(node) not in class_types:
            wanted = " or ".join(class_types)
            message = f"Node '{node}' is a {self._class(node)} where a sentence has a {wanted}."
            raise fail(node, message)
        return node

    def _image(self, node: str) -> tuple[Resize, str]:
        """Return the resize that ends in an image, and the sampler before it."""
        upscaler, method, scale = "", "", 1.0
        if self._class(node) == "ImageScaleBy":
            method, scale = self._inputs(node)["upscale_method"], self._inputs(node)["scale_by"]
            node = self._behind(node, "image")
        if self._class(node) == "ImageUpscaleWithModel":
            upscaler = self._inputs(self._behind(node, "upscale_model"))["model_name"]
            node = self._behind(node, "image")
        return Resize(upscaler, method, scale), self._behind(
            self._expect(node, "VAEDecode"), "samples"
        )

    def _samplers(self, node: str) -> list[tuple[str, str, Resize]]:
        """Return (sampler, kind of pass, resize before it) from the first pass to the last."""
        found: list[tuple[str, str, Resize]] = []
        while True:
            self._expect(node, "KSampler", "KSamplerAdvanced")
            before = self._behind(node, "latent_image")
            if self._class(before) == "LatentUpscaleBy":
                inputs = self._inputs(before)
                resize = Resize(method=inputs["upscale_method"], scale=inputs["scale_by"])
                found.append((node, "latent", resize))
                node = self._behind(before, "samples")
            elif self._class(before) == "VAEEncode":
                resize, sampler = self._image(self._behind(before, "pixels"))
                found.append((node, "pixel", resize))
                node = sampler
            elif self._class(before) == "KSamplerAdvanced":
                found.append((node, "refine", Resize()))
                node = before
            else:
                found.append((node, "first", Resize()))
                return found[::-1]

    def _passes(self, samplers: list[tuple[str, str, Resize]], checkpoint: str) -> tuple[Pass, ...]:
        return tuple(self._pass(each, checkpoint) for each in samplers)

    def _pass(self, each: tuple[str, str, Resize], checkpoint: str) -> Pass:
        node, kind, resize = each
        inputs = self._inputs(node)
        model = self._model(node, checkpoint)
        if kind == "refine":
            steps, start = inputs["steps"], inputs.get("start_at_step", 0)
            switch = next((s for s in SWITCHES if switch_step(steps, s) == start), SWITCHES[0])
            return Pass(kind, inputs["cfg"], model=model, switch=switch)
        return Pass(
            kind,
            cfg=inputs["cfg"],
            sampler=inputs["sampler_name"],
            scheduler=inputs["scheduler"],
            steps=inputs["steps"],
            denoise=inputs.get("denoise", 1.0),
            model=model,
            resize=resize,
        )

    def _model(self, sampler: str, checkpoint: str) -> str:
        """Return the second checkpoint of a pass, or that it uses the base."""
        node = self._behind(sampler, "model")
        if self._class(node) != "CheckpointLoaderSimple":
            return BASE
        name = str(self._inputs(node)["ckpt_name"])
        return BASE if name == checkpoint else name

    def _loras(self, node: str) -> tuple[tuple[tuple[str, float], ...], str]:
        found: list[tuple[str, float]] = []
        while self._class(node) == "LoraLoader":
            inputs = self._inputs(node)
            found.append((inputs["lora_name"], inputs["strength_model"]))
            node = self._behind(node, "model")
        self._expect(node, "CheckpointLoaderSimple")
        return tuple(found[::-1]), str(self._inputs(node)["ckpt_name"])

    def _clip_skip(self, sampler: str) -> int | None:
        clip = self._behind(self._text(sampler, "positive"), "clip")
        skip = self._optional(clip, "CLIPSetLastLayer")
        return int(self._inputs(skip)["stop_at_clip_layer"]) if skip else None

    def _vae(self) -> str | None:
        loaders = nodes_of(self.workflow, "VAELoader")
        return str(self._inputs(loaders[0])["vae_name"]) if loaders else None

    def _preset(self, node: str) -> str:
        inputs = self._inputs(node)
        for name, preset in NODES["FreeU_V2"].presets.items():
            if all(inputs[key] == value for key, value in preset.items()):
                return name
        raise fail(node, f"Node '{node}' has FreeU values that no preset has.")

    def _text(self, sampler: str, name: str) -> str:
        node = self._behind(sampler, name)
        if self._class(node) == "ConditioningConcat":
            node = self._behind(node, "conditioning_to")
        return self._expect(node, "CLIPTextEncode")

    def _texts(self, sampler: str) -> dict[str, str | None]:
        positive = self._inputs(self._text(sampler, "positive"))["text"]
        if positive not in _PHRASES:
            known = ", ".join(repr(p) for p in PREFIXES if p)
            raise fail(
                self._text(sampler, "positive"),
                f"The positive text does not say the prompt after one of the prefixes {known}.",
                "text",
            )
        node = self._behind(sampler, "positive")
        concat = None
        if self._class(node) == "ConditioningConcat":
            extra = self._expect(self._behind(node, "conditioning_from"), "CLIPTextEncode")
            concat = self._known(extra, list(_PHRASES.values()))
        return {
            "prefix": _PHRASES[positive] or None,
            "concat": concat,
            "negative": self._negative(self._behind(sampler, "negative")),
        }

    def _negative(self, node: str) -> str | None:
        if self._class(node) == "ConditioningZeroOut":
            return ZERO
        return self._known(self._expect(node, "CLIPTextEncode"), NEGATIVES) or None

    def _known(self, node: str, texts: Sequence[str]) -> str:
        text = str(self._inputs(node)["text"])
        if text not in texts:
            known = ", ".join(repr(each) for each in texts if each)
            raise fail(node, f"The vocabulary has no text {text[:60]!r}; it has {known}.", "text")
        return text
