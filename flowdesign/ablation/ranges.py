"""Numbers as people type them: `0,1,1.5`, `0-5`, `0-5 (+0.5)`, `0-5 [6]`, and several of these by comma.

    "0,1,1.5"       these
    "0-5"           0, 1, 2, 3, 4, 5
    "0-5 (+0.5)"    in steps of 0.5; "5-0 (-0.5)" goes down
    "0-5 [6]"       6 numbers, evenly from 0 to 5

Decimals are counted exactly, so 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from flowdesign.request import BadRequest

MOST = 100  # values of an axis
DIGITS = 20  # of a number; the largest seed has as many
HOW = "Write numbers and ranges like 0,1,1.5 or 0-5 (+0.5) or 0-5 [6]."

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_ITEM = re.compile(
    rf"(?P<first>{_NUMBER})"
    rf"(?:\s*(?:-|–|to|\.\.)\s*(?P<last>{_NUMBER})"
    rf"\s*(?:\(\s*(?P<step>{_NUMBER})\s*\)|\[\s*(?P<count>\d+)\s*\])?)?"
)


def numbers(text: str) -> tuple[Decimal, ...]:
    """The numbers that a text stands for, each once, in its order. Raises BadRequest."""
    items = [item.strip() for item in text.replace("\n", ",").split(",")]
    found: dict[Decimal, None] = {}
    for item in filter(None, items):
        for number in _read(item):
            found[number] = None
            if len(found) > MOST:
                raise _too_many(text)
    if not found:
        raise BadRequest(f"No values are given. {HOW}")
    return tuple(found)


def whole_numbers(text: str) -> tuple[int, ...]:
    """The same where only whole numbers make sense. Raises BadRequest."""
    found = numbers(text)
    odd = next((number for number in found if number != int(number)), None)
    if odd is not None:
        raise BadRequest(
            f"'{_short(text)}' gives {plain(odd)}, and only whole numbers make sense here."
        )
    return tuple(int(number) for number in found)


def plain(number: Decimal) -> str:
    """A number without an exponent and without zeros at its end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _read(item: str) -> Iterator[Decimal]:
    found = _ITEM.fullmatch(item)
    if found is None or max(map(len, re.findall(r"\d+", item))) > DIGITS:
        raise BadRequest(f"'{_short(item)}' is no number and no range. {HOW}")
    first = Decimal(found["first"]).normalize()
    if found["last"] is None:
        return iter([first])
    last = Decimal(found["last"]).normalize()
    if found["count"] is not None:
        return _evenly(item, first, last, int(found["count"]))
    step = Decimal(found["step"] or (1 if last >= first else -1))
    return _stepped(item, first, last, step)


def _evenly(item: str, first: Decimal, last: Decimal, count: int) -> Iterator[Decimal]:
    """`count` numbers from `first` to `last`."""
    if not 1 <= count <= MOST:
        raise BadRequest(f"'{_short(item)}' asks for {count} values; 1 to {MOST} are possible.")
    if count == 1 or first == last:
        return iter([first])
    gap = (last - first) / (count - 1)
    return (_tidy(first + gap * index) for index in range(count))


def _stepped(item: str, first: Decimal, last: Decimal, step: Decimal) -> Iterator[Decimal]:
    """Numbers from `first` in steps, none beyond `last`."""
    if step == 0 or (last - first) * step < 0:
        sign = "+" if last >= first else "-"
        size = abs(step) or Decimal(1)
        raise BadRequest(
            f"'{_short(item)}' never gets to its end: write "
            f"{plain(first)}-{plain(last)} ({sign}{plain(size)})."
        )
    count = int((last - first) / step) + 1
    if count > MOST:
        raise _too_many(item)
    return (_tidy(first + step * index) for index in range(count))


def _too_many(text: str) -> BadRequest:
    return BadRequest(f"'{_short(text)}' gives more than {MOST} values. Ask for fewer.")


def _tidy(number: Decimal) -> Decimal:
    """A number of at most six decimals: 0-1 [4] gives 0.333333."""
    return round(number, 6).normalize() + Decimal(0)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
