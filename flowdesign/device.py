"""What a machine may lack for a model: the device that was asked for, or memory on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOADING = "--dtype (nf4 takes the least), or start from a smaller language model, in another run (--run NAME)"


class HardwareMissing(OSError):
    """The machine has no such device, or too little memory; the message says what to change."""


def check_device(name: str) -> None:
    """Raises HardwareMissing when torch has no device of this name here."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as fault:
        there = (
            f"cpu, cuda (of {torch.cuda.device_count()})" if torch.cuda.is_available() else "cpu"
        )
        raise HardwareMissing(
            f"There is no device '{name}' on this machine, which has: {there}. Use --device cpu, or a machine "
            "with such a device."
        ) from fault


@contextmanager
def minding_memory(advice: str) -> Iterator[None]:
    """Turn torch's and Python's ways of saying that memory ran out into HardwareMissing.

    `advice` says which settings to lower.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as fault:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_about_memory(fault):
            raise
        raise HardwareMissing(
            f"The memory does not suffice. What was learned until the last checkpoint is kept. Lower {advice}."
        ) from fault


def _is_about_memory(fault: Exception) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    known = isinstance(fault, (torch.OutOfMemoryError, MemoryError))
    return known or "DefaultCPUAllocator" in str(fault)
