"""The references as they are stored: levels and latents in double precision, in one safetensors file.

They are made by tests/parity_reference.py from k-diffusion and from formulas, never by the project's
samplers; a test makes them again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowdesign.catalog import ROOT

FILE = ROOT / "assets" / "sampler_references.safetensors"


@dataclass(frozen=True)
class Stored:
    """Whose work each sampler's reference is, the levels of every schedule, and the latents.

    Levels go by (schedule, run, whether the penultimate one is left out), latents by (sampler, schedule,
    run); both are float64, and levels end in 0.
    """

    sources: Mapping[str, str]
    sigmas: Mapping[tuple[str, str, bool], Tensor]
    latents: Mapping[tuple[str, str, str], Tensor]


def write(references: Stored, file: Path = FILE) -> None:
    """Store all references."""
    tensors = {
        f"sigmas/{schedule}/{run}/{'extra' if extra else 'plain'}": levels.contiguous()
        for (schedule, run, extra), levels in references.sigmas.items()
    }
    for (sampler, schedule, run), latent in references.latents.items():
        tensors[f"latents/{sampler}/{schedule}/{run}"] = latent.contiguous()
    save_file(tensors, file, metadata={"sources": json.dumps(dict(references.sources))})


def read(file: Path = FILE) -> Stored:
    """Read all references; OSError where the file is missing."""
    sigmas: dict[tuple[str, str, bool], Tensor] = {}
    latents: dict[tuple[str, str, str], Tensor] = {}
    with safe_open(file, "pt") as opened:
        sources: dict[str, str] = json.loads(opened.metadata()["sources"])
        for name in opened.keys():  # noqa: SIM118
            what, first, second, third = name.split("/")
            tensor = opened.get_tensor(name)
            if what == "sigmas":
                sigmas[first, second, third == "extra"] = tensor
            else:
                latents[first, second, third] = tensor
    return Stored(sources, sigmas, latents)
