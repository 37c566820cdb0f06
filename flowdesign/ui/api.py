"""The public endpoint `/design`: what the page does, for programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import gradio as gr

from flowdesign.designs import say_fault
from flowdesign.request import BadRequest, Request
from flowdesign.studio import Designed, Event, Failed, Rendered, Studio
from flowdesign.ui.gate import Gate
from flowdesign.ui.tasks import TICK, NotLoaded, until_loaded

log = logging.getLogger(__name__)
Answers = list[dict[str, Any]]


def add_api(opening: Future[Studio], gate: Gate) -> None:
    """Add `/design` to the app being built, open to everyone; it shares the page's queue."""

    def design(
        prompt: str,
        count: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        policy: str = "",
        scale: float | None = None,
        top_p: float = 1.0,
    ) -> Iterator[Answers]:
        """Design workflows for a prompt and render each.

        Gives the designs so far whenever one is finished, and every half second besides: that is
        when a client that has gone away is noticed, and the work stopped.

        Args:
            prompt: What the picture shows, up to 1,000 characters.
            count: How many designs, 1 to 8.
            seed: The seed of the policy and of the noise; the same seed gives the same designs.
            temperature: 0 to 2; higher gives more varied workflows.
            policy: The policy that designs, by name; empty is the usual one.
            scale: Guidance, -1 to 10: 0 is the policy before GRPO, 1 after it. None is the policy itself.
            top_p: 0.01 to 1: only the likeliest words that hold so much of the probability.

        Returns:
            For each design its workflow (ComfyUI API JSON), a description, the policy's sentence,
            and the image as a file, or the reason why there is none.
        """
        try:
            asked = Request(
                prompt, count, seed, temperature, top_p, policy=policy, scale=scale
            ).checked()
            yield from _designs(opening, asked)
        except (BadRequest, NotLoaded) as problem:
            raise gr.Error(str(problem), print_exception=False) from problem
        except Exception as fault:  # of any part; the log has the traceback
            log.exception("The design failed")
            words = f"The design failed: {say_fault(fault)}"
            raise gr.Error(words, print_exception=False) from fault

    gr.api(gate.reads(design), api_name="design", concurrency_id="studio", concurrency_limit=1)


def _designs(opening: Future[Studio], asked: Request) -> Iterator[Answers]:
    """Yield the designs so far, at least every `TICK` seconds. Closing it stops the work.

    The work has a thread of its own, because a generator can only be closed where it yields.
    """
    stop = threading.Event()
    found: Answers = []
    worker = ThreadPoolExecutor(1, thread_name_prefix="design")
    try:
        for _ in until_loaded(opening, stop):
            yield []
        events = opening.result().design(asked, stop.is_set)
        while True:
            coming = worker.submit(next, events, None)
            while not wait([coming], TICK).done:
                yield list(found)
            event = coming.result()
            if event is None:
                return
            if not isinstance(event, Designed):
                found.append(_answer(event))
                yield list(found)
    finally:
        stop.set()
        worker.shutdown(wait=False)


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
