"""A script while it is written: its statements, the models it loads, what it copies, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any

from flowdesign.catalog import Installed
from flowdesign.headers import SUFFIX
from flowdesign.render.checkpoint import CODECS, Checkpoint, read_checkpoint, read_codec
from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.fidelity import weights_of
from flowdesign.render.files import Part, read_header
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.lora import match
from flowdesign.render.tokenizers import MERGES, padding_of
from flowdesign.render.values import Clip, LoraUse, Model, Vae

HELPERS, LOADING = "flowdesign.standalone.helpers", "flowdesign.standalone.loading"
RESIZE = "flowdesign.render.resize"
CODEC = "flowdesign.render.codec"
WIDTH = 92  # columns of a configuration
_PIPELINES = {  # (whether of the XL layout, whether with perturbed attention) -> class
    (False, False): "StableDiffusionPipeline",
    (False, True): "StableDiffusionPAGPipeline",
    (True, False): "StableDiffusionXLPipeline",
    (True, True): "StableDiffusionXLPAGPipeline",
}


@dataclass
class Pipe:
    """A checkpoint that the script loads, with the LoRAs of its diffusion model and of its texts.

    The same checkpoint is loaded again for other LoRAs. None is for LoRAs that are still open.
    """

    name: str
    checkpoint: str
    facts: Checkpoint
    model_loras: tuple[LoraUse, ...] | None = None
    clip_loras: tuple[LoraUse, ...] | None = None
    perturbed: bool = False

    @property
    def levels(self) -> NoiseLevels:
        """The noise levels it was trained at; a flow has no script."""
        assert isinstance(self.facts.levels, NoiseLevels), "write_script refuses flows"
        return self.facts.levels


@dataclass
class Writing:
    """What is written so far. `exact` and `approximate` become the header."""

    models: Installed
    prompt: str
    lines: list[str] = field(default_factory=list)
    pipes: list[Pipe] = field(default_factory=list)
    vaes: dict[str, str] = field(default_factory=dict)  # name of the VAE -> variable
    upscalers: dict[str, str] = field(default_factory=dict)
    used: dict[str, dict[str, None]] = field(default_factory=dict)  # module -> names
    imports: set[str] = field(default_factory=lambda: {"import sys", "import torch"})
    exact: list[str] = field(default_factory=list)
    approximate: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)  # variables of images
    previewed: list[str] = field(default_factory=list)
    passes: int = 0
    _counts: dict[str, int] = field(default_factory=dict)

    def new(self, kind: str) -> str:
        """A variable of its own: latents_1, latents_2, ..."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}_{self._counts[kind]}"

    def call(self, name: str, module: str = HELPERS) -> str:
        """The name of a function that the script has a copy of."""
        self.used.setdefault(module, {})[name] = None
        return name

    def diffusers(self, name: str) -> str:
        """The name of a class of diffusers that the script imports."""
        self.imports.add(f"from diffusers import {name}")
        return name

    def let(self, kind: str, expression: str) -> str:
        """Write an assignment to a new variable, and return the variable."""
        variable = self.new(kind)
        self.lines.append(f"{variable} = {expression}")
        return variable

    # --- models ----------------------------------------------------------------------------------

    def pipe_of_model(self, model: Model) -> Pipe:
        """The pipeline with a diffusion model's LoRAs."""
        loras = _applied(model.loras)
        pipe = self._pipe(model.checkpoint, lambda each: each.model_loras in (None, loras))
        pipe.model_loras = loras
        pipe.perturbed = pipe.perturbed or model.perturbed > 0
        return pipe

    def pipe_of_texts(self, clip: Clip) -> Pipe:
        """The pipeline with a text encoder's LoRAs."""
        loras = _applied(clip.loras)
        pipe = self._pipe(clip.checkpoint, lambda each: each.clip_loras in (None, loras))
        pipe.clip_loras = loras
        return pipe

    def _pipe(self, checkpoint: str, fits: Callable[[Pipe], bool]) -> Pipe:
        for each in self.pipes:
            if each.checkpoint == checkpoint and fits(each):
                return each
        facts = read_checkpoint(self.models.path("checkpoints", checkpoint))
        self.pipes.append(Pipe(self.new("pipe"), checkpoint, facts))
        return self.pipes[-1]

    def vae(self, vae: Vae) -> str:
        """The expression of a VAE: a pipeline's own, or one that is loaded for itself."""
        if vae.kind == "checkpoints":
            return f"{self._pipe(vae.name, lambda each: True).name}.vae"
        if vae.name not in self.vaes:
            self.vaes[vae.name] = self.new("vae")
        return self.vaes[vae.name]

    def upscaler(self, name: str) -> str:
        """The variable of an upscale model."""
        if name not in self.upscalers:
            self.upscalers[name] = self.new("upscaler")
        return self.upscalers[name]

    def loads(self) -> list[str]:
        """The statements that load all models that were asked for."""
        found = [line for pipe in self.pipes for line in self._load_pipe(pipe)]
        for name, variable in self.vaes.items():
            first, *rest = self._codec(read_codec(self.models.path("vae", name)))
            found += [f"{variable} = {first}", *rest]
            found[-1] += ".to(DEVICE)"
        for name, variable in self.upscalers.items():
            self.imports.add("from spandrel import ModelLoader")
            path = _path(self.models.path("upscale_models", name))
            found.append(
                f"{variable} = ModelLoader().load_from_file({path}).to(DEVICE).float().eval()"
            )
        return found

    def _load_pipe(self, pipe: Pipe) -> Iterator[str]:
        kind = self.diffusers(_PIPELINES[pipe.facts.is_xl, pipe.perturbed])
        options = [] if pipe.facts.is_xl else ["safety_checker=None"]
        if pipe.perturbed:
            options.append('pag_applied_layers="mid"')
        if pipe.facts.folder is None:
            yield f"{pipe.name} = {kind}("
            yield from (f"    {line}" for line in self._parts(pipe.facts))
        else:
            yield from self._own_codec(pipe.facts)
            yield f"{pipe.name} = {kind}.from_pretrained("
            yield f"    {_path(pipe.facts.folder)},"
            options.insert(0, "dtype=torch.float32")
            if _only_half(pipe.facts.folder / "unet"):
                options.append('variant="fp16"')
        yield from (f"    {option}," for option in options)
        yield ").to(DEVICE)"
        yield from self._load_loras(pipe)
        if pipe.model_loras is not None:  # a pipeline that samples
            yield f"trained_{pipe.name.rpartition('_')[2]} = {_trained(pipe)}"

    def _own_codec(self, facts: Checkpoint) -> Iterator[str]:
        """Tell diffusers where the class of a miniature's image codec is."""
        if facts.folder and facts.codec and facts.codec.settings()["_class_name"] != CODECS[0]:
            self.call(CODECS[1], CODEC)
            name = facts.folder.name
            yield f"# {name} names the module of its image codec: here that is this script."
            yield f"sys.modules.setdefault({CODEC!r}, sys.modules[__name__])"

    def _parts(self, facts: Checkpoint) -> Iterator[str]:
        """The parts of a single file as arguments of a pipeline, each with its configuration."""
        assert facts.codec is not None, "write_script refuses files that lack a part"
        yield from self._part("unet", "load_unet", facts.network)
        yield from self._part("vae", "load_vae", facts.codec)
        for part in facts.texts:
            name = part.config.name
            kind = part.settings()["architectures"][0]
            self.imports.add(f"from transformers import {kind}")
            yield from self._part(name, "load_text_encoder", part, f"{kind}, ")
            yield f"{name.replace('text_encoder', 'tokenizer')}={self._words(part)},"
        yield f"scheduler={self.diffusers('EulerDiscreteScheduler')}(),"
        if not facts.is_xl:
            yield "feature_extractor=None,"
            yield "requires_safety_checker=False,"

    def _part(self, name: str, function: str, part: Part, first: str = "") -> Iterator[str]:
        head, *lines = self._loaded(function, part, first)
        yield f"{name}={head}"
        yield from lines[:-1]
        yield f"{lines[-1]},"

    def _loaded(self, function: str, part: Part, first: str = "") -> list[str]:
        """The call that loads a part of a single file, over several lines."""
        settings = {n: v for n, v in part.settings().items() if not n.startswith("_")}
        lines = pformat(settings, width=WIDTH, compact=True, sort_dicts=False).splitlines()
        given = [f"{first}{_path(part.weights)}, {part.prefix!r},", *lines]
        return [f"{self.call(function, LOADING)}(", *(f"    {line}" for line in given), ")"]

    def _words(self, part: Part) -> str:
        if part.tokenizer is None:
            function = self.call("words_of", LOADING)
            return f"{function}({_path(MERGES)}, {padding_of(part)!r})"
        self.imports.add("from transformers import AutoTokenizer")
        return f"AutoTokenizer.from_pretrained({_path(part.tokenizer)})"

    def _load_loras(self, pipe: Pipe) -> Iterator[str]:
        """Load each LoRA as an adapter, then weigh them; the sum does not depend on their order.

        One that changes nothing in this checkpoint is left out: diffusers would find no adapter in it.
        """
        weights: dict[str, dict[str, float]] = {}
        uses = (*_of(pipe.model_loras), *_of(pipe.clip_loras))
        for name in dict.fromkeys(use.name for use in uses):
            path, adapter = self.models.path("loras", name), f"lora_{len(weights) + 1}"
            found = match(
                read_header(path)[0], weights_of([pipe.facts.network, *pipe.facts.texts])
            ).pairs
            parts = [part for part, changed in found.items() if changed]
            if parts:
                yield f"{pipe.name}.load_lora_weights({_path(path)}, adapter_name={adapter!r})"
                weights[adapter] = {part: _strength(name, part, pipe) for part in parts}
        if weights:
            yield f"{pipe.name}.set_adapters({list(weights)}, {list(weights.values())})"

    def _codec(self, part: Part) -> list[str]:
        """The expression that loads a VAE's own file or folder. Raises UnsupportedModel."""
        kind, place = str(part.settings()["_class_name"]), part.weights
        if place.is_file():
            if kind != CODECS[0]:
                raise UnsupportedModel(
                    f"A script loads the single file of an {CODECS[0]}; '{place.name}' is a {kind}."
                )
            return self._loaded("load_vae", part)
        name = self.diffusers(kind) if kind == CODECS[0] else self.call(kind, CODEC)
        half = ', variant="fp16"' if _only_half(place) else ""
        return [f"{name}.from_pretrained({_path(place)}, dtype=torch.float32{half})"]


def _strength(name: str, part: str, pipe: Pipe) -> float:
    """How strongly a LoRA is applied to a part; several uses of it add up."""
    uses = _of(pipe.model_loras if part == "unet" else pipe.clip_loras)
    return float(sum(use.strength for use in uses if use.name == name))


def _trained(pipe: Pipe) -> dict[str, Any]:
    """How a model was trained, in the words of every scheduler."""
    return {
        "beta_start": pipe.levels.start,
        "beta_end": pipe.levels.end,
        "beta_schedule": "scaled_linear" if pipe.levels.scaled else "linear",
        "num_train_timesteps": pipe.levels.count,
        "prediction_type": pipe.facts.prediction,
    }


def _applied(loras: tuple[LoraUse, ...]) -> tuple[LoraUse, ...]:
    return tuple(use for use in loras if use.strength != 0)


def _of(loras: tuple[LoraUse, ...] | None) -> tuple[LoraUse, ...]:
    return loras or ()


def _path(path: Path) -> str:
    return repr(str(path.resolve()))


def _only_half(folder: Path) -> bool:
    """Whether a folder has its weights in the fp16 variant only."""
    names = [path.name for path in folder.glob(f"*{SUFFIX}")]
    return bool(names) and all(".fp16" in name for name in names)
