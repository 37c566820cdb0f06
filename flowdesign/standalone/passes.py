"""A sampling pass as a call of a stock pipeline, and what the header says of it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from flowdesign.render.sampling import Plan
from flowdesign.render.values import Model
from flowdesign.standalone.schedulers import Visit, visit
from flowdesign.standalone.writing import Pipe, Writing
from flowdesign.workflow import signed

PATCHES, VALUES = "flowdesign.render.patches", "flowdesign.render.values"
WIDTH = 96  # columns of a list of numbers


def sampled(writing: Writing, inputs: Mapping[str, Any]) -> tuple[str]:
    """Write the pass of a KSampler or a KSamplerAdvanced; its latent stays as it is without a step."""
    advanced = "noise_seed" in inputs
    plan = Plan.advanced(inputs) if advanced else Plan.simple(inputs)
    model: Model = inputs["model"]
    pipe = writing.pipe_of_model(model)
    sigmas: list[float] = plan.sigmas(pipe.levels).tolist()
    if len(sigmas) < 2:
        return (inputs["latent_image"],)
    made = visit(inputs["sampler_name"], sigmas, pipe.levels)
    writing.passes += 1
    title = f"pass {writing.passes}: {_title(inputs, len(sigmas) - 1)}"
    _tell(writing, title, made, [*made.differs, *_guidance_differs(model, pipe, inputs["cfg"])])
    noise = _amount(sigmas[0], pipe) if plan.adds_noise else 0.0
    variable = writing.new("latents")
    seed = _seed(inputs["noise_seed" if advanced else "seed"])
    writing.lines += ["", f"# {title[0].upper()}{title[1:]}"]
    call = [
        f"{variable} = {writing.call('denoise')}(",
        f"    {pipe.name},",
        f"    {_scheduler(writing, made, pipe)},",
        f"    {inputs['latent_image']}, {inputs['positive']}, {inputs['negative']},",
        f"    cfg={float(inputs['cfg'])}, seed={seed}, noise={_number(noise)},"
        f" unit_variance={made.stock.unit_variance}{_options(model)},",
        *_listed("sigmas", map(_number, made.sigmas)),
        *_listed("timesteps", map(str, made.timesteps)),
        ")",
    ]
    writing.lines += [*_within_free_u(writing, model, pipe, call), ""]
    return (variable,)


def _title(inputs: Mapping[str, Any], taken: int) -> str:
    """What a pass does, in words."""
    words = f"{inputs['sampler_name']} with {inputs['scheduler']}, cfg {inputs['cfg']:g}"
    steps = int(inputs["steps"])
    if "noise_seed" in inputs:
        start = int(inputs["start_at_step"])
        return f"{words}, steps {start + 1} to {start + taken} of {steps}"
    denoise = float(inputs["denoise"])
    of = f" of {int(steps / denoise)}: image to image, strength {denoise:g}" if denoise < 1 else ""
    return f"{words}, {'the last ' * bool(of)}{taken} steps{of}"


def _tell(writing: Writing, title: str, made: Visit, differs: Sequence[str]) -> None:
    if differs:
        writing.approximate += [f"{title}: {made.stock.scheduler}; {why}" for why in differs]
    else:
        writing.exact.append(f"{title}: {made.stock.scheduler}")


def _guidance_differs(model: Model, pipe: Pipe, cfg: float) -> Iterator[str]:
    """Yield what stock pipelines do otherwise when texts guide."""
    if cfg < 1 and not math.isclose(cfg, 1.0):
        yield f"a cfg of {cfg:g} is below 1, where stock pipelines leave the negative text out"
    if model.rescale and not math.isclose(cfg, 1.0):
        if pipe.facts.prediction != "v_prediction":
            yield "guidance_rescale looks at the predicted noise where RescaleCFG looks at v"
        if model.perturbed:
            yield "perturbed attention is rescaled as well, which RescaleCFG does not do"


def _options(model: Model) -> str:
    """What else the pipeline is given."""
    found = f", pag_scale={model.perturbed}" if model.perturbed else ""
    return found + (f", guidance_rescale={model.rescale}" if model.rescale else "")


def _within_free_u(writing: Writing, model: Model, pipe: Pipe, call: list[str]) -> list[str]:
    """Put a call into FreeU_V2, which diffusers lacks (its enable_freeu is the first version)."""
    if not model.freeu:
        return call
    writing.call("FreeU", VALUES)
    patches = ", ".join(f"FreeU({p.b1}, {p.b2}, {p.s1}, {p.s2})" for p in model.freeu)
    opened = f"with {writing.call('free_u', PATCHES)}({pipe.name}.unet, [{patches}]):"
    return [opened, *(f"    {line}" for line in call)]


def _amount(sigma: float, pipe: Pipe) -> float:
    """How much noise a pass starts with: the renderer's rule, asked with a latent of 0 and noise of 1."""
    return float(pipe.levels.noised(torch.zeros(1), torch.ones(1), sigma))


def _seed(bound: int) -> str:
    """The seed of a pass, given what it is where SEED is 0."""
    offset = signed(bound)
    sign = "-" if offset < 0 else "+"
    return f"(SEED {sign} {abs(offset)}) % 2**64" if offset else "SEED"


def _scheduler(writing: Writing, made: Visit, pipe: Pipe) -> str:
    given = [f"{name}={value!r}" for name, value in made.options.items()]
    trained = f"**trained_{pipe.name.rpartition('_')[2]}"
    return f"{writing.diffusers(made.stock.scheduler)}({', '.join([trained, *given])})"


def _number(value: float) -> str:
    """A float32 as it is, in as few digits as tell it from its neighbours."""
    return f"{value:.9g}" if value else "0.0"


def _listed(name: str, values: Iterable[str]) -> list[str]:
    text = textwrap.fill(", ".join(values), WIDTH - 8)
    return [f"    {name}=[", *(f"        {line}" for line in text.splitlines()), "    ],"]
