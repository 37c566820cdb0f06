"""How a node type is declared, and short ways to declare its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SOCKETS = (
    "MODEL",
    "CLIP",
    "VAE",
    "CONDITIONING",
    "LATENT",
    "IMAGE",
    "UPSCALE_MODEL",
    "NOISE",
    "GUIDER",
    "SAMPLER",
    "SIGMAS",
)
WIDGETS = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
MAX_SEED = 2**64 - 1
MAX_SIDE = 16384


@dataclass(frozen=True)
class Input:
    """One input of a node: a socket that takes a link, or a widget that holds a value."""

    name: str
    type: str
    tooltip: str = ""
    default: Any = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: tuple[str, ...] = ()  # of a COMBO with fixed values
    kind: str = ""  # of a COMBO that lists installed files
    bins: tuple[Any, ...] = ()  # the values the vocabulary can say
    required: bool = True
    control: bool = False  # ComfyUI's interface files hold one more value after this one

    @property
    def is_socket(self) -> bool:
        """Whether the input takes a link rather than a value."""
        return self.type in SOCKETS


@dataclass(frozen=True)
class NodeType:
    """A kind of node. A preset is a named set of widget values that the vocabulary can say."""

    class_type: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    category: str
    tooltip: str
    is_output: bool = False
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    def input(self, name: str) -> Input:
        """Return the input of a name; KeyError if the node has none."""
        for each in self.inputs:
            if each.name == name:
                return each
        raise KeyError(f"{self.class_type} has no input '{name}'")

    @property
    def widgets(self) -> tuple[Input, ...]:
        """The inputs that hold values, in the order of ComfyUI's `widgets_values`."""
        return tuple(each for each in self.inputs if not each.is_socket)


def socket(name: str, kind: str, tooltip: str = "") -> Input:
    """Declare a socket."""
    return Input(name, kind, tooltip)


def file(name: str, kind: str, tooltip: str) -> Input:
    """Declare a choice among installed files."""
    return Input(name, "COMBO", tooltip, kind=kind)


def combo(name: str, options: tuple[str, ...], tooltip: str, says: tuple[str, ...] = ()) -> Input:
    """Declare a choice among fixed options; `says` are the ones that are words."""
    return Input(name, "COMBO", tooltip, default=options[0], options=options, bins=says)


def whole(
    name: str, default: int, low: int, high: int, tooltip: str, says: tuple[int, ...] = ()
) -> Input:
    """Declare a whole number."""
    return Input(name, "INT", tooltip, default, low, high, 1, bins=says)


def real(
    name: str,
    default: float,
    low: float,
    high: float,
    tooltip: str,
    says: tuple[float, ...] = (),
    step: float = 0.01,
) -> Input:
    """Declare a number."""
    return Input(name, "FLOAT", tooltip, default, low, high, step, bins=says)


def side(name: str, low: int, step: int, default: int = 512) -> Input:
    """Declare a width or height in pixels."""
    return Input(
        name, "INT", f"The {name.replace('_', ' ')} in pixels.", default, low, MAX_SIDE, step
    )


def text(name: str, tooltip: str) -> Input:
    """Declare a text."""
    return Input(name, "STRING", tooltip, default="")


def switch(name: str, default: bool, tooltip: str) -> Input:
    """Declare a choice of yes or no."""
    return Input(name, "BOOLEAN", tooltip, default)


def place(name: str, low: int) -> Input:
    """Declare a length in pixels inside an image, in whole latent places."""
    return Input(name, "INT", f"The {name} of the area in pixels.", low, low, MAX_SIDE, 8)


def seed(name: str) -> Input:
    """Declare a seed."""
    tooltip = "Where the noise comes from: the same seed gives the same image."
    return Input(name, "INT", tooltip, 0, 0, MAX_SEED, 1, control=True)
