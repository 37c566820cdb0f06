"""The policies that one can design with: which there are, and that each is loaded once."""

import json
from pathlib import Path

import pytest
import torch
from toys import write_tiny_base

from flowdesign.catalog import known_assets
from flowdesign.guidance import Guided
from flowdesign.policies import Policies
from flowdesign.policy import Anatomy, Policy, fingerprint
from flowdesign.request import BadRequest


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished: policy_sft, better, which GRPO made of it, and warm, which SFT made of it.

    Unfinished: policy_grpo.
    """
    base = str(write_tiny_base(tmp_path_factory.mktemp("base")))
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    sft = Policy.create(Anatomy(base, 4), models=known_assets())
    better = sft.twin()
    with torch.no_grad():
        for weight in better.trainable().values():
            weight.add_(0.1 * torch.randn(weight.shape))
    start = str(root / "policy_sft")
    for name, policy, config, state in (
        ("policy_sft", sft, {}, "finished"),
        ("better", better, {"start": start, "group": 8}, "finished"),
        ("warm", better, {"start": start, "warm": 1.0}, "finished"),
        ("policy_grpo", better, {"start": start, "group": 8}, "stopped"),
    ):
        policy.save(root / name)
        (root / name / "config.json").write_text(json.dumps(config))
        head = {"state": state, "step": 1, "total": 1, "message": "", "pid": 1}
        times = {"started": 1.0, "updated": 2.0}
        (root / name / "status.json").write_text(json.dumps(head | times))
    (root / "reward").mkdir()
    return root


def test_finished_policies_are_listed_the_usual_one_first(root: Path) -> None:
    policies = Policies(known_assets(), root)
    assert [one.name for one in policies.all()] == ["policy_sft", "better", "warm"]
    assert policies.known().name == "policy_sft" and policies.known("better").start
    with pytest.raises(BadRequest, match="Unknown policy 'beter'. Did you mean 'better'"):
        policies.known("beter")
    with pytest.raises(BadRequest, match="There is no policy"):
        Policies(known_assets(), root / "reward").known()


def test_a_policy_speaks_alone_or_with_guidance(root: Path) -> None:
    policies = Policies(known_assets(), root)
    better, start = policies.speaker("better"), policies.speaker("policy_sft")
    assert policies.speaker("better", 1.0) is better and policies.speaker("better", 0.0) is start
    guided = policies.speaker("better", 2.0)
    assert isinstance(guided, Guided) and guided.pair is policies.speaker("better", 3.0).pair
    assert guided.sample("a red star", 2, 0)[0].valid


def test_a_policy_speaks_with_the_base_as_it_was_held_in_training(root: Path) -> None:
    """One that learned beside the whole base does not speak with one in 4 bits; nor does its start."""
    config = root / "better" / "config.json"
    before = config.read_text()
    config.write_text(json.dumps(json.loads(before) | {"dtype": "fp32"}))
    try:
        policies = Policies(known_assets(), root)
        rough, better = policies.speaker("policy_sft"), policies.speaker("better")
        guided = policies.speaker("better", 2.0)
    finally:
        config.write_text(before)
    name = next(n for n, p in better.trunk.named_parameters() if "up_proj.base" in n)
    bases = [dict(one.trunk.named_parameters())[name] for one in (rough, better, guided.pair.sft)]
    assert not torch.equal(bases[0], bases[1]) and bases[1] is bases[2]


def test_guidance_is_from_the_very_policy_that_it_was_trained_from(root: Path) -> None:
    """A run that was deleted leaves its name to another."""
    origin = root / "better" / "origin.json"
    policies = Policies(known_assets(), root)
    try:
        origin.write_text(json.dumps({"start": fingerprint(root / "policy_sft")}))
        assert isinstance(policies.speaker("better", 2.0), Guided)
        origin.write_text(json.dumps({"start": fingerprint(root / "better")}))
        with pytest.raises(
            BadRequest, match="'policy_sft' is another policy than 'better' was made"
        ):
            Policies(known_assets(), root).speaker("better", 2.0)
        other = Policies(known_assets(), root)
        assert other.speaker("better", 1.0) is other.speaker("better")
    finally:
        origin.unlink()


def test_without_a_start_there_is_no_guidance(root: Path) -> None:
    policies = Policies(known_assets(), root)
    assert policies.speaker("policy_sft", 0.0) is policies.speaker("policy_sft")
    for name in ("policy_sft", "warm"):
        with pytest.raises(BadRequest, match=f"'{name}' was not improved by GRPO"):
            policies.speaker(name, 2.0)


def test_the_base_is_held_once_and_a_new_version_is_read(root: Path) -> None:
    policies = Policies(known_assets(), root)
    one, other = policies.speaker("policy_sft"), policies.speaker("better")
    frozen = [{id(p) for p in p.trunk.parameters() if not p.requires_grad} for p in (one, other)]
    assert frozen[0] and frozen[0] == frozen[1]
    head = root / "better" / "policy.json"
    head.write_text(head.read_text() + "\n")
    assert policies.speaker("better") is not other


def test_a_policy_that_cannot_be_used_is_told(root: Path) -> None:
    rows = root / "better" / "rows.safetensors"
    whole = rows.read_bytes()
    rows.write_bytes(whole[:100])
    try:
        with pytest.raises(BadRequest, match="'better' cannot be used"):
            Policies(known_assets(), root).speaker("better", 2.0)
    finally:
        rows.write_bytes(whole)
