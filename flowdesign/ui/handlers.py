"""How handlers are connected, and how a press on HTML of our own reaches one."""

from __future__ import annotations

from typing import Any

import gradio as gr

# A handler that answers in a moment: past the queue, without a progress bar, and no public endpoint.
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# The same for what a person may press faster than it is answered: the last press is answered too.
NEWEST_WINS: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
# Work of the studio: one page after the other, in the order in which they asked. It is stopped by its task,
# never by Gradio's `cancels`: what a cancelled event had sent may be drawn after the canceller's answer.
IN_TURN: dict[str, Any] = {
    "trigger_mode": "multiple",  # a press while a stopped task still ends is not lost
    "concurrency_id": "studio",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "api_visibility": "private",
}
Updates = dict[Any, Any]  # {component: new value}


def pressing(name: str) -> str:
    """The script of an HTML component that sends on presses of whatever has `data-<name>`."""
    return f"""
element.addEventListener("click", (event) => {{
  const button = event.target.closest("[data-{name}]");
  if (button) trigger("click", {{ {name}: button.dataset.{name} }});
}});
"""


def pressed(event: gr.EventData, name: str) -> str:
    """What the page sent with an event under this name; "" for anything but a text."""
    data = event._data
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""
