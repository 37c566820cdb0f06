"""The values of a node in ComfyUI's interface format: they have places, not names.

A node's values stand in the order in which its class declares its widgets. Names come from our own nodes, from
the table of ComfyUI's (`flowdesign.comfy.foreign`), or from the file, which lists them in its newer forms. The
newest form says the values a second time, by name (`widgets_values_named`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from flowdesign.comfy.foreign import CHOICES, WIDGETS
from flowdesign.nodes import NODES

MAX_SLOTS = 256  # inputs, outputs or promoted widgets of one node: no real one has as many
SEED, UPLOAD = "*", "+"  # marks of a name: another value follows it
_MAYBE = "\0"  # a mark, too: the name is a seed's, of a class that nothing is known of
_NO_INPUTS = re.compile(
    r"control_after_generate|\$\$|videopreview$|choose .* to upload$"
)  # names of widgets
_CONTROLS = ("fixed", "increment", "decrement", "randomize")
_UPLOADS = ("image", "video", "audio", "file")
_BUTTON, _WRAPPED = "upload", "__value__"
_SEEDS = "seed"  # a widget so called is followed by a control where no table says so


def entries(node: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in one of a node's lists: its inputs or outputs."""
    found = node.get(name)
    listed = found[:MAX_SLOTS] if isinstance(found, list) else []
    return [each for each in listed if isinstance(each, dict)]


def values_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by name; a file that is older than a widget gives none for it.

    Of a class that is not known here, none if the file names only some: whose each is would be a guess.
    """
    if (said := named_values(node)) is not None:
        return _without_buttons(node, said)
    values, names = node.get("widgets_values"), names_of(node)
    if isinstance(values, dict):
        among = [bare(name) for name in names] or islice(values, MAX_SLOTS)
        return {n: as_value(values[n]) for n in among if n in values and is_input(n)}
    if not isinstance(values, list) or not (is_known(node) or is_named(node)):
        return {}
    given = placed(names, values)
    return {name: value for name, value in given if is_input(name)}


def named_values(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of a node whose file names them, in their order; None in others.

    The names are the file's, the values those by place, for ComfyUI reads these: some files were changed there
    alone. Where the two do not fit, a class that is known here says what is where.
    """
    said, values = node.get("widgets_values_named"), node.get("widgets_values")
    if not isinstance(said, dict):
        return None
    if isinstance(values, list) and len(values) == len(said):
        said = dict(zip(said, values, strict=True))
    elif is_known(node):
        return None
    named = ((name, said[name]) for name in islice(said, MAX_SLOTS) if isinstance(name, str))
    return {name: as_value(value) for name, value in named if is_input(name)}


def is_input(name: str) -> bool:
    """Whether a widget is an input: a preview or a button is none, nor what happens to a seed after a run.

    That is called by one of its own values where a class says which comes first.
    """
    return not _NO_INPUTS.match(name) and name not in _CONTROLS


def is_named(node: Mapping[str, Any]) -> bool:
    """Whether it is known which values a node has: without names they would be lost."""
    values = node.get("widgets_values")
    if not isinstance(values, list) or named_values(node) is not None or _kind(node) in NODES:
        return True  # ComfyUI, too, reads no more than the widgets of a class
    return _end(names_of(node), values) >= _length(values, is_known(node))


def is_known(node: Mapping[str, Any]) -> bool:
    """Whether the widgets of a node's class are declared here."""
    return _kind(node) in NODES or _kind(node) in WIDGETS or bool(_chosen(node))


def _kind(node: Mapping[str, Any]) -> str:
    return str(node["type"]).strip()


def bare(name: str) -> str:
    """A name without its marks."""
    return name.rstrip(SEED + UPLOAD + _MAYBE)


def names_of(node: Mapping[str, Any]) -> Sequence[str]:
    """The names of a node's widgets in the order of its values, those that another value follows marked."""
    known, listed = _chosen(node) or _declared(str(node["type"])), _listed(node)
    if known and not set(map(bare, known)) < set(listed):
        return known
    marked = {bare(name): name for name in known}
    return [marked.get(n, f"{n}{_MAYBE}" if _SEEDS in n.lower() else n) for n in listed]


def placed(names: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Give each name its value, in order, and pass over what follows a seed or an upload."""
    for name, at, _ in _places(names, values):
        yield bare(name), as_value(values[at])


def _places(names: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[str, int, int]]:
    """Each name with the place of its value, and of the next one's."""
    at = 0
    for name in names:
        if at >= len(values):
            return
        follows = at + 1 < len(values) and _is_beside(name[-1:], values[at + 1])
        end = at + 1 + follows
        yield name, at, end
        at = end


def _end(names: Sequence[str], values: Sequence[Any]) -> int:
    """How many of the values have a name, or stand beside one that has."""
    return max((end for _, _, end in _places(names, values)), default=0)


def _length(values: Sequence[Any], known: bool) -> int:
    """How many values there are, without those of buttons at the end, and without empty ones of a class that
    is known."""
    kept = [at for at, value in enumerate(values, 1) if not _is_nothing(value, known)]
    return max(kept, default=0)


def _is_nothing(value: Any, known: bool) -> bool:
    if isinstance(value, dict):
        return value.get("type") == "button"
    return value is None or value in _UPLOADS or (known and value == "")


def as_value(value: Any) -> Any:
    """A widget's value as the API format has it: a list that is no link is wrapped there, and nothing else."""
    bare = value[_WRAPPED] if isinstance(value, dict) and _WRAPPED in value else value
    return {_WRAPPED: bare} if isinstance(bare, list) else bare


def _without_buttons(node: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values without that of a button to upload, which is called so."""
    has_button = any(name.endswith(UPLOAD) for name in _declared(str(node["type"])))
    return {name: value for name, value in values.items() if not (has_button and name == _BUTTON)}


def _declared(kind: str) -> Sequence[str]:
    """What the class declares, as far as it is known here."""
    if kind in NODES:
        return [f"{one.name}{SEED}" if one.control else one.name for one in NODES[kind].widgets]
    return WIDGETS.get(kind.strip(), ())


def _chosen(node: Mapping[str, Any]) -> Sequence[str]:
    """The names where a value chooses which follow; none of a class without a choice, or of one that is not known.

    SaveVideo has one since its files have more values than before. Where a choice brings more than is known, only
    the names before it are.
    """
    kind, values = _kind(node), node.get("widgets_values")
    if kind not in CHOICES or not isinstance(values, list) or len(values) <= len(_declared(kind)):
        return ()
    before, following, after = CHOICES[kind]
    names = before.split()
    value = values[len(names) - 1] if len(values) >= len(names) else None
    if not isinstance(value, str) or value not in following:
        return ()
    every = [*names, *(f"{names[-1]}.{each}" for each in following[value].split()), *after.split()]
    return every if len(values) <= len(every) else names


def _listed(node: Mapping[str, Any]) -> list[str]:
    """The widgets that the file lists among the inputs: all in newer files, in older ones those that
    became inputs."""
    found = [each["widget"] for each in entries(node, "inputs") if "widget" in each]
    names = [each.get("name") for each in found if isinstance(each, dict)]
    return [name for name in names if isinstance(name, str)]


def _is_beside(mark: str, value: Any) -> bool:
    """Whether a value belongs to the widget before it."""
    if mark == SEED:
        return isinstance(value, bool) or (isinstance(value, str) and value in _CONTROLS)
    if mark == _MAYBE:
        return isinstance(value, str) and value in _CONTROLS
    return mark == UPLOAD and isinstance(value, str) and value in _UPLOADS
