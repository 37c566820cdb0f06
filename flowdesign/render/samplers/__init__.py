"""Samplers: how noise is removed, step by step; one table of them.

The formulas are k-diffusion's (MIT; Karras et al. 2022, Lu et al. 2022) and those of the papers that each names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from flowdesign.catalog import suggest
from flowdesign.render.errors import UnknownSampler
from flowdesign.render.noise import BrownianNoise, NoNoise, NormalNoise
from flowdesign.render.samplers import multi, noisy, single
from flowdesign.render.samplers.common import Function, Model, Noise
from flowdesign.render.samplers.uni_pc import uni_pc, uni_pc_bh2

__all__ = ["SAMPLERS", "Function", "Model", "Noise", "Sampler", "sampler"]


@dataclass(frozen=True)
class Sampler:
    """A sampler, the noise it needs, and what it asks of the schedule."""

    run: Function
    noise: str = "none"  # none, normal or brownian
    extra_step: bool = False  # compute one step more and leave the penultimate level out
    evaluations: int = 1  # of the model, per step
    flow: Function | None = None  # in place of `run` for flow matching, where noise is mixed in

    @property
    def for_flow(self) -> Function | None:
        """What runs on a flow-matching model; None where its noise would be of the wrong measure."""
        return self.run if self.noise == "none" else self.flow

    def noise_for(self, seeds: Sequence[int], x: Tensor, sigmas: Tensor) -> Noise:
        """Return the source of noise for a run from x over sigmas, one seed per image."""
        if self.noise == "normal":
            return NormalNoise(seeds, x)
        return BrownianNoise(seeds, x, sigmas) if self.noise == "brownian" else NoNoise()


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "euler": Sampler(single.euler),
        "euler_ancestral": Sampler(
            noisy.euler_ancestral, "normal", flow=noisy.euler_ancestral_flow
        ),
        "heun": Sampler(single.heun, evaluations=2),
        "dpmpp_2m": Sampler(multi.dpmpp_2m),
        "dpmpp_2m_sde": Sampler(noisy.dpmpp_2m_sde, "brownian"),
        "dpmpp_sde": Sampler(noisy.dpmpp_sde, "brownian", evaluations=2),
        "ddim": Sampler(single.euler),
        "uni_pc": Sampler(uni_pc, extra_step=True),
        "lcm": Sampler(noisy.lcm, "normal", flow=noisy.lcm_flow),
        "heunpp2": Sampler(single.heunpp2, evaluations=3),
        "dpm_2": Sampler(single.dpm_2, extra_step=True, evaluations=2),
        "dpm_2_ancestral": Sampler(noisy.dpm_2_ancestral, "normal", extra_step=True, evaluations=2),
        "lms": Sampler(multi.lms),
        "dpmpp_2s_ancestral": Sampler(noisy.dpmpp_2s_ancestral, "normal", evaluations=2),
        "dpmpp_2m_sde_heun": Sampler(noisy.dpmpp_2m_sde_heun, "brownian"),
        "dpmpp_3m_sde": Sampler(noisy.dpmpp_3m_sde, "brownian"),
        "ddpm": Sampler(noisy.ddpm, "normal"),
        "ipndm": Sampler(multi.ipndm),
        "deis": Sampler(multi.deis),
        "res_multistep": Sampler(noisy.res_multistep),
        "res_multistep_ancestral": Sampler(noisy.res_multistep_ancestral, "normal"),
        "gradient_estimation": Sampler(multi.gradient_estimation),
        "uni_pc_bh2": Sampler(uni_pc_bh2, extra_step=True),
    }
)


def sampler(name: str) -> Sampler:
    """Return the sampler of a name; raises UnknownSampler."""
    if name not in SAMPLERS:
        raise UnknownSampler(f"Unknown sampler '{name}'. {suggest(name, SAMPLERS)}")
    return SAMPLERS[name]
