"""What a benchmark ran on, and the most memory that it took."""

from __future__ import annotations

import resource

GIB = 2**30


def device_name(device: str) -> str:
    """The GPU's name, or that there is none."""
    import torch

    return str(torch.cuda.get_device_name()) if device == "cuda" else "a CPU"


def forget_peak(device: str) -> None:
    """Measure a GPU's memory anew. A process cannot forget the most that it ever took."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> int:
    """The most bytes that tensors took on the GPU, or that the process ever took."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
