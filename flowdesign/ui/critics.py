"""The reward ensembles that the tabs share: each is loaded once, when somebody first needs it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from flowdesign.reward import HEAD, SHIPPED
from flowdesign.studio import Critic, open_critic

KEPT = 2  # ensembles that stay loaded


def is_ensemble(folder: Path) -> bool:
    """Whether a folder holds a trained ensemble, whatever its state."""
    return (folder / HEAD).exists()


class Critics:
    """Gives ensembles by folder; call it from any thread."""

    def __init__(self, shipped: Path = SHIPPED) -> None:
        self.shipped = shipped
        self._lock = threading.Lock()
        self._loaded: dict[tuple[Path, int], Any] = {}

    @property
    def is_there(self) -> bool:
        """Whether an ensemble is installed, whatever its state."""
        return is_ensemble(self.shipped)

    def usual(self) -> Critic | None:
        """The installed ensemble; None where there is none, or none that works (the log says why)."""
        return open_critic(lambda: self.of(self.shipped)) if self.is_there else None

    def of(self, folder: Path) -> Any:
        """The `reward.ensemble.Ensemble` in a folder, as it is now.

        Raises reward.ensemble.RewardError, tokens.VocabularyMismatch, lm.WeightsNotFound.
        """
        from flowdesign.reward.ensemble import Ensemble  # loads torch

        with self._lock:
            head = folder / HEAD
            key = (folder, head.stat().st_mtime_ns if head.exists() else 0)
            if key not in self._loaded:
                found = Ensemble.load(folder)
                self._loaded = dict(list(self._loaded.items())[1 - KEPT :])
                self._loaded[key] = found
            return self._loaded[key]
