"""Evaluation: fair comparisons, figures that are right for a known rule, and a run that goes on."""

import gzip
import json
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_toys import Judge, true_score, use_toys, write_policies

from flowdesign import runs
from flowdesign.__main__ import main
from flowdesign.catalog import installed, known_assets
from flowdesign.collect.plan import Pair, seeds_of
from flowdesign.config import ConfigError, EvaluateConfig, Step, build
from flowdesign.evaluate import baselines, command, diversity
from flowdesign.evaluate.contestants import CONTESTANTS, contestants
from flowdesign.evaluate.report import SCORES
from flowdesign.evaluate.run import evaluate, so_far
from flowdesign.evaluate.scale import choose_scale
from flowdesign.evaluate.searching import climb
from flowdesign.evaluate.setting import Setting, Tabulated
from flowdesign.records import COMBINED
from flowdesign.tokens import VOCABULARY, Automaton, sentence_text

LANGUAGE = Automaton(VOCABULARY, known_assets())
SMALL = {
    "policy": "better,other", "prompt_count": 8, "curve_prompts": 6, "searched": 5, "seeds": 2,
    "choose_prompts": 2, "table_prompts": 12, "table_workflows": 8, "rounds": 2, "tries": 3, "free": 10,
    "scales": "2", "best_of": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policies(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def toys(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_toys(root, tmp_path / "models", monkeypatch)


def run(folder: Path, judge: Judge | None = None, **options: Any) -> dict[str, Any]:
    config = build(EvaluateConfig, SMALL | options)
    runs.prepare(folder, config)
    runs.execute(folder, lambda place: evaluate(config, place, judge or Judge()))
    found = runs.read_figures(folder)
    assert found is not None
    return found


def scores_of(folder: Path) -> list[dict[str, Any]]:
    text = gzip.decompress((folder / SCORES).read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def by_name(figures: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in figures["contestants"]}


def test_contestants_meet_the_same_prompts_and_seeds_and_the_figures_are_right(
    tmp_path: Path,
) -> None:
    figures = run(tmp_path / "run")
    rows = by_name(figures)
    assert list(rows) == [
        "random", "default", "fixed", "nearest", "classifier", "comfygen-ic", "sft",
        "sft best of n", "grpo", "guided 2", "guided best of n", "search",
    ]  # fmt: skip
    lines = scores_of(tmp_path / "run")
    of_random = [line for line in lines if line["contestant"] == "random"]
    for line in lines:
        twin = next(one for one in of_random if one["prompt"] == line["prompt"])
        assert line["seeds"] == twin["seeds"] == list(seeds_of("measure/0", line["prompt"], 2))
    for name, row in rows.items():
        own = [line for line in lines if line["contestant"] == name]
        values = np.array([line["scores"]["scene_strict"] for line in own])
        assert row["scores"]["scene_strict"]["value"] == pytest.approx(values.mean(), rel=1e-4)
        assert row["images"] == values.size and row["valid"] == 1 and row["failed"] == 0
    assert rows["grpo"]["runs"] == ["better", "other"] and len(rows["grpo"]["each"]) == 2
    assert figures["pairs"]["fixed"]["search"]["prompts"] == 5
    gap = figures["pairs"]["sft"]["random"]["combined"]["value"]
    apart = (
        rows["sft"]["scores"]["combined"]["value"] - rows["random"]["scores"]["combined"]["value"]
    )
    assert gap == pytest.approx(apart, abs=1e-4)
    means = {
        (name, seed): each
        for name, row in rows.items()
        for seed, each in zip(row["runs"], row["each"], strict=False)
    }
    duel = figures["pairs"]["guided 2"]["grpo"]
    assert len(duel["each"]) == 2 and np.mean(duel["each"]) == pytest.approx(
        duel[COMBINED]["value"], abs=1e-4
    )
    duel = figures["pairs"]["guided best of n"]["grpo"]  # both on all prompts: seed by seed
    for seed, gap in zip(("better", "other"), duel["each"], strict=True):
        apart = means["guided best of n", seed] - means["grpo", seed]
        assert gap == pytest.approx(apart, abs=1e-4)
    assert figures["pairs"]["fixed"]["grpo"]["each"] == []
    assert "policy_sft" in rows["sft"]["about"]
    assert "comfygen-ft was not compared" in command.tell(figures)
    assert [one["scale"] for one in figures["curve"]] == [0, 1, 2]
    assert {one["prompts"] for one in figures["curve"]} == {6}  # of all scales, not of the search
    for one in figures["curve"]:
        promised = one["predicted"]["value"] - one["scores"]["combined"]["value"]
        assert one["optimism"]["value"] == pytest.approx(promised, abs=1e-4)
    assert all(0 <= one["valid"] <= 1 for one in figures["curve"])
    assert "guided best of n" in command.tell(figures)


def test_the_order_is_as_the_rule_has_it(tmp_path: Path) -> None:
    """Who looks at the prompt beats who cannot, and the search beats them all."""
    kinds = "random,fixed,routers,sft,search"
    rows = by_name(run(tmp_path / "run", contestants=kinds, prompt_count=24, table_prompts=24))
    score = {name: row["scores"]["scene_soft"]["value"] for name, row in rows.items()}
    assert score["fixed"] > 0.69 > score["random"]  # mini_night at least, for every prompt
    assert score["comfygen-ic"] > score["fixed"] + 0.05
    assert score["search"] >= max(score.values()) - 0.01 and score["search"] > 0.85
    assert score["sft best of n"] > score["sft"]
    assert rows["comfygen-ic"]["information"] > rows["fixed"]["information"] + 0.5


def test_a_stopped_evaluation_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    small = {"contestants": "random,fixed,sft,search", "prompt_count": 6, "free": 0}
    whole = run(tmp_path / "whole", **small)
    config = build(EvaluateConfig, SMALL | small)
    folder = tmp_path / "parts"
    runs.prepare(folder, config)
    lives = 0
    while runs.read_figures(folder) is None:
        lives += 1
        steps = iter(range(5))

        def stop(step: Any, steps: Any = steps, folder: Path = folder) -> None:
            if next(steps, None) is None:
                runs.request_stop(folder)

        runs.execute(folder, lambda place: evaluate(config, place, Judge()), stop)
        folder = shutil.move(folder, tmp_path / f"machine {lives}" / "parts")  # all that it needs
    assert lives > 3
    found = runs.read_figures(folder)
    assert found is not None
    assert found["pairs"] == whole["pairs"] and found["reached"] == whole["reached"]
    images = runs.read_metrics(folder)[-1]["images"]
    assert images == runs.read_metrics(tmp_path / "whole")[-1]["images"]
    searched = by_name(whole)["search"]
    assert by_name(found)["search"]["seconds"] == searched["seconds"]
    assert searched["seconds"]["design"] > 10 * 0.25  # what its images took, though they are there


def test_what_is_rendered_so_far_is_told_of_the_prompts_that_all_contestants_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowdesign.evaluate.run.PORTION", 3)
    monkeypatch.setattr("flowdesign.commands.training.CHECKPOINTS", tmp_path)
    monkeypatch.setattr("flowdesign.evaluate.run.checked_recipe", lambda config: Judge())
    small: dict[str, Any] = {"contestants": "random,fixed,grpo,guided", "run": "part"}
    small |= {"prompt_count": 16, "batch": 4}
    run(tmp_path / "whole", **small)
    config, folder = build(EvaluateConfig, SMALL | small), tmp_path / "part"
    runs.prepare(folder, config)
    counts = []

    def look(step: Any) -> None:
        try:
            figures = so_far(config, folder, Judge())
        except ConfigError as fault:
            assert not counts and "no figures yet" in str(fault)
            return
        counts.append(figures["prompts"])
        if counts[-1] == 6:
            runs.request_stop(folder)

    runs.execute(folder, lambda place: evaluate(config, place, Judge()), look)
    assert counts[-1] == 6 and counts == sorted(counts)
    assert main(["evaluate", "--run", "part", "--so-far", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["prompts"] == 6 and not figures["reached"]
    lines = scores_of(tmp_path / "whole")
    for name, row in by_name(figures).items():
        own = [line["scores"]["scene_soft"] for line in lines if line["contestant"] == name]
        runs_of = len(row["runs"]) or 1
        values = np.array(own).reshape(runs_of, -1, 2)[:, :6]
        assert row["prompts"] == 6
        assert row["scores"]["scene_soft"]["value"] == pytest.approx(values.mean(), rel=1e-4)
    assert runs.read_figures(folder) is None and not (folder / SCORES).exists()
    assert main(["evaluate", "--run", "none", "--so-far"]) == 2


def test_choices_that_were_cut_short_are_made_again_with_the_same_chance(tmp_path: Path) -> None:
    small = {"contestants": "random,fixed", "free": 0}
    whole = run(tmp_path / "run", **small)
    path = tmp_path / "run" / "choices" / "test random.jsonl"
    before = path.read_text()
    path.write_text(before[:-200])
    assert run(tmp_path / "run", **small)["pairs"] == whole["pairs"]
    said = [json.loads(line)["sentence"] for line in path.read_text().splitlines()]
    assert said == [json.loads(line)["sentence"] for line in before.splitlines()]


def test_a_failed_image_counts_as_the_worst(tmp_path: Path) -> None:
    figures = run(tmp_path / "run", Judge(fails="night"), contestants="random,fixed")
    rows = by_name(figures)
    assert rows["fixed"]["failed"] > 0
    lines = scores_of(tmp_path / "run")
    worst = min(min(line["scores"]["scene_soft"]) for line in lines)
    for line in lines:
        if "night" in line["prompt"]:
            assert line["scores"]["scene_soft"] == [worst, worst]


def test_what_cannot_be_compared_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown kind 'routres'. Did you mean 'routers'"):
        run(tmp_path / "run", contestants="routres")
    with pytest.raises(
        ConfigError, match="conditioned: name the run of a policy that was told scores"
    ):
        run(tmp_path / "two", contestants="random,conditioned")
    with pytest.raises(ConfigError, match="'policy_sft' was not told scores"):
        run(tmp_path / "three", conditioned="policy_sft")
    with pytest.raises(ConfigError, match="'better' began with policy_sft, 'else' with told"):
        run(tmp_path / "four", policy="better,else")
    with pytest.raises(ConfigError, match="write numbers by comma"):
        build(EvaluateConfig, {"scales": "1, two"})
    with pytest.raises(ConfigError, match="searched .* at most prompt_count"):
        build(EvaluateConfig, {"searched": 30, "prompt_count": 20, "curve_prompts": 9})


def test_every_kind_of_contestant_speaks(tmp_path: Path) -> None:
    config = build(EvaluateConfig, SMALL | {"conditioned": "told", "variants": "other"})
    setting = Setting(config, installed(), chosen={"scale": 2.0, "best": 2.0})
    prompts = ["a red circle, flat style", "a blue star, outline style"]
    sentences = baselines.default_sentences(LANGUAGE)
    scores = np.array([[true_score(p, s) for s in sentences] for p in prompts])
    setting.table = Tabulated(tuple(prompts), tuple(sentences), scores)
    found = contestants(setting)
    assert len({one.key for one in found}) == len(found) >= len(CONTESTANTS)
    for one in found:
        if one.name in ("nearest", "classifier", "comfygen-ic"):
            continue  # two prompts are too few for their choices; see the order above
        said = one.choose(setting, prompts, 0)
        assert len(said) == 2 and all(LANGUAGE.accepts(sentence) for sentence in said)


def test_a_search_does_not_fall_for_luck() -> None:
    """Else the upper bound would be too low, and all would seem to come near to it."""
    config = build(EvaluateConfig, SMALL | {"rounds": 1})
    good, lucky = baselines.default_sentences(LANGUAGE)[:2]

    def judge(pairs: Sequence[Pair]) -> Generator[Step, None, list[float]]:
        yield from ()
        first = seeds_of("search/0", "a red star", config.search_seeds)
        luck = {sentence_text(good): 0.7, sentence_text(lucky): 0.9}
        fair = luck | {sentence_text(lucky): 0.2}
        return [(luck if one.seeds == first else fair).get(one.sentence, 0.1) for one in pairs]

    steps = climb(judge, ["a red star"], [[good, lucky]], LANGUAGE, config)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == [good]


# --- baselines


def test_a_default_workflow_leaves_out_what_it_can() -> None:
    first = baselines.default_sentences(LANGUAGE)[0]
    assert sentence_text(first) == (
        "<ckpt:mini_flat> <lora:none> <clip_skip:none> <vae:none> <freeu:none> <pag:none> <prefix:none> "
        "<concat:none> <negative:none> <size:64x64> <sampler:euler> <scheduler:normal> <steps:20> "
        "<cfg:7> <end>"
    )


def test_prompts_of_people_have_comfygen_s_labels() -> None:
    """Else all have the same one, so ComfyGen-IC would be the best fixed workflow, and no domain could be told."""

    class Words:
        def embed(self, texts: Sequence[str]) -> Any:
            return np.array(
                [[float(label in text) for label in baselines.LABELS] for text in texts]
            )

    setting = Setting(build(EvaluateConfig, SMALL), installed())
    setting.encoder = Words()  # type: ignore[assignment]
    prompts = ["a portrait of a horror clown", "an underwater city", "a red circle, flat style"]
    first, second, scene = baselines.labels_of(setting, prompts)
    assert set(first[:2]) == {"horror", "portrait"} and second[0] == "underwater"
    assert len(first) == baselines.ALIKE and scene[0] == "flat"


# --- diversity


def test_similarity_and_copies_of_known_workflows() -> None:
    known = baselines.default_sentences(LANGUAGE)
    nearest = diversity.Nearest(known[:2])
    assert nearest.similarity(known[:1]).tolist() == [1.0]
    (other,) = nearest.similarity(known[2:3])
    assert 0.8 < other < 1  # another checkpoint, all else alike
    assert nearest.copies(known) == 0.5 and diversity.distinct([*known, *known]) == 0.5
    assert diversity.Nearest([]).similarity(known[:2]).tolist() == [0, 0]


def test_information_is_none_for_a_fixed_workflow_and_two_bits_for_a_perfect_choice() -> None:
    styles = ("flat", "outline", "night", "striped") * 30
    prompts = [f"a red circle, {style} style" for style in styles]
    sentences = {diversity.checkpoint_of(s): s for s in baselines.default_sentences(LANGUAGE)}
    fitting = [sentences[f"mini_{style}"] for style in styles]
    assert diversity.information(prompts, fitting) == pytest.approx(2, abs=0.1)
    assert diversity.information(prompts, fitting[:1] * len(prompts)) == pytest.approx(0)
    rng = np.random.default_rng(0)
    shuffled = [fitting[at] for at in rng.permutation(len(fitting))]
    assert abs(diversity.information(prompts, shuffled)) < 0.15


def test_the_scale_nearest_to_1_is_taken_of_those_that_are_as_good_as_the_best() -> None:
    """Two runs, four prompts. The standard error is that of paired differences, over prompts."""
    base = np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    noise = np.array([0.3, -0.3, 0.2, -0.2])
    scores = {1.0: base - 0.5 + noise, 1.5: base - 0.1 + noise, 2.0: base - 0.2 + noise, 3.0: base}
    found = choose_scale(scores)
    assert found["best"] == 3.0 and found["scale"] == 1.5 and found["prompts"] == 4
    assert found["validation"] == pytest.approx({"1": 1.5, "1.5": 1.9, "2": 1.8, "3": 2.0})
    certain = {1.0: base - 0.5, 2.0: base - 0.01, 3.0: base}
    assert choose_scale(certain)["scale"] == 3.0  # always worse, if only by a little
    assert choose_scale({2.0: base, 0.0: base})["scale"] in (0.0, 2.0)


def test_all_prompts_are_for_the_scale_that_was_taken() -> None:
    config = build(EvaluateConfig, SMALL | {"scales": "1.5,2,3"})
    setting = Setting(config, installed(), chosen={"scale": 1.5, "best": 3.0})
    found = contestants(setting)
    guided = {
        one.scale: one.briefly for one in found if one.key.startswith("guided ") and one.scale
    }
    assert guided == {1.5: False, 2.0: True, 3.0: True}
