"""The policies that one can design with: those that are shipped, and finished runs.

    policies = Policies(models)
    policies.speaker("policy_grpo", 2.0).sample_stream("a red star", n=4, seed=0)

A policy that was trained from another (GRPO from SFT) has guidance: a scale of 0 is where it started, 1
the policy itself. Nothing heavy is imported until a policy is loaded.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flowdesign.catalog import ROOT, Installed, suggest
from flowdesign.request import BadRequest
from flowdesign.runs import ORIGIN, folder_of, read_status

CHECKPOINTS = ROOT / "checkpoints"
HEAD = "policy.json"
USUAL = ("policy_grpo", "policy_sft")  # the first of these that is there is used unless asked
USUAL_DTYPE = "nf4"
GROUPS = "group"  # an option that GRPO has and SFT lacks
KEPT = 4  # policies, and pairs of them, that stay loaded
Found = TypeVar("Found")


@dataclass(frozen=True)
class Known:
    """A policy on disk. `start` is the one that it was trained from, where that one is there too; `dtype`
    how the base was held meanwhile, which is how it has to be held to say what was learned."""

    name: str
    folder: Path
    start: Path | None
    dtype: str = USUAL_DTYPE

    @property
    def version(self) -> tuple[Path, int]:
        """Changes when another policy is written to the same folder."""
        return self.folder, (self.folder / HEAD).stat().st_mtime_ns


class Policies:
    """Finds policies by name, and loads them when they are needed. One base is held once."""

    def __init__(self, models: Installed | None = None, root: Path = CHECKPOINTS) -> None:
        self.models, self.root = models, root
        self._lock = threading.Lock()
        self._loaded: dict[tuple[Hashable, ...], Any] = {}

    def all(self) -> list[Known]:
        """Those that are finished, the usual ones first."""
        found = [_known(head.parent) for head in self.root.glob(f"*/{HEAD}")]
        there = [one for one in found if one is not None]
        order = {name: place for place, name in enumerate(USUAL)}
        return sorted(there, key=lambda one: (order.get(one.name, len(USUAL)), one.name))

    def known(self, name: str = "") -> Known:
        """The policy of this name, the usual one for none. Raises BadRequest."""
        there = self.all()
        if not there:
            raise BadRequest(f"There is no policy in {self.root}: python -m flowdesign sft")
        if not name:
            return there[0]
        found = next((one for one in there if one.name == name), None)
        if found is None:
            advice = suggest(name, [one.name for one in there])
            raise BadRequest(f"Unknown policy '{name}'. {advice}")
        return found

    def check(self, name: str, scale: float | None) -> Known:
        """The policy of this name, if it can speak at this guidance scale. Raises BadRequest."""
        known = self.known(name)
        if scale and known.start is None:
            raise BadRequest(
                f"'{known.name}' was not improved by GRPO, so there is no guidance between two policies: "
                "choose one that was."
            )
        return known

    def speaker(self, name: str = "", scale: float | None = None) -> Any:
        """What speaks for a policy (`sampling.Speaker`), with guidance at this scale.

        None is the policy itself. Raises BadRequest, also when the policy cannot be loaded.
        """
        known = self.check(name, scale)
        with self._lock:
            policy = self._policy(known.folder, known.dtype)
            if scale in (None, 1.0) or known.start is None:
                return policy
            start = self._policy(known.start, known.dtype)
            key = known.dtype, id(start), id(policy)
            pair = self._once(key, lambda: _pair(known, start, policy))
        return pair.at(scale)

    def _policy(self, folder: Path, dtype: str) -> Any:
        """Policies with the base held in the same way share it."""
        beside = next((one for key, one in self._loaded.items() if key[0] == dtype), None)
        key = dtype, *Known(folder.name, folder, None).version
        return self._once(
            key, lambda: _load(folder, dtype, self.models, getattr(beside, "sft", beside))
        )

    def _once(self, key: tuple[Hashable, ...], make: Callable[[], Found]) -> Found:
        """What was made before, else made now; the oldest goes when there are too many."""
        found: Found = self._loaded.pop(key, None) or make()
        self._loaded = dict([*self._loaded.items()][1 - KEPT :]) | {key: found}
        return found


def _known(folder: Path) -> Known | None:
    """The policy of a finished run; None for another folder."""
    status = read_status(folder)
    if status is None or status.state != "finished":
        return None
    start, dtype = "", USUAL_DTYPE
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        options = json.loads((folder / "config.json").read_text("utf-8"))
        dtype = str(options.get("dtype", USUAL_DTYPE))
        start = options["start"] if GROUPS in options else ""  # SFT may go on from a policy, too
    origin = folder_of(start) if isinstance(start, str) and start else None
    there = origin is not None and (origin / HEAD).exists()
    return Known(folder.name, folder, origin if there else None, dtype)


def _load(folder: Path, dtype: Any, models: Installed | None, beside: Any) -> Any:
    from flowdesign.lm import WeightsNotFound
    from flowdesign.policy import Policy, PolicyError
    from flowdesign.tokens import VocabularyMismatch

    try:
        return Policy.load(folder, dtype, models=models, beside=beside)
    except (PolicyError, VocabularyMismatch, WeightsNotFound) as fault:
        raise BadRequest(f"The policy '{folder.name}' cannot be used: {fault}") from fault


def _pair(known: Known, sft: Any, grpo: Any) -> Any:
    from flowdesign.guidance import Pair

    _check_origin(known)
    try:
        return Pair(sft, grpo)
    except ValueError as fault:
        raise BadRequest(str(fault)) from fault


def _check_origin(known: Known) -> None:
    """Raises BadRequest where the folder that a policy was trained from holds another one by now."""
    from flowdesign.policy import fingerprint

    origin = known.folder / ORIGIN
    if known.start is None or not origin.exists():
        return
    if json.loads(origin.read_text("utf-8")).get("start") != fingerprint(known.start):
        raise BadRequest(
            f"'{known.start.name}' is another policy than '{known.name}' was made from, so there is no "
            "guidance between them: take a scale of 1, or another policy."
        )
