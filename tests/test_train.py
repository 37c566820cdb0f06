"""The Train tab's parts without a page: kinds, forms, commands, costs, metrics and curves."""

import argparse
import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import gradio as gr
import pytest
import train_toys
from hypothesis import given
from hypothesis import strategies as st
from train_toys import OtherConfig, ToyConfig, finished, toy

from flowdesign import runs
from flowdesign.__main__ import parser
from flowdesign.access import Person
from flowdesign.catalog import ROOT
from flowdesign.config import (
    CollectConfig,
    GRPOConfig,
    RewardConfig,
    SFTConfig,
    ZooConfig,
    build,
    from_flags,
    load,
    plain_type,
)
from flowdesign.config import to_flags as flags_of
from flowdesign.runs import read_metrics
from flowdesign.ui import train_curves, train_view
from flowdesign.ui.train_curves import HEIGHT, Line, draw, gather, place, thin
from flowdesign.ui.train_estimate import estimate, seconds_left
from flowdesign.ui.train_form import KindForm, check, command_line, describe, plain
from flowdesign.ui.train_kinds import KINDS, SHIPPED, Cost, Kind, Preset
from flowdesign.ui.train_memory import session_memory
from flowdesign.ui.train_metrics import Column, MetricsReader
from flowdesign.ui.train_runs import (
    Launch,
    RunBook,
    write_launch,
)

OWNER, VISITOR = Person("owner"), Person("visitor")
TOY, OTHER = train_toys.kinds()
# --- the table of kinds


def test_every_kind_is_a_command_with_a_form() -> None:
    assert {"sft", "collect", "zoo", "reward"} <= {kind.name for kind in KINDS}
    for kind in KINDS:
        assert set(kind.first) <= set(kind.config.model_fields)
        assert kind.title and kind.about and kind.presets
        for preset in kind.presets:
            config = build(kind.config, {"run": "x", **preset.values})
            words = [kind.name, *flags_of(config)]
            assert from_flags(kind.config, parser().parse_args(words)) == config
            size = kind.cost.size(config)
            assert size is None or size > 0
        assert set(kind.cost.same) <= set(kind.config.model_fields)


def test_every_kind_has_a_preset_for_a_first_try() -> None:
    assert all("Quick demo" in {p.name for p in kind.presets} for kind in KINDS)
    assert {"policy_sft", "reward"} <= SHIPPED
    shipped = {path.parent.name for path in (ROOT / "checkpoints").glob("*/config.json")}
    assert shipped >= SHIPPED


def test_the_cost_of_a_real_kind_comes_from_its_own_metrics() -> None:
    sft, collect, zoo, reward = (_real(name) for name in ("sft", "collect", "zoo", "reward"))
    rows = [{"step": n, "time": 100.0 + 9 * n} for n in range(5)]
    config = SFTConfig(steps=10, prompts=2, sentences=8)
    assert sft.cost.pace(config, rows) == pytest.approx(9 / 18)
    assert sft.cost.size(config) == 180
    assert sft.cost.pace(config, rows[:2]) is None  # too few to tell
    half = CollectConfig(n=10, seeds=4, repeated=0.5)
    assert collect.cost.size(half) == 5 * 4 + 5
    assert collect.cost.pace(half, [{"images": 50, "seconds": 25.0}]) == 0.5
    assert collect.cost.pace(half, []) is None
    stages = [{"seconds": 10.0}] * 19
    assert zoo.cost.pace(ZooConfig(workers=2), stages) == 95
    assert zoo.cost.pace(ZooConfig(), stages[:-1]) is None
    assert zoo.cost.size(ZooConfig(stages="mini_2x")) is None
    five = RewardConfig(members=5, workers=2, prompts=2, workflows=3, steps=10)
    assert reward.cost.size(five) == 10 * 2 * 3 * 3
    assert reward.cost.pace(five, rows) == pytest.approx(9 / 18)


def _real(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def test_records_that_are_named_must_be_there() -> None:
    """Before a run begins, not after its process has loaded everything."""
    needs = _real("sft").needs
    for option in ("imported", "scored"):
        asked = {option: 0.5}
        assert needs(SFTConfig(**asked, records="mine"))["records"].name == "store of records"
        assert "records" not in needs(SFTConfig(**asked))
        assert "records" not in needs(SFTConfig(**asked, records="shipped"))
    assert "records" not in needs(SFTConfig(records="mine"))


# --- forms


@pytest.mark.parametrize(
    "model", [SFTConfig, ZooConfig, CollectConfig, RewardConfig, ToyConfig, OtherConfig]
)
def test_a_form_has_one_component_for_each_option(model: Any) -> None:
    kind = Kind("any", "Any", "", model, (), (Preset("One", ""),), Cost(lambda c: 1.0, _none, ()))
    with gr.Blocks():
        form = KindForm(kind, "mine", True)
    assert list(form.fields) and set(form.fields) == set(model.model_fields)
    types = {bool: gr.Checkbox, int: gr.Number, float: gr.Number, str: gr.Textbox}
    for name, info in model.model_fields.items():
        expected = types.get(plain_type(info.annotation), (gr.Dropdown, gr.Textbox))
        assert isinstance(form.fields[name], expected), name
        assert info.description and plain(info.description) in form.fields[name].info
    found = form.check([one.value for one in form.inputs])
    assert found.config == build(model, {"run": "mine"})  # untouched, it is the defaults


def _none(config: Any, rows: Any) -> None:
    return None


def test_a_wrong_value_gets_the_message_of_the_command_line_at_its_field() -> None:
    with gr.Blocks():
        form = KindForm(TOY, "mine", True)
    values = dict(zip(ToyConfig.model_fields, (one.value for one in form.inputs), strict=True))
    values |= {"steps": 0, "pause": None, "shape": "sideways", "run": "../away"}
    found = form.check(list(values.values()))
    assert found.config is None
    assert set(found.faults) == {"steps", "pause", "shape", "run"}
    with pytest.raises(ValueError, match="steps") as told:
        build(ToyConfig, values)
    assert all(message in str(told.value) for message in found.faults.values())
    marked = form.mark(found.faults, ["seed"])
    assert "fd-wrong" in marked[form.fields["steps"]]["elem_classes"]
    assert marked[form.fields["steps"]]["info"].startswith("Input should be greater than")
    assert "value" not in marked[form.fields["steps"]]  # what was typed stays
    assert "fd-wrong" not in marked[form.fields["seed"]]["elem_classes"]
    assert form.fields["loud"] not in marked


def test_faults_of_the_whole_and_of_parts_are_told() -> None:
    names = list(OtherConfig.model_fields)
    values = [OtherConfig.model_fields[name].default for name in names]
    values[names.index("weights")] = "sharpness=0"
    assert "at least one scorer needs a weight" in check(OTHER, values).faults[""]
    values[names.index("weights")] = "sharpness=much"
    assert "sharpness" in check(OTHER, values).faults["weights"]
    values[names.index("steps")] = 1.5
    assert "fractional" in check(OTHER, values).faults["steps"]


def test_a_preset_fills_the_form_and_leaves_the_name() -> None:
    with gr.Blocks():
        form = KindForm(TOY, "mine", True)
    updates = form.fill("Long")
    assert updates[form.fields["steps"]] == 2000 and updates[form.fields["pause"]] == 0.05
    assert updates[form.fields["loud"]] is False and form.fields["run"] not in updates
    assert form.fill("none of them") == {form.about: gr.skip()}


def test_bounds_are_said_and_texts_are_shown_as_they_are() -> None:
    fields = ToyConfig.model_fields
    assert describe(fields["steps"]) == "steps to count (1 or more, 100000 at most)"
    assert describe(SFTConfig.model_fields["lora_rate"]).endswith("(above 0)")
    shown = plain("<b>*_[x]`</b> 'it'")
    assert not re.search(r"[<>*_\[\]`]", shown) and "'it'" in shown
    assert plain("policy_sft_8b _x_") == "policy_sft_8b &#95;x&#95;"


# --- commands


@given(
    st.builds(
        ToyConfig,
        run=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True),
        steps=st.integers(1, 10_000),
        pause=st.floats(0, 1e9),
        shape=st.sampled_from(["falls", "rises"]),
        loud=st.booleans(),
        fail_at=st.integers(-5, 5),
        base=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    )
)
def test_the_command_gives_back_the_config(config: ToyConfig) -> None:
    words = shlex.split(command_line(TOY, config))
    assert words[:4] == ["python", "-m", "flowdesign", "toy"]
    assert parsed(ToyConfig, words[4:]) == config


def parsed(model: Any, words: list[str]) -> Any:
    from flowdesign.config import add_flags

    command = argparse.ArgumentParser()
    add_flags(command, model)
    return from_flags(model, command.parse_args(words))


def test_only_flags_that_differ_are_written() -> None:
    assert flags_of(ToyConfig()) == []
    assert flags_of(toy("mine", loud=True, fail_at=-2)) == [
        "--run", "mine", "--loud", "--fail-at=-2",
    ]  # fmt: skip
    weights = OtherConfig(weights={"scene_soft": 2.0, "sharpness": 0.1})
    assert flags_of(weights) == ["--weights", "scene_soft=2.0,sharpness=0.1"]
    assert parsed(OtherConfig, flags_of(weights)) == weights
    assert "--no-images" in flags_of(CollectConfig(images=False))


# --- costs


def rows(count: int, pace: float) -> list[dict[str, Any]]:
    return [{"step": n, "time": n * pace} for n in range(count)]


def test_time_is_measured_then_stated_then_unknown() -> None:
    config = toy("new", steps=100)
    launch = Launch("toy", memory=10**9)
    measured = estimate(TOY, config, [(toy("old"), rows(8, 0.5), launch)])
    assert (measured.seconds, measured.memory) == (50.0, 1e9)
    assert "run 'old' here" in measured.source and "'old'" in measured.memory_source
    stated = estimate(TOY, config, [])
    assert (stated.seconds, stated.memory) == (200.0, 5e8)
    assert stated.source == "a toy that was measured elsewhere"
    far = toy("new", members=7)
    unknown = estimate(TOY, far, [(toy("old"), rows(8, 0.5), launch)])  # with other members
    assert (unknown.seconds, unknown.memory) == (None, None)
    words = train_view.expectation(unknown)
    assert words.count("unknown") == 2 and "no such run has been made here" in words


@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        ("sft", "Laptop"),
        ("sft", "Quick demo"),
        ("sft", "Warm start"),
        ("grpo", "Laptop"),
        ("grpo", "Quick demo"),
    ],
)
def test_what_a_policy_takes_is_said_before_any_run(kind: str, preset: str) -> None:
    real = _real(kind)
    values = next(one.values for one in real.presets if one.name == preset)
    found = estimate(real, build(real.config, {"run": "x", **values}), [])
    assert found.seconds is not None and 10 < found.seconds < 4 * 3600
    assert found.memory is not None and 1e9 < found.memory < 16e9
    assert "CPU cores" in found.source and "CPU cores" in found.memory_source


@pytest.mark.parametrize(("name", "took"), [("policy_grpo1", 588), ("policy_grpo2", 582)])
def test_the_estimate_of_grpo_is_near_what_the_shipped_policies_took(name: str, took: int) -> None:
    """Seconds from the first line of its log to the last. Other work used the cores now and then: so the estimate
    from its own steps is held against what it had taken had all of them been usual ones. Most of it came while
    the first one of the three was measured, which is not asked."""
    real, folder = _real("grpo"), ROOT / "checkpoints" / name
    config, made = load(GRPOConfig, folder / "config.json"), read_metrics(folder)
    times = [row["time"] for row in made]
    usual = median(after - before for before, after in pairwise(times))
    undisturbed = took - (times[-1] - times[0]) + usual * (len(times) - 1)
    found = estimate(real, config, [(config, made, None)])
    assert found.seconds == pytest.approx(undisturbed, rel=0.1)
    assert estimate(real, config, []).seconds == pytest.approx(took, rel=0.15)


@pytest.mark.parametrize(
    ("kind", "preset", "run"),
    [("sft", "Laptop", "policy_sft"), ("sft", "Warm start", "policy_warm"), ("grpo", "Laptop", "policy_grpo")],
)  # fmt: skip
def test_presets_that_say_so_are_what_the_shipped_runs_were_made_with(
    kind: str, preset: str, run: str
) -> None:
    real = _real(kind)
    values = next(one.values for one in real.presets if one.name == preset)
    made = load(real.config, ROOT / "checkpoints" / run / "config.json")
    assert build(real.config, {**values, "run": run, "threads": made.threads}) == made


def test_runs_from_policies_of_one_base_tell_of_each_other(tmp_path: Path) -> None:
    """The name of the policy says nothing, what it was made of does; also before it is there."""
    for name, file, base in (
        ("one", "policy.json", "small"), ("two", "config.json", "small"), ("three", "policy.json", "big"),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps({"base": base, "rank": 4}))
    real, known = _real("grpo"), [{"step": n, "time": 9.0 * n} for n in range(5)]
    one, two, three = (
        GRPOConfig(start=str(tmp_path / name), layers=3) for name in ("one", "two", "three")
    )
    assert estimate(real, two, [(one, known, None)]).seconds
    assert estimate(real, three, [(one, known, None)]).seconds is None
    sft, goes_on = _real("sft"), SFTConfig(start=str(tmp_path / "three"), base="small")
    assert estimate(sft, goes_on, [(SFTConfig(base="big"), known, None)]).seconds
    assert estimate(sft, goes_on, [(SFTConfig(base="small"), known, None)]).seconds is None


def test_a_pause_between_two_lives_does_not_count_as_a_step() -> None:
    former = rows(6, 1.0) + [{"step": n, "time": 9000.0 + n} for n in range(6, 12)]
    found = estimate(TOY, toy("new", steps=10), [(toy("old"), former, None)])
    assert found.seconds == pytest.approx(10)
    assert seconds_left(former, 12, 20) == pytest.approx(8)
    assert seconds_left(former, 20, 20) is None and seconds_left([], 0, 9) is None


def test_only_runs_of_this_machine_tell_about_time(tmp_path: Path) -> None:
    book = RunBook(tmp_path, (TOY,))
    folder = finished(tmp_path, "here")
    assert [config.run for config, _, _ in book.former(TOY)] == ["here"]
    (folder / "alive.lock").unlink()  # as it comes out of a repository
    assert book.former(TOY) == []
    write_launch(folder, Launch("toy", machine="another"))
    assert book.former(TOY) == []


def test_memory_is_that_of_the_process_and_its_workers(tmp_path: Path) -> None:
    for pid, session, name in ((7, 7, "a (b) c"), (8, 7, "d"), (9, 9, "e")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S 1 7 {session} 0 -1")
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"Rss: 9 kB\nPss: {pid} kB\nPss_Anon: 1")
    assert session_memory(7, tmp_path) == 15 * 1024
    assert session_memory(11, tmp_path) is None
    if Path("/proc/self/smaps_rollup").exists():
        assert (session_memory(os.getpid()) or 0) > 1e6


# --- metrics and curves


def test_metrics_are_read_on_and_again(tmp_path: Path) -> None:
    reader, file = MetricsReader(), tmp_path / "metrics.jsonl"
    assert reader.rows(tmp_path) == [] and reader.columns(tmp_path) == {}
    file.write_text('{"step": 0, "time": 1.0, "loss": 2.0}\n{"step": 1, "ti')
    assert [row["step"] for row in reader.rows(tmp_path)] == [0]
    with file.open("a") as more:
        more.write('me": 2.0, "loss": NaN, "new": 3}\nnot json\n[1]\n')
    found = reader.columns(tmp_path)
    assert found["loss"] == Column([0], [2.0], unusable=1) and found["new"].steps == [1]
    runs.replace_text(file, '{"step": 0, "time": 1.0, "loss": 5.0}\n')  # as a resumed run does
    assert reader.columns(tmp_path)["loss"].values == [5.0]
    assert reader.rows(tmp_path) == runs.read_metrics(tmp_path)


def test_metrics_of_one_name_share_a_chart() -> None:
    names = ["loss_0", "loss_1", "step_2", "member 0/loss", "acc/valid", "grad_norm"]
    assert [place(name, names) for name in names] == [
        ("loss", "0"), ("loss", "1"), ("step_2", ""), ("loss", "member 0"), ("acc", "valid"),
        ("grad_norm", ""),
    ]  # fmt: skip
    grpo = ["reward", "distinct", "validation/reward", "validation/reached"]
    assert [place(name, grpo) for name in grpo] == [
        ("reward", "training"), ("distinct", ""), ("reward", "validation"), ("validation", "reached"),
    ]  # fmt: skip
    column = Column([0, 1], [1.0, 2.0])
    charts = gather({"a": {"member 0/loss": column, "member 1/loss": column, "x": column}})
    assert [(c.title, [line.label for line in c.lines]) for c in charts] == [
        ("loss", ["member 0", "member 1"]), ("x", [""]),
    ]  # fmt: skip
    both = gather({"a": {"x": column, "loss_0": column, "loss_1": column}, "b": {"x": column}})
    assert [[line.label for line in c.lines] for c in both] == [["a", "b"], ["a 0", "a 1"]]


def test_points_lie_where_their_values_are() -> None:
    drawn = draw(gather({"a": {"x": Column([0, 5, 10], [1.0, 3.0, 2.0])}}))
    assert 'points="0.00,160.00 300.00,0.00 600.00,80.00"' in drawn
    assert "<span>3</span><span>2</span><span>1</span>" in drawn
    assert "steps 1 to 11: from 1 to 2" in drawn
    log = draw(gather({"a": {"x": Column([0, 1, 2], [1.0, 100.0, 10_000.0])}}))
    ys = [float(y) for y in re.findall(r"[\d.]+,([\d.]+)", log.split("points=")[1])[:3]]
    assert ys == [HEIGHT, HEIGHT / 2, 0] and "(log scale)" in log and "<span>10,000<" in log


def test_curves_of_awkward_values() -> None:
    one = draw(gather({"a": {"x": Column([4], [2.0])}}))
    assert 'data-one="0.00"' in one and "nan" not in one
    flat = draw(gather({"a": {"x": Column([0, 1], [0.0, 0.0])}}))
    assert "nan" not in flat and "polyline" in flat
    none = draw(gather({"a": {"x": Column(unusable=3)}}))
    assert "nothing to draw" in none and "3 values are no numbers" in none
    huge = draw(gather({"a": {"x": Column([0, 1], [-1e308, 1e308])}}))
    assert "nan" not in huge and "inf" not in huge
    evil = draw(gather({"<b>": {"<i>": Column([0, 1], [1.0, 2.0])}, "c": {}}))
    assert "<b>x" not in evil and "&lt;i&gt;" in evil and "&lt;b&gt;" in evil
    assert draw([]) == ""


def test_a_long_curve_keeps_its_spikes() -> None:
    values = [1.0] * 50_000
    values[31_234], values[7] = 99.0, -5.0
    kept = thin(range(50_000), values)
    assert len(kept) <= 1.1 * train_curves.POINTS
    assert (31_234, 99.0) in kept and (7, -5.0) in kept
    assert kept[0][0] == 0 and kept[-1][0] == 49_999
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})


def test_many_lines_have_names_and_colours() -> None:
    lines = [Line(f"member {n}", [0, 1], [0.0, n]) for n in range(10)]
    drawn = draw([train_curves.Chart("loss", lines)])
    assert drawn.count("<polyline") == drawn.count("data-last-value") == 10
    assert "fd-line-7" in drawn and drawn.count("fd-dashed") == 4  # the last two, line and key
