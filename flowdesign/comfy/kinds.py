"""Classes of nodes that are no nodes of a workflow: they stand in ComfyUI's editor only, and never run.

Add the type of such a node to the set that says what becomes of it. RENAMED has the types that ComfyUI itself
calls otherwise today, as old files say them.
"""

from __future__ import annotations

from collections.abc import Mapping

PRIMITIVE = "PrimitiveNode"  # gives its value to widgets
REROUTE = "Reroute"
REROUTES = frozenset({REROUTE, "Reroute (rgthree)"})  # give what comes in
SETTERS = frozenset({"SetNode", "easy setNode"})  # keep what comes in under a name
GETTERS = frozenset({"GetNode", "easy getNode"})  # give what has been kept under a name
NOTES = frozenset(  # are read by people, or switch other nodes on and off while a person edits
    {
        "Note",
        "MarkdownNote",
        "Note+ (mtb)",
        "Bookmark (rgthree)",
        "Fast Actions Button (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)",
        "Fast Muter (rgthree)",
        "Label (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Node Collector (rgthree)",
        "Random Unmuter (rgthree)",
    }
)
VIRTUAL = NOTES | REROUTES | SETTERS | GETTERS | {PRIMITIVE}
RENAMED: Mapping[str, str] = {
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
    "T2IAdapterLoader": "ControlNetLoader",
}


def is_note(node: object) -> bool:
    """Whether an entry is there for people only."""
    kind = node.get("type") if isinstance(node, dict) else None
    return isinstance(kind, str) and kind in NOTES
