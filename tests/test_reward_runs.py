"""Runs of the reward ensemble: they resume exactly, stop early, measure themselves, and learn."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reward_toys import REFERENCE, toy_config, toy_records, true_score, write_tiny_encoder
from run_toys import check_that_it_goes_on_exactly, check_that_kills_lose_nothing
from safetensors.torch import load_file
from scipy import stats

from flowdesign import __main__, runs
from flowdesign.commands import training
from flowdesign.config import RewardConfig
from flowdesign.records import Record, Vote
from flowdesign.reward import baselines, snapshot
from flowdesign.reward import run as reward_run
from flowdesign.reward.bound import Bound
from flowdesign.reward.data import Table, make_table, pairs_of
from flowdesign.reward.encoder import Encoder
from flowdesign.reward.ensemble import Ensemble, RewardError, read_anatomy
from flowdesign.reward.measuring import foreign, measure
from flowdesign.reward.run import School, train
from flowdesign.reward.snapshot import load_table, save_table
from flowdesign.runs import NotANumber
from flowdesign.tokens import VOCABULARY
from flowdesign.ui import reward_card

HELD_OUT = "<cfg:9>"


@pytest.fixture(scope="module", autouse=True)
def few_trees() -> Iterator[None]:
    """A run that is finished measures itself against the baselines, whose trees take longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "MOST_TREES", 10)
        yield


@pytest.fixture(scope="module")
def config(encoder: str) -> RewardConfig:
    return toy_config(encoder)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(toy_records(60, 8, seeds=2))


@pytest.fixture(scope="module")
def table(records: list[Record], config: RewardConfig) -> Table:
    return make_table(records, votes(records), config, REFERENCE)


def votes(records: list[Record]) -> list[Vote]:
    """One for the first two workflows of each prompt."""
    pairs = zip(records[::16], records[2::16], strict=True)
    return [
        Vote(left.id or 0, right.id or 0, ("left", "right", "tie")[number % 3], "a", str(number))  # type: ignore[arg-type]
        for number, (left, right) in enumerate(pairs)
    ]


def finish(config: RewardConfig, table: Table, folder: Path) -> Path:
    runs.prepare(folder, config)
    status = runs.execute(folder, lambda place: train(config, place, table))
    assert status.state == "finished"
    return folder


@pytest.fixture(scope="module")
def trained(config: RewardConfig, table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    return finish(config, table, tmp_path_factory.mktemp("trained"))


# --- going on


def test_a_stopped_run_goes_on_exactly(config: RewardConfig, table: Table, tmp_path: Path) -> None:
    """With votes, dropout and averages, all of which have a state or chance of their own."""
    assert len(table.ballots) and config.dropout and config.averaging
    check_that_it_goes_on_exactly(
        config, lambda folder: train(config, folder, table), tmp_path, reward_run.CHECKPOINT
    )


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_and_repeats_no_step(
    config: RewardConfig, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_run, "write_measured", lambda *_: None)
    long = config.model_copy(update={"steps": 60, "save_every": 4, "patience": 60})
    whole, parts = check_that_kills_lose_nothing(
        long,
        lambda folder: train(long, folder, table),
        tmp_path,
        reward_run.CHECKPOINT,
        7,
        0.2,
        times=4,
    )
    ours, theirs = (load_file(each / "member_0.safetensors") for each in (whole, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_step_learns_the_order_of_workflows(config: RewardConfig, table: Table) -> None:
    """A step is another with it, and says how far the order is from that of the scores."""

    def step(weight: float) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        asked = config.model_copy(update={"order_weight": weight, "members": 1})
        (trainee,) = School.open(asked, table).trainees
        told = trainee.step(0)
        return told, {n: w.detach().clone() for n, w in trainee.model.learned().items()}

    (told, without), (same, ordered) = step(0.0), step(5.0)
    assert told["order"] == same["order"] > 0 and told["loss"] == same["loss"]
    assert told["grad_norm"] != same["grad_norm"]
    assert any(not torch.equal(without[name], ordered[name]) for name in without)


def test_the_data_of_a_run_stay_as_they_were_at_its_start(
    config: RewardConfig, table: Table, tmp_path: Path
) -> None:
    """Records that come or are scored again meanwhile change nothing."""
    other = make_table(toy_records(40, 8, seed=9), (), config, REFERENCE)
    for folder, second in ((tmp_path / "same", table), (tmp_path / "changed", other)):
        runs.prepare(folder, config)
        steps = train(config, folder, table)
        for _ in range(3):
            next(steps)
        steps.close()
        list(train(config, folder, second))
    same, changed = (
        load_file(tmp_path / name / "member_0.safetensors") for name in ("same", "changed")
    )
    assert all(torch.equal(same[name], changed[name]) for name in same)
    assert read_anatomy(tmp_path / "changed")[0].data == table.digest != other.digest


def test_a_run_of_another_vocabulary_does_not_go_on(
    config: RewardConfig, table: Table, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Words were added meanwhile: the weights of half a run do not fit, and stay as they are."""
    folder = tmp_path / "half"
    runs.prepare(folder, config)
    steps = train(config, folder, table)
    next(steps)
    steps.close()
    before = (folder / reward_run.CHECKPOINT).read_bytes()
    older = SimpleNamespace(tokens=VOCABULARY.tokens[:-1])
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "VOCABULARY", older)
        save_table(table, folder)
    made = [word for name, value in config for word in (f"--{name.replace('_', '-')}", f"{value}")
            if value != RewardConfig.model_fields[name].default]  # fmt: skip
    code, _, err = call(folder, monkeypatch, capsys, *made)
    assert code == 2 and "begun with another vocabulary" in err and "--run NAME" in err
    assert (folder / reward_run.CHECKPOINT).read_bytes() == before


def test_a_snapshot_holds_the_whole_table(table: Table, tmp_path: Path) -> None:
    assert load_table(tmp_path) is None
    huge = replace(table, seed=table.seed.copy())
    huge.seed[0] = -1  # 2^64 - 1
    save_table(huge, tmp_path)
    again = load_table(tmp_path)
    assert again is not None and again.digest == huge.digest and again.heads == huge.heads
    assert again.seed[0] == -1 and np.array_equal(again.records, huge.records)
    assert len(again.ballots) == len(table.ballots) > 0
    assert again.standards == huge.standards and again.prompt_split == huge.prompt_split


@pytest.mark.parametrize(
    "options",
    [
        {"tuning": "full"},
        {"reader": "pooled"},
        {"reader": "matched", "promising": 2},
        {"reader": "crossed"},
        {"reader": "joint"},
        {"dtype": "bf16"},
        {"bootstrap": "prompts", "tuning": "frozen"},
    ],
    ids=str,
)
def test_every_kind_of_member_learns_and_is_read_back(
    encoder: str, table: Table, options: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(reward_run, "write_measured", lambda *_: None)
    config = toy_config(encoder, steps=2, **options)
    told = list(train(config, tmp_path, table))
    assert all(math.isfinite(value) for step in told for value in step.metrics.values())
    pairs, _ = pairs_of(table)
    found = Ensemble.load(tmp_path).predict(*table.texts(pairs[:5]))
    assert np.isfinite(found.mean).all() and (found.low < found.high).all()


@pytest.mark.parametrize("reader", ["staged", "joint"])
@pytest.mark.parametrize("family", ["modernbert", "distilbert", "electra"])
def test_other_encoders_learn_and_are_read_back(
    family: str, reader: str, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward model asks nothing of an encoder that only BERT has."""
    place = write_tiny_encoder(tmp_path / family, family)
    (tmp_path / "run").mkdir()
    test_every_kind_of_member_learns_and_is_read_back(
        place, table, {"reader": reader}, tmp_path / "run", monkeypatch
    )


# --- measuring


def test_what_is_far_from_the_data_is_measured(trained: Path, table: Table) -> None:
    """Foreign prompts and foreign words each have a growth with its interval."""
    ensemble = Ensemble.load(trained)
    found = foreign(ensemble, table)
    assert set(found) <= {"prompts", "words"} and "prompts" in found
    assert all(each["low"] <= each["value"] <= each["high"] for each in found.values())


def test_an_ensemble_is_measured_without_a_single_test_row(
    trained: Path, table: Table, config: RewardConfig
) -> None:
    """Small records have no workflow that is held out; an hour of training must not end in a fault."""
    known = np.concatenate([table.training, table.validation])
    figures = measure(Ensemble.load(trained), table.take(known))
    assert [part["size"]["pairs"] for part in figures["parts"].values()] == [0, 0, 0]
    assert not any(bar["reached"] for bar in figures["bars"])
    assert Encoder.load(config.encoder).embed([]).shape[0] == 0


def test_an_ensemble_that_was_never_calibrated_is_not_measured(trained: Path, table: Table) -> None:
    ensemble = Ensemble.load(trained)
    ensemble.anatomy = replace(ensemble.anatomy, calibration=None)
    with pytest.raises(RewardError, match="never calibrated"):
        measure(ensemble, table)


def test_a_bound_may_be_that_of_some_members(trained: Path, table: Table) -> None:
    ensemble = Ensemble.load(trained)
    bound = Bound(ensemble, 1.0)
    pairs, _ = pairs_of(table)
    texts = table.texts(pairs[:5])
    each = ensemble.members_of(*texts)[0][..., 0]
    alone = bound.of_some(1, random.Random(0))(*texts)  # without a spread
    assert any(np.allclose(alone, own, atol=1e-5) for own in each)
    assert bound.of_some(0, random.Random(0)) is bound is bound.of_some(2, random.Random(0))


def test_the_card_understands_a_real_report(trained: Path) -> None:
    card = reward_card.report(trained)
    assert "On prompts and workflows that it has not seen" in card and "Calibration" in card
    assert "another version" not in card


# --- the command


def call(folder: Path, monkeypatch: Any, capsys: Any, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(training, "CHECKPOINTS", folder.parent)
    code = __main__.main(["reward", "--run", folder.name, *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_stored_figures_are_printed(trained: Path, monkeypatch: Any, capsys: Any) -> None:
    code, out, _ = call(trained, monkeypatch, capsys, "--report", "--json")
    figures = json.loads(out)
    assert code == 0 and set(figures["parts"]) >= {"both unseen"}
    assert [bar["name"] for bar in figures["bars"]][:2] == [
        "within-prompt Spearman of its ceiling", "coverage of 90 % intervals",
    ]  # fmt: skip
    code, out, _ = call(trained, monkeypatch, capsys, "--report")
    assert code == 0 and "Bars, on both unseen" in out


def test_a_finished_run_is_not_made_again(trained: Path, monkeypatch: Any, capsys: Any) -> None:
    """Its checkpoint may be gone, and the run would begin anew over its result."""
    before = (trained / "member_0.safetensors").read_bytes()
    code, _, err = call(trained, monkeypatch, capsys)
    assert code == 2 and "has finished" in err and "--run NAME" in err
    assert (trained / "member_0.safetensors").read_bytes() == before


def test_a_run_is_measured_with_the_options_that_it_was_made_with(
    trained: Path, config: RewardConfig, monkeypatch: Any, capsys: Any
) -> None:
    used: list[RewardConfig] = []
    monkeypatch.setattr("flowdesign.reward.command.measure", lambda made, _: used.append(made))
    assert call(trained, monkeypatch, capsys, "--measure")[0] == 0
    assert used == [config]


def test_a_folder_without_figures_or_ensemble_is_told(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    code, out, _ = call(tmp_path / "none", monkeypatch, capsys, "--report")
    assert code == 1 and "Train an ensemble" in out
    code, _, err = call(tmp_path / "none", monkeypatch, capsys, "--measure")
    assert code != 0 and "No reward ensemble" in err and "Traceback" not in err


def test_figures_of_another_kind_of_run_are_told(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    runs.write_figures(tmp_path, {"step": 40, "measured": "today"})
    for words in (["--report"], ["--report", "--json"]):
        code, out, err = call(tmp_path, monkeypatch, capsys, *words)
        assert code == 2 and not out and "another kind of run" in err and "--run NAME" in err


# --- what comes of it


def test_a_member_stops_when_it_no_longer_gains(
    config: RewardConfig, table: Table, tmp_path: Path
) -> None:
    """With a rate of almost nothing nothing is gained, and the run ends long before its steps."""
    idle = config.model_copy(
        update={"steps": 400, "rate": 1e-12, "encoder_rate": 1e-12, "patience": 2, "beta": 0.0}
    )
    told = list(train(idle, tmp_path, table))
    assert len(told) < 100
    assert (tmp_path / "reward.json").exists()


def test_a_loss_that_is_no_number_ends_the_run_and_spoils_nothing(
    config: RewardConfig, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.prepare(tmp_path, config)
    school = School.open(config, table)
    school.step(0)
    school.step(1)
    school.save(tmp_path, 2)
    before = load_file(tmp_path / reward_run.CHECKPOINT)
    broken = replace(table, scores={**table.scores, "combined": table.combined * 1e200})
    with pytest.raises(NotANumber, match="lower --rate"):
        runs.execute(tmp_path, lambda folder: train(config, folder, broken))
    status = runs.read_status(tmp_path)
    assert status is not None and status.state == "failed"
    after = load_file(tmp_path / reward_run.CHECKPOINT)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_ensemble_learns_a_rule_and_knows_where_it_was_not(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a toy world: it ranks unseen sentences, its intervals hold, and it doubts what is foreign."""
    monkeypatch.setattr(reward_run, "write_measured", lambda *_: None)  # takes long; see `trained`
    config = RewardConfig(
        tuning="frozen", members=2, width=64, steps=140, prompts=16, workflows=12, rate=1e-2,
        warmup=10, evaluate_every=35, prior=0.3, dropout=0.1, averaging=0.9, without=HELD_OUT,
    )  # fmt: skip
    table = make_table(toy_records(200, 12), (), config, REFERENCE)
    list(train(config, tmp_path, table))
    ensemble = Ensemble.load(tmp_path)
    test = table.take(table.rows(("test",), ("train", "validation", "test")))
    pairs, _ = pairs_of(test)
    prompts, sentences = table.texts(pairs)
    found = ensemble.predict(prompts, sentences)
    truth = [true_score(p, s) for p, s in zip(prompts, sentences, strict=True)]
    assert (
        stats.spearmanr(found.mean, truth).statistic > 0.4
    )  # the truth has two values: 0.87 at most
    score = {
        (int(p), int(s)): c
        for p, s, c in zip(test.prompt, test.sentence, test.combined, strict=True)
    }
    scores = np.array([score[int(p), int(s)] for p, s in pairs])
    assert 0.8 < ((found.low <= scores) & (scores <= found.high)).mean() <= 1
    growth = foreign(ensemble, table, config.left_out)
    assert growth["words"]["low"] > 1.2 and growth["prompts"]["value"] > 1.1
    anatomy, _ = read_anatomy(tmp_path)
    assert anatomy.data == table.digest and anatomy.calibration is not None
