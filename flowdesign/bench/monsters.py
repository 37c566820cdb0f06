"""Files that are made to make an import fail, hang or grow.

Each attacks a step of it: the parser, a list that is walked, or what a few definitions make of a small file. Most
are as large as is read at all. They are written piece by piece: a file must not cost more memory to make than to
read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from flowdesign.comfy import MAX_FILE, MAX_PARTS, MAX_TEXT

DEEP = 100_000
_NAMES = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def monsters() -> Iterator[tuple[str, bytes]]:
    """Every one with what it is made of."""
    yield "lists in lists", b"[" * DEEP + b"]" * DEEP
    yield "files in files", b'{"nodes":' * DEEP + b"1" + b"}" * DEEP
    yield "records in records", b'{"workflow":' * 900 + b"{}" + b"}" * 900
    yield from _long_lists()
    yield from _long_names()
    yield from ((name, json.dumps(value).encode()) for name, value in _multiplied())
    yield "three texts of lists", _png(_filled(b"[", b"[]", b"]", MAX_TEXT // 3 - 9))


def _long_lists() -> Iterator[tuple[str, bytes]]:
    """One list each, of as many lists or objects as are parsed; and some with more."""
    node = b'{"nodes":[{"id":1,"type":"KSampler","inputs":['
    lists = {
        "lists": (b"[", b"[]", b"]"),
        "nodes without anything": (b'{"nodes":[', b"{}", b"]}"),
        "nodes": (b'{"nodes":[', b'{"id":1,"type":"KSampler"}', b"]}"),
        "notes": (b'{"nodes":[', b'{"type":"Note"}', b"]}"),
        "links without anything": (node + b']}],"links":[', b"[]", b"]}"),
        "links": (node + b']}],"links":[', b"[1,2,3,4,5]", b"]}"),
        "inputs": (node, b"{}", b"]}]}"),
        "outputs": (node + b'],"outputs":[', b"{}", b"]}]}"),
        "subgraphs": (b'{"nodes":[],"definitions":{"subgraphs":[', b'{"id":"a"}', b"]}}"),
    }
    for name, parts in lists.items():
        yield name, _filled(*parts)
    yield "numbers", _filled(b"[", b"1", b"]", most=MAX_TEXT)
    yield "values", _filled(node + b'],"widgets_values":[', b"1", b"]}]}", most=MAX_TEXT)
    yield "lists, more than are parsed", _filled(*lists["lists"], most=MAX_TEXT)
    yield "links, more than are parsed", _filled(*lists["links"], most=MAX_TEXT)
    yield "lists, larger than is read", _filled(*lists["lists"], MAX_FILE, MAX_FILE)


def _long_names() -> Iterator[tuple[str, bytes]]:
    """Objects with many names, and numbers with many digits."""
    sampler = b'"%d":{"class_type":"KSampler","inputs":{"model":["1",0],"latent_image":["2",0]}}'
    decode = b'"%d":{"class_type":"VAEDecode","inputs":{"samples":["%d",0],"vae":["%d",0]}}'
    yield "nodes of an API file", _counted(b"{", sampler, b"}")
    yield "an API file in a chain", _counted(b"{", decode, b"}", 3)
    yield "group nodes", _counted(b'{"nodes":[],"extra":{"groupNodes":{', b'"%d":{}', b"}}}")
    yield (
        "values by name",
        _counted(b'{"nodes":[{"id":1,"type":"X","widgets_values":{', b'"%d":1', b"}}]}"),
    )
    yield "digits", b'{"1":{"class_type":"KSampler","inputs":{"seed":' + b"9" * 5000 + b"}}}"
    yield (
        "digits of an id",
        (b'{"nodes":[{"id":' + b"9" * 4000 + b',"type":"KSampler","mode":1e999}],"links":[]}'),
    )


def _multiplied() -> Iterator[tuple[str, Any]]:
    """Small files of which much can be made."""
    reroutes = [_drawn(at, "Reroute", at) for at in range(499)]
    wide = _drawn(499, "X", *[499] * 256)
    yield "a chain of reroutes", {"nodes": [*reroutes, wide], "links": _chain(500)}
    yield "subgraphs that double", _nested(12, 8)
    yield "subgraphs in each other", _nested(2, 1, around=True)
    yield "a group of notes", _group_of_notes()
    yield "promoted widgets of promoted widgets", _promoted(12, 4_000)
    yield "as many as are read", _promoted(12, 256)
    yield "promoted widgets of instances", _instances([], [["1", f"w{at}"] for at in range(250)])
    links = [dict(zip(_NAMES, (at, -10, 0, 1, 0), strict=True)) for at in range(20_000)]
    yield "instances with many links", _instances(links, [])
    yield "bypassed nodes of many types", _bypassed()
    yield "names that are set", _set_and_got()


def _filled(
    start: bytes, part: bytes, end: bytes, size: int = MAX_TEXT, most: int = MAX_PARTS - 10
) -> bytes:
    """As many of a part, with commas between, as a file of this size has, but not more than `most`."""
    count = min((size - len(start) - len(end)) // (len(part) + 1), most)
    return start + (part + b",") * (count - 1) + part + end


def _counted(start: bytes, part: bytes, end: bytes, numbers: int = 1) -> bytes:
    """As `_filled`; each part has its number, and more of them the next."""
    by_size = (MAX_TEXT - len(start) - len(end)) // (len(part) + 7 * numbers)
    count = min(by_size, (MAX_PARTS - 10) // max(1, part.count(b"{") + part.count(b"[")))
    return start + b",".join(part % tuple(range(at, at + numbers)) for at in range(count)) + end


def _png(text: bytes) -> bytes:
    """A PNG without a picture that has a text in each place where a workflow may be."""
    data = b"\x89PNG\r\n\x1a\n"
    for name in (b"flowdesign", b"prompt", b"workflow"):
        body = b"tEXt" + name + b"\0" + text
        data += (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return data


def _drawn(at: int, kind: str, *links: int, **more: Any) -> dict[str, Any]:
    """A node of the interface with an input for each link."""
    inputs = [{"name": f"x{n}", "type": "*", "link": link} for n, link in enumerate(links)]
    return {"id": at, "type": kind, "inputs": inputs, "outputs": [{"type": "*"}], **more}


def _chain(length: int) -> list[list[Any]]:
    return [[at + 1, at, 0, at + 1, 0, "*"] for at in range(length - 1)]


def _nested(depth: int, width: int, around: bool = False) -> dict[str, Any]:
    """Subgraphs that hold `width` of the next one each: width ** depth nodes in all; or hold each other."""
    after = [(at + 1) % depth if around else at + 1 for at in range(depth)]
    subgraphs = [
        {"id": f"s{at}", "nodes": [_drawn(n, f"s{after[at]}") for n in range(width)], "links": []}
        for at in range(depth)
    ]
    return {"nodes": [_drawn(0, "s0")], "links": [], "definitions": {"subgraphs": subgraphs}}


def _group_of_notes() -> dict[str, Any]:
    """Notes do not count as nodes, but each has inputs, and the group stands in many places."""
    group = {"nodes": [{"type": "Note", "inputs": [{}] * 256}] * 70, "links": []}
    nodes = [{"id": at, "type": "workflow/G"} for at in range(400)]
    return {"nodes": nodes, "links": [], "extra": {"groupNodes": {"G": group}}}


def _promoted(depth: int, count: int) -> dict[str, Any]:
    """Subgraphs in subgraphs, each of which promotes the widgets of the next."""
    pairs = [["0", f"w{at}"] for at in range(count)]
    more: dict[str, Any] = {"properties": {"proxyWidgets": pairs}, "widgets_values": [1] * count}
    value = _nested(depth, 1)
    for each in (value, *value["definitions"]["subgraphs"]):
        each["nodes"][0] |= more
    return value


def _instances(links: list[Any], pairs: list[Any]) -> dict[str, Any]:
    """A subgraph that stands in as many places as nodes are read."""
    more: dict[str, Any] = {
        "properties": {"proxyWidgets": pairs},
        "widgets_values": [1] * len(pairs),
    }
    inner = {"id": "s", "nodes": [_drawn(1, "X", *range(40))], "links": links}
    nodes = [_drawn(at, "s", **more) for at in range(240)]
    return {"nodes": nodes, "links": [], "definitions": {"subgraphs": [inner]}}


def _bypassed() -> dict[str, Any]:
    """A chain of bypassed nodes, on which as many inputs as are read hang, each of a type of its own."""
    kinds = [{"type": f"A{n},B{n},C{n}", "link": 1} for n in range(256)]
    chain = [_drawn(at, "X", at, mode=4) for at in range(300)]
    chain[-1]["inputs"] = kinds
    readers = [_drawn(at, "Y", *[300] * 100) for at in range(300, 490)]
    for at, node in enumerate(readers):
        for n, each in enumerate(node["inputs"]):
            each["type"] = f"C{(7 * at + n) % 256},D{at}x{n}"
    return {"nodes": chain + readers, "links": [*_chain(300), [300, 299, 0, 300, 0, "*"]]}


def _set_and_got() -> dict[str, Any]:
    """Many names, each set once, and got by links of which every one is another."""
    setters = [_drawn(at, "SetNode", widgets_values=[f"n{at}"]) for at in range(240)]
    getters = [_drawn(240 + at, "GetNode", widgets_values=[f"n{at}"]) for at in range(180)]
    readers = [
        _drawn(at, "X", *range(250 * (at - 420), 250 * (at - 419))) for at in range(420, 495)
    ]
    links = [[at, 240 + at % 180, 0, 420 + at // 250, at % 250, "*"] for at in range(18_750)]
    return {"nodes": [*setters, *getters, *readers], "links": links}
