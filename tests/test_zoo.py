"""The zoo's training loop, stages and figures, on toys; the shipped figures, where they are shipped."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from flowdesign.catalog import ROOT, installed, known_assets
from flowdesign.config import ConfigError, Step
from flowdesign.render import Renderer
from flowdesign.scenes import DOMAINS, is_variant, parse, split_of
from flowdesign.tokens.builder import build
from flowdesign.tokens.choices import Resize
from flowdesign.workflow import validate, workflow_hash
from flowdesign.zoo import stages
from flowdesign.zoo.fit import Chance, Schedule, fit
from flowdesign.zoo.measure import spread_prompts
from flowdesign.zoo.pairs import random_text, training_pair
from flowdesign.zoo.report import FIGURES, by_category, spread_of
from flowdesign.zoo.schedule import Crew, StageFailed, run_stages, wanted
from flowdesign.zoo.stages import (
    STAGES,
    Place,
    Sizes,
    Stage,
    fingerprint,
    is_done,
    publish,
    smaller,
    train_stage,
)
from flowdesign.zoo.text import embed, new_encoder, new_tokenizer
from flowdesign.zoo.workflows import plain, with_lora, workflows

SCHEDULE = Schedule(steps=40, rate=0.05, warmup=4)


def _toy(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)

    def loss(chance: Chance):
        x = torch.randn(8, 3, generator=chance.torch)
        return (model(x) - x.sum(1, keepdim=True)).pow(2).mean()

    return model, loss


def test_fit_learns_and_is_deterministic(tmp_path):
    finals = []
    for name in ("a", "b"):
        model, loss = _toy()
        steps = list(fit("toy", {"m": model}, loss, SCHEDULE, tmp_path / name, seed=1, every=10))
        finals.append(model.weight.clone())
        assert [s.index for s in steps] == [9, 19, 29, 39]
        assert steps[-1].metrics["loss"] < steps[0].metrics["loss"] / 2
    assert torch.equal(*finals)


def test_an_interrupted_fit_ends_like_one_that_was_not(tmp_path):
    model, loss = _toy()
    list(fit("toy", {"m": model}, loss, SCHEDULE, tmp_path / "whole", seed=1, every=10))
    broken, loss = _toy()
    steps = fit("toy", {"m": broken}, loss, SCHEDULE, tmp_path / "cut", seed=1, every=10)
    next(steps), next(steps)
    steps.close()
    again, loss = _toy(seed=9)  # other initial weights: all must come from the saved state
    list(fit("toy", {"m": again}, loss, SCHEDULE, tmp_path / "cut", seed=1, every=10))
    assert torch.equal(model.weight, again.weight)


def test_a_loss_that_is_not_finite_stops_with_its_name(tmp_path):
    model, _ = _toy()
    steps = fit(
        "toy", {"m": model}, lambda c: model.weight.sum() * float("nan"), SCHEDULE, tmp_path, 0
    )
    with pytest.raises(FloatingPointError, match="toy"):
        list(steps)


def test_stages_name_only_earlier_stages():
    seen = set()
    for stage in STAGES:
        assert set(stage.needs) <= seen
        seen.add(stage.name)


def test_wanted_stages_bring_what_they_need():
    needs = {s.name: s.needs for s in STAGES}
    assert wanted(needs, ["flat_dusk"]) == ["text", "codec", "mini_flat unet", "flat_dusk"]
    assert wanted(needs, []) == list(needs)
    with pytest.raises(ConfigError, match="Did you mean 'text'"):
        wanted(needs, ["txt"])


def test_a_fingerprint_follows_from_settings_seed_and_needs(tmp_path):
    place = Place(tmp_path)
    other = replace(place, sizes=replace(place.sizes, text=Schedule(7, 1.0)))
    assert fingerprint("mini_flat", place) == fingerprint("mini_flat", Place(tmp_path / "x"))
    assert fingerprint("mini_flat", place) != fingerprint("mini_flat", replace(place, seed=1))
    assert fingerprint("mini_flat", place) != fingerprint("mini_flat", other)
    assert fingerprint("mini_2x", place) == fingerprint("mini_2x", other)


def _toy_stages(monkeypatch):
    """Replace the table by two stages that write a file; returns how often each trained."""
    trained = []

    def train(name, place):
        trained.append(name)
        place.part(name).write_text(str(place.seed))
        yield Step(0, 1)

    table = {
        "a": Stage("a", (), lambda place: train("a", place), (), "loras/a.safetensors"),
        "b": Stage("b", ("a",), lambda place: train("b", place)),
    }
    monkeypatch.setattr(stages, "BY_NAME", table)
    monkeypatch.setattr(stages, "STAGES", tuple(table.values()))
    return trained


def test_what_other_settings_left_is_made_anew(tmp_path, monkeypatch):
    _toy_stages(monkeypatch)
    place = Place(tmp_path / "work")
    assert not is_done("a", place)
    list(train_stage("a", place))
    assert is_done("a", place)
    changed = replace(place, seed=5)
    assert not is_done("a", changed)
    list(train_stage("a", changed))
    assert place.part("a").read_text() == "5"
    assert not is_done("a", place)


def test_only_finished_models_are_published_and_each_as_a_whole(tmp_path, monkeypatch):
    _toy_stages(monkeypatch)
    place, models = Place(tmp_path / "work"), tmp_path / "models"
    assert list(publish(place, models)) == []
    list(train_stage("a", place))
    assert [p.name for p in publish(place, models)] == ["a.safetensors"]
    assert (models / "loras" / "a.safetensors").read_text() == "0"


def _crew(tmp_path, script):
    needs = {"a": (), "b": ("a",), "c": ("a",)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    return Crew(needs, list(needs), tmp_path, command, [])


def test_stages_start_when_what_they_need_has_ended(tmp_path):
    script = (
        "import sys,pathlib; p=pathlib.Path(sys.argv[1])/'order'; p.open('a').write(sys.argv[2])"
    )
    steps = list(run_stages(_crew(tmp_path, script), 2, lambda: False))
    assert [s.index for s in steps] == [0, 1, 2]
    assert (tmp_path / "order").read_text() in ("abc", "acb")


def test_a_stage_that_fails_says_its_last_words(tmp_path):
    with pytest.raises(StageFailed, match="no paint left"):
        list(run_stages(_crew(tmp_path, "raise SystemExit('no paint left')"), 1, lambda: False))


def test_stopping_ends_the_workers(tmp_path):
    crew = _crew(tmp_path, "import time; time.sleep(60)")
    steps = run_stages(crew, 1, lambda: True)
    next(steps)
    (worker,) = crew.running.values()
    steps.close()
    assert worker.poll() is not None


@pytest.mark.slow
def test_every_stage_runs_and_what_it_makes_renders(tmp_path):
    """The real stages, cut down to two steps: what they publish loads and renders."""
    place = Place(tmp_path / "work", sizes=smaller(Sizes(), steps=2, scenes=48))
    for stage in STAGES:
        list(train_stage(stage.name, place))
    models = tmp_path / "models"
    assert len(list(publish(place, models))) == 12
    found = installed([models])
    assert len(found.names("checkpoints")) == len(found.names("loras")) == 4
    renderer = Renderer(found)
    for domain in DOMAINS:
        design = replace(with_lora(domain), vae="mini_vae_soft", final=Resize("mini_4x"))
        workflow = build(design)
        assert renderer.fidelity(workflow).label == "exact"
        (image,) = renderer.render_many(workflow, ["a red star"], [1])
        assert image.size == (256, 256)
    plain_image = renderer.render_many(build(plain("mini_flat")), ["a star"], [1])[0]
    tuned_image = renderer.render_many(build(with_lora(DOMAINS[0])), ["a star"], [1])[0]
    assert plain_image.tobytes() != tuned_image.tobytes()


def test_training_never_shows_a_held_out_prompt():
    rng = random.Random(0)
    for domain in DOMAINS:
        for _ in range(300):
            text, _ = training_pair(rng, domain, 0.3)
            for tag in ("crisp, ", "clean, ", "blurry, ", "messy, "):
                text = text.removeprefix(tag)
            assert split_of(text) == "train"
    assert all(split_of(random_text(rng)[0]) == "train" for _ in range(300))


def test_a_base_never_sees_its_variant():
    rng = random.Random(1)
    for domain in DOMAINS:
        assert not any(is_variant(parse(training_pair(rng, domain, 0.0)[0])) for _ in range(200))


def test_the_tokenizer_knows_every_word_of_a_caption():
    tokenizer = new_tokenizer()
    rng = random.Random(2)
    for _ in range(500):
        ids = tokenizer(random_text(rng)[0])["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id in tokenizer("a giraffe")["input_ids"]


def test_the_text_encoder_has_sdxl_shapes():
    tokenizer = new_tokenizer()
    hidden, pooled = embed(new_encoder(tokenizer), tokenizer, ["a red star", ""])
    assert hidden.shape == (2, 77, 128)
    assert pooled.shape == (2, 128)


def test_the_spread_is_chosen_on_one_half_and_measured_on_the_other():
    rng = np.random.default_rng(0)
    noise = (rng.random((40, 200, 8)) < 0.3).astype(float)
    groups = ["a"] * 100 + ["b"] * 100
    assert abs(spread_of(noise, groups)["per_group_gain"]) < 0.05  # nothing to find
    assert abs(spread_of(noise, groups)["per_prompt_gain"]) < 0.05
    real = noise.copy()
    real[3, :100], real[5, 100:] = 1.0, 1.0
    found = spread_of(real, groups)
    assert found["per_group"] == 1.0
    assert found["fixed"] == pytest.approx(0.65, abs=0.03)
    assert found["per_group_gain"] > 4 * found["per_group_gain_se"]


def test_categories_weigh_the_same():
    scores = np.array([[1.0], [1.0], [1.0], [0.0]])
    table = by_category(scores, ["a star"] * 3 + ["two stars"])
    assert table == {"single_object": 1.0, "counting": 0.0, "mean": 0.5}


def test_the_measurement_is_as_large_as_it_says():
    designs = workflows()
    assert len(designs) >= 40
    assert len({workflow_hash(build(d)) for d in designs.values()}) == len(designs)
    for design in designs.values():
        assert validate(build(design), known_assets()) == []
    prompts = spread_prompts()
    assert len(prompts) == len(set(prompts)) == 200
    assert {split_of(p) for _, p in prompts} == {"test"}


def test_the_shipped_figures_reach_the_bars():
    figures = json.loads(FIGURES.read_text())
    size = figures["size"]
    assert (size["workflows"] >= 40, size["prompts"], size["seeds"]) == (True, 200, 8)
    assert figures["strict"] >= 0.75
    assert figures["strict_worst_domain"] >= 0.75
    assert figures["spread"] >= 0.20
    assert figures["spread"] > 4 * figures["spread_se"]
    for inside in figures["within_checkpoint"].values():
        assert inside["per_group_gain"] > 2 * inside["per_group_gain_se"]
    assert figures["measured"] and figures["with"]


def test_the_shipped_zoo_is_whole():
    found = installed()
    assert len(found.names("checkpoints")) >= 4
    assert len(found.names("loras")) >= 3
    assert len(found.names("upscale_models")) >= 2
    files = list((ROOT / "checkpoints" / "miniature").rglob("*.safetensors"))
    assert max(f.stat().st_size for f in files) < 25e6
    assert sum(f.stat().st_size for f in files) < 150e6
