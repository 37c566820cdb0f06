"""What a machine lacks is told with what to change."""

import pytest
import torch

from flowdesign.device import HardwareMissing, check_device, minding_memory


def test_a_device_that_is_there_passes() -> None:
    check_device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(HardwareMissing, match=r"no device 'cuda' .* has: cpu. Use --device cpu"):
        check_device("cuda")


def test_a_device_nobody_knows_is_told() -> None:
    with pytest.raises(HardwareMissing, match="no device 'gpu'"):
        check_device("gpu")


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_memory_that_ran_out_says_what_to_lower(fault: Exception) -> None:
    told = pytest.raises(HardwareMissing, match="checkpoint is kept. Lower --at-once")
    with told, minding_memory("--at-once"):
        raise fault


def test_more_than_there_can_be_on_the_cpu_is_told() -> None:
    with pytest.raises(HardwareMissing, match="Lower --prompts"), minding_memory("--prompts"):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_faults_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), minding_memory("--prompts"):
        raise RuntimeError("shapes differ")
