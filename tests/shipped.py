"""What is shipped in checkpoints/: tests of it skip, saying so, until it is."""

import pytest

from flowdesign import runs
from flowdesign.catalog import ROOT, installed

POLICY = ROOT / "checkpoints" / "policy_sft"
NO_POLICY = "checkpoints/policy_sft is not trained to its end: python -m flowdesign sft"
NO_MODELS = "checkpoints/miniature is not trained yet: python -m flowdesign zoo"

_training = runs.read_status(POLICY)
has_policy = (
    _training is not None
    and _training.state == "finished"
    and (POLICY / "adapter_model.safetensors").exists()
)
has_models = bool(installed().names("checkpoints"))
needs_policy = pytest.mark.skipif(not has_policy, reason=NO_POLICY)
needs_models = pytest.mark.skipif(not has_models, reason=NO_MODELS)
