"""The contact sheet: the whole grid as one picture, with its axes and the scores of each cell."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowdesign.ablation.plan import Plan
from flowdesign.ablation.running import Outcome
from flowdesign.studio import Rendered

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

LEAST, MOST = 128, 320  # side of a picture on the sheet, in pixels
MARGIN, LEFT, TOP, CAPTION, TITLE = 8, 150, 44, 34, 24
PAPER, INK, FAINT = "#ffffff", "#18222b", "#56636f"
SIZE = 12  # of the letters


def contact_sheet(plan: Plan, outcomes: Sequence[Outcome]) -> Image:
    """Draw the grid; a cell that is not finished or has no image says so."""
    from PIL import Image, ImageDraw

    side = _side(outcomes)
    lines = _lines(plan, side)
    width = LEFT + len(plan.columns) * (side + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, lines[-1] + side + CAPTION + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write_axes(pen, plan, lines, side)
    found = {(one.cell.row, one.cell.column): one for one in outcomes}
    for cell in plan.cells:
        corner = LEFT + cell.column * (side + MARGIN), lines[cell.row]
        _draw_cell(sheet, pen, found.get((cell.row, cell.column)), corner, side)
    return sheet


def _side(outcomes: Sequence[Outcome]) -> int:
    """The side of a picture: that of the largest image, within limits."""
    from PIL import Image

    sides = []
    for outcome in outcomes:
        if isinstance(outcome.event, Rendered) and outcome.event.image.exists():
            with Image.open(outcome.event.image) as picture:
                sides.append(max(picture.size))
    return min(MOST, max(LEAST, *sides, LEAST))


def _lines(plan: Plan, side: int) -> list[int]:
    """How far down each row's pictures begin; a sheet begins with its title."""
    found, y, before = list[int](), TOP, None
    for row in plan.rows:
        if row.sheet and row.sheet != before:
            y += TITLE
        before = row.sheet
        found.append(y)
        y += side + CAPTION
    return found


def _write_axes(pen: ImageDraw, plan: Plan, lines: Sequence[int], side: int) -> None:
    letters = max(8, side // 7)
    for column, label in enumerate(plan.columns):
        place = LEFT + column * (side + MARGIN), MARGIN
        _write(pen, place, label, letters, 2)
    before = None
    for row, y in zip(plan.rows, lines, strict=True):
        if row.sheet and row.sheet != before:
            _write(pen, (MARGIN, y - TITLE + 4), row.sheet, 200, 1)
        before = row.sheet
        _write(pen, (MARGIN, y), row.label, LEFT // 7, side // 16)


def _draw_cell(
    sheet: Image, pen: ImageDraw, outcome: Outcome | None, corner: tuple[int, int], side: int
) -> None:
    from PIL import Image

    x, y = corner
    if outcome is None or not isinstance(outcome.event, Rendered):
        reason = outcome.event.reason if outcome and not isinstance(outcome.event, Rendered) else ""
        pen.rectangle((x, y, x + side - 1, y + side - 1), outline=FAINT)
        _write(pen, (x + 6, y + 6), reason or "not made", side // 7, side // 16, FAINT)
        return
    with Image.open(outcome.event.image) as picture:
        small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    grown = min(side // small.width, side // small.height)
    if grown > 1:  # miniature images: whole pixels stay sharp
        small = small.resize((small.width * grown, small.height * grown), Image.Resampling.NEAREST)
    sheet.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
    for line, words in enumerate(_scores(outcome)):
        _write(pen, (x, y + side + 2 + line * (SIZE + 2)), words, side // 6, 1, FAINT)


def _scores(outcome: Outcome) -> list[str]:
    """The true and the predicted score, as far as there are any."""
    pairs = (("true", outcome.true), ("predicted", outcome.predicted))
    return [f"{name} {value:+.2f}" for name, value in pairs if value is not None]


def _write(
    pen: ImageDraw, place: tuple[int, int], text: str, letters: int, lines: int, ink: str = INK
) -> None:
    from PIL import ImageFont

    plain = text.replace("\N{MINUS SIGN}", "-").replace(
        "\N{MIDDLE DOT}", "-"
    )  # the font lacks them
    wrapped = textwrap.wrap(plain, letters, max_lines=max(1, lines), placeholder="...")
    pen.text(place, "\n".join(wrapped), ink, ImageFont.load_default(SIZE))
