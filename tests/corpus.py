"""Where a developer may have files of a real ComfyUI, too large or too foreign to ship."""

import os
from pathlib import Path

import pytest

from flowdesign.catalog import ROOT

VARIABLE = "FLOWDESIGN_CORPUS"
BESIDE = ROOT.parent / "shared" / "corpus"


def corpus(name: str) -> Path:
    """Return a file or folder of the corpus; skips the test when there is none."""
    path = Path(os.environ.get(VARIABLE) or BESIDE) / name
    if not path.exists():
        pytest.skip(f"no {name} in {path.parent}; {VARIABLE} may name another folder")
    return path
