"""The exact judge of the miniature world: read a picture back and compare it with its prompt.

Three figures per image, as GenEval's checker (arXiv 2310.11513) but without a detector:

* *strict*: every object, colour, count, place, the style and the backdrop are right, nothing extra;
* *soft*: the share of these parts that is right;
* *gist*: the right number of objects in the right colours, whatever their shapes.

A picture of any size is read at 64 pixels. Reading is deterministic and costs about two milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from flowdesign.drawing import BRIGHT, GROUND, NATIVE, PALETTE, SHAPE_POINTS
from flowdesign.scenes import BACKDROPS, Item, Spec, parse

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_FOREGROUND = 12.0  # Lab distance from the background at which a pixel may belong to an object
_SMOOTH = 0.7  # pixels, standard deviation
_SMALLEST = 24  # pixels: a smaller component is debris
_DEBRIS = 8  # pixels of debris that a clean picture may have
_GRID = 32  # side of the grid on which silhouettes are compared
_AREA = 225  # cells of the grid that a silhouette covers
_LEAST_OVERLAP = 0.70


@dataclass(frozen=True)
class Seen:
    """An object that was read: centre (x, y) in pixels of 64, share of the silhouette that is hollow."""

    shape: str | None
    colour: str
    x: float
    y: float
    hollow: float
    banded: float


@dataclass(frozen=True)
class Reading:
    """All that was read from a picture."""

    objects: tuple[Seen, ...]
    style: str
    ground: str | None
    debris: int


@dataclass(frozen=True)
class Verdict:
    """What the judge says of an image for a prompt; each figure lies in 0..1."""

    strict: float
    soft: float
    gist: float
    reading: Reading


# --- reading -------------------------------------------------------------------------------------


def _lab(rgb: Array) -> Array:
    """sRGB in 0..255, shape (..., 3), to CIE Lab (D65)."""
    c = rgb / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_GROUND_LAB = {name: _lab(np.array(rgb, dtype=float)) for name, rgb in GROUND.items()}
_COLOUR_LAB = {
    dark: {name: _lab(np.array(rgb, dtype=float)) for name, rgb in palette.items()}
    for dark, palette in ((False, PALETTE), (True, BRIGHT))
}


def _pixels(image: Image.Image) -> Array:
    small = image.convert("RGB")
    if small.size != (NATIVE, NATIVE):
        small = small.resize((NATIVE, NATIVE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def _ground(lab: Array) -> Array:
    border = np.concatenate([lab[:2].reshape(-1, 3), lab[-2:].reshape(-1, 3), lab[2:-2, :2].reshape(-1, 3), lab[2:-2, -2:].reshape(-1, 3)])  # fmt: skip
    return np.asarray(np.median(border, axis=0))


def _silhouette(mask: Mask) -> Array:
    """Fit a filled silhouette into the grid by its centroid and area; values 0..1.

    By area, not by extent: a stray pixel at a corner must not shrink the whole shape.
    """
    area = int(mask.sum())
    y, x = ndimage.center_of_mass(mask)
    step = (area / _AREA) ** 0.5  # pixels of the picture in one cell of the grid
    matrix = (step, 0, x + 0.5 - step * _GRID / 2, 0, step, y + 0.5 - step * _GRID / 2)
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    grid = picture.transform(
        (_GRID, _GRID), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(grid, dtype=np.float64) / 255


@cache
def _templates() -> tuple[tuple[str, ...], Array]:
    """Names and flattened silhouettes (count, 1024) of every shape, each at a few radii."""
    names, grids = [], []
    for shape, points in SHAPE_POINTS.items():
        for radius in (9, 12, 16):
            side, fine = 3 * radius, 8
            canvas = Image.new("L", (side * fine, side * fine))
            centre = side * fine / 2
            ImageDraw.Draw(canvas).polygon(
                [(centre + x * radius * fine, centre + y * radius * fine) for x, y in points],
                fill=255,
            )
            small = np.asarray(canvas.resize((side, side), Image.Resampling.BOX)) > 127
            names.append(shape)
            grids.append(_silhouette(small).ravel())
    return tuple(names), np.stack(grids)


def _shape(mask: Mask) -> str | None:
    names, grids = _templates()
    own = _silhouette(mask).ravel()
    overlap = np.minimum(grids, own).sum(1) / np.maximum(grids, own).sum(1)
    best = int(overlap.argmax())
    return names[best] if overlap[best] >= _LEAST_OVERLAP else None


def _colour(lab: Array, dark: bool) -> str:
    """Nearest colour of the palette, by hue and chroma more than by lightness."""
    weights = np.array([0.35, 1.0, 1.0])
    table = _COLOUR_LAB[dark]
    return min(table, key=lambda name: float(np.linalg.norm((table[name] - lab) * weights)))


def _solids(component: Mask, distance: Array) -> list[Mask]:
    """Cut a component at its own threshold: that drops a glow and parts what only soft edges join."""
    solid = component & (distance > 0.42 * np.percentile(distance[component], 85))
    labels, count = ndimage.label(solid)
    return [labels == index for index in range(1, count + 1)]


def _see(found: Mask, distance: Array, lab: Array, dark: bool) -> Seen:
    """Read an object that was found on smoothed pixels; its outline is that of the sharp ones."""
    solid = ndimage.binary_dilation(found) & (distance > 0.42 * np.percentile(distance[found], 85))
    filled = ndimage.binary_fill_holes(solid)
    core = ndimage.binary_erosion(filled, iterations=2)
    inside = core if core.any() else filled
    strong = distance[solid] >= np.median(distance[solid])
    rows = np.array([lab[y, inside[y], 0].mean() for y in np.flatnonzero(inside.sum(1) > 1)])
    y, x = ndimage.center_of_mass(filled)
    return Seen(
        shape=_shape(filled),
        colour=_colour(np.median(lab[solid][strong], axis=0), dark),
        x=float(x) + 0.5,
        y=float(y) + 0.5,
        hollow=1 - float(solid[filled].mean()),
        banded=float(rows.std()) if len(rows) > 2 else 0.0,
    )


def _style(objects: Sequence[Seen], ground: str | None) -> str:
    if ground == "night":
        return "night"
    if not objects:
        return "flat"
    if np.mean([o.hollow for o in objects]) > 0.10:
        return "outline"
    return "striped" if np.mean([o.banded for o in objects]) > 5.5 else "flat"


def read(image: Image.Image) -> Reading:
    """Find the objects of a picture, its style and its ground (None: a colour of no style)."""
    pixels = _pixels(image)
    lab = _lab(pixels)
    ground_lab = _ground(lab)
    name = min(_GROUND_LAB, key=lambda g: float(np.linalg.norm(_GROUND_LAB[g] - ground_lab)))
    ground = name if np.linalg.norm(_GROUND_LAB[name] - ground_lab) < 9 else None
    # Objects are found on smoothed pixels: grain is no object, and sharpness has a figure of its own.
    smooth = _lab(ndimage.gaussian_filter(pixels, (_SMOOTH, _SMOOTH, 0)))
    distance = np.linalg.norm(smooth - ground_lab, axis=-1)
    sharp = np.linalg.norm(lab - ground_lab, axis=-1)
    dark = bool(ground_lab[0] < 40)
    labels, count = ndimage.label(distance > _FOREGROUND, structure=np.ones((3, 3)))
    objects, debris = [], 0
    for index in range(1, count + 1):
        for solid in _solids(labels == index, distance):
            area = int(solid.sum())
            if area < _SMALLEST:
                debris += area
            else:
                objects.append(_see(solid, sharp, lab, dark))
    return Reading(tuple(objects), _style(objects, ground), ground, debris)


# --- judging -------------------------------------------------------------------------------------

_BESIDE = {
    "left of": lambda a, b: b.x - a.x > abs(a.y - b.y),
    "right of": lambda a, b: a.x - b.x > abs(a.y - b.y),
    "above": lambda a, b: b.y - a.y > abs(a.x - b.x),
    "below": lambda a, b: a.y - b.y > abs(a.x - b.x),
}


def _wanted(spec: Spec) -> list[Item]:
    return [Item(item.shape, item.colour) for item in spec.items for _ in range(item.count)]


def _fits(wanted: Sequence[Item], seen: Sequence[Seen]) -> tuple[list[bool], list[bool]]:
    """Shape and colour of each wanted object under the best assignment of seen objects to them."""
    shape_fits = np.array([[w.shape == s.shape for s in seen] for w in wanted]).reshape(
        len(wanted), -1
    )
    colour_fits = np.array([[w.colour in (None, s.colour) for s in seen] for w in wanted])
    colour_fits = colour_fits.reshape(len(wanted), -1)
    rows, columns = linear_sum_assignment(shape_fits.astype(int) + colour_fits, maximize=True)
    shapes, colours = [False] * len(wanted), [False] * len(wanted)
    for row, column in zip(rows, columns, strict=True):
        shapes[row], colours[row] = bool(shape_fits[row, column]), bool(colour_fits[row, column])
    return shapes, colours


def _related(spec: Spec, seen: Sequence[Seen]) -> bool:
    first, second = spec.items
    pairs = [(a, b) for a in seen for b in seen if a is not b]
    return any(
        _BESIDE[spec.relation or ""](a, b)
        for a, b in pairs
        if a.shape == first.shape and b.shape == second.shape
        and first.colour in (None, a.colour) and second.colour in (None, b.colour)
    )  # fmt: skip


def judge_spec(spec: Spec, image: Image.Image) -> Verdict:
    """Judge an image against a spec."""
    reading = read(image)
    wanted, seen = _wanted(spec), reading.objects
    shapes, colours = _fits(wanted, seen)
    clean = len(seen) == len(wanted) and reading.debris <= _DEBRIS
    parts = [*shapes, *(c for c, w in zip(colours, wanted, strict=True) if w.colour), clean]
    if spec.relation:
        parts.append(_related(spec, seen))
    if spec.style:
        parts.append(reading.style == spec.style)
    if spec.backdrop or spec.style:
        parts.append(reading.ground == (spec.backdrop or spec.style))
    else:
        parts.append(reading.ground is not None and reading.ground not in BACKDROPS)
    gist = len(seen) == len(wanted) and all(colours)
    return Verdict(float(all(parts)), float(np.mean(parts)), float(gist), reading)


def judge(prompt: str, image: Image.Image) -> Verdict | None:
    """Judge an image against a prompt; None where the prompt names no object of this world."""
    spec = parse(prompt)
    return judge_spec(spec, image) if spec else None
