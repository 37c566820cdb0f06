"""What is wrong with a workflow, and how it is told: short, bounded, whatever was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_PROBLEMS = 50  # of one answer
MAX_SHOWN = 60  # characters of a value, or of an id, in a message
MORE = "more_problems"
# Faults of values, not of structure: the workflow can still be taken apart and shown.
OF_VALUES = frozenset(
    {
        "value_not_in_list",
        "value_smaller_than_min",
        "value_bigger_than_max",
        "unsafe_path",
        "too_many_pixels",
        "too_many_steps",
        "too_much_sampling",
        MORE,
    }
)


@dataclass(frozen=True)
class Problem:
    """What is wrong, where. Codes are ComfyUI's where it has one; node and input may be empty."""

    code: str
    node: str
    input: str
    message: str


@dataclass(frozen=True)
class MoreProblems(Problem):
    """Stands for the `count` problems that are not listed."""

    count: int = 0


def limited(problems: Sequence[Problem], most: int = MAX_PROBLEMS) -> list[Problem]:
    """Return at most `most` problems, faults of structure first, and one that counts the rest."""
    listed = [each for each in problems if not isinstance(each, MoreProblems)]
    rest = total(problems) - min(len(listed), most)
    if not rest:
        return list(problems)
    listed.sort(key=lambda each: each.code in OF_VALUES)
    message = f"And {rest} more problem{'s' * (rest != 1)}."
    return [*listed[:most], MoreProblems(MORE, "", "", message, rest)]


def total(problems: Sequence[Problem]) -> int:
    """Return how many problems there are, with those that are only counted."""
    return sum(each.count if isinstance(each, MoreProblems) else 1 for each in problems)


def short(text: str) -> str:
    """Return a text cut to what a message has room for."""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def show(value: object) -> str:
    """Return a value for a message: short, on one line, and safe for any value."""
    if isinstance(value, str):
        return repr(short(value))
    if isinstance(value, bool | float) or value is None:
        return {True: "true", False: "false", None: "null"}.get(value, repr(value))  # type: ignore[arg-type]
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else "a very large number"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)} item{'s' * (len(value) != 1)}"
    if isinstance(value, dict):
        return f"an object with {len(value)} key{'s' * (len(value) != 1)}"
    return f"a {type(value).__name__}"
