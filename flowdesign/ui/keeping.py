"""What the Playground renders can be kept as records, with the scores that cost nothing.

On your own machine every finished design is kept by itself. Elsewhere nothing is, until somebody who
may keep records presses Keep.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from html import escape
from typing import Any, Literal

import gradio as gr

from flowdesign.access import Person
from flowdesign.catalog import CatalogError, Installed, installed
from flowdesign.designs import renderer_version
from flowdesign.provenance import ModelHashes
from flowdesign.records import Record, RecordsError, sha_of
from flowdesign.scoring import Scoring
from flowdesign.studio import Rendered
from flowdesign.ui import cards
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import pressed
from flowdesign.ui.shared import SharedStore

SOURCE = "playground"
MOST_PAGES = 200  # whose finished designs are remembered, for their Keep buttons

Keeps = Literal["itself", "asked", "never"]  # how designs become records on somebody's page


class Keeping:
    """Keeps designs, and remembers those of each open page that could still be kept."""

    def __init__(self, records: SharedStore, gate: Gate, models: Installed | None = None) -> None:
        self.records, self.gate, self.models = records, gate, models
        self.scoring = Scoring()
        self._finished: OrderedDict[str, dict[int, Rendered]] = OrderedDict()
        self._lock = threading.Lock()

    def how(self, request: gr.Request) -> Keeps:
        """How designs become records for whoever sent this request."""
        person = self.gate.person(request)
        if person.role == "owner":
            return "itself"
        return "asked" if self.gate.access.allows(person, "keep") else "never"

    def begin(self, page: str) -> None:
        """Forget what the page designed before: its cards are gone."""
        with self._lock:
            self._finished.pop(page, None)

    def finish(self, page: str, event: Rendered, how: Keeps) -> str:
        """Give the card of a finished design with what it scored, kept or with a button for it."""
        if how == "never":
            return cards.rendered(event, scored=self._scored(event))
        with self._lock:
            self._finished.setdefault(page, {})[event.index] = event
            self._finished.move_to_end(page)
            while len(self._finished) > MOST_PAGES:
                self._finished.popitem(last=False)
        if how == "itself":
            return self._kept(event)
        button = (
            f'<button type="button" class="fd-get fd-keep" data-keep="{event.index}" title="Store '
            'image, workflow and seed with the records">Keep as a record</button>'
        )
        return cards.rendered(event, button, self._scored(event))

    def press(self, person: Person, event: gr.EventData, request: gr.Request) -> Any:
        """Keep the design whose button was pressed."""
        asked = pressed(event, "keep")
        with self._lock:
            mine = self._finished.get(request.session_hash or "", {})
            found = mine.get(int(asked[:4])) if asked.isdecimal() else None
        if found is None:
            raise gr.Error(
                "This design is no longer there. Design it again.", print_exception=False
            )
        return self._kept(found)

    def keep(self, event: Rendered, scores: Mapping[str, float] | None = None) -> int:
        """Store a finished design and give the record's id; `scores` are those that it has already.

        Raises RecordsError, OSError.
        """
        data = event.image.read_bytes()
        sha = sha_of(data)
        record = Record(
            prompt=event.design.prompt,
            workflow=event.design.workflow,
            seed=event.design.seed,
            sentence=event.design.sentence,
            image=sha,
            scores=self.scoring.scores(event) if scores is None else scores,
            source=SOURCE,
            assets=self._assets(event),
            renderer=renderer_version(),
            fidelity=event.fidelity,
            seconds=round(event.seconds, 4),
        )
        return self.records().add([record], {sha: data})[0]

    def _kept(self, event: Rendered) -> str:
        """The card of a design that has been kept, or says why not; the design itself is fine."""
        scored = None
        try:
            scores = self.scoring.scores(event)
            scored = self.scoring.combined(scores, event.expected)
            words = f"Kept as record {self.keep(event, scores)}"
        except (RecordsError, OSError) as fault:
            words = f"Not kept: {fault}"
        return cards.rendered(event, f'<span class="fd-note">{escape(words)}</span>', scored)

    def _scored(self, event: Rendered) -> float | None:
        try:
            return self.scoring.combined(self.scoring.scores(event), event.expected)
        except OSError:  # swept away meanwhile
            return None

    def _assets(self, event: Rendered) -> dict[str, str]:
        """The hashes of its models; none when one was taken away while it was rendering."""
        try:
            return self._hashes.of(event.design.workflow)
        except (CatalogError, OSError):
            return {}

    @cached_property
    def _hashes(self) -> ModelHashes:
        return ModelHashes(self.models or installed())
