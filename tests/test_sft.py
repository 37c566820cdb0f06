"""Supervised fine-tuning: its data, its loss, exact resuming, and that it learns."""

import math
import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from reward_toys import toy_records, true_score
from run_toys import check_that_it_goes_on_exactly, check_that_kills_lose_nothing
from toys import write_tiny_base

from flowdesign import runs
from flowdesign.catalog import known_assets
from flowdesign.checkpoints import CHECKPOINT, optimiser_of
from flowdesign.config import RewardConfig, SFTConfig, save
from flowdesign.device import HardwareMissing
from flowdesign.heldout import held_out, prompts_of
from flowdesign.policy import Anatomy, Policy, fingerprint
from flowdesign.records import Record, RecordsError, Store, split_of_both, split_of_prompt
from flowdesign.records.splits import split_of_workflow
from flowdesign.reward.ensemble import RewardError
from flowdesign.samples import read_samples
from flowdesign.sampling import Unconstrained
from flowdesign.sft import command, measuring, scored
from flowdesign.sft import training as sft
from flowdesign.sft.imported import pool_of
from flowdesign.sft.looking import SHOWN, judge_of, look
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence, sentence_text

GRAMMAR = Automaton(VOCABULARY, known_assets())
FLAT = VOCABULARY.index("<ckpt:mini_flat>")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SFTConfig:
    base = str(write_tiny_base(tmp_path_factory.mktemp("base")))
    return SFTConfig(
        base=base, steps=6, prompts=2, sentences=2, rank=4, warmup=1, save_every=2, seed=3,
        evaluate_every=4, reward="none",
    )  # fmt: skip


def test_a_step_has_its_own_data_and_always_the_same(config: SFTConfig) -> None:
    first, again, next_step = (sft.batch(config, index, GRAMMAR) for index in (0, 0, 1))
    assert first == again
    assert set(first.sentences).isdisjoint(next_step.sentences)
    other_seed = config.model_copy(update={"seed": 4})
    assert sft.batch(other_seed, 0, GRAMMAR) != first


def test_the_data_are_valid_workflows_for_few_prompts(config: SFTConfig) -> None:
    data = sft.batch(config, 0, GRAMMAR)
    assert len(data.prompts) == len(data.sentences) == 4
    assert len(set(data.prompts)) <= 2
    assert not any(decode(sentence).problems for sentence in data.sentences)


def test_the_rate_warms_up_and_falls() -> None:
    config = SFTConfig(steps=100, warmup=9)
    rates = [sft.rate(config, index) for index in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1, rel=0.05)
    assert rates[-1] < 0.01
    assert rates[20:] == sorted(rates[20:], reverse=True)


class Halves(Unconstrained):
    """Only the first two of four tokens are ever allowed."""

    def allowed(self, state: int) -> range:
        return range(2)


def test_the_losses_against_numbers_worked_by_hand() -> None:
    shares = torch.tensor([[[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]]] * 2)
    sentences = [(0, 1), (1,)]
    token, grammar = sft.losses(shares.log(), sentences, Halves(4, end=3, longest=9))
    assert float(token) == pytest.approx(-(math.log(0.5) + math.log(0.2) + math.log(0.25)) / 3)
    assert float(grammar) == pytest.approx(-(2 * math.log(0.75) + math.log(0.3)) / 3)


def test_a_stopped_run_goes_on_exactly(config: SFTConfig, tmp_path: Path) -> None:
    check_that_it_goes_on_exactly(
        config, lambda folder: sft.train(config, folder), tmp_path, CHECKPOINT
    )
    whole, parts = (read_samples(tmp_path / name) for name in ("whole", "parts"))
    assert whole == parts and [one.step for one in whole] == [3] * SHOWN + [5] * SHOWN


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_and_repeats_no_step(
    config: SFTConfig, tmp_path: Path
) -> None:
    long = config.model_copy(update={"steps": 60, "save_every": 5})
    check_that_kills_lose_nothing(
        long, lambda folder: sft.train(long, folder), tmp_path, CHECKPOINT, 6, 0.15, times=8
    )


class Liking:
    """A reward that wants the flat checkpoint, and says so for any prompt."""

    def __call__(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> list[float]:
        return [float(FLAT in said) for said in sentences]

    def afresh(self) -> "Liking":
        return self

    def of_some(self, count: int, rng: random.Random) -> "Liking":
        return self


def test_a_warm_start_searches_for_what_the_ensemble_likes(config: SFTConfig) -> None:
    warm = config.model_copy(update={"prompts": 4, "sentences": 6, "warm": 0.5, "heat": 0.05})
    data = sft.batch(warm, 0, GRAMMAR, Liking())
    assert data == sft.batch(warm, 0, GRAMMAR, Liking())
    assert len(data.prompts) == len(data.sentences) == 24
    plain, sought = data.sentences[:12], data.sentences[12:]
    assert sum(FLAT in said for said in sought) == 12 > sum(FLAT in said for said in plain)
    assert data.reward == 1.0
    assert len(set(sought)) > 8 and all(GRAMMAR.accepts(said) for said in sought)
    assert all(split_of_prompt(prompt) == "train" for prompt in data.prompts[12:])


# --- imported graphs


def _imports(folder: Path, count: int) -> list[tuple[str, tuple[int, ...]]]:
    """Store records of every kind; the pairs that a policy may learn from."""
    rng, wanted = random.Random(5), []
    records = []
    for number in range(count):
        said = random_sentence(GRAMMAR, rng)
        workflow = decode(said).workflow
        assert workflow is not None
        prompt, source = (
            f"a star of year {number // 2}",
            "import:years" if number % 3 else "playground",
        )
        sentence = "" if number % 5 == 0 else sentence_text(said)
        records.append(Record(prompt, workflow, number, sentence=sentence, source=source))
        split = split_of_both(split_of_prompt(prompt), split_of_workflow(workflow))
        if source != "playground" and sentence and split == "train":
            wanted.append((prompt, said))
    with closing(Store.open(folder)) as store:
        store.add(records)
    return wanted


def test_imported_graphs_are_learned_beside_random_ones(config: SFTConfig, tmp_path: Path) -> None:
    wanted = _imports(tmp_path / "records", 60)
    assert 10 < len(wanted) < 40
    pool = pool_of(tmp_path / "run", str(tmp_path / "records"), GRAMMAR)
    assert [(prompt, said) for prompt, all_said in pool.items() for said in all_said] == wanted
    made = sft.Made(imported=pool)
    half = config.model_copy(update={"prompts": 8, "imported": 0.5})
    data = sft.batch(half, 0, GRAMMAR, made=made)
    assert data == sft.batch(half, 0, GRAMMAR, made=made) != sft.batch(half, 1, GRAMMAR, made=made)
    pairs = list(zip(data.prompts, data.sentences, strict=True))
    assert len(set(data.prompts[:8])) == 4 and not set(pairs[:8]) & set(wanted)
    assert 4 <= len(pairs[8:]) <= 8 and set(pairs[8:]) <= set(wanted)


@pytest.mark.parametrize(
    ("prompts", "imported", "warm", "told"),
    [(4, 0.1, 0.0, 0), (2, 0.5, 0.3, 0.2), (3, 0.4, 0.4, 0.2)],
)
def test_shares_of_few_prompts_come_out_over_the_steps(
    config: SFTConfig, prompts: int, imported: float, warm: float, told: float
) -> None:
    """Also those of less than a prompt a step, and never more prompts than were asked for."""
    made = sft.Made({"of an import": [(FLAT,)]}, [scored.Scored("of a record", (FLAT,), 1)])
    mixed = config.model_copy(
        update={"prompts": prompts, "sentences": 1, "sweeps": 1}
        | {"imported": imported, "warm": warm, "scored": told}
    )
    data = [sft.batch(mixed, index, GRAMMAR, Liking(), made).prompts for index in range(100)]
    assert {len(one) for one in data} == {prompts}
    whole = [prompt for one in data for prompt in one]
    for share, words in ((imported, "of an import"), (told, scored.told("of a record", 1))):
        assert abs(whole.count(words) / len(whole) - share) < 0.01


def test_scored_workflows_are_told_with_the_level_that_they_reached(tmp_path: Path) -> None:
    found = scored.levelled(toy_records(80, 6, seeds=2), GRAMMAR)
    assert {one.level for one in found} == set(range(1, scored.BEST + 1))
    assert all(split_of_prompt(one.prompt) == "train" for one in found)
    means = [
        fmean(true_score(one.prompt, one.sentence) for one in found if one.level == level)
        for level in (1, scored.BEST)
    ]
    assert means[1] > means[0] + 0.5  # by the rule that the toys' scores follow
    made = sft.Made(scored=found)
    data = sft.batch(SFTConfig(scored=1.0, prompts=4, sentences=2), 0, GRAMMAR, made=made)
    pairs = {(scored.told(one.prompt, one.level), one.sentence) for one in found}
    assert len(data.prompts) == 8
    assert set(zip(data.prompts, data.sentences, strict=True)) <= pairs
    with pytest.raises(RecordsError, match="at least 10 are needed"):
        scored.levelled([], GRAMMAR)


def test_scored_workflows_are_weighed_as_for_the_ensemble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A baseline of GRPO learns from the same scores as GRPO's reward."""
    monkeypatch.setattr(scored, "unpack_all", lambda: toy_records(40, 4))
    usual = scored.scored_of(tmp_path / "one", scored.SHIPPED, GRAMMAR)
    config = RewardConfig(run="upside_down", weights={"scene_soft": -1.0})
    reward = tmp_path / "reward"
    reward.mkdir()
    save(config, reward / "config.json")
    other = scored.scored_of(tmp_path / "two", scored.SHIPPED, GRAMMAR, str(reward))
    found = np.corrcoef([one.level for one in usual], [one.level for one in other])[0, 1]
    assert found < -0.9


def test_the_scored_workflows_of_a_run_stay_those_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored, "unpack_all", lambda: toy_records(40, 4))
    first = scored.scored_of(tmp_path, scored.SHIPPED, GRAMMAR)
    monkeypatch.setattr(scored, "unpack_all", lambda: toy_records(50, 4))
    assert scored.scored_of(tmp_path, scored.SHIPPED, GRAMMAR) == first
    with pytest.raises(RecordsError, match="There are no records"):
        scored.scored_of(tmp_path / "new", str(tmp_path / "none"), GRAMMAR)


def test_a_look_says_what_an_ensemble_expects_where_there_is_one(
    config: SFTConfig, tmp_path: Path
) -> None:
    policy = Policy.create(Anatomy(config.base, 4), "fp32", models=known_assets())
    prompts = held_out("validation", SHOWN + 2, 0)
    assert look(policy, None, prompts, tmp_path, 0) == {}
    told = look(policy, Liking(), prompts, tmp_path, 4)  # type: ignore[arg-type]
    first, second = (read_samples(tmp_path)[at : at + SHOWN] for at in (0, SHOWN))
    assert [one.sentence for one in first] == [one.sentence for one in second]
    assert {one.reward for one in first} == {None} and 0 <= told["validation/reward"] <= 1
    assert [one.reward for one in second] == [float("mini_flat" in one.sentence) for one in second]


def test_prompts_of_a_file_are_all_that_is_learned_from(config: SFTConfig, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"a portrait of person {n}" for n in range(100)))
    run = config.model_copy(update={"prompt_source": str(file), "warm": 0.5, "prompts": 4})
    told = set(prompts_of(str(file)).to_learn_from(random.Random(0), 1000))
    for index in range(3):
        assert set(sft.batch(run, index, GRAMMAR, Liking()).prompts) <= told  # type: ignore[arg-type]


def test_only_a_warm_start_needs_an_ensemble(config: SFTConfig, caplog: Any) -> None:
    assert judge_of(config) is None and "without an expected score" in caplog.text
    with pytest.raises(RewardError, match="No reward ensemble"):
        judge_of(config.model_copy(update={"warm": 0.5}))


def test_a_run_goes_on_with_the_imports_that_it_began_with(
    config: SFTConfig, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    before = _imports(records, 40)
    run = config.model_copy(update={"imported": 0.5, "records": str(records)})
    check_that_it_goes_on_exactly(
        run, lambda folder: sft.train(run, folder), tmp_path / "runs", CHECKPOINT
    )
    again = _imports(records, 80)
    assert len(again) > len(before)
    kept = pool_of(tmp_path / "runs" / "whole", str(records), GRAMMAR)
    assert sum(map(len, kept.values())) == len(before)


def test_without_imports_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no records in"):
        pool_of(tmp_path / "run", str(tmp_path), GRAMMAR)
    with closing(Store.open(tmp_path)):
        pass
    with pytest.raises(RecordsError, match="Import some in the Data tab"):
        pool_of(tmp_path / "run", str(tmp_path), GRAMMAR)
    with pytest.raises(ValueError, match="together at most 1"):
        SFTConfig(imported=0.6, warm=0.5)
    with pytest.raises(RecordsError, match="shipped records were rendered here"):
        pool_of(tmp_path / "run", scored.SHIPPED, GRAMMAR)


def test_a_warm_run_goes_on_from_a_policy(
    config: SFTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = config.model_copy(update={"steps": 1})
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    list(sft.train(first, tmp_path / "first"))
    monkeypatch.setattr("flowdesign.sft.looking.open_bound", lambda *asked: Liking())
    monkeypatch.setattr(sft, "reward_digest", lambda folder: "")
    start = str(tmp_path / "first")
    warm = config.model_copy(update={"start": start, "base": "unused", "warm": 1.0, "steps": 2})
    told = [step.metrics for step in sft.train(warm, tmp_path / "second")]
    assert [metrics["reward"] for metrics in told] == [1.0, 1.0]
    assert Policy.load(tmp_path / "second").anatomy == Policy.load(start).anatomy


def test_figures_count_what_is_valid_and_what_differs(
    config: SFTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy.create(Anatomy(config.base, rank=4), models=known_assets())
    policy.save(tmp_path)
    monkeypatch.setattr(measuring, "UNDER_GRAMMAR", 30)
    monkeypatch.setattr(measuring, "FREE", 8)
    figures = measuring.measure(tmp_path)
    assert figures["grammar"] == {"samples": 30, "valid": 30, "distinct": 30}
    assert (
        figures["free"]["samples"] == 8 and figures["free"]["valid"] == 0
    )  # it has learned nothing
    assert figures["weights"] == fingerprint(tmp_path)
    assert measuring.validity(policy, 3, constrained=True) == measuring.validity(
        policy, 3, constrained=True
    )


def test_the_gradient_does_not_depend_on_how_much_is_in_memory(config: SFTConfig) -> None:
    """Neither with sentences of different lengths nor with a prompt that comes twice."""
    policy = Policy.create(Anatomy(config.base, 4), "fp32", models=known_assets())
    data = sft.batch(config.model_copy(update={"prompts": 3, "sentences": 3}), 0, GRAMMAR)
    data = sft.Batch([*data.prompts, data.prompts[0]], [*data.sentences, data.sentences[4]])
    found = []
    for at_once in (0, 1, 2):
        optimiser = optimiser_of(policy, 1e-3, 1e-3)
        optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
        parts = config.model_copy(update={"at_once": at_once})
        told = sft.update(policy, optimiser, parts, 0, data)
        found.append(([w.grad.clone() for w in policy.trainable().values()], told))
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in found[0][0])
    for gradients, told in found[1:]:
        assert told == pytest.approx(found[0][1], rel=1e-4)
        for one, other in zip(gradients, found[0][0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_run_goes_on_with_less_in_memory(config: SFTConfig, tmp_path: Path) -> None:
    runs.prepare(tmp_path, config)
    runs.prepare(tmp_path, config.model_copy(update={"at_once": 1}))


def test_a_policy_is_measured_with_the_base_that_it_learned_with(
    config: SFTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy.create(Anatomy(config.base, rank=4), models=known_assets())
    asked: list[tuple[str, str]] = []

    def load(folder: Path, dtype: str, device: str, models: Any = None) -> Policy:
        asked.append((dtype, device))
        return policy

    monkeypatch.setattr(Policy, "load", load)
    monkeypatch.setattr(measuring, "validity", lambda *_, **__: {})
    monkeypatch.setattr(measuring, "fingerprint", lambda folder: "")
    command.measure(config.model_copy(update={"dtype": "bf16", "device": "cuda"}), tmp_path)
    assert asked == [("bf16", "cuda")]


@pytest.mark.parametrize(("place", "advice"), [("look", "--prompts"), ("_start", "--dtype")])
def test_memory_that_runs_out_beside_a_step_is_told(
    config: SFTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, advice: str
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sft, place, full)
    with pytest.raises(HardwareMissing, match=advice):
        list(sft.train(config, tmp_path))


def test_it_learns(config: SFTConfig, tmp_path: Path) -> None:
    """A toy model learns to say something legal: the grammar's loss falls to a third."""
    busy = config.model_copy(
        update={"steps": 60, "sentences": 6, "lora_rate": 1e-2, "rows_rate": 3e-2}
    )
    told = [step.metrics["lawless"] for step in sft.train(busy, tmp_path)]
    assert sum(told[-5:]) / 5 < told[0] / 3
    policy = Policy.load(tmp_path, models=known_assets())
    assert policy.sample("a red star", 1, seed=0)[0].valid
