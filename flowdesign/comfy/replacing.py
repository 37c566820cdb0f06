"""Values of other nodes in texts, as ComfyUI's browser side puts them in before it sends a workflow.

    Replacing(top, values)("a/%KSampler.seed%")    "a/7"

A node is called by its "Node name for S&R", which is its class unless a person changed it, else by its title; the
first of a name counts. What is called and not there stays, and so does a date (%date:yyyy-MM-dd%): that depends on
the day on which someone runs the workflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from flowdesign.comfy.scopes import Node, Scope
from flowdesign.comfy.texts import LONGEST

SAVERS = frozenset(  # the classes whose filename_prefix is changed
    {
        "CLIPSave", "LoraSave", "ModelSave", "Save3DAdvanced", "SaveAnimatedPNG", "SaveAnimatedWEBP", "SaveAudio",
        "SaveAudioAdvanced", "SaveAudioMP3", "SaveAudioOpus", "SaveGLB", "SaveGaussianSplat", "SaveImage",
        "SaveImageAdvanced", "SaveLatent", "SavePointCloud", "SaveSVGNode", "SaveVideo", "SaveWEBM", "VAESave",
    }
)  # fmt: skip
FILENAME = "filename_prefix"
ASKED = "Run widget replace on values"  # the property of a primitive whose text is changed
DATE = re.compile(r"%date:[^%.]*%")
_CALLED = re.compile(r"%([^%]+)%")
_UNFIT = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')  # for the name of a file
_NAME = "Node name for S&R"
_TITLES = {  # of nodes that nobody gave another; all others are called like their class
    "CheckpointLoaderSimple": "Load Checkpoint", "CLIPLoader": "Load CLIP", "CLIPSetLastLayer": "CLIP Set Last Layer",
    "CLIPTextEncode": "CLIP Text Encode (Prompt)", "ConditioningAverage": "Conditioning (Average)",
    "ConditioningSetArea": "Conditioning (Set Area)", "EmptyLatentImage": "Empty Latent Image",
    "ImageScale": "Upscale Image", "ImageScaleBy": "Upscale Image By", "KSamplerAdvanced": "KSampler (Advanced)",
    "LatentUpscale": "Upscale Latent", "LatentUpscaleBy": "Upscale Latent By", "LoadImage": "Load Image",
    "LoraLoader": "Load LoRA", "PrimitiveNode": "Primitive", "SaveImage": "Save Image",
    "UNETLoader": "Load Diffusion Model", "UpscaleModelLoader": "Load Upscale Model", "VAELoader": "Load VAE",
}  # fmt: skip
_EXACT = 2**53  # a browser's whole numbers are exact so far
_SMALL, _LARGE = 1e-6, 1e21  # between these a browser writes numbers without an exponent


class Replacing:
    """Changes texts of a file; `values` gives those of a node's widgets. The nodes are gone through once."""

    def __init__(self, top: Scope, values: Callable[[Scope, Node], Mapping[str, Any]]) -> None:
        self._top, self._values = top, values
        self._texts: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._found: tuple[dict[str, Any], dict[str, Any]] | None = None

    def __call__(self, text: Any) -> Any:
        """The text with values for what it calls. What is no text, or is or becomes so long that it is refused,
        stays as it is."""
        if not isinstance(text, str) or "%" not in text or len(text) > LONGEST:
            return text
        if text not in self._texts:  # a subgraph may stand in many places
            self._texts[text] = self._replaced(text)
        return self._texts[text]

    def _replaced(self, text: str) -> str:
        parts, at, size = [], 0, len(text)
        for call in _CALLED.finditer(text):
            parts += [text[at : call.start()], self._value(call[0])]
            at, size = call.end(), size + len(parts[-1])
            if size > LONGEST:
                return text
        return "".join((*parts, text[at:]))

    def _value(self, call: str) -> str:
        if call not in self._known:
            self._known[call] = self._looked_up(call)
        return self._known[call]

    def _looked_up(self, call: str) -> str:
        called, _, name = call.strip("%").partition(".")
        if not name or "." in name:
            return call
        by_name, by_title = self._found = self._found or self._named()
        place = by_name.get(called) or by_title.get(called)
        values = self._values(*place) if place else {}
        return _UNFIT.sub("_", _as_text(values[name])) if name in values else call

    def _named(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first node of each name, and of each title, with its scope."""
        by_name: dict[str, Any] = {}
        by_title: dict[str, Any] = {}
        for scope, node in _all(self._top):
            if isinstance(name := _name(node), str):
                by_name.setdefault(name, (scope, node))
            if isinstance(title := node.get("title") or _TITLES.get(node["type"]), str):
                by_title.setdefault(title, (scope, node))
        return by_name, by_title


def _all(scope: Scope) -> Iterator[tuple[Scope, Node]]:
    """Every node, those inside a subgraph before the subgraph itself."""
    for key, node in scope.nodes.items():
        if key in scope.inside:
            yield from _all(scope.inside[key])
        yield scope, node


def _name(node: Node) -> Any:
    """What a node is called by; a class that saves files has no name unless its file gives one."""
    properties = node.get("properties")
    own = properties.get(_NAME) if isinstance(properties, dict) else None
    return own if own is not None or node["type"] in SAVERS else node["type"]


def _as_text(value: Any) -> str:
    """A value as a browser writes it into a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and _EXACT < abs(value) < _LARGE:
        value = float(value)
    if isinstance(value, float) and (value == 0 or _SMALL <= abs(value) < _LARGE):
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    if isinstance(value, float):
        digits, _, exponent = repr(value).partition("e")
        return f"{digits}e{int(exponent):+d}" if exponent else digits
    return "[object Object]" if isinstance(value, dict) else str(value)
