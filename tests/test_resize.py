"""Resizing of latents and images, by hand and against the libraries that define the methods."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from flowdesign.render.resize import OVERLAP, TILE, bislerp, lanczos, resize, tiled

torch.set_num_threads(1)


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic"])
def test_four_methods_are_those_of_torch(method: str) -> None:
    samples = torch.randn(2, 4, 6, 8)
    expected = functional.interpolate(samples, size=(9, 12), mode=method)
    assert torch.equal(resize(samples, 12, 9, method), expected)


def test_bislerp_turns_halfway_between_two_directions() -> None:
    """Two places, three: the middle one lies halfway on the arc, and halfway in length."""
    samples = torch.tensor([[1.0, 0.0], [0.0, 3.0]]).view(1, 2, 1, 2)  # channels (1, 0), (0, 3)
    made = bislerp(samples, 3, 1)
    assert made.shape == (1, 2, 1, 3)
    middle = made[0, :, 0, 1]
    half = math.sqrt(0.5)
    torch.testing.assert_close(middle, torch.tensor([half, half]) * 2.0)
    torch.testing.assert_close(made[0, :, 0, 0], samples[0, :, 0, 0])
    torch.testing.assert_close(made[0, :, 0, 2], samples[0, :, 0, 1])


def slerp(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    """Between two vectors: turned in their plane by a share of their angle, with a length in between."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    first, second = a / lengths[0], b / lengths[1]
    angle = math.acos(np.clip(first @ second, -1, 1))
    upright = second - (first @ second) * first  # in their plane, at right angles to the first
    upright /= np.linalg.norm(upright)
    turned = math.cos(part * angle) * first + math.sin(part * angle) * upright
    return turned * ((1 - part) * lengths[0] + part * lengths[1])


def enlarged(samples: np.ndarray, length: int) -> np.ndarray:
    """Columns of (channels, rows, columns) one by one, at the places of bilinear interpolation."""
    channels, rows, old = samples.shape
    found = np.zeros((channels, rows, length))
    for column in range(length):
        place = min(max((column + 0.5) * old / length - 0.5, 0), old - 1)
        left = int(place)
        for row in range(rows):
            pair = samples[:, row, left], samples[:, row, min(left + 1, old - 1)]
            found[:, row, column] = (
                slerp(*pair, place - left) if left < old - 1 and place > left else pair[0]
            )
    return found


@pytest.mark.parametrize("size", [(8, 11), (3, 4), (5, 7)])
def test_bislerp_is_a_rotation_place_by_place(size: tuple[int, int]) -> None:
    samples = torch.randn((1, 4, 5, 7), generator=torch.Generator().manual_seed(3))
    wide = enlarged(samples[0].double().numpy(), size[1])
    expected = enlarged(wide.transpose(0, 2, 1), size[0]).transpose(0, 2, 1)
    found = bislerp(samples, size[1], size[0])[0].double().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bislerp_keeps_a_constant_and_survives_zeros_and_opposites() -> None:
    constant = torch.ones(1, 4, 3, 3) * 0.7
    torch.testing.assert_close(bislerp(constant, 5, 7), torch.full((1, 4, 7, 5), 0.7))
    assert bislerp(torch.zeros(1, 4, 2, 2), 3, 3).abs().max() == 0
    opposite = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(bislerp(opposite, 3, 1).flatten(), torch.tensor([1.0, 0.0, -1.0]))


def test_lanczos_is_that_of_pillow() -> None:
    pixels = (np.random.default_rng(0).random((6, 8, 3)) * 255).astype(np.uint8)
    samples = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    expected = Image.fromarray(pixels).resize((12, 10), Image.Resampling.LANCZOS)
    made = (lanczos(samples, 12, 10)[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    # The way through 8 bits truncates, so a value may have lost one before it is enlarged.
    assert np.abs(made.astype(int) - np.asarray(expected).astype(int)).max() <= 2


def test_a_centre_crop_keeps_the_middle() -> None:
    samples = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 4, 8)
    made = resize(samples, 4, 4, "nearest-exact", "center")
    assert made[0, 0, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert torch.equal(resize(samples, 8, 4, "bilinear", "center"), samples)


def test_tiles_of_a_linear_upscaler_blend_without_a_seam() -> None:
    """Doubling by repetition looks at one pixel at a time, so tiles must give the whole's result."""
    image = torch.rand(1, 3, TILE + 3 * OVERLAP, TILE + 8)
    calls: list[tuple[int, ...]] = []

    def upscale(part: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(part.shape))
        return functional.interpolate(part, scale_factor=2.0, mode="nearest")

    torch.testing.assert_close(tiled(image, 2, upscale), upscale(image), rtol=1e-5, atol=1e-6)
    assert len(calls) == 5  # two by two tiles, and the whole
    assert max(max(shape) for shape in calls[:-1]) <= TILE


def test_a_small_image_is_not_tiled() -> None:
    image = torch.rand(1, 3, 40, 30)
    assert tiled(image, 1, lambda part: part) is image


def test_every_weight_of_tiles_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of ramps over the overlap, at both ends of each tile, also at the image's edges."""
    monkeypatch.setattr("flowdesign.render.resize.TILE", 24)
    monkeypatch.setattr("flowdesign.render.resize.OVERLAP", 8)
    image = torch.rand((1, 3, 40, 30), generator=torch.Generator().manual_seed(5))
    tilt = torch.linspace(0, 1, 24)

    def upscale(tile: Tensor) -> Tensor:  # the same place differs from tile to tile
        tall, wide = tile.shape[-2:]
        shaded = tile + tilt[:tall, None] * tilt[:wide]
        return shaded.repeat_interleave(2, -1).repeat_interleave(2, -2)

    total, weight = torch.zeros(1, 3, 80, 60), torch.zeros(1, 3, 80, 60)
    for y in (0, 16):
        for x in (0, 16):
            made = upscale(image[..., y : y + 24, x : x + 24])
            mask = torch.ones_like(made)
            for axis in (2, 3):
                for step in range(16 if made.shape[axis] > 16 else 0):
                    mask.narrow(axis, step, 1).mul_((step + 1) / 16)
                    mask.narrow(axis, mask.shape[axis] - 1 - step, 1).mul_((step + 1) / 16)
            rows, columns = slice(2 * y, 2 * y + 48), slice(2 * x, 2 * x + made.shape[-1])
            total[..., rows, columns] += made * mask
            weight[..., rows, columns] += mask
    torch.testing.assert_close(tiled(image, 2, upscale), total / weight)
