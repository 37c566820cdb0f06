"""What a policy says while it learns: samples.jsonl in a run's folder, some lines for every look.

A line is {"step", "prompt", "sentence", "reward"}; the reward is null where no ensemble judged it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flowdesign.runs import replace_text

SAMPLES = "samples.jsonl"


@dataclass(frozen=True)
class Shown:
    """A sentence that the policy said for a prompt after `step`, and its lower bound if it is known."""

    step: int
    prompt: str
    sentence: str
    reward: float | None = None


def keep_samples(folder: Path, step: int, samples: Sequence[Shown]) -> None:
    """Add a look's samples to the run's; a look that is repeated replaces what came from it on."""
    earlier = [one for one in read_samples(folder) if one.step < step]
    lines = [json.dumps(asdict(one)) for one in [*earlier, *samples]]
    replace_text(folder / SAMPLES, "".join(f"{line}\n" for line in lines))


def read_samples(folder: Path) -> list[Shown]:
    """The lines that can be read, oldest first; none where there is no file."""
    path = folder / SAMPLES
    return list(_read(path.read_text("utf-8", errors="replace"))) if path.exists() else []


def _read(text: str) -> Iterator[Shown]:
    for line in text.splitlines():
        try:
            one = json.loads(line)
            reward = None if one["reward"] is None else float(one["reward"])
            yield Shown(int(one["step"]), str(one["prompt"]), str(one["sentence"]), reward)
        except (ValueError, TypeError, KeyError):
            continue
