"""Making the cells of a plan: each is designed, the best of its designs rendered, and the image scored.

Cells are yielded as they finish, first those that were made before. What a cell shows depends on its
request and on the policy's weights alone, so equal cells are made once in the life of a `Cells`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flowdesign.ablation.plan import Cell, Plan
from flowdesign.config import WeightConfig, build
from flowdesign.pace import Seconds
from flowdesign.parts import Cancel
from flowdesign.policies import Known
from flowdesign.request import BadRequest
from flowdesign.scoring import Scoring
from flowdesign.studio import Designed, Event, Failed, Rendered, Stopped, Studio

KEPT = 2000  # outcomes that are remembered; their images lie on disk
HELD_OUT: str = build(WeightConfig, {}).held_out


@dataclass(frozen=True)
class Outcome:
    """What came of one cell.

    `true` is the combined score of the image, None where it cannot be said; `scores` are the raw ones,
    that of the held-out scorer among them. `sentences` are those of the valid designs of `said` ones.
    """

    cell: Cell
    event: Rendered | Failed
    said: int
    sentences: tuple[tuple[int, ...], ...] = ()
    true: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    again: bool = False  # it was made before

    @property
    def predicted(self) -> float | None:
        """What the ensemble expected of the design that was rendered."""
        expected = self.event.expected if isinstance(self.event, Rendered) else None
        return expected.mean if expected else None

    @property
    def held_out(self) -> float | None:
        """The score that nothing is trained on."""
        return self.scores.get(HELD_OUT)


class Cells:
    """Makes cells with a studio, and remembers what came of them. Call it from any thread."""

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self._made: OrderedDict[Hashable, Outcome] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, studio: Studio, plan: Plan, cancel: Cancel = lambda: False) -> Iterator[Outcome]:
        """Yield the outcome of each cell. Raises BadRequest before any work.

        When `cancel` says yes nothing more is yielded; what was finished stays remembered.
        """
        if studio.critic is None and any(cell.request.count > 1 for cell in plan.cells):
            raise BadRequest(
                "Best of N needs a reward ensemble that chooses, and none is here. Train one: python -m "
                "flowdesign reward. Or ask for best of 1."
            )
        return self._run(studio, plan, cancel)

    def waiting(self, studio: Studio, plan: Plan) -> Sequence[Cell]:
        """The cells that were not made before; of equal ones only the first."""
        first = dict(reversed([*zip(_keys(studio, plan), plan.cells, strict=True)]))
        return [cell for key, cell in reversed(first.items()) if self._known(key) is None]

    def expect(self, studio: Studio, plan: Plan) -> Seconds | None:
        """How long the plan takes, from what was measured here; None where nothing was."""
        waiting = self.waiting(studio, plan)
        counts = [cell.request.count for cell in waiting]
        parts = [
            studio.pace.expect(counts.count(count), count, counts.count(count))
            for count in dict.fromkeys(counts)
        ]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return Seconds(sum(one.value for one in known), all(one.sure for one in known))

    def _run(self, studio: Studio, plan: Plan, cancel: Cancel) -> Iterator[Outcome]:
        later = []
        for key, cell in zip(_keys(studio, plan), plan.cells, strict=True):
            if (known := self._known(key)) is None:
                later.append((key, cell))
            else:
                yield replace(known, cell=cell, again=True)
        for key, cell in later:
            outcome = self._once(studio, key, cell, cancel)
            if outcome is None:
                return
            yield outcome

    def _once(self, studio: Studio, key: Hashable, cell: Cell, cancel: Cancel) -> Outcome | None:
        """The outcome of a cell, made now unless an equal one was; None when cancelled."""
        if (known := self._known(key)) is not None:
            return replace(known, cell=cell, again=True)
        outcome = self._make(studio, cell, cancel)
        if outcome is not None and _lasts(outcome):
            with self._lock:
                self._made[key] = outcome
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
        return outcome

    def _make(self, studio: Studio, cell: Cell, cancel: Cancel) -> Outcome | None:
        events = list(studio.say(cell.request, cancel))
        if any(isinstance(event, Stopped) for event in events):
            return None
        designs = [event for event in events if isinstance(event, Designed)]
        made = Outcome(cell, _refusal(events), len(events), _sentences(designs))
        if not designs:
            return made
        event = next(studio.finish(replace(_best(designs), index=0), cancel))
        if isinstance(event, Rendered):
            return self._scored(replace(made, event=event))
        return replace(made, event=event) if isinstance(event, Failed) else None

    def _scored(self, outcome: Outcome) -> Outcome:
        assert isinstance(outcome.event, Rendered)
        scores = self.scoring.scores(outcome.event)
        true = self.scoring.combined(scores, outcome.event.expected)
        return replace(outcome, scores=scores, true=true)

    def _known(self, key: Hashable) -> Outcome | None:
        """What was made before, as long as its image is there."""
        with self._lock:
            found = self._made.get(key)
            if found is None:
                return None
            if isinstance(found.event, Rendered) and not found.event.image.exists():
                del self._made[key]  # it was swept away
                return None
            self._made.move_to_end(key)
            return found


def _keys(studio: Studio, plan: Plan) -> Iterator[Hashable]:
    """All that each cell depends on."""
    heads: dict[tuple[str, float | None], tuple[Hashable, ...]] = {}
    for request in (cell.request for cell in plan.cells):
        who = request.policy, request.scale
        if who not in heads:
            heads[who] = _weights(studio.policies.check(*who), request.scale)
        scale = request.scale if len(heads[who]) > 1 else None
        yield heads[who], replace(request, policy="", scale=scale)


def _weights(known: Known, scale: float | None) -> tuple[Hashable, ...]:
    """The policies that speak: at scale 0 the one it was trained from, at 1 itself, else both."""
    if known.start is None or scale in (None, 1.0):
        return (known.version,)
    start = Known(known.start.name, known.start, None).version
    return (start, known.version) if scale else (start,)


def _best(designs: Sequence[Designed]) -> Designed:
    """The design with the highest lower bound; the first of equal ones, and where nothing is known."""
    return max(designs, key=lambda one: one.expected.bound if one.expected else float("-inf"))


def _sentences(designs: Sequence[Designed]) -> tuple[tuple[int, ...], ...]:
    return tuple(event.design.tokens for event in designs)


def _refusal(events: Sequence[Event]) -> Failed:
    """Why a cell has no image, where no design of it is a workflow."""
    failed = [event for event in events if isinstance(event, Failed)]
    return failed[0] if failed else Failed(0, "The policy said nothing.")


def _lasts(outcome: Outcome) -> bool:
    """Whether the same request would give the same again: a render that failed may work next time."""
    event = outcome.event
    return isinstance(event, Rendered) or event.refused or event.design is None
