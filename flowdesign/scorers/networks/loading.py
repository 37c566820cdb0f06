"""Weights from files into networks, strictly: nothing absent, nothing left over, no pickle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from flowdesign.scorers.scorer import ScorerError

NetworkT = TypeVar("NetworkT", bound=nn.Module)
MOST_NAMES = 3  # in a message


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file. Raises ScorerError when it is not one."""
    try:
        weights: dict[str, Tensor] = load_file(path)
    except SafetensorError as fault:
        raise ScorerError(f"{path} is not a safetensors file: {fault}") from fault
    return weights


def fill(make: Callable[[], NetworkT], weights: Mapping[str, Tensor], what: str) -> NetworkT:
    """Make a network without allocating it and give it these weights, as float32.

    Raises ScorerError when a weight is absent, left over or of another shape.
    """
    try:
        with torch.device("meta"):
            network = make()
    except KeyError as fault:
        raise ScorerError(f"These are not the weights of {what}: {fault} is absent.") from None
    wanted = {name: one.shape for name, one in network.state_dict().items()}
    complain(what, wanted.keys() - weights.keys(), weights.keys() - wanted.keys())
    odd = [name for name, shape in wanted.items() if weights[name].shape != shape]
    if odd:
        shapes = ", ".join(f"{name} {tuple(weights[name].shape)}" for name in odd[:MOST_NAMES])
        raise ScorerError(f"These are not the weights of {what}: {shapes} has another shape.")
    network.load_state_dict({name: one.float() for name, one in weights.items()}, assign=True)
    network.eval().requires_grad_(False)
    return network


def complain(what: str, absent: set[str], extra: set[str] | frozenset[str] = frozenset()) -> None:
    """Raise ScorerError that names some of these weights, unless there are none."""
    if absent:
        raise ScorerError(f"These are not the weights of {what}: {_some(absent)} is absent.")
    if extra:
        raise ScorerError(f"These are not the weights of {what}: {_some(extra)} is not part of it.")


def count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the layers 0, 1, ... below a prefix of names."""
    numbers = re.compile(re.escape(prefix) + r"(\d+)\.")
    found = {match[1] for name in weights if (match := numbers.match(name))}
    return len(found)


def _some(names: set[str] | frozenset[str]) -> str:
    some = sorted(names)[:MOST_NAMES]
    return ", ".join(some) + (" and more" if len(names) > MOST_NAMES else "")
