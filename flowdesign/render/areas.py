"""Where and when a text counts: areas with soft edges, strengths, and ranges of the noise.

The rules are those of ComfyUI 0.3.64. Under several texts the predictions are averaged, each with its
weight: its strength, fading to its area's edges wherever these are not the image's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flowdesign.render.errors import BadWorkflow
from flowdesign.render.levels import Levels
from flowdesign.render.values import Area, Condition, Conditioning
from flowdesign.workflow import VAE_FACTOR

EDGE = 8  # latent places over which an area fades, or a quarter of a side when that is less


def settled(
    positive: Conditioning, negative: Conditioning, height: int, width: int
) -> tuple[Conditioning, Conditioning]:
    """Give every area a place in a latent of this size, and its counterpart on the other side.

    Guidance compares a prediction with its opposite, so what one side says of an area the other side
    says too, with the text of the smallest area around it. Raises BadWorkflow for an area outside.
    """
    wanted = [_placed(entry, height, width) for entry in positive.entries]
    unwanted = _with_counterparts([_placed(e, height, width) for e in negative.entries], wanted)
    wanted = _with_counterparts(wanted, unwanted)
    return Conditioning(tuple(wanted)), Conditioning(tuple(unwanted))


def _placed(entry: Condition, height: int, width: int) -> Condition:
    """Turn shares into latent places; an area has at least one."""
    area = entry.area
    if area is None:
        return entry
    if area.shares:
        size = max(1, round(area.height * height)), max(1, round(area.width * width))
        area = Area(*size, round(area.top * height), round(area.left * width))
    if area.top >= height or area.left >= width:
        raise BadWorkflow(
            f"The area of a text starts at x {area.left * VAE_FACTOR:g}, y {area.top * VAE_FACTOR:g}, "
            f"outside of an image of {width * VAE_FACTOR}x{height * VAE_FACTOR} pixels. "
            "Move it inside, or make the image larger."
        )
    return replace(entry, area=area)


def _with_counterparts(own: Sequence[Condition], others: Sequence[Condition]) -> list[Condition]:
    found = list(own)
    for other in others:
        around = None if other.area is None else _smallest_around(other.area, found)
        if around is not None and around.area != other.area:
            found.append(replace(other, hidden=around.hidden, pooled=around.pooled))
    return found


def _smallest_around(area: Area, entries: Sequence[Condition]) -> Condition | None:
    """The entry whose area holds this one and is the smallest; failing that, the first without an area."""
    around = [each for each in entries if each.area is not None and each.area.holds(area)]
    if around:
        return min(around, key=lambda each: each.area.height * each.area.width if each.area else 0)
    return next((each for each in entries if each.area is None), None)


def counts_at(entry: Condition, sigma: float, levels: Levels) -> bool:
    """Whether a text counts at a noise level: its range is in shares of the training steps."""
    return _level(entry.end, levels) <= sigma <= _level(entry.start, levels)


def _level(share: float, levels: Levels) -> float:
    if share <= 0 or share >= 1:
        return math.inf if share <= 0 else 0.0
    return float(levels.at(torch.tensor((1 - share) * levels.span[0])))


def window(entry: Condition, x: Tensor) -> tuple[slice, slice]:
    """The rows and columns of x that a text is about; an area that reaches beyond x is cut."""
    height, width = x.shape[-2:]
    if entry.area is None:
        return slice(0, height), slice(0, width)
    top, left = int(entry.area.top), int(entry.area.left)
    bottom, right = top + int(entry.area.height), left + int(entry.area.width)
    return slice(top, min(bottom, height)), slice(left, min(right, width))


def weight(entry: Condition, x: Tensor) -> Tensor:
    """How much a text counts at each place of its window, (rows, columns)."""
    rows, columns = window(entry, x)
    sides = [
        _fading(part, whole) for part, whole in zip((rows, columns), x.shape[-2:], strict=True)
    ]
    return (entry.strength * sides[0][:, None] * sides[1]).to(x)


def _fading(part: slice, whole: int) -> Tensor:
    """Ones that rise from an edge inside of the image over EDGE places, (length of the part,)."""
    length = part.stop - part.start
    rise = min(EDGE, length // 4)
    found, ramp = torch.ones(length), torch.arange(1, rise + 1) / max(rise, 1)
    if part.start != 0:
        found[:rise] *= ramp
    if part.stop < whole:
        found[length - rise :] *= ramp.flip(0)
    return found


def average(x: Tensor, entries: Sequence[Condition], predictions: Sequence[Tensor]) -> Tensor:
    """Average predictions for windows of x by their weights; 0 where no text counts, as in ComfyUI."""
    total, counts = torch.zeros_like(x), torch.full_like(x, torch.finfo(x.dtype).tiny)
    for entry, prediction in zip(entries, predictions, strict=True):
        rows, columns = window(entry, x)
        weights = weight(entry, x)
        total[..., rows, columns] += prediction * weights
        counts[..., rows, columns] += weights
    return total / counts
