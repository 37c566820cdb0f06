"""One training loop for every part of the zoo: resumable, and the same numbers on every run.

The batch of step k depends only on (seed, name, k), so a resumed run repeats nothing and skips nothing.
The state is safetensors plus one JSON file; no pickle is ever read.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flowdesign.config import Step
from flowdesign.runs import replace_file


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: AdamW, warm-up, then cosine decay over the last `decay` share."""

    steps: int
    rate: float
    decay: float = 0.4
    warmup: int = 50
    ema: float = 0.998
    clip: float = 1.0

    def rate_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        up = min(1.0, (step + 1) / self.warmup)
        start = self.steps * (1 - self.decay)
        down = 0.0 if step < start else (step - start) / max(1.0, self.steps - start)
        return self.rate * up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * down)))


@dataclass(frozen=True)
class Chance:
    """The randomness of one step, all of it."""

    python: random.Random
    torch: torch.Generator

    @classmethod
    def at(cls, seed: int, name: str, step: int) -> Chance:
        """Seed both generators from (seed, name, step)."""
        python = random.Random(f"{seed}/{name}/{step}")
        return cls(python, torch.Generator().manual_seed(python.getrandbits(62)))


Loss = Callable[[Chance], Tensor]


class _State:
    """Weights, their moving average and the optimizer's moments, saved together."""

    def __init__(self, modules: Mapping[str, nn.Module], path: Path) -> None:
        self.path = path
        self.parameters = {
            f"{part}.{name}": p
            for part, module in modules.items()
            for name, p in module.named_parameters()
            if p.requires_grad
        }
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), betas=(0.9, 0.99), weight_decay=0.01
        )
        self.step = 0

    def load(self) -> None:
        """Continue where `save` left off, if it ever ran."""
        if not self.path.exists():
            return
        tensors = load_file(self.path)
        for name, p in self.parameters.items():
            p.data.copy_(tensors[f"weight.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            self.optimizer.state[p] = {
                "step": tensors[f"count.{name}"],
                "exp_avg": tensors[f"first.{name}"],
                "exp_avg_sq": tensors[f"second.{name}"],
            }
        self.step = int(tensors["step"])

    def save(self) -> None:
        """Write the whole state atomically."""
        tensors = {"step": torch.tensor(self.step)}
        for name, p in self.parameters.items():
            tensors |= {f"weight.{name}": p.detach(), f"average.{name}": self.average[name]}
            moments = self.optimizer.state[p]
            tensors |= {
                f"count.{name}": moments["step"],
                f"first.{name}": moments["exp_avg"],
                f"second.{name}": moments["exp_avg_sq"],
            }
        whole = {name: value.contiguous() for name, value in tensors.items()}
        replace_file(self.path, lambda draft: save_file(whole, draft))

    def update(self, schedule: Schedule) -> None:
        """One optimizer step, then the moving average (short at first)."""
        nn.utils.clip_grad_norm_(self.parameters.values(), schedule.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.rate_at(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(schedule.ema, self.step / (self.step + 10))
        names = list(self.average)
        torch._foreach_lerp_(
            [self.average[n] for n in names], [self.parameters[n].data for n in names], 1 - keep
        )


def fit(
    name: str,
    modules: Mapping[str, nn.Module],
    loss: Loss,
    schedule: Schedule,
    folder: Path,
    seed: int,
    every: int = 250,
) -> Iterator[Step]:
    """Train the modules' trainable parameters; at the end they hold the moving average.

    Yields a `Step` every `every` steps, after saving the state in `folder/state.safetensors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = _State(modules, folder / "state.safetensors")
    state.load()
    total, since, began = 0.0, 0, time.monotonic()
    while state.step < schedule.steps:
        value = loss(Chance.at(seed, name, state.step))
        value.backward()
        if not math.isfinite(value.item()):
            raise FloatingPointError(
                f"The loss of '{name}' is {value.item()} at step {state.step}."
            )
        state.update(schedule)
        total, since = total + value.item(), since + 1
        if state.step % every == 0 or state.step == schedule.steps:
            state.save()
            seconds = (time.monotonic() - began) / since
            metrics = {"loss": total / since, "seconds_per_step": seconds}
            yield Step(state.step - 1, schedule.steps, metrics)
            total, since, began = 0.0, 0, time.monotonic()
    for key, p in state.parameters.items():
        p.data.copy_(state.average[key])
