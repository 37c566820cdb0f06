"""The table of scorers, the exact ones, sharpness by hand, and the command line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from math import isnan, log2, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo
from scipy.ndimage import gaussian_filter

from flowdesign import standards
from flowdesign.__main__ import main
from flowdesign.drawing import draw, random_scene
from flowdesign.judge import judge
from flowdesign.records import Record, Store
from flowdesign.scenes import parse
from flowdesign.scorers import (
    SCORERS,
    Scorer,
    ScorerError,
    ScorerMissing,
    UnknownScorer,
    available,
    check,
    load,
    load_all,
    score_all,
    table,
)
from flowdesign.scorers.edges import noise, rises, sharpness

PROMPT = "two red circles, flat style"
OTHER = "a blue star, outline style"


def scene(prompt: str = PROMPT, side: int = 64) -> Image.Image:
    spec = parse(prompt)
    assert spec is not None
    return draw(random_scene(random.Random(1), spec), side)


# --- the table -----------------------------------------------------------------------------------


def test_every_row_is_described() -> None:
    assert list(SCORERS) == [
        "scene_strict", "scene_soft", "scene_gist", "sharpness", "clip_similarity",
        "pickscore", "hps_v2", "imagereward", "aesthetic",
    ]  # fmt: skip
    for name, scorer in SCORERS.items():
        assert scorer.name == name
        assert scorer.about.endswith(".") and scorer.licence
        assert scorer.kind in ("exact", "figure", "learned")
        assert bool(scorer.packages) == bool(scorer.extra)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    for ask in (load, available, lambda name: check([name]), lambda name: load_all([name])):
        with pytest.raises(UnknownScorer, match=r"Did you mean 'pickscore'\? Known: scene_strict,"):
            ask("pikscore")


def test_the_table_loads_no_torch() -> None:
    code = "import sys, flowdesign.scorers, flowdesign.standards, flowdesign.scorers.command\n"
    code += (
        "print(sorted({'torch', 'transformers', 'numpy', 'scipy', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Brightness(Scorer):
    """A scorer that a user adds: this class and one line in the table."""

    name = "brightness"
    about = "Mean brightness."
    kind = "figure"
    licence = "Apache-2.0"
    low = 0.0
    high = 255.0
    uses_prompt = False

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def score(self, prompts: Sequence[str], images: Sequence[Image.Image]) -> list[float]:
        self.sizes.append(len(images))
        return [float(np.mean(np.asarray(image))) for image in images]


class NeedsPackage(Brightness):
    name = "needs_package"
    extra = "quality"
    packages = ("no_such_package",)


def test_a_scorer_is_one_class_and_one_line(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    rows = {**SCORERS, "brightness": Brightness, "needs_package": NeedsPackage}
    monkeypatch.setattr(table, "SCORERS", rows)
    scorer = load("brightness", batch=2)
    images = [Image.new("RGB", (4, 4), (grey,) * 3) for grey in (0, 10, 20)]
    assert scorer([""] * 3, images) == [0.0, 10.0, 20.0]
    assert scorer.sizes == [2, 1]  # type: ignore[attr-defined]
    assert available("brightness") == ""
    assert "needs no_such_package" in available("needs_package")
    assert available("needs_package").endswith("pyproject.toml --extra quality")
    images[1].save(tmp_path / "a.png")
    assert main(["score", str(tmp_path / "a.png"), "--prompt", "x", "--scorers", "brightness"]) == 0
    assert "brightness 10" in capsys.readouterr().out


def test_prompts_and_images_must_pair() -> None:
    with pytest.raises(ScorerError, match="'scene_soft' was given 1 prompts for 2 images"):
        load("scene_soft")([PROMPT], [scene(), scene()])


# --- the exact judge -----------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_scene_scorers_give_the_judge_s_figures(side: int) -> None:
    images = [scene(PROMPT, side), scene(OTHER, side), Image.new("RGB", (side, side), "white")]
    for name, figure in (
        ("scene_strict", "strict"),
        ("scene_soft", "soft"),
        ("scene_gist", "gist"),
    ):
        found = load(name)([PROMPT] * 3, images)
        assert found == [getattr(judge(PROMPT, image), figure) for image in images]
        assert found[0] == 1.0
        assert found[2] < 1.0


def test_the_style_counts() -> None:
    image = scene("a red circle, flat style")
    strict = load("scene_strict")
    assert strict(["a red circle, flat style"], [image]) == [1.0]
    assert strict(["a red circle, night style"], [image]) == [0.0]


def test_a_prompt_outside_the_world_cannot_be_judged() -> None:
    found = load("scene_soft")(["a portrait of my aunt"], [scene()])
    assert isnan(found[0])


def test_score_all_leaves_out_what_a_scorer_cannot_say() -> None:
    scorers = load_all(["scene_strict", "sharpness"])
    rows = score_all(scorers, [PROMPT, "a portrait"], [scene(), scene()])
    assert list(rows[0]) == ["scene_strict", "sharpness"]
    assert list(rows[1]) == ["sharpness"]
    assert score_all(scorers, [], []) == []


# --- sharpness, by hand --------------------------------------------------------------------------


def ramp(width: int, side: int = 64) -> np.ndarray[Any, Any]:
    """Black to white over `width` pixels, the same in every row and channel."""
    line = np.clip((np.arange(side) - side // 2) / width, 0, 1)
    return np.repeat(np.tile(line, (side, 1))[..., None], 3, -1)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_an_even_ramp_is_as_wide_as_it_is(width: int) -> None:
    assert sharpness(ramp(width)) == pytest.approx(log2(64 / width))


def test_rises_of_a_line_by_hand() -> None:
    """Up .1 and .3, level, down .2, up .5: three rises, the level one has no contrast."""
    contrast, width = rises(np.array([[0.0, 0.1, 0.4, 0.4, 0.2, 0.7]]))
    assert contrast == pytest.approx([0.4, 0.2, 0.5])
    assert width == pytest.approx([0.4 / 0.3, 1.0, 1.0])


def test_a_gaussian_edge_is_as_wide_as_its_formula() -> None:
    """Its steepest slope is contrast / (sigma sqrt(2 pi)); over a pixel it is a little less."""
    for sigma in (2.0, 4.0):
        blurred = gaussian_filter(ramp(1, 128), (0, sigma, 0), truncate=6)
        assert sharpness(blurred) == pytest.approx(log2(128 / (sigma * sqrt(2 * pi))), abs=0.02)


def test_blur_lowers_it_step_by_step() -> None:
    image = scene()
    found = load("sharpness")(
        [""] * 4, [image.filter(ImageFilter.GaussianBlur(r)) for r in (0, 0.7, 1.4, 2.8)]
    )
    assert found == sorted(found, reverse=True)
    assert all(before - after > 0.3 for before, after in zip(found, found[1:], strict=False))


def test_only_detail_counts_not_pixels() -> None:
    """Doubling by interpolation gains nothing; drawing twice as large does."""
    small = scene(side=64)
    scorer = load("sharpness")
    plain, doubled, drawn = scorer(
        [""] * 3, [small, small.resize((128, 128), Image.Resampling.BICUBIC), scene(side=128)]
    )
    assert doubled < plain + 0.3
    assert drawn > plain + 0.6


def test_noise_is_measured_and_does_not_read_as_sharpness() -> None:
    rng = np.random.default_rng(0)
    soft = np.clip(gaussian_filter(ramp(1), (0, 3, 0)) * 0.8 + 0.1, 0, 1)
    noisy = soft + rng.normal(0, 0.03, soft.shape)
    assert noise(soft) < 0.002
    assert noise(noisy) == pytest.approx(0.03, rel=0.1)
    assert sharpness(noisy) < sharpness(ramp(1)) - 1.0
    grain = np.clip(0.5 + rng.normal(0, 0.03, soft.shape), 0, 1)
    assert sharpness(grain) == 0.0


def test_every_colour_and_direction_counts() -> None:
    edge = np.zeros((64, 64, 3))
    edge[:, 32:, 2] = 1.0  # blue alone: grey would see 11 % of it
    assert sharpness(edge) == pytest.approx(6.0)
    assert sharpness(edge.transpose(1, 0, 2)) == pytest.approx(6.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (64, 64)])
def test_an_image_without_edges_has_none(size: tuple[int, int]) -> None:
    assert load("sharpness")([""], [Image.new("RGB", size, "red")]) == [0.0]


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One PNG that carries its prompt, and one that does not."""
    info = PngInfo()
    info.add_text("flowdesign", json.dumps({"prompt": PROMPT, "seed": 1, "workflow": {}}))
    scene().save(tmp_path / "told.png", pnginfo=info)
    scene(OTHER).save(tmp_path / "bare.png")
    return [tmp_path / "told.png", tmp_path / "bare.png"]


def run(capsys: Any, *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_score_prints_raw_scores_and_their_sum(
    files: list[Path], tmp_path: Path, capsys: Any
) -> None:
    made = standards.measure([{"scene_soft": 0.0}, {"scene_soft": 1.0}], "two images")
    standards.write_reference(made, tmp_path / "reference.json")
    words = ("--prompt", PROMPT, "--scorers", "scene_soft,sharpness", "--weights", "scene_soft=2")
    status, out, _ = run(capsys, "score", *files, *words, "--reference", tmp_path / "reference.json", "--json")  # fmt: skip
    rows = json.loads(out)
    assert status == 0
    assert [row["image"] for row in rows] == [str(path) for path in files]
    assert rows[0]["scores"]["scene_soft"] == 1.0
    sd = sqrt(0.5)
    assert rows[0]["combined"] == pytest.approx(2 * (1.0 - 0.5) / sd)
    soft = rows[1]["scores"]["scene_soft"]
    assert rows[1]["combined"] == pytest.approx(2 * (soft - 0.5) / sd)


def test_score_takes_the_prompt_that_the_png_carries(files: list[Path], capsys: Any) -> None:
    status, out, _ = run(capsys, "score", files[0], "--scorers", "scene_strict", "--json")
    (row,) = json.loads(out)
    assert (status, row["prompt"], row["scores"]) == (0, PROMPT, {"scene_strict": 1.0})


def test_score_says_what_is_wrong(files: list[Path], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for words, told in (
        ((files[1],), "carries no prompt"),
        ((tmp_path / "text.png", "--prompt", "x"), "is not an image that can be read"),
        ((tmp_path / "no.png", "--prompt", "x"), "There is no file"),
        ((files[0], "--scorers", "pikscore"), "Did you mean 'pickscore'?"),
        ((files[0], "--weights", "sharpnes=1"), "Did you mean 'sharpness'?"),
        ((files[0], "--weights", "scene_strict=1"), "held out"),
        ((files[0], "--reference", tmp_path / "no.json"), "There is no reference set"),
        ((files[0], "--scorers", "hps_v2"), "scorers convert hps_v2"),
    ):
        status, out, err = run(capsys, "score", *words)
        assert (status, out) == (2, ""), words
        assert told in err


def test_scorers_list_tells_what_is_missing(capsys: Any) -> None:
    status, out, _ = run(capsys, "scorers", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert list(rows) == list(SCORERS)
    assert rows["scene_soft"]["missing"] == ""
    assert rows["pickscore"]["missing"] == available("pickscore")
    assert "scorers convert imagereward" in run(capsys, "scorers", "list")[1]


def test_a_reference_is_measured_from_scores_and_records(
    files: list[Path], tmp_path: Path, capsys: Any
) -> None:
    printed = run(capsys, "score", *files, "--prompt", PROMPT, "--scorers", "scene_soft,sharpness", "--json")[1]  # fmt: skip
    (tmp_path / "scores.json").write_text(printed)
    lines = [{"prompt": PROMPT, "scores": {"scene_soft": 0.25, "sharpness": None}}, {"scores": {}}]
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    out = tmp_path / "reference.json"
    inputs = (tmp_path / "scores.json", tmp_path / "records.jsonl")
    status, told, _ = run(capsys, "scorers", "reference", *inputs, "--out", out)
    assert status == 0
    soft = [row["scores"]["scene_soft"] for row in json.loads(printed)] + [0.25]
    sharp = [row["scores"]["sharpness"] for row in json.loads(printed)]
    reference = standards.read_reference(out)
    assert reference.about == "scores of 3 images in scores.json, records.jsonl"
    assert reference["scene_soft"].mean == pytest.approx(np.mean(soft))
    assert reference["scene_soft"].sd == pytest.approx(np.std(soft, ddof=1))
    assert reference["sharpness"].count == len(sharp) == 2
    assert f"Written to {out}" in told


def test_a_reference_is_measured_from_the_store(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("flowdesign.records.store.DATA", tmp_path / "records")
    rows = [({"sharpness": 5.0}, "collect:a"), ({"sharpness": 6.0}, "collect:a"), ({}, "collect:a")]
    rows += [({"sharpness": 90.0}, "import:b"), ({"sharpness": float("nan")}, "collect:a")]
    with Store.open() as store:
        store.add(
            [Record(PROMPT, {}, seed, scores=one, source=of) for seed, (one, of) in enumerate(rows)]
        )
    out = tmp_path / "reference.json"
    words = ("--source", "collect:a", "--out", out, "--about", "two of mine")
    status, _, err = run(capsys, "scorers", "reference", *words)
    assert (status, err) == (0, "")
    reference = standards.read_reference(out)
    assert reference.about == "two of mine"
    assert reference["sharpness"] == standards.Standard(5.5, sqrt(0.5), 2)


def test_a_bad_reference_input_is_told(tmp_path: Path, capsys: Any) -> None:
    for text in ("not json", '{"scores": 3}', '{"other": 1}', "[1, 2]", '{"scores": {"a": "x"}}'):
        (tmp_path / "bad.jsonl").write_text(text)
        out = tmp_path / "out.json"
        status, _, err = run(capsys, "scorers", "reference", tmp_path / "bad.jsonl", "--out", out)
        assert status == 2
        assert "bad.jsonl holds no scores that can be read" in err
        assert not out.exists()


def test_convert_is_a_command(tmp_path: Path, capsys: Any) -> None:
    import tiny_scorers as tiny
    import torch

    torch.save(tiny.random_weights(tiny.head_shapes("layers.", 8)), tmp_path / "head.pth")
    words = ("scorers", "convert", "aesthetic", tmp_path / "head.pth", "--out", tmp_path / "made")
    status, out, _ = run(capsys, *words, "--json")
    assert (status, json.loads(out)) == (0, {"folder": str(tmp_path / "made")})
    status, _, err = run(capsys, *words)
    assert status == 2
    assert "is there already" in err
    with pytest.raises(ScorerMissing):
        load("pickscore", str(tmp_path / "made"))
