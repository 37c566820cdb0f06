"""Pictures and files of the Data tab over HTTP: thumbnails, images, workflows and exports.

They are routes of their own, because Gradio's way of serving a file copies it to a cache first. All
lie below /gradio_api, which reaches Python also where Gradio's Node server stands in front. Whoever
may see the page may read them; nothing here writes but the cache of thumbnails.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from flowdesign import comfy
from flowdesign.records import RecordsError, UnknownRecord
from flowdesign.ui.record_view import FILES, is_ours, ready_to_run
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.thumbnails import Unreadable, thumbnail
from flowdesign.workflow import Workflow

FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}  # a content hash never changes
_TICKET = re.compile(r"[A-Za-z0-9_-]{22}")
KEPT = 3  # exported files that stay on disk; an older one goes when a new one is made


class Exports:
    """Files that jobs have made for download. Only their own random names lead to them."""

    def __init__(self, records: SharedStore) -> None:
        self._records = records
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._records.folder / "exports"

    def new(self) -> Path:
        """A path for the next file; the oldest files go."""
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            made = sorted(self.folder.glob("*.zip"), key=lambda path: path.stat().st_mtime)
            for old in made[: len(made) - KEPT + 1]:
                old.unlink(missing_ok=True)
        return self.folder / f"{secrets.token_urlsafe(16)}.zip"

    def address(self, path: Path) -> str:
        """Where the page finds a file that `new` has named."""
        return f"{FILES}/export/{path.stem}.zip"

    def send(self, request: Request) -> Response:
        """Answer a request for an exported file."""
        name = request.path_params["name"]
        if not _TICKET.fullmatch(name) or not (path := self.folder / f"{name}.zip").is_file():
            return _told("This export is no longer kept. Make it again.", 404)
        return FileResponse(path, media_type="application/zip", filename="flowdesign-records.zip")


def routes(records: SharedStore, exports: Exports) -> list[Route]:
    """The routes, for FastAPI's or Starlette's `routes`."""
    files = _Files(records)
    return [
        Route(f"/{FILES}/thumb/{{sha}}.webp", files.thumb),
        Route(f"/{FILES}/image/{{sha}}.png", files.image),
        Route(f"/{FILES}/workflow/{{id:int}}.{{form}}.json", files.workflow),
        Route(f"/{FILES}/export/{{name}}.zip", exports.send),
    ]


class _Files:
    """Starlette runs these in its thread pool, because they are no coroutines."""

    def __init__(self, records: SharedStore) -> None:
        self.records = records

    def thumb(self, request: Request) -> Response:
        """The small picture of an image."""
        try:
            image = self._image(request)
            path = thumbnail(image, self.records.folder / "thumbnails")
        except (FileNotFoundError, Unreadable, RecordsError) as fault:
            return _told(str(fault), 404)
        return FileResponse(path, media_type="image/webp", headers=FOR_GOOD)

    def image(self, request: Request) -> Response:
        """The image itself, byte for byte, with the workflow inside."""
        try:
            return FileResponse(self._image(request), media_type="image/png", headers=FOR_GOOD)
        except (FileNotFoundError, RecordsError) as fault:
            return _told(str(fault), 404)

    def workflow(self, request: Request) -> Response:
        """A record's workflow in one of ComfyUI's forms, with its prompt and its seed."""
        number, form = request.path_params["id"], request.path_params["form"]
        try:
            record = self.records().get(number)
        except (RecordsError, OverflowError) as fault:
            words = str(fault) if isinstance(fault, UnknownRecord) else "There is no such record."
            return _told(words, 404)
        graph = ready_to_run(record)
        if is_ours(record.workflow):
            graph = _FORMS[form](graph) if form in _FORMS else {}
        elif form != "api":
            graph = {}
        if not graph:
            return _told("There is no such form of this workflow.", 404)
        name = f'attachment; filename="record-{number}.{form}.json"'
        body = json.dumps(graph, indent=2)
        return Response(body, media_type="application/json", headers={"Content-Disposition": name})

    def _image(self, request: Request) -> Path:
        sha = request.path_params["sha"]
        path = self.records().image_path(sha)
        if path is None:
            raise FileNotFoundError("There is no such image.")
        return path


_FORMS: dict[str, Callable[[Workflow], Workflow]] = {"api": comfy.to_api, "ui": comfy.to_ui}


def _told(words: str, status: int) -> Response:
    return JSONResponse({"error": words}, status)
