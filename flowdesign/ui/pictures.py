"""Small pictures within the page; their files are not served."""

from __future__ import annotations

import base64
from pathlib import Path


def inline(path: Path) -> str:
    """A WebP as an image element, or words where there is none."""
    if not path.exists():
        return '<span class="fd-none">no image kept</span>'
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img src="data:image/webp;base64,{data}" alt="" width="96" height="96">'
