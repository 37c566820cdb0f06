"""Which stock scheduler stands for a sampler, how it is set up for one pass, and what differs then.

Every scheduler visits ComfyUI's own noise levels at ComfyUI's training steps, which the script lists: the
flags of diffusers come near them for some schedules only. With them a scheduler is exact where STOCK has
no words against it, to about 1e-6 of a latent in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from flowdesign.render.levels import NoiseLevels
from flowdesign.render.samplers.uni_pc import LAST, ORDER

LEVEL_TOLERANCE = 1e-6  # relative; a noise level this near a training step's is that of the step


@dataclass(frozen=True)
class Stock:
    """A scheduler class, its options, and why it does not make what the sampler makes, if so.

    `unit_variance`: it keeps latents at unit variance. `twice`: it evaluates the model at both ends of
    a step. `on_grid`: it knows noise levels of whole training steps above 0 only. `differs` is one cause.
    """

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    unit_variance: bool = False
    twice: bool = False
    on_grid: bool = False
    differs: str = ""


@dataclass(frozen=True)
class Visit:
    """One pass as a scheduler makes it: how it is called, and what it visits."""

    stock: Stock
    options: Mapping[str, Any]
    sigmas: tuple[float, ...]
    timesteps: tuple[int, ...]
    differs: tuple[str, ...]


def _multistep(differs: str = "", **options: Any) -> Stock:
    given = MappingProxyType({"solver_order": 2, **options})
    return Stock("DPMSolverMultistepScheduler", given, unit_variance=True, differs=differs)


def _stochastic(solver: str, differs: str) -> Stock:
    return _multistep(differs, algorithm_type="sde-dpmsolver++", solver_type=solver)


def _uni_pc(kind: str) -> Stock:
    differs = "UniPCMultistepScheduler solves the same system in float32: latents differ by 3e-5"
    return Stock(
        "UniPCMultistepScheduler", MappingProxyType({"solver_type": kind}), True, differs=differs
    )


_OTHER_NOISE = (
    "ComfyUI's noise comes from a Brownian tree, which needs torchsde; here it is drawn anew at each "
    "step: another image of the same kind"
)
_OTHER_SOLVER = "diffusers has no such sampler: {name} solves the same equation in other steps"
_SAME_EQUATION = _multistep(_OTHER_SOLVER.format(name="DPM-Solver++(2M)"))
_SAME_NOISE = Stock(
    "EulerAncestralDiscreteScheduler",
    differs=_OTHER_SOLVER.format(name="Euler with the same noise"),
)
_CLIPPED = MappingProxyType({"clip_sample": False})

STOCK: Mapping[str, Stock] = MappingProxyType(
    {
        "euler": Stock("EulerDiscreteScheduler"),
        "euler_ancestral": Stock("EulerAncestralDiscreteScheduler"),
        "heun": Stock("HeunDiscreteScheduler", twice=True),
        "dpmpp_2m": _multistep(),
        "dpmpp_2m_sde": _stochastic("midpoint", _OTHER_NOISE),
        "dpmpp_sde": _stochastic(
            "midpoint", f"{_OTHER_NOISE}; and the solver is the multistep one, DPM++ 2M SDE"
        ),
        "ddim": Stock("EulerDiscreteScheduler"),  # ComfyUI's ddim is Euler's method
        "uni_pc": _uni_pc("bh1"),
        "lcm": Stock(
            "LCMScheduler",
            # The bounds that consistency models learn leave nothing of the noisy latent.
            MappingProxyType(
                {"original_inference_steps": 1000, "timestep_scaling": 1e6, **_CLIPPED}
            ),
            unit_variance=True,
            on_grid=True,
        ),
        "heunpp2": _SAME_EQUATION,
        "dpm_2": _SAME_EQUATION,
        "dpm_2_ancestral": _SAME_NOISE,
        "lms": _SAME_EQUATION,
        "dpmpp_2s_ancestral": _SAME_NOISE,
        "dpmpp_2m_sde_heun": _stochastic("heun", _OTHER_NOISE),
        "dpmpp_3m_sde": _stochastic(
            "midpoint", f"{_OTHER_NOISE}; and the solver is of order 2, DPM++ 2M SDE"
        ),
        "ddpm": Stock("DDPMScheduler", _CLIPPED, unit_variance=True, on_grid=True),
        "ipndm": _SAME_EQUATION,
        "deis": _SAME_EQUATION,
        "res_multistep": _SAME_EQUATION,
        "res_multistep_ancestral": _SAME_NOISE,
        "gradient_estimation": _SAME_EQUATION,
        "uni_pc_bh2": _uni_pc("bh2"),
    }
)


def visit(sampler: str, sigmas: Sequence[float], levels: NoiseLevels) -> Visit:
    """Set a stock scheduler up for a pass over falling noise levels, of which there are two or more."""
    stock = STOCK[sampler]
    if stock.on_grid and sigmas[-1] > 0:  # these two always end without noise
        stock = _SAME_NOISE
    steps = [levels.timestep(sigma) for sigma in sigmas if sigma > 0]
    differs = tuple(_differences(stock, sigmas, steps, levels))
    options = {**stock.options, **_ending(stock, sigmas)}
    visited = list(sigmas)
    if stock.twice:
        visited, steps = _both_ends(visited, steps)
    elif stock.scheduler == "UniPCMultistepScheduler":
        visited = [sigma if sigma > 0 else LAST for sigma in sigmas]
    timesteps = steps if stock.twice else steps[: len(sigmas) - 1]
    return Visit(stock, options, tuple(visited), tuple(timesteps), differs)


def _ending(stock: Stock, sigmas: Sequence[float]) -> dict[str, Any]:
    """How a multistep solver ends: in its last step of lower order when no noise is left, else not."""
    if stock.scheduler == "UniPCMultistepScheduler":
        return {"solver_order": max(min(ORDER, len(sigmas) - 2), 1)}
    if stock.scheduler == "DPMSolverMultistepScheduler":
        ends = sigmas[-1] == 0
        kind = "zero" if ends else "sigma_min"
        return {"final_sigmas_type": kind, "lower_order_final": ends}
    return {}


def _both_ends(sigmas: Sequence[float], steps: Sequence[int]) -> tuple[list[float], list[int]]:
    """The lists of a scheduler that meets every level between the first and the last twice.

    Where noise is left over the last level is met as well, for the slope there.
    """
    left = sigmas[-1:] if sigmas[-1] > 0 else []
    inner = [sigma for sigma in sigmas[1:-1] for _ in range(2)]
    times = [step for step in steps[1 : len(sigmas) - 1] for _ in range(2)]
    return (
        [sigmas[0], *inner, sigmas[-1], *left],
        [steps[0], *times, *steps[len(sigmas) - 1 :]],
    )


def _differences(
    stock: Stock, sigmas: Sequence[float], steps: Sequence[int], levels: NoiseLevels
) -> list[str]:
    found = [stock.differs] if stock.differs else []
    if stock.on_grid:
        table = levels.table.tolist()
        pairs = zip((sigma for sigma in sigmas if sigma > 0), steps, strict=True)
        off = any(not math.isclose(s, table[t], rel_tol=LEVEL_TOLERANCE) for s, t in pairs)
        if off or 0 in steps or len(set(steps)) < len(steps):
            found.append(
                f"{stock.scheduler} knows only the noise levels of whole training steps above 0, "
                "and takes the nearest ones"
            )
    return found
