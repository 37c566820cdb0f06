"""An ablation without its page: ranges, axes, plans, links, cells that are made once, curves and files."""

import csv
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from ablation_toys import LengthCritic, plan, studio
from PIL import Image
from studio_toys import ToyPolicy, ToyRenderer

from flowdesign.ablation.axes import KINDS, TITLES
from flowdesign.ablation.curves import axis_of, curves_of
from flowdesign.ablation.export import export
from flowdesign.ablation.plan import MOST_CELLS
from flowdesign.ablation.ranges import numbers, plain, whole_numbers
from flowdesign.ablation.running import Cells, Outcome
from flowdesign.ablation.setting import Setting, from_link, read_setting, to_link
from flowdesign.pace import Pace
from flowdesign.request import BadRequest, Request
from flowdesign.scoring import Scoring
from flowdesign.studio import Designed, Failed, Rendered, Stopped
from flowdesign.tokens import sentence_text
from flowdesign.tokens.vocabulary import groups

# --- ranges


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,1,1.5", "0 1 1.5"),
        ("0-5 (+0.5)", "0 0.5 1 1.5 2 2.5 3 3.5 4 4.5 5"),
        ("0-5 [6]", "0 1 2 3 4 5"),
        ("0-5", "0 1 2 3 4 5"),
        ("-1-1", "-1 0 1"),
        ("-1--2 (-0.5)", "-1 -1.5 -2"),
        ("3-1", "3 2 1"),
        ("0-1(+.4)", "0 0.4 0.8"),
        ("0-1 [4]", "0 0.333333 0.666667 1"),
        ("0-0.3 (+0.1), 0.2, 7", "0 0.1 0.2 0.3 7"),
        ("1,\n2,,", "1 2"),
        ("100", "100"),
        ("2-2 [5]", "2"),
    ],
)
def test_ranges_are_read_exactly(text: str, values: str) -> None:
    assert " ".join(map(plain, numbers(text))) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "No values are given"),
        ("a", "'a' is no number and no range"),
        ("1-", "is no number"),
        ("1e5", "is no number"),
        ("nan", "is no number"),
        ("1-5 (-1)", r"write 1-5 \(\+1\)"),
        ("5-1 (+2)", r"write 5-1 \(-2\)"),
        ("0-5 (+0)", "never gets to its end"),
        ("0-5 [0]", "1 to 100 are possible"),
        ("0-5 [101]", "1 to 100 are possible"),
        ("1-99999999999999999999", "more than 100 values"),
        ("0-1 (+0.000000001)", "more than 100 values"),
        ("9" * 5000, "is no number"),
        ("0-5 [" + "9" * 5000 + "]", "is no number"),
    ],
)
def test_what_is_no_range_is_told(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as told:
        numbers(text)
    assert len(str(told.value)) < 250


def test_seeds_are_whole_and_as_large_as_they_may_be() -> None:
    assert whole_numbers("0, 18446744073709551615") == (0, 2**64 - 1)
    with pytest.raises(BadRequest, match=r"gives 0\.5, and only whole"):
        whole_numbers("0-1 [3]")


# --- axes and plans


def test_every_choice_of_the_language_can_be_an_axis() -> None:
    assert set(TITLES) == set(groups()) - {"end"} and set(TITLES) < set(KINDS)


def test_each_axis_changes_its_own_part_of_the_request(tmp_path: Path) -> None:
    made = studio(tmp_path)
    asked = {
        "guidance": ("0,1.5", "scale", [0.0, 1.5]),
        "temperature": ("0.5,1", "temperature", [0.5, 1.0]),
        "top_p": ("0.5,1", "top_p", [0.5, 1.0]),
        "policy": ("all", "policy", ["mine", "start"]),
        "best_of": ("1,8", "count", [1, 8]),
        "seed": ("", "seed", [3, 4]),
        "prompt": ("", "prompt", ["a red star", "a blue heart"]),
        "ckpt": ("mini_flat, free", "fixed", [("ckpt:mini_flat",), ()]),
        "freeu": ("all, free", "fixed", [("freeu:none",), ("freeu:light",), ("freeu:full",), ()]),
        "cfg": ("1-2", "fixed", [("cfg:1",), ("cfg:2",)]),
        "size": ("64x64", "fixed", [("size:64x64",)]),
        "negative": ("blurry, messy, blurry", "fixed",
                     [("negative:blurry, messy",), ("negative:blurry",)]),
        "upscaler": ("all", "fixed", [("upscaler:mini_2x",), ("upscaler:mini_4x",)]),
    }  # fmt: skip
    for name, (text, field, values) in asked.items():
        both = {"prompts": "a red star\n\na blue heart", "seeds": "3-4"}
        found = plan(made, x=name, x_values=text, **both).cells
        assert [getattr(cell.request, field) for cell in found][: len(values)] == values, name


def test_prompts_and_seeds_that_are_on_no_axis_repeat_the_grid(tmp_path: Path) -> None:
    both = {"prompts": "a red star\na blue heart", "seeds": "1-2"}
    found = plan(studio(tmp_path), x="guidance", x_values="0-1", y="seed", **both)
    assert (len(found.cells), found.sheets) == (8, 2)
    assert [(row.sheet, row.label) for row in found.rows] == [
        ("a red star", "seed 1"), ("a red star", "seed 2"),
        ("a blue heart", "seed 1"), ("a blue heart", "seed 2"),
    ]  # fmt: skip
    assert [cell.request.prompt for cell in found.row(2)] == ["a blue heart"] * 2
    alone = plan(studio(tmp_path), x="temperature", x_values="1", **both)
    assert [row.sheet for row in alone.rows] == [
        f"a {what} · seed {seed}" for what in ("red star", "blue heart") for seed in (1, 2)
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"prompts": " \n "}, "There is no prompt"),
        ({"prompts": "x" * 1001}, "1,001 characters"),
        ({"seeds": "-1"}, "Seeds: |from 0 to"),
        ({"seeds": "one"}, "Seeds: 'one' is no number"),
        ({"x": "colour"}, "Unknown axis 'colour'"),
        ({"x": "seed", "y": "seed"}, "Both axes vary the seed"),
        ({"x": "guidance", "x_values": "0-20 (+5)"}, "from -1 to 10, not 15"),
        ({"x": "guidance", "x_values": "0,x"}, "X axis, guidance s: 'x' is no number"),
        ({"y": "temperature", "y_values": "3"}, "from 0 to 2, not 3"),
        ({"x": "best_of", "x_values": "65"}, "1 to 64 designs, not 65"),
        ({"x": "policy", "x_values": "their"}, "Unknown policy 'their'"),
        ({"x": "policy", "x_values": "all", "y": "guidance", "y_values": "0,1"},
         "'start' was not improved by GRPO.*mine"),
        ({"x": "sampler", "x_values": "eular"}, "no sampler 'eular'. Name some of: euler"),
        ({"x": "cfg", "x_values": "1-7 (+1)"}, "no cfg '6'"),
        ({"x": "ckpt", "x_values": ""}, "No values are given. Name some of: mini_flat"),
        ({"x": "lora", "x_values": "none", "y": "strength", "y_values": "1"}, "strength:1 and lora:none"),
        ({"x": "ckpt", "x_values": "all", "fixed": "ckpt:mini_flat"}, "'ckpt' is fixed twice"),
        ({"x": "ckpt", "x_values": "all", "free": True}, "only under the grammar"),
        ({"fixed": "colour:red"}, "'colour:red' fixes no choice"),
        ({"temperature": "warm"}, "temperature: "),
        ({"best_of": None}, "best_of: "),
        ({"seeds": "1-100", "x": "temperature", "x_values": "0-1 [5]"}, "500 cells; at most 400"),
        ({"prompts": "x" * 9000}, "prompts: "),
    ],
)  # fmt: skip
def test_bad_settings_are_told_before_any_work(
    tmp_path: Path, setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        plan(studio(tmp_path), **setting)


def test_without_a_policy_of_grpo_guidance_says_what_is_missing_and_the_rest_works(
    tmp_path: Path,
) -> None:
    made = studio(tmp_path, guided=False)
    with pytest.raises(BadRequest, match="No policy that GRPO improved is here yet. Train one"):
        plan(made, x="guidance", x_values="0-2")
    found = plan(made, x="temperature", x_values="0.5,1")
    assert [cell.request.scale for cell in found.cells] == [None, None]
    assert len(list(Cells(Scoring()).run(made, found))) == 2


def test_a_link_restores_every_setting() -> None:
    usual = Setting(prompts="a red star")
    assert to_link(usual) == "?tab=ablation&prompts=a+red+star"
    odd = Setting(
        prompts="звезда & co\n#2 = <b>", seeds="1-4", x="cfg", x_values="1-5", y="negative",
        y_values="blurry, messy", policy="mine", scale=-0.5, temperature=0.25, top_p=0.5,
        best_of=4, fixed="ckpt:mini_flat", free=True,
    )  # fmt: skip
    for setting in (usual, odd):
        query = dict(parse_qsl(to_link(setting)[1:]))
        assert from_link(query | {"__theme": "dark"}) == setting


def test_a_link_to_something_else_restores_nothing_and_a_bad_one_is_told() -> None:
    assert from_link({}) is None and from_link({"tab": "train", "x": "seed"}) is None
    with pytest.raises(BadRequest, match="best_of"):
        from_link({"tab": "ablation", "best_of": "many"})


# --- running


def run(made: Any, cells: Cells | None = None, **setting: Any) -> list[Outcome]:
    return list((cells or Cells(Scoring())).run(made, plan(made, **setting)))


def test_cells_of_an_axis_have_the_same_chance(tmp_path: Path) -> None:
    # The toy policy says the same above scale 0, and something else from 0 down.
    done = run(studio(tmp_path), x="guidance", x_values="-1,0,1,2", y="seed", seeds="1-2")
    said = [outcome.event.design.sentence for outcome in done if outcome.event.design]
    assert said[0] == said[1] != said[2] == said[3] and said[4] == said[5] != said[6] == said[7]
    assert said[0] != said[4]
    assert [outcome.event.design.scale for outcome in done[:4]] == [-1.0, 0.0, 1.0, 2.0]  # type: ignore[union-attr]


def test_a_cell_has_its_image_and_true_predicted_and_held_out_score(tmp_path: Path) -> None:
    (outcome,) = run(studio(tmp_path))
    assert isinstance(outcome.event, Rendered) and outcome.event.image.exists()
    assert outcome.predicted == len(outcome.event.design.tokens)
    assert outcome.true is not None and outcome.scores["sharpness"] > 0
    assert outcome.held_out == outcome.scores["scene_strict"] == 0.0  # a disc is no star
    expected = Scoring().combined(outcome.scores, outcome.event.expected)
    assert outcome.true == expected


def test_best_of_n_renders_the_design_with_the_highest_lower_bound(tmp_path: Path) -> None:
    renderer, critic = ToyRenderer(), LengthCritic()
    made = studio(tmp_path, renderer=renderer, critic=critic)
    one, best = run(made, x="best_of", x_values="1, 12")
    assert (one.said, best.said, renderer.renders) == (1, 12, 2)
    lengths = [len(sentence) for sentence in best.sentences]
    assert best.predicted == max(lengths) and one.sentences[0] == best.sentences[0]
    assert critic.asked == 2  # once for all designs of a cell


def test_best_of_n_without_an_ensemble_is_told_before_any_work(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    made = studio(tmp_path, renderer=renderer, critic=None)
    with pytest.raises(BadRequest, match="Best of N needs a reward ensemble"):
        run(made, x="best_of", x_values="1, 4")
    assert renderer.renders == 0
    assert [outcome.predicted for outcome in run(made)] == [None]


def test_fixed_components_are_in_every_cell(tmp_path: Path) -> None:
    done = run(
        studio(tmp_path), x="ckpt", x_values="all", y="steps", y_values="8,12",
        fixed="upscaler:none",
    )  # fmt: skip
    for outcome in done:
        assert isinstance(outcome.event, Rendered)
        sentence = outcome.event.design.sentence
        assert all(f"<{word}>" in sentence for word in outcome.cell.request.fixed[1:])
        assert "<upscaler:" not in sentence
    assert len(done) == 8


def test_cells_that_were_made_are_not_made_again(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    made, cells = studio(tmp_path, renderer=renderer), Cells(Scoring())
    assert len(cells.waiting(made, plan(made, x="guidance", x_values="0-2"))) == 3
    run(made, cells, x="guidance", x_values="0-2")
    assert renderer.renders == 3
    wider = run(made, cells, x="guidance", x_values="-1-3", y="prompt")
    assert renderer.renders == 5  # the same cells, wherever they stand
    assert [outcome.again for outcome in wider] == [True, True, True, False, False]
    assert [outcome.cell.column for outcome in wider] == [1, 2, 3, 0, 4]
    # Scale 0 is the policy that it was trained from, 1 is itself.
    again = run(made, cells, x="policy", x_values="start, mine")
    assert renderer.renders == 5 and all(outcome.again for outcome in again)


def test_a_cell_is_made_again_when_anything_that_it_depends_on_changes(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    made, cells = studio(tmp_path, renderer=renderer), Cells(Scoring())
    (first,) = run(made, cells)
    for change in (
        {"prompts": "a blue heart"}, {"seeds": "2"}, {"temperature": 0.5}, {"top_p": 0.5},
        {"best_of": 2}, {"fixed": "cfg:4"}, {"policy": "start"}, {"scale": 2.0},
    ):  # fmt: skip
        before = renderer.renders
        run(made, cells, **change)
        assert renderer.renders == before + 1, change
    policies: Any = made.policies
    policies.train("mine", at=2_000_000_000)  # another policy of the same name
    assert not run(made, cells)[0].again
    assert isinstance(first.event, Rendered)
    (known,) = run(made, cells)
    assert known.again and isinstance(known.event, Rendered)
    known.event.image.unlink()  # swept away
    assert not run(made, cells)[0].again


def test_cancelling_keeps_what_is_finished(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    made, cells = studio(tmp_path, renderer=renderer), Cells(Scoring())
    asked = plan(made, x="guidance", x_values="0-3")
    done: list[Outcome] = []
    for outcome in cells.run(made, asked, lambda: len(done) >= 2):
        done.append(outcome)
    assert len(done) == 2
    assert [cell.column for cell in cells.waiting(made, asked)] == [2, 3]
    assert len(list(cells.run(made, asked))) == 4 and renderer.renders == 4


def test_a_failing_render_does_not_take_the_others_along_and_is_tried_again(
    tmp_path: Path,
) -> None:
    renderer = ToyRenderer(faults=[1])
    made, cells = studio(tmp_path, renderer=renderer), Cells(Scoring())
    done = run(made, cells, x="guidance", x_values="0-2")
    assert [type(outcome.event) for outcome in done] == [Rendered, Failed, Rendered]
    assert "NaN" in done[1].event.reason  # type: ignore[union-attr]
    again = run(made, cells, x="guidance", x_values="0-2")
    assert all(isinstance(outcome.event, Rendered) for outcome in again)


def test_what_is_no_workflow_is_a_cell_that_says_so(tmp_path: Path) -> None:
    made = studio(tmp_path, policy=ToyPolicy(broken=[0]))
    (outcome,) = run(made, free=True)
    assert isinstance(outcome.event, Failed) and "Not a workflow" in outcome.event.reason
    assert (outcome.said, outcome.sentences) == (1, ())
    (several,) = run(made, free=True, best_of=3)
    assert isinstance(several.event, Rendered) and len(several.sentences) == 2


# --- the studio's part


def test_designs_can_be_said_without_an_image_and_one_finished(tmp_path: Path) -> None:
    renderer = ToyRenderer()
    made = studio(tmp_path, renderer=renderer)
    events = list(made.say(Request("a red star", 20, fixed=("cfg:4",))))
    assert renderer.renders == 0 and [event.index for event in events] == list(range(20))  # type: ignore[union-attr]
    assert all("<cfg:4>" in event.design.sentence for event in events if type(event) is Designed)
    assert isinstance(events[7], Designed)
    (rendered,) = made.finish(events[7])
    assert isinstance(rendered, Rendered) and rendered.expected == events[7].expected
    assert [type(event) for event in made.say(Request("x", 2), lambda: True)] == [Stopped]
    assert [type(event) for event in made.finish(events[7], lambda: True)] == [Stopped]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"count": 65}, "1 to 64 designs"),
        ({"fixed": ("ckpt:mini",)}, "no ckpt 'mini'"),
        ({"fixed": ("cfg:4",), "free": True}, "only under the grammar"),
        ({"fixed": ("cfg:4",) * 9}, "At most 8 words"),
        ({"fixed": (4,)}, "a list of words"),
    ],
)
def test_what_cannot_be_said_is_told_before_any_work(
    tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        studio(tmp_path).say(Request("a red star", **asked))


# --- how long it takes


def test_the_time_is_told_from_what_was_measured(tmp_path: Path) -> None:
    pace = Pace()
    assert pace.expect(4, 1, 4) is None
    pace.said(1, 9.0)
    pace.drew(7.0)
    pace.warmed()
    first = pace.expect(2, 4, 2)
    assert first is not None and (first.value, first.sure) == (2 * 4 * 9.0 + 2 * 7.0, False)
    for designs, seconds in ((1, 1.0), (1, 3.0), (8, 6.0)):
        pace.said(designs, seconds)
    pace.drew(0.5)
    sure = pace.expect(10, 1, 10)
    assert sure is not None and (sure.value, sure.sure) == (10 * 2.0 + 10 * 0.5, True)
    many = pace.expect(1, 16, 0)
    assert many is not None and many.value == 12.0  # twice as many as were measured at once


def test_the_estimate_counts_only_what_is_still_to_be_made(tmp_path: Path) -> None:
    made, cells = studio(tmp_path), Cells(Scoring())
    asked = plan(made, x="guidance", x_values="0-3")
    assert cells.expect(made, asked) is None
    run(made, cells, x="guidance", x_values="0-1")
    made.pace = Pace()
    made.pace.said(1, 2.0)
    made.pace.drew(3.0)
    left = cells.expect(made, asked)
    assert left is not None and left.value == 10.0 and left.sure
    run(made, cells, x="guidance", x_values="0-3")
    done = cells.expect(made, asked)
    assert done is not None and done.value == 0.0


# --- curves


def made_up(found: Any, **values: Any) -> list[Outcome]:
    """Outcomes of a plan whose scores are given by functions of the cell."""
    done = []
    for cell in found.cells:
        here = {name: value(cell) for name, value in values.items()}
        done.append(Outcome(cell, Failed(0, "made up"), said=here.pop("said", 1), **here))
    return done


def test_a_curve_is_the_mean_over_prompts_seeds_and_the_other_axis(tmp_path: Path) -> None:
    both = {"prompts": "a red star\na blue heart\na green tree", "seeds": "1-4"}
    found = plan(
        studio(tmp_path), x="guidance", x_values="0,1,3", y="temperature", y_values="0.5,1", **both
    )
    rng = np.random.default_rng(0)
    noise = {cell: float(rng.normal()) for cell in found.cells}
    done = made_up(found, true=lambda cell: cell.request.scale + noise[cell])
    curve = {one.name: one for one in curves_of(found, done)}["true score"]
    assert axis_of(found) is KINDS["guidance"]
    assert [at for at, _ in curve.points] == [0.0, 1.0, 3.0]
    for at, point in curve.points:
        here = [one.true for one in done if one.cell.request.scale == at]
        assert len(here) == 24 and point.value == pytest.approx(np.mean(here))  # type: ignore[arg-type]
        assert point.low < point.value < point.high
        assert point.high - point.low == pytest.approx(4 / 24**0.5, rel=0.6)


def test_cells_of_one_prompt_and_seed_are_no_independent_witnesses(tmp_path: Path) -> None:
    """Twenty cells that share their chance make a point no surer than one."""
    few = {"prompts": "a red star\na blue heart", "seeds": "1-3"}
    wide = {"x": "guidance", "x_values": "0,1", "y": "temperature", "y_values": "0.1-2 [20]"}
    widths = []
    for setting in (wide, wide | {"y": "none"}):
        found = plan(studio(tmp_path), **few, **setting)
        done = made_up(found, true=lambda cell: float(cell.request.seed))
        (point, *_) = curves_of(found, done)[0].points
        widths.append(point[1].high - point[1].low)
    assert widths[0] == pytest.approx(widths[1]) and widths[0] > 0


def test_one_prompt_and_seed_give_no_interval(tmp_path: Path) -> None:
    found = plan(studio(tmp_path), x="guidance", x_values="0,1")
    done = made_up(found, true=lambda cell: 2.0)
    for curve in curves_of(found, done):
        assert all(np.isnan(point.low) for _, point in curve.points)


def test_validity_counts_what_was_said_and_diversity_what_differs(tmp_path: Path) -> None:
    found = plan(studio(tmp_path), x="guidance", x_values="0,1", seeds="1-4")
    # At 0 all differ; at 1 three of four say the same and the fourth says nothing that is valid.
    done = made_up(
        found,
        said=lambda cell: 1,
        sentences=lambda cell: (
            ((cell.request.seed,),)
            if cell.request.scale == 0
            else (((9,),) if cell.request.seed < 4 else ())
        ),
    )
    curves = {one.name: dict(one.points) for one in curves_of(found, done)}
    assert curves["valid"][0.0].value == 1.0 and curves["valid"][1.0].value == 0.75
    assert curves["distinct"][0.0].value == 1.0
    assert curves["distinct"][1.0].value == pytest.approx(1 / 3)
    assert "true score" not in curves  # nobody knows any


def test_equal_chance_across_the_other_axis_is_no_lack_of_diversity(tmp_path: Path) -> None:
    found = plan(
        studio(tmp_path), x="guidance", x_values="0,1", y="temperature", y_values="0.9,1",
        seeds="1-2",
    )  # fmt: skip
    done = made_up(found, sentences=lambda cell: ((cell.request.seed,),))
    distinct = {one.name: one for one in curves_of(found, done)}["distinct"]
    assert [point.value for _, point in distinct.points] == [1.0, 1.0]


def test_axes_without_numbers_have_no_curves(tmp_path: Path) -> None:
    made = studio(tmp_path)
    found = plan(made, x="ckpt", x_values="all", y="seed", seeds="1-2")
    assert axis_of(found) is None and curves_of(found, []) == []
    steps = plan(made, x="ckpt", x_values="all", y="steps", y_values="8, 12, free")
    assert axis_of(steps) is KINDS["steps"]


# --- files


def test_an_export_has_the_sheet_both_tables_the_setting_and_every_png(tmp_path: Path) -> None:
    made = studio(tmp_path)
    setting = {"prompts": "=1+1\na red star", "x": "guidance", "x_values": "0-2", "y": "prompt"}
    found = plan(made, **setting)
    done = list(Cells(Scoring()).run(made, found))
    files = export(found, done[:5], tmp_path / "files")
    with Image.open(files.sheet) as sheet:
        assert sheet.width > 3 * 128 and sheet.height > 2 * 128
        assert len(sheet.convert("RGB").getcolors(2**20)) > 50
    rows = list(csv.DictReader(io.StringIO(files.table.read_text("utf-8"))))
    assert len(rows) == 5 and rows[0]["prompt"] == "'=1+1" and rows[3]["prompt"] == "a red star"
    for row, outcome in zip(rows, done, strict=False):
        assert float(row["true"]) == outcome.true and float(row["predicted"]) == outcome.predicted
        assert row["sentence"] == sentence_text(outcome.sentences[0])
        assert row["scene_strict"] == ("" if row["prompt"] == "'=1+1" else str(outcome.held_out))
    with zipfile.ZipFile(files.everything) as packed:
        images = [name for name in packed.namelist() if name.startswith("images/")]
        assert images == [row["image"] for row in rows]
        with Image.open(packed.open(images[4])) as image:
            assert {"prompt", "workflow", "flowdesign"} <= set(image.info)
        told = json.loads(packed.read("setting.json"))
        assert read_setting(told["setting"]) == found.setting
        assert told["link"] == to_link(found.setting)
        points = list(csv.DictReader(io.StringIO(packed.read("curves.csv").decode())))
    assert {row["at"] for row in points} == {"0.0", "1.0", "2.0"}
    assert {"true score", "predicted score", "valid", "distinct"} <= {
        row["curve"] for row in points
    }


def test_a_sheet_shows_failures_and_what_was_not_made(tmp_path: Path) -> None:
    made = studio(tmp_path, renderer=ToyRenderer(faults=[0]))
    found = plan(made, x="guidance", x_values="0-2", seeds="1-2")
    done = list(Cells(Scoring()).run(made, found))[:2]
    files = export(found, done, tmp_path / "files")
    (failed, _) = csv.DictReader(io.StringIO(files.table.read_text("utf-8")))
    assert "NaN" in failed["trouble"] and failed["image"] == ""
    with Image.open(files.sheet) as sheet:
        assert sheet.height > 2 * 128


def test_as_many_cells_as_may_be_are_planned_quickly(tmp_path: Path) -> None:
    started = time.process_time()
    found = plan(studio(tmp_path), seeds="1-20", y="seed", x="temperature", x_values="0.1-2 [20]")
    assert len(found.cells) == MOST_CELLS == 400
    assert time.process_time() - started < 2
