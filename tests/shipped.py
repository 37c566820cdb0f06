"""What is shipped in checkpoints/: tests of it skip, saying so, until it is."""

import pytest

from flowdesign.catalog import ROOT

needs_policy = pytest.mark.skipif(
    not (ROOT / "checkpoints" / "policy_sft" / "rows.safetensors").exists(),
    reason="checkpoints/policy_sft is not trained yet: python -m flowdesign sft",
)
