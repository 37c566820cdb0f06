"""The public endpoint `/design`: what the page does, for programs."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import gradio as gr

from flowdesign.studio import BadRequest, Designed, Event, Failed, Rendered, Request, Studio


def add_api(opening: Future[Studio]) -> None:
    """Add `/design` to the app being built; it shares the page's place in the queue."""

    def design(
        prompt: str, count: int = 1, seed: int = 0, temperature: float = 1.0
    ) -> list[dict[str, Any]]:
        """Design workflows for a prompt and render each.

        Args:
            prompt: What the picture shows, up to 1,000 characters.
            count: How many designs, 1 to 8.
            seed: The seed of the policy and of the noise; the same seed gives the same designs.
            temperature: 0 to 2; higher gives more varied workflows.

        Returns:
            For each design its workflow (ComfyUI API JSON), a description, the policy's sentence,
            and the image as a file, or the reason why there is none.
        """
        try:
            asked = Request(prompt, count, seed, temperature).checked()
        except BadRequest as problem:
            raise gr.Error(str(problem), print_exception=False) from problem
        return [
            _answer(event)
            for event in opening.result().design(asked)
            if not isinstance(event, Designed)
        ]

    gr.api(design, api_name="design", concurrency_id="studio", concurrency_limit=1)


def _answer(event: Event) -> dict[str, Any]:
    if isinstance(event, Rendered):
        return {
            "workflow": event.design.bound,
            "description": event.design.description,
            "sentence": event.design.sentence,
            "fidelity": event.fidelity,
            "reasons": list(event.reasons),
            "seconds": round(event.seconds, 3),
            "image": {"path": str(event.image), "meta": {"_type": "gradio.FileData"}},
        }
    return {"failed": event.reason if isinstance(event, Failed) else "stopped"}
