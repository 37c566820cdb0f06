"""Draw the scenes of the miniature world with Pillow.

Shapes are polygons in a square of half side 1, y downwards. A scene is drawn at four times its size
and reduced, which gives clean edges.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from flowdesign.scenes import COLOURS, DOMAINS, Spec

Point = tuple[float, float]
RGB = tuple[int, int, int]

NATIVE = 64  # pixels: the size that the miniature models are trained on
_OVERSAMPLE = 4

PALETTE: dict[str, RGB] = {
    "red": (214, 44, 44),
    "yellow": (242, 190, 24),
    "green": (38, 158, 74),
    "blue": (40, 98, 222),
    "purple": (124, 58, 190),
    "pink": (240, 120, 184),
}
BRIGHT: dict[str, RGB] = {
    "red": (255, 84, 76),
    "yellow": (255, 222, 74),
    "green": (74, 222, 112),
    "blue": (84, 150, 255),
    "purple": (176, 108, 255),
    "pink": (255, 152, 214),
}
GROUND: dict[str, RGB] = {
    "flat": (252, 252, 252),
    "outline": (250, 244, 230),
    "night": (16, 18, 46),
    "striped": (232, 240, 250),
    "dusk": (72, 52, 84),
    "mint": (188, 236, 208),
    "sand": (234, 206, 158),
}
STRIPE = 4  # pixels of one band at the native size
STROKE = 0.225  # half the width of an outline, as a share of the shape's radius


def _arc(
    cx: float, cy: float, rx: float, ry: float, start: float, end: float, n: int
) -> list[Point]:
    angles = [math.radians(start + (end - start) * i / n) for i in range(n + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    radii = [1.0, 0.5] * 5
    angles = [math.radians(-90 + 36 * i) for i in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[Point]:
    turns = [2 * math.pi * i / 60 for i in range(60)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in turns
    ]


def _drop() -> list[Point]:
    return [(0, -1), *_arc(0, 0.33, 0.68, 0.67, -35, 215, 40)]


def _fish() -> list[Point]:
    body = _arc(-0.22, 0, 0.78, 0.6, 35, 325, 40)
    return [*body, (0.98, -0.62), (0.78, 0), (0.98, 0.62)]


def _tree() -> list[Point]:
    trunk = [(0.2, 0.35), (0.2, 1), (-0.2, 1), (-0.2, 0.35)]
    return [*trunk, *_arc(0, -0.3, 0.82, 0.7, 115, 425, 40)]


_ARM = 0.34
SHAPE_POINTS: dict[str, list[Point]] = {
    "circle": _arc(0, 0, 0.95, 0.95, 0, 354, 59),
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -0.92), (1, 0.82), (-1, 0.82)],
    "star": _star(),
    "heart": _heart(),
    "drop": _drop(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
    "bolt": [(0.42, -1), (-0.78, 0.22), (-0.12, 0.22), (-0.42, 1), (0.78, -0.24), (0.12, -0.24)],
    "diamond": [(0, -1), (0.78, 0), (0, 1), (-0.78, 0)],
    "house": [(0, -1), (1, -0.12), (0.74, -0.12), (0.74, 0.9), (-0.74, 0.9), (-0.74, -0.12), (-1, -0.12)],
    "tree": _tree(),
    "fish": _fish(),
}  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """An object of a scene: centre and radius in units of the image side."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn."""

    objects: tuple[Placed, ...]
    style: str
    backdrop: str | None = None
    messy: bool = False
    blurry: bool = False


# Centres (x, y) and radii, in units of the side, by the number of objects.
_PLACES: dict[int, tuple[tuple[Point, ...], tuple[float, float], float]] = {
    1: (((0.5, 0.5),), (0.20, 0.26), 0.06),
    3: (((0.5, 0.28), (0.27, 0.7), (0.73, 0.7)), (0.145, 0.17), 0.03),
    4: (((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)), (0.14, 0.165), 0.03),
    5: (((0.23, 0.23), (0.77, 0.23), (0.5, 0.5), (0.23, 0.77), (0.77, 0.77)), (0.12, 0.135), 0.02),
    6: (
        ((0.2, 0.3), (0.5, 0.3), (0.8, 0.3), (0.2, 0.7), (0.5, 0.7), (0.8, 0.7)),
        (0.105, 0.118),
        0.012,
    ),
}
_PAIR = {
    "left of": ((0.28, 0.5), (0.72, 0.5)),
    "right of": ((0.72, 0.5), (0.28, 0.5)),
    "above": ((0.5, 0.28), (0.5, 0.72)),
    "below": ((0.5, 0.72), (0.5, 0.28)),
}


def _layout(rng: random.Random, count: int, relation: str | None) -> tuple[list[Point], float]:
    """Centres and the common radius. Two objects without a relation stand side by side, as named."""
    if count == 2:
        places: Sequence[Point] = _PAIR[relation or "left of"]
        radii, jitter = (0.145, 0.172), 0.03
    else:
        places, radii, jitter = _PLACES[count]
    radius = rng.uniform(*radii)
    return [
        (x + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter)) for x, y in places
    ], radius


def random_scene(rng: random.Random, spec: Spec) -> Scene:
    """Fill in what the spec leaves open: colours, places, sizes, and a style that suits the objects."""
    wanted = [(item.shape, item.colour) for item in spec.items for _ in range(item.count)]
    shared = rng.choice(COLOURS)  # a counted group has one colour
    colours = [c or (shared if len(spec.items) == 1 else rng.choice(COLOURS)) for _, c in wanted]
    places, radius = _layout(rng, len(wanted), spec.relation)
    objects = tuple(
        Placed(shape, colour, x, y, radius)
        for (shape, _), colour, (x, y) in zip(wanted, colours, places, strict=True)
    )
    home = next(d.style for d in DOMAINS if wanted[0][0] in d.shapes)
    return Scene(objects, spec.style or home, spec.backdrop)


def _polygon(item: Placed, side: int) -> list[Point]:
    r = item.radius * side
    return [(item.x * side + r * px, item.y * side + r * py) for px, py in SHAPE_POINTS[item.shape]]


def _mix(colour: RGB, other: RGB, share: float) -> RGB:
    r, g, b = (round(a * (1 - share) + o * share) for a, o in zip(colour, other, strict=True))
    return r, g, b


def _bands(side: int) -> Image.Image:
    """A mask of horizontal bands, locked to the image so that they look woven through it."""
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    band = side * STRIPE / NATIVE
    for k in range(1, int(side / band) + 1, 2):
        pen.rectangle((0, k * band, side, (k + 1) * band - 1), fill=255)
    return mask


def _paint(canvas: Image.Image, item: Placed, style: str, colour: RGB) -> None:
    side = canvas.width
    shape = Image.new("L", canvas.size, 0)
    pen, points = ImageDraw.Draw(shape), _polygon(item, side)
    if style == "outline":
        # The stroke lies inside the silhouette, so that the shape keeps its size; it grows with the
        # shape, so that a large one is not a thread.
        pen.polygon(points, fill=255)
        stroke = Image.new("L", canvas.size, 255)
        pen, half = ImageDraw.Draw(stroke), side * max(0.036, STROKE * item.radius)
        pen.polygon(points, fill=0)
        pen.line([*points, points[0]], fill=255, width=round(2 * half))
        for x, y in points:
            pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
        shape = ImageChops.multiply(shape, stroke)
    else:
        pen.polygon(points, fill=255)
    if style == "night":
        glow = shape.filter(ImageFilter.GaussianBlur(side * 0.03)).point(lambda v: v // 3)
        canvas.paste(colour, mask=glow)
    canvas.paste(colour, mask=shape)
    if style == "striped":
        canvas.paste(
            _mix(colour, (20, 16, 40), 0.38), mask=ImageChops.multiply(shape, _bands(side))
        )


def _specks(canvas: Image.Image, rng: random.Random) -> None:
    pen, side = ImageDraw.Draw(canvas), canvas.width
    for _ in range(rng.randint(4, 8)):
        x, y, r = rng.random() * side, rng.random() * side, side * rng.uniform(0.02, 0.05)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=PALETTE[rng.choice(COLOURS)])


def draw(scene: Scene, side: int = NATIVE, seed: int = 0) -> Image.Image:
    """Draw a scene as an RGB image of `side` x `side` pixels; `seed` places the specks of a messy one."""
    ground = GROUND[scene.backdrop or scene.style]
    canvas = Image.new("RGB", (side * _OVERSAMPLE,) * 2, ground)
    if scene.messy:
        _specks(canvas, random.Random(seed))
    palette = BRIGHT if sum(ground) < 300 else PALETTE
    for item in scene.objects:
        _paint(canvas, item, scene.style, palette[item.colour])
    image = canvas.resize((side, side), Image.Resampling.BOX)
    return image.filter(ImageFilter.GaussianBlur(side * 0.03)) if scene.blurry else image
