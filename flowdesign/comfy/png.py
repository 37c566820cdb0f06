"""PNG files that carry their workflow.

Reading walks the chunks itself and never decodes a pixel, so no image can blow up; compressed text
is inflated up to a limit. Writing adds three chunks: ComfyUI's `prompt` and `workflow`, and ours.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdesign import __version__
from flowdesign.catalog import Installed, installed
from flowdesign.comfy.export import to_api, to_ui
from flowdesign.comfy.importing import MAX_TEXT, Imported, failed, from_text, graph_of, parsed
from flowdesign.tokens import NotInLanguage, encode, sentence_text
from flowdesign.workflow import Problem, Workflow, bind, unbind

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

MAX_FILE = (
    20 * 2**20
)  # bytes of a PNG; JSON, and the texts of a PNG together, have at most MAX_TEXT
MAX_CHUNKS = 10_000
MAX_PIXELS = 64_000_000
CHUNKS = ("flowdesign", "prompt", "workflow")  # the order in which they are trusted
_GRAPHS = ("prompt", "workflow", "flowdesign")  # what was executed before what the editor shows
_SETTINGS = "parameters"  # where other programs keep theirs
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OTHERS = {  # how files begin that are dropped here by mistake
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image or another media file",
    b"PK\x03\x04": "a zip archive",
}
_WANTED = "Give the PNG as ComfyUI saved it, or the workflow as JSON (in ComfyUI: File, Export)."


class _Refused(ValueError):
    """The file is not read any further; the message says why."""

    def __init__(self, message: str, code: str = "unreadable_file") -> None:
        super().__init__(message)
        self.code = code


def png_info(
    workflow: Workflow,
    prompt: str,
    seed: int,
    extra: Mapping[str, Any] | None = None,
    models: Installed | None = None,
) -> PngInfo:
    """Return the chunks for `image.save(..., pnginfo=...)`, from a workflow, bound or not.

    `extra` adds to FlowDesign's own record or replaces its defaults: scores, fidelity, renderer. ComfyUI's
    chunks name the files of `models`, by default those that are installed here.
    """
    from PIL.PngImagePlugin import PngInfo  # here, because the command line starts without it

    workflow = unbind(workflow, prompt)[0]
    bound, models = bind(workflow, prompt, seed), models or installed()
    record = {
        "prompt": prompt,
        "seed": seed,
        "sentence": _sentence(workflow),
        "workflow": workflow,
        "scores": {},
        "fidelity": "",
        "renderer": "",
        "version": __version__,
        **(extra or {}),
    }
    info = PngInfo()
    for name, value in (
        ("prompt", to_api(bound, models)),
        ("workflow", to_ui(bound, models)),
        ("flowdesign", record),
    ):
        info.add_text(name, json.dumps(value))
    return info


def _sentence(workflow: Workflow) -> str:
    try:
        return sentence_text(encode(workflow).tokens)
    except NotInLanguage:
        return ""  # a workflow that only ComfyUI's format can say


def read_file(path: str | Path, installed: Installed | None = None) -> Imported:
    """Import a PNG or JSON file, told apart by content; never raises.

    Of a PNG the first chunk that gives a workflow, in the order of trust; else the first that has nodes.
    """
    found: list[Imported] = []
    try:
        for text in _workflow_texts(Path(path), CHUNKS):
            found.append(from_text(text, installed))
            if found[-1].workflow is not None:
                return found[-1]
    except _Refused as refusal:
        return failed(refusal.code, str(refusal))
    return next((each for each in found if each.graph), found[0])


def read_graph(path: str | Path) -> tuple[dict[str, Any], list[Problem]]:
    """The API graph in a file, whatever its nodes are, and what is wrong with it; never raises.

    Of a PNG the chunk that was executed; if that holds none, the one of the editor.
    """
    wrong: list[Problem] = []
    try:
        for text in _workflow_texts(Path(path), _GRAPHS):
            value, problem = parsed(text)
            graph, problems = ({}, [problem]) if problem else graph_of(value)
            if graph:
                return graph, problems
            wrong = wrong or problems
    except _Refused as refusal:
        wrong = [Problem(refusal.code, "", "", str(refusal))]
    return {}, wrong


def read_chunks(path: str | Path) -> dict[str, str]:
    """Return the texts of a PNG that may hold a workflow, by CHUNKS; empty for any other file."""
    try:
        data = _bytes(Path(path))
        found = _texts(data) if data.startswith(_SIGNATURE) else {}
    except _Refused:
        return {}
    return {name: found[name] for name in CHUNKS if name in found}


def _workflow_texts(path: Path, names: Sequence[str]) -> list[str]:
    """The JSON of a file, or of the chunks of a PNG in this order; raises _Refused where there is none."""
    data = _bytes(path)
    if not data.startswith(_SIGNATURE):
        return [_json(data)]
    texts = _texts(data)
    found = [texts[name] for name in names if name in texts]
    if not found:
        why = "its text was removed or never there."
        if _SETTINGS in texts:
            why = "only settings of another program, which name no nodes."
        raise _Refused(f"The PNG carries no workflow: {why} {_WANTED}", "no_workflow")
    return found


def _json(data: bytes) -> str:
    """The text of a file that is no PNG; raises _Refused."""
    kind = next((name for start, name in _OTHERS.items() if data.startswith(start)), "")
    if kind:
        raise _Refused(
            f"This is {kind}: no workflow is read from it. {_WANTED}", "not_a_workflow_file"
        )
    if len(data) > MAX_TEXT:
        raise _too_long("The file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"This is neither a PNG nor a JSON file. {_WANTED}"
        raise _Refused(message, "not_a_workflow_file") from error


def _too_long(what: str) -> _Refused:
    return _Refused(
        f"{what} has more than {MAX_TEXT // 2**20} MB of text, many times what the largest workflows have. "
        "Take out what is no part of the workflow, like images that nodes keep."
    )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise _Refused(f"The file cannot be read: {reason}.") from error
    if len(data) > MAX_FILE:
        raise _Refused(f"The file is larger than {MAX_FILE // 2**20} MB.")
    return data


def _texts(data: bytes) -> dict[str, str]:
    """Return the wanted text chunks of a PNG; raises _Refused."""
    found: dict[str, str] = {}
    wanted = (*CHUNKS, _SETTINGS)
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            _check_size(body)
        keyword = body.split(b"\0", 1)[0].decode("latin-1")
        if kind in _TEXT_CHUNKS and keyword in wanted and keyword not in found:
            found[keyword] = _TEXT_CHUNKS[kind](body[len(keyword) + 1 :])
            if sum(map(len, found.values())) > MAX_TEXT:
                raise _too_long("The PNG")
    return found


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if len(kind) < 4 or len(body) < length or kind == b"IEND":
            return  # the end, or a file cut short: what came before still counts
        yield kind, body
        at += length + 12
    raise _Refused(f"The PNG has more than {MAX_CHUNKS} chunks.")


def _check_size(header: bytes) -> None:
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    if width * height > MAX_PIXELS:
        raise _Refused(f"The PNG claims {width}x{height} pixels; at most {MAX_PIXELS} are read.")


def _plain(body: bytes) -> str:
    if len(body) > MAX_TEXT:
        raise _Refused(f"A text in the PNG is larger than {MAX_TEXT // 2**20} MB.")
    return _decoded(body)


def _compressed(body: bytes) -> str:
    return _decoded(_inflated(body[1:]))


def _decoded(raw: bytes) -> str:
    """A text that should be in Latin-1: many programs write UTF-8, and ComfyUI's browser side reads that."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _international(body: bytes) -> str:
    """Return an iTXt text: flag, method, language, translated keyword, then UTF-8."""
    flag, rest = body[:1], body[2:].split(b"\0", 2)
    if len(rest) < 3:
        return ""
    raw = _inflated(rest[2]) if flag == b"\1" else rest[2]
    if len(raw) > MAX_TEXT:
        raise _Refused(f"A text in the PNG is larger than {MAX_TEXT // 2**20} MB.")
    return raw.decode("utf-8", errors="replace")


def _inflated(data: bytes) -> bytes:
    """Inflate no further than the limit: a few bytes can claim gigabytes."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, MAX_TEXT)
    except zlib.error as error:
        raise _Refused("A compressed text in the PNG is damaged.") from error
    if inflater.unconsumed_tail:
        raise _Refused(f"A compressed text in the PNG is larger than {MAX_TEXT // 2**20} MB.")
    return raw


_TEXT_CHUNKS = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}
