"""The shipped GRPO policy: it is what its figures are of, reaches its bars, and has guidance."""

import json

import pytest

from flowdesign import runs
from flowdesign.catalog import ROOT, known_assets
from flowdesign.config import GRPOConfig, load
from flowdesign.policies import Policies
from flowdesign.policy import fingerprint
from flowdesign.reward.ensemble import fingerprint as reward_digest

FOLDER = ROOT / "checkpoints" / "policy_grpo"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "figures.json").exists(), reason="checkpoints/policy_grpo is not trained"
)


def test_its_figures_are_its_own_and_reach_the_bars() -> None:
    figures = runs.read_figures(FOLDER)
    assert figures is not None and figures["weights"] == fingerprint(FOLDER)
    assert figures["prompts"] >= 64 and figures["sampled"] == 512
    assert figures["reached"] >= 0.5 and figures["reward"]["policy"] > figures["reward"]["fixed"]
    assert figures["distinct"]["samples"] >= 500 and figures["distinct"]["many"] >= 0.25
    assert figures["distinct"]["one"] >= 16


def test_it_comes_with_what_it_was_made_from() -> None:
    config = load(GRPOConfig, FOLDER / "config.json")
    origin = json.loads((FOLDER / "origin.json").read_text())
    assert origin["start"] == fingerprint(runs.folder_of(config.start))
    assert origin["reward"] == reward_digest(runs.folder_of(config.reward))
    rows = runs.read_metrics(FOLDER)
    assert [row["step"] for row in rows] == list(range(config.steps))


def test_it_is_the_usual_policy_and_has_guidance() -> None:
    policies = Policies(known_assets())
    assert policies.known().name == "policy_grpo"
    start = policies.check("", 2.0).start
    assert start is not None and start.name == "policy_warm"
