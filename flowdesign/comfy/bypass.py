"""What a bypassed node passes on: the rule of ComfyUI's browser side, ExecutableNodeDTO.

    Bypass(node, 0).input("IMAGE")    the number of the input whose link takes the place of output 0

A type may name several ("IMAGE,MASK"), "*" is any; upper and lower case are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from flowdesign.comfy.widgets import entries
from flowdesign.workflow import MAX_ID

ANY = "*"


class Bypass:
    """The choice for one output of a bypassed node; raises IndexError if there is no such output."""

    def __init__(self, node: Mapping[str, Any], slot: int) -> None:
        self.inputs = entries(node, "inputs")
        self._slot = slot
        self._output = _parts(entries(node, "outputs")[slot].get("type"))
        self._types = _first((each.get("type"),) for each in self.inputs)
        types = (_parts(each.get("type")) for each in self.inputs)
        self._fitting = _first(parts if _meet(parts, self._output) else () for parts in types)

    def input(self, wanted: object) -> int | None:
        """The number of the input for a node that wants this type; None if none has it.

        The input of the same number is preferred, then one of exactly the type. Whether anything is linked
        to it makes no difference.
        """
        same = self._slot if self._slot < len(self.inputs) else None
        if wanted in (ANY, ""):
            return same if same is not None else 0 if self.inputs else None
        parts = _parts(wanted)
        if same is not None:
            own = _parts(self.inputs[same].get("type"))
            if _meet(own, self._output) and _meet(own, parts):
                return same
        if isinstance(wanted, str) and wanted in self._types:
            return self._types[wanted]
        among = self._fitting if ANY in parts else {*parts, ANY} & self._fitting.keys()
        return min((self._fitting[part] for part in among), default=None)


def _first(found: Iterable[Iterable[Any]]) -> dict[str, int]:
    """The number of the first that has each text."""
    numbers: dict[str, int] = {}
    for number, texts in enumerate(found):
        for text in texts:
            if isinstance(text, str):
                numbers.setdefault(text, number)
    return numbers


def _meet(one: frozenset[str], other: frozenset[str]) -> bool:
    return ANY in one or ANY in other or not one.isdisjoint(other)


def _parts(kind: object) -> frozenset[str]:
    """The types that a type names; one that is no text, or too long to be real, is only itself."""
    if kind is None or kind == 0:
        return frozenset({ANY})
    return _split(kind) if isinstance(kind, str) else frozenset({type(kind).__name__})


@lru_cache(maxsize=1024)
def _split(kind: str) -> frozenset[str]:
    parts = kind.lower().split(",") if len(kind) <= MAX_ID else [kind]
    return frozenset(part or ANY for part in parts)
