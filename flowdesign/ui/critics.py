"""The reward ensembles that the tabs share: each is loaded once, when somebody first needs it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from flowdesign.critic import Critic, open_critic
from flowdesign.reward import HEAD, SHIPPED

KEPT = 2  # ensembles that stay loaded


def is_ensemble(folder: Path) -> bool:
    """Whether a folder holds a trained ensemble, whatever its state."""
    return (folder / HEAD).exists()


class Critics:
    """Gives ensembles by folder; call it from any thread."""

    def __init__(self, shipped: Path = SHIPPED) -> None:
        self.shipped = shipped
        self._lock = threading.Lock()
        self._loaded: dict[tuple[Path, int], Any] = {}  # an ensemble, or the fault of loading it

    @property
    def folder(self) -> Path | None:
        """Where the usual ensemble is: the shipped one, else the one that was trained last."""
        if is_ensemble(self.shipped):
            return self.shipped
        trained = [path.parent for path in self.shipped.parent.glob(f"*/{HEAD}")]
        return max(trained, key=lambda one: (one / HEAD).stat().st_mtime, default=None)

    def usual(self) -> Critic | None:
        """The usual ensemble; None where there is none, or none that works (the log says why)."""
        folder = self.folder
        return open_critic(lambda: self.of(folder)) if folder else None

    def at_hand(self) -> Critic | None:
        """The usual ensemble if it has been loaded: for who must answer in a moment."""
        folder = self.folder
        found = self._loaded.get(_key(folder)) if folder else None
        return None if isinstance(found, Exception) else found

    def of(self, folder: Path) -> Any:
        """The `reward.ensemble.Ensemble` in a folder, as it is now.

        Raises reward.ensemble.RewardError, tokens.VocabularyMismatch, lm.WeightsNotFound.
        """
        with self._lock:
            key = _key(folder)
            if key not in self._loaded:
                found = _load(folder)
                usual = (
                    _key(self.folder) if self.folder else None
                )  # stays: it is asked for `at_hand`
                kept = [one for one in self._loaded if one == usual]
                others = [one for one in self._loaded if one != usual]
                stay = [*kept, *others[1 - KEPT :]]
                self._loaded = {one: self._loaded[one] for one in stay} | {key: found}
            found = self._loaded[key]
        if isinstance(found, Exception):
            raise found
        return found


def _key(folder: Path) -> tuple[Path, int]:
    head = folder / HEAD
    return folder, head.stat().st_mtime_ns if head.exists() else 0


def _load(folder: Path) -> Any:
    """The ensemble, or why it cannot be loaded: that is not tried again at every press."""
    from flowdesign.lm import WeightsNotFound
    from flowdesign.reward.ensemble import Ensemble, RewardError  # loads torch
    from flowdesign.tokens import VocabularyMismatch

    try:
        return Ensemble.load(folder)
    except (RewardError, VocabularyMismatch, WeightsNotFound) as fault:
        return fault
