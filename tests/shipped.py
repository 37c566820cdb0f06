"""What is shipped in checkpoints/: tests of it skip, saying so, until it is."""

import pytest

from flowdesign import runs
from flowdesign.catalog import ROOT, installed

_training = runs.read_status(ROOT / "checkpoints" / "policy_sft")
needs_policy = pytest.mark.skipif(
    _training is None or _training.state != "finished",
    reason="checkpoints/policy_sft is not trained to its end: python -m flowdesign sft",
)
needs_models = pytest.mark.skipif(
    not installed().names("checkpoints"),
    reason="checkpoints/miniature is not trained yet: python -m flowdesign zoo",
)
