"""The whole paper in one command: its commands are right, it goes on where it was, and RESULTS.md is true."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from evaluate_figures import FIGURES

from flowdesign import runs
from flowdesign.__main__ import main, parser
from flowdesign.config import ScoreConfig, save, to_flags
from flowdesign.evaluate.tables import tables_of
from flowdesign.reproduce import chain, plots, results
from flowdesign.reproduce.presets import PRESETS, Stage
from flowdesign.scorers.table import check

FINISHED = {"state": "finished", "step": 1, "total": 1, "message": "", "pid": 1, "started": 1.0, "updated": 2.0}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(results, "CHECKPOINTS", tmp_path)
    return tmp_path


def finish(place: Path, stage: Stage, figures: dict[str, Any] | None = None) -> None:
    folder = place / stage.config.run
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_text(json.dumps(FINISHED))
    if figures is not None:
        runs.write_figures(folder, figures)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_commands_of_every_preset_give_its_configs(preset: str) -> None:
    stages = PRESETS[preset]("paper")
    assert len({stage.config.run for stage in stages}) == len(stages)
    for stage in stages:
        words = [stage.kind, *to_flags(stage.config)]
        flags = vars(parser().parse_args(words))
        model = type(stage.config)
        given = {name: flags[name] for name in model.model_fields if name in flags}
        assert model.model_validate(given) == stage.config
        assert f"--run {stage.config.run}" in chain.command_of(stage)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_names_what_an_earlier_one_made(preset: str) -> None:
    made: set[str] = set()
    for stage in PRESETS[preset]("paper"):
        values = stage.config.model_dump()
        named = ["start", "policy", "conditioned"] + ["variants"] * (stage.kind == "evaluate")
        for name in named:
            for one in filter(None, str(values.get(name, "")).split(",")):
                assert one in made or one == "random"
        if isinstance(stage.config, ScoreConfig):
            check(stage.config.scorers)
        if stage.kind in ("sft", "grpo", "evaluate"):
            assert values["reward"] in made
        made.add(stage.config.run)


def test_what_is_finished_is_not_done_again_and_what_stops_says_how_to_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = PRESETS["quick"]("mine")[:3]
    monkeypatch.setattr(chain, "stages_of", lambda preset, name: stages)
    finish(place, stages[0])
    begun: list[str] = []
    script = (
        "import json, pathlib, sys; folder = pathlib.Path(sys.argv[1]); folder.mkdir(); "
        "(folder / 'status.json').write_text(sys.argv[2])"
    )

    def start(words: list[str], **_: Any) -> Any:
        run = words[words.index("--run") + 1]
        begun.append(run)
        status = FINISHED | ({"state": "stopped"} if run.endswith("sft") else {})
        return popen([sys.executable, "-c", script, str(place / run), json.dumps(status)])

    popen = chain.subprocess.Popen
    monkeypatch.setattr(chain.subprocess, "Popen", start)
    told: list[str] = []
    with pytest.raises(chain.StageStopped, match="mine_sft did not come to its end. The same"):
        chain.do("quick", "mine", told.append)
    assert begun == ["mine_reward", "mine_sft"]
    assert told[0] == "[1/3] mine_collect is there"
    taken = chain.seconds_of(place / "mine")
    assert set(taken) == {"mine_reward", "mine_sft"} and all(each > 0 for each in taken.values())


def test_runs_of_another_preset_are_never_taken_for_this_one_s(place: Path) -> None:
    """Else RESULTS.md would tell the commands of one preset and the figures of another."""
    for stage in PRESETS["quick"]("mine"):
        finish(place, stage, FIGURES)
        save(stage.config, place / stage.config.run / "config.json")
    with pytest.raises(runs.RunConflict, match="mine_collect.*n: 32 -> 400.*another --run"):
        chain.do("laptop", "mine", print)
    assert chain.do("quick", "mine", lambda line: None) == place / "mine"


def test_the_ablations_share_the_runs_of_the_laptop(place: Path) -> None:
    for stage in PRESETS["laptop"]("mine"):
        finish(place, stage, FIGURES)
        save(stage.config, place / stage.config.run / "config.json")
    left = [s.config.run for s in chain.stages_of("ablations", "mine") if not chain.is_done(s)]
    kinds = ["one", "mean", "unbound", "cool", "cold"]
    assert left == [*(f"mine_grpo_{kind}" for kind in kinds), "mine_ablations"]
    usual = next(s.config for s in PRESETS["laptop"]("mine") if s.kind == "grpo").model_dump()
    for stage in chain.stages_of("ablations", "mine")[-6:-1]:
        values = stage.config.model_dump()
        assert len([key for key in usual if key != "run" and values[key] != usual[key]]) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_ensemble_learns_from_says_when_to_stop(preset: str) -> None:
    """A collection of training prompts alone has nothing to validate with: on a new machine, where no page was
    opened yet, the shipped records have to come first."""
    collect, reward, *_ = PRESETS[preset]("mine")
    splits = {"shipped"} if reward.config.model_dump()["records"] == "shipped" else set()
    splits |= {collect.config.model_dump()["split"], *collect.before}
    assert splits & {"all", "shipped"}
    if collect.before:
        assert parser().parse_args(list(collect.before)).file is None  # all of them


def test_the_full_preset_learns_from_what_it_collected() -> None:
    """None of its stages reads the shipped records of the miniature world, nor their reference set."""
    stages = PRESETS["full"]("big")
    for stage in stages:
        values = stage.config.model_dump()
        read = ["records"] if values.get("scored") or stage.kind == "reward" else []
        assert "shipped" not in [values[name] for name in [*read, *{"learned"} & values.keys()]]
    reward = next(stage for stage in stages if stage.kind == "reward")
    assert chain.before_of(reward) == (
        "python -m flowdesign scorers reference --source collect:big_collect"
    )
    assert parser().parse_args(list(reward.before)).source == "collect:big_collect"


def test_a_kill_reaches_the_stage_that_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would go on alone, hold the machine, and the same command could not go on."""
    script = "import signal, time; signal.signal(15, lambda *_: exit(3)); print(flush=True); time.sleep(9)"
    popen = chain.subprocess.Popen

    def start(words: list[str], **_: Any) -> Any:
        process = popen([sys.executable, "-c", script], stdout=-1)
        assert process.stdout is not None
        process.stdout.readline()
        threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()
        return process

    monkeypatch.setattr(chain.subprocess, "Popen", start)
    before = signal.getsignal(signal.SIGTERM)
    assert chain._start(["sft"]) == 3
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stage_that_is_not_finished_says_so_in_the_results(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = PRESETS["quick"]("mine")
    finish(place, stages[0], {"images": 64, "prompts": 16, "workflows": 32, "rate": 1.5})
    monkeypatch.setattr(chain, "_start", lambda words: 1)
    assert main(["reproduce", "--preset", "quick", "--run", "mine"]) == 2
    assert "mine_reward did not come to its end" in capsys.readouterr().err
    text = (place / "mine" / "RESULTS.md").read_text()
    assert "64 images of 16 prompts" in text and ", not finished |" in text


def test_results_have_the_commands_times_tables_and_plots(place: Path) -> None:
    stages = PRESETS["laptop"]("mine")
    finish(place, stages[-1], FIGURES)
    finish(place, stages[0], {"images": 800, "prompts": 100, "workflows": 100, "rate": 1.5})
    (place / "mine").mkdir()
    (place / "mine" / chain.TIMES).write_text(json.dumps({"mine_collect": 120.0}))
    text = results.write_results("laptop", "mine").read_text()
    assert f"`{chain.command_of(stages[-1])}` | 0 | not done here |" in text
    assert "| 0 | 2.0 |" in text and "800 images of 100 prompts" in text
    for table in tables_of(FIGURES):
        assert table.markdown() in text and table.note in text
    drawn = (place / "mine" / "guidance.svg").read_text()
    assert (
        drawn.count("<circle") == 2 * len(FIGURES["curve"]) and "![guidance](guidance.svg)" in text
    )


def test_tables_show_the_figures() -> None:
    quality, differences, variety, guidance = tables_of(FIGURES)
    rows = {row[0]: row for row in quality.rows}
    assert rows["grpo"][1] == "1.200 (1.100 to 1.300)" and rows["grpo"][5] == "1.100, 1.300"
    assert rows["grpo"][3] == "50% (40% to 60%)" and rows["fixed"][3] == ""
    assert "+0.400 (+0.200 to +0.600)" in {row[0]: row for row in differences.rows}["grpo"]
    assert "60% (50% to 70%) / 10% / 30%" in {row[0]: row for row in differences.rows}["grpo"]
    assert {row[0]: row for row in variety.rows}["grpo"][1] == "90% of 60"
    assert "79 of 500" in variety.note and "Jaccard" in variety.note and "0.9995" in variety.note
    assert "0.05" in differences.note and "training seeds" in quality.note
    assert [row[0] for row in guidance.rows] == ["0", "1"] and guidance.rows[0][-1] == "97.0%"
    assert all(len(row) == len(table.head) for table in tables_of(FIGURES) for row in table.rows)


def test_a_chart_places_its_points_by_their_values() -> None:
    drawn = plots.chart("A <title>", "x", [plots.Line("y", [(0, 1.0), (2, 3.0), (4, 2.0)], [(0.5, 1.5), (2.5, 3.5), (1.0, 3.0)])])  # fmt: skip
    assert "A &lt;title&gt;" in drawn and drawn.count("<circle") == 3 and "<polygon" in drawn
    heights = [float(part.split('"')[0]) for part in drawn.split('cy="')[1:]]
    assert heights[1] < heights[2] < heights[0]  # higher values are further up
    assert plots.chart("none", "x", []) == ""


def test_an_interval_that_ends_at_nought_is_drawn_to_there() -> None:
    assert results._ends({"value": 0.4, "low": 0.0, "high": 0.8}) == (0.0, 0.8)
    assert results._ends({"value": 0.4, "low": None, "high": None}) == (0.4, 0.4)


def test_the_commands_can_be_seen_without_doing_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--preset", "full", "--run", "big", "--show"]) == 0
    shown = capsys.readouterr().out
    assert "# It needs prompts.txt" in shown and "scorers reference" in shown
    assert "--base meta-llama/Llama-3.1-8B-Instruct" in shown
    assert shown.count("python -m flowdesign grpo --run big_grpo") == 3 + 5
