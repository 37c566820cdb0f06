"""GRPO as a run: its rollouts, its updates, its yardsticks, exact resuming, and that it learns."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reward_toys import REFERENCE, toy_config, toy_records
from run_toys import check_that_it_goes_on_exactly, check_that_kills_lose_nothing
from toys import write_tiny_base

from flowdesign import runs
from flowdesign.catalog import known_assets
from flowdesign.checkpoints import CHECKPOINT, optimiser_of
from flowdesign.config import GRPOConfig
from flowdesign.device import HardwareMissing
from flowdesign.grpo import command, measuring
from flowdesign.grpo import run as grpo
from flowdesign.grpo.learning import Learner, parts_of
from flowdesign.grpo.objective import advantages
from flowdesign.grpo.rollout import earn
from flowdesign.grpo.yardsticks import Yardsticks, best_fixed, yardsticks
from flowdesign.heldout import prompts_of
from flowdesign.policy import Anatomy, Policy
from flowdesign.reward.bound import Bound
from flowdesign.reward.data import make_table
from flowdesign.reward.run import train as train_reward
from flowdesign.samples import SAMPLES, read_samples
from flowdesign.sampling import log_probs, roll
from flowdesign.tokens import VOCABULARY, random_sentence

PROMPTS = ["a red circle, flat style", "a blue star, night style", "a green square"]
FLAT = VOCABULARY.index("<ckpt:mini_flat>")
NIGHT = VOCABULARY.index("<ckpt:mini_night>")


class ToyEnsemble:
    """Likes the flat checkpoint, for night prompts the night checkpoint even more; no doubt anywhere."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Any:
        mean = np.array(
            [
                2.0 * (NIGHT in said) if "night" in prompt else 1.0 * (FLAT in said)
                for prompt, said in zip(prompts, sentences, strict=True)
            ]
        )
        return SimpleNamespace(mean=mean, lower=lambda k: mean - 0.1 * k)

    def forget(self) -> None:
        """There is nothing that it remembers."""


BOUND = Bound(ToyEnsemble(), 1.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture
def policy(base: str) -> Policy:
    torch.manual_seed(0)
    return Policy.create(Anatomy(base, 4), "fp32", models=known_assets())


def fresh(policy: Policy, **options: Any) -> Learner:
    """A learner at its start: the policy is what its twin is held to."""
    config = GRPOConfig(**{"lora_rate": 3e-3, "rows_rate": 1e-2, "divergence": 0.0} | options)
    twin = policy.twin()
    return Learner(config, twin, policy, optimiser_of(twin, config.lora_rate, config.rows_rate))


# --- the policy that learns and the one it is held to


def test_a_twin_says_the_same_learns_alone_and_shares_the_base(policy: Policy) -> None:
    twin = policy.twin()
    said = [random_sentence(policy.automaton, random.Random(1))]
    before = policy.log_probs(PROMPTS[:1], said)
    assert torch.equal(twin.log_probs(PROMPTS[:1], said), before)
    ours, theirs = (dict(one.trunk.named_parameters()) for one in (policy, twin))
    for name, weight in ours.items():
        assert (theirs[name] is weight) != weight.requires_grad
    with torch.no_grad():
        for weight in twin.trainable().values():
            weight.add_(0.1)
    assert torch.equal(policy.log_probs(PROMPTS[:1], said), before)
    assert not torch.equal(twin.log_probs(PROMPTS[:1], said), before)


def test_what_is_held_is_read_once_and_nothing_else_changes(policy: Policy) -> None:
    """Learning in the uppermost layer, with what is below read once for all, or each time anew."""
    said = [random_sentence(policy.automaton, random.Random(n)) for n in range(4)]
    learned = []
    for once in (True, False):
        learner = fresh(policy, updates=2)
        learner.policy.hold_below(1)
        learner.policy.uppermost = int(once)
        parts = list(parts_of(policy, PROMPTS[:2], [said[:2], said[2:]], torch.eye(2), 2))
        learner.learn(parts, 1.0)
        assert (parts[0].below is not None) == once
        learned.append(learner.policy.trainable())
    assert all(torch.equal(learned[0][name], weight) for name, weight in learned[1].items())
    before = policy.trainable()
    assert any(not torch.equal(weight, before[name]) for name, weight in learned[0].items())


# --- rollouts


def test_a_rollout_is_valid_repeatable_and_each_prompt_has_its_own(policy: Policy) -> None:
    groups = roll(policy, PROMPTS, 3, seed=5)
    assert [len(group) for group in groups] == [3, 3, 3]
    assert all(policy.automaton.accepts(said) for group in groups for said in group)
    assert groups == roll(policy, PROMPTS, 3, seed=5) != roll(policy, PROMPTS, 3, seed=6)
    assert len({said for group in groups for said in group}) == 9


def test_a_large_rollout_is_said_in_parts(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = roll(policy, PROMPTS, 4, seed=1)
    monkeypatch.setattr("flowdesign.sampling.GROUP", 5)
    assert roll(policy, PROMPTS, 4, seed=1) == whole


def test_workflows_are_judged_for_their_prompt_and_for_others(policy: Policy) -> None:
    said = [[(FLAT,), (NIGHT,)]] * 3
    earned = earn(BOUND, PROMPTS, said, foils=9)
    assert torch.allclose(earned.mean, torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]]))
    assert torch.allclose(earned.own, earned.mean - 0.1)
    # The first prompt's foils are the second and the third, the second's the third and the first.
    assert torch.allclose(earned.elsewhere[0] + 0.1, torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    assert torch.allclose(earned.elsewhere[1] + 0.1, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert earn(BOUND, PROMPTS[:1], said[:1], foils=4).elsewhere.shape == (1, 2, 0)


# --- updates


def test_an_update_makes_better_workflows_likelier(policy: Policy) -> None:
    taught = fresh(policy)
    groups = roll(taught.policy, PROMPTS, 4, seed=2)
    gains = torch.tensor([[1.0, -1.0, 0.5, -0.5]] * 3)
    parts = list(parts_of(taught.policy, PROMPTS, groups, gains, at_once=2))
    repeated = [prompt for prompt in PROMPTS for _ in range(4)]
    said = [sentence for group in groups for sentence in group]
    before = policy.log_probs(repeated, said, policy.automaton)
    told = taught.learn(parts, share=1.0)
    after = taught.policy.log_probs(repeated, said, policy.automaton)
    assert float(((after - before) * gains.flatten()).sum().detach()) > 0
    assert told["divergence"] == pytest.approx(0, abs=1e-6) and told["clipped"] == 0
    assert torch.equal(policy.log_probs(repeated, said, policy.automaton), before)


def test_the_gradient_does_not_depend_on_how_much_is_in_memory(policy: Policy) -> None:
    groups = roll(policy, PROMPTS, 2, seed=3)
    gains = torch.tensor([[1.0, -1.0]] * 3)
    found = []
    for at_once in (1, 3):
        taught = fresh(policy, divergence=0.1, entropy=0.1)
        taught.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
        taught.learn(list(parts_of(taught.policy, PROMPTS, groups, gains, at_once)), 1.0)
        found.append([w.grad.clone() for w in taught.policy.trainable().values()])
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_later_updates_are_held_to_the_first(policy: Policy) -> None:
    """From the second update on the ratio moves away from 1, and the clip holds it back."""
    taught = fresh(policy, updates=4, lora_rate=0.1, rows_rate=0.1, clip_low=0.01, clip_high=0.01)
    groups = roll(taught.policy, PROMPTS, 4, seed=4)
    gains = torch.tensor([[1.0, -1.0, 1.0, -1.0]] * 3)
    parts = list(parts_of(taught.policy, PROMPTS, groups, gains, 3))
    told = taught.learn(parts, 1.0)
    assert told["clipped"] > 0
    logits = policy.logits(parts[0].prompts, parts[0].sentences) + parts[0].mask
    assert parts[0].old is not None
    assert torch.allclose(parts[0].old, log_probs(logits, parts[0].tokens), atol=1e-5)


def test_entropy_weighs_more_while_choices_are_too_narrow(policy: Policy) -> None:
    narrow, wide = fresh(policy, least_entropy=9.0), fresh(policy, least_entropy=1e-3, entropy=0.01)
    wide.entropy = 0.5  # as after a while with narrow choices
    for taught in (narrow, wide):
        groups = roll(taught.policy, PROMPTS[:1], 2, seed=1)
        taught.learn(list(parts_of(taught.policy, PROMPTS[:1], groups, torch.zeros(1, 2), 1)), 0.0)
    assert narrow.entropy > 1e-3 and 0.01 < wide.entropy < 0.5
    wide.entropy = 0.01
    groups = roll(wide.policy, PROMPTS[:1], 2, seed=1)
    wide.learn(list(parts_of(wide.policy, PROMPTS[:1], groups, torch.zeros(1, 2), 1)), 0.0)
    assert wide.entropy == 0.01  # what was asked for is the least


def test_a_reward_that_is_no_number_is_told() -> None:
    class Lost:
        def predict(self, prompts: Sequence[str], sentences: Sequence[Any]) -> Any:
            values = np.full(len(prompts), np.nan)
            return SimpleNamespace(mean=values, lower=lambda trust: values)

    with pytest.raises(runs.NotANumber, match="--reward"):
        earn(Bound(Lost(), 1.0), PROMPTS, [[(1, 2)]] * 3, foils=0)


def test_the_loss_is_of_the_temperature_that_was_sampled_at(policy: Policy) -> None:
    taught = fresh(policy, temperature=1.5, updates=1)
    groups = roll(taught.policy, PROMPTS, 2, seed=4, temperature=1.5)
    (part,) = parts_of(taught.policy, PROMPTS, groups, torch.zeros(3, 2), 3)
    with torch.no_grad():
        logits = policy.logits(part.prompts, part.sentences) / 1.5 + part.mask
    taught.learn([part], 1.0)
    assert part.old is not None
    assert torch.allclose(part.old, log_probs(logits, part.tokens), atol=1e-5)


@pytest.mark.parametrize(
    ("gain", "share"), [(0.1, 0.0), (0.35, 0.5), (0.6, 1.0), (0.9, 1.0), (0.0, 0.0)]
)
def test_the_share_that_depends_on_the_prompt(gain: float, share: float) -> None:
    """What the SFT policy's workflows already earned for the right prompt only is not counted."""
    known = Yardsticks(sft=0.5, sft_gain=0.1, fixed=0.8, best=2.0, sentence=(1,))
    assert known.share(1.0, gain) == pytest.approx(share)
    assert known.share(0.4, gain) == 0.0  # nothing was gained
    assert known.reached(1.4) == pytest.approx(0.5)
    assert Yardsticks(0.5, 0.1, 0.8, 0.8, (1,)).reached(1.4) == 0.0  # no prompt asks for more


def test_a_loss_that_is_no_number_spoils_nothing(policy: Policy) -> None:
    taught = fresh(policy)
    groups = roll(taught.policy, PROMPTS, 2, seed=3)
    gains = torch.full((3, 2), torch.nan)
    before = [weight.detach().clone() for weight in taught.policy.trainable().values()]
    with pytest.raises(runs.NotANumber, match="lower rates"):
        taught.learn(list(parts_of(taught.policy, PROMPTS, groups, gains, 3)), 1.0)
    after = taught.policy.trainable().values()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_it_learns_what_suits_the_prompt(policy: Policy) -> None:
    """From a policy that knows nothing to the right checkpoint for each prompt, in a few steps."""
    taught = fresh(policy)
    prompts = PROMPTS[:2]
    rewards = []
    for index in range(30):
        groups = roll(taught.policy, prompts, 8, seed=index)
        earned = earn(BOUND, prompts, groups, 1)
        rewards.append(float(earned.own.mean()))
        parts = parts_of(taught.policy, prompts, groups, advantages(earned.own), 2)
        taught.learn(list(parts), 1.0)
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.4


# --- yardsticks


def test_the_best_fixed_workflow_is_that_of_the_ensemble(policy: Policy) -> None:
    """Two flat prompts earn 1 each, one night prompt 2: both checkpoints are worth 2/3 on average."""
    rng = random.Random(0)
    starts = [random_sentence(policy.automaton, rng) for _ in range(2)]
    value, sentence = best_fixed(BOUND, PROMPTS, starts, policy.automaton)
    assert value == pytest.approx(
        2 / 3 - 0.1 if not {FLAT, NIGHT} <= set(sentence) else 4 / 3 - 0.1
    )
    assert policy.automaton.accepts(sentence)


def test_yardsticks_are_in_order(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowdesign.grpo.yardsticks.SAMPLED", 40)
    found = yardsticks(BOUND, policy, PROMPTS, seed=0)
    assert found.sft < found.fixed <= found.best == pytest.approx(4 / 3 - 0.1)
    assert found.reached(found.fixed) == 0 and found.reached(found.best) == pytest.approx(1)


# --- the run


@pytest.fixture(scope="module")
def parts(encoder: str, base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of an SFT policy and of a reward ensemble, both of no use."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    Policy.create(Anatomy(base, 4), "fp32", models=known_assets()).save(folder / "sft")
    config = toy_config(encoder, steps=2)
    (folder / "reward").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowdesign.reward.run.write_measured", lambda *_: None)
        table = make_table(toy_records(40, 4), (), config, REFERENCE)
        list(train_reward(config, folder / "reward", table))
    return {"start": str(folder / "sft"), "reward": str(folder / "reward")}


@pytest.fixture
def config(parts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> GRPOConfig:
    monkeypatch.setattr("flowdesign.grpo.yardsticks.SAMPLED", 8)
    monkeypatch.setattr("flowdesign.grpo.yardsticks.SWEEPS", 1)
    monkeypatch.setattr("flowdesign.grpo.yardsticks.STARTS", 1)
    monkeypatch.setattr(grpo, "VALIDATION", 3)
    for name, count in (("EACH", 2), ("MANY", 5), ("ALONE", 2), ("FOR_ONE", 4)):
        monkeypatch.setattr(measuring, name, count)
    return GRPOConfig(
        **parts, dtype="fp32", steps=6, prompts=2, group=3, updates=2, warmup=1, save_every=2,
        evaluate_every=3, seed=3, least_entropy=2.0, judged=3,
    )  # fmt: skip


def test_a_stopped_run_goes_on_exactly(config: GRPOConfig, tmp_path: Path) -> None:
    check_that_it_goes_on_exactly(
        config, lambda folder: grpo.train(config, folder), tmp_path, CHECKPOINT
    )
    for name in (SAMPLES, grpo.YARDSTICKS):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()


def test_a_run_does_not_go_on_with_another_ensemble_or_start(
    config: GRPOConfig, parts: dict[str, str], tmp_path: Path
) -> None:
    runs.prepare(tmp_path, config)
    begun = grpo.train(config, tmp_path)
    next(begun)
    begun.close()
    head = Path(parts["reward"]) / "reward.json"
    before = head.read_text()
    try:
        head.write_text(before + "\n")
        with pytest.raises(runs.RunConflict, match="What --reward names has changed"):
            next(grpo.train(config, tmp_path))
    finally:
        head.write_text(before)
    assert next(grpo.train(config, tmp_path)).index == 1


@pytest.mark.slow
def test_sigkill_at_20_random_moments_loses_and_repeats_no_step(
    config: GRPOConfig, tmp_path: Path
) -> None:
    long = config.model_copy(update={"steps": 90, "save_every": 4, "updates": 1})
    whole, parts = check_that_kills_lose_nothing(
        long, lambda folder: grpo.train(long, folder), tmp_path, CHECKPOINT, seed=5, longest=0.4
    )
    for name in (SAMPLES, grpo.YARDSTICKS):
        assert (whole / name).read_text() == (parts / name).read_text()


def test_a_run_says_how_it_goes_and_keeps_samples(config: GRPOConfig, tmp_path: Path) -> None:
    runs.prepare(tmp_path, config)
    runs.execute(tmp_path, lambda folder: grpo.train(config, folder))
    rows = runs.read_metrics(tmp_path)
    logged = (tmp_path / "log.txt").read_text()  # both take minutes in which no step is made
    assert "compared with, on 3 prompts" in logged and "on 3 test prompts" in logged
    always = {
        "reward", "mean", "prompt_gain", "flat_groups", "distinct", "divergence", "entropy",
        "clipped", "grad_norm", "loss", "entropy_weight", "prompt_share", "fixed",
    }  # fmt: skip
    assert all(always <= row.keys() for row in rows)
    looks = [row for row in rows if "validation/reached" in row]
    assert [row["step"] for row in looks] == [2, 5]
    assert all(row["mean"] >= row["reward"] for row in rows)
    samples = read_samples(tmp_path)
    assert {sample.step for sample in samples} == {2, 5} and len(samples) == 6
    stored = json.loads((tmp_path / grpo.YARDSTICKS).read_text())
    assert Yardsticks(**stored).best >= stored["sft"]
    assert Policy.load(tmp_path, "fp32").sample(PROMPTS[0], 1, 0)[0].valid
    figures = runs.read_figures(tmp_path)
    assert figures is not None and figures["prompts"] == 3
    row = figures["reward"]
    assert row["low"] < row["policy"] < row["high"] and row["sft"] < row["best"]
    assert figures["distinct"] == {"samples": 5, "many": 1.0, "one": 4.0}
    assert "5 samples" in command.tell(figures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measured_now", lambda **_: {"measured": "again"})
        command.measure(config, tmp_path)
    again = runs.read_figures(tmp_path)
    assert again is not None and again["measured"] == "again" and again["reward"] == row


def test_a_run_on_prompts_of_a_file_never_meets_others(config: GRPOConfig, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"a portrait of person {n}" for n in range(60)))
    run = config.model_copy(update={"prompt_source": str(file), "steps": 2, "evaluate_every": 1})
    folder = tmp_path / "run"
    runs.prepare(folder, run)
    runs.execute(folder, lambda there: grpo.train(run, there))
    assert {one.prompt.startswith("a portrait") for one in read_samples(folder)} == {True}
    figures = runs.read_figures(folder)
    assert figures is not None and figures["prompts"] == 3
    file.write_text("\n".join(f"a portrait of nobody {n}" for n in range(60)))
    prompts_of.cache_clear()
    with pytest.raises(runs.RunConflict, match="--prompt-source"):
        list(grpo.train(run.model_copy(update={"steps": 3}), folder))


def test_runs_differ_by_seed_only(config: GRPOConfig, tmp_path: Path) -> None:
    def rewards(name: str, seed: int) -> list[float]:
        changed = config.model_copy(update={"steps": 2, "seed": seed})
        steps = grpo.train(changed, tmp_path / name)
        (tmp_path / name).mkdir()
        return [step.metrics["loss"] for step in steps]

    assert rewards("one", 3) == rewards("two", 3) != rewards("three", 4)


def test_what_is_missing_is_named(config: GRPOConfig, tmp_path: Path) -> None:
    from flowdesign.policy import PolicyError
    from flowdesign.reward.ensemble import RewardError

    for name, fault in (("reward", RewardError), ("start", PolicyError)):
        wrong = config.model_copy(update={name: str(tmp_path / "nowhere")})
        with pytest.raises(fault, match="nowhere"):
            next(grpo.train(wrong, tmp_path))


@pytest.mark.parametrize(("place", "advice"), [("look", "--prompts"), ("sft_of", "--dtype")])
def test_memory_that_runs_out_beside_a_step_is_told(
    config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, advice: str
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(grpo, place, full)
    with pytest.raises(HardwareMissing, match=advice):
        list(grpo.train(config, tmp_path))


def test_a_device_that_is_not_there_is_told(config: GRPOConfig, tmp_path: Path) -> None:
    with pytest.raises(HardwareMissing, match="no device 'gpu' on this machine"):
        list(grpo.train(config.model_copy(update={"device": "gpu"}), tmp_path))


def test_an_interval_takes_two_prompts() -> None:
    with pytest.raises(ValueError, match="judged"):
        GRPOConfig(judged=1)


@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_a_policy_that_says_nothing_any_more_is_told(
    config: GRPOConfig, tmp_path: Path, rate: float
) -> None:
    """Rates so high that what the policy gives after an update is no number."""
    wild = config.model_copy(
        update={"lora_rate": rate, "rows_rate": rate, "warmup": 0, "updates": 1}
    )
    with pytest.raises(runs.NotANumber, match="--lora-rate"):
        list(grpo.train(wild, tmp_path))
