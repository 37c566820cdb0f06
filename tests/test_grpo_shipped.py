"""The shipped GRPO policies, of three seeds: they are what their figures are of, reach their bars, and have guidance."""

import json
from pathlib import Path

import pytest

from flowdesign import runs
from flowdesign.catalog import ROOT, known_assets
from flowdesign.config import GRPOConfig, load
from flowdesign.policies import Policies
from flowdesign.policy import fingerprint
from flowdesign.reward.ensemble import fingerprint as reward_digest

SEEDS = [ROOT / "checkpoints" / name for name in ("policy_grpo", "policy_grpo1", "policy_grpo2")]


@pytest.mark.parametrize("folder", SEEDS, ids=lambda folder: folder.name)
def test_its_figures_are_its_own_and_reach_the_bars(folder: Path) -> None:
    figures = runs.read_figures(folder)
    assert figures is not None and figures["weights"] == fingerprint(folder)
    assert figures["prompts"] >= 64 and figures["sampled"] == 512
    assert figures["reached"] >= 0.5 and figures["reward"]["low"] > figures["reward"]["fixed"]
    assert figures["distinct"]["samples"] >= 500 and figures["distinct"]["many"] >= 0.25
    assert figures["distinct"]["one"] >= 16


@pytest.mark.parametrize("folder", SEEDS, ids=lambda folder: folder.name)
def test_it_comes_with_what_it_was_made_from(folder: Path) -> None:
    config = load(GRPOConfig, folder / "config.json")
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["start"] == fingerprint(runs.folder_of(config.start))
    assert origin["reward"] == reward_digest(runs.folder_of(config.reward))
    rows = runs.read_metrics(folder)
    assert [row["step"] for row in rows] == list(range(config.steps))


def test_it_is_the_usual_policy_and_has_guidance() -> None:
    policies = Policies(known_assets())
    assert policies.known().name == "policy_grpo"
    start = policies.check("", 2.0).start
    assert start is not None and start.name == "policy_warm"
