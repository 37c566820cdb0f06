"""ComfyUI's files, in and out: API JSON, interface JSON, and the text chunks of a PNG.

Exports pass the validation of a real ComfyUI; reading never raises, whatever the file holds.
"""

from flowdesign.comfy.export import to_api, to_ui
from flowdesign.comfy.importing import MAX_PARTS, MAX_TEXT, Imported, from_json, from_text
from flowdesign.comfy.png import MAX_FILE, png_info, read_chunks, read_file, read_graph

__all__ = [
    "MAX_FILE",
    "MAX_PARTS",
    "MAX_TEXT",
    "Imported",
    "from_json",
    "from_text",
    "png_info",
    "read_chunks",
    "read_file",
    "read_graph",
    "to_api",
    "to_ui",
]
