"""The exact judge, on clean scenes whose seeds were never used to tune it, and on what must fail."""

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from flowdesign.drawing import draw, random_scene
from flowdesign.judge import judge, judge_spec, read
from flowdesign.scenes import CATEGORIES, DOMAINS, caption, random_spec

UNSEEN = 20261124  # no other seed in the project is near it


def _scenes(count, seed=UNSEEN):
    rng = random.Random(seed)
    for index in range(count):
        domain, category = DOMAINS[index % 4], CATEGORIES[index // 4 % 6]
        spec = random_spec(rng, domain, category, rng.random() < 0.3)
        yield spec, random_scene(rng, spec), rng


def test_clean_scenes_pass():
    passed = defaultdict(list)
    for spec, scene, _ in _scenes(1200):
        strict = judge_spec(spec, draw(scene)).strict
        for key in ("all", spec.category, spec.style):
            passed[key].append(strict)
    shares = {key: float(np.mean(values)) for key, values in passed.items()}
    assert shares["all"] >= 0.98
    assert min(shares[c] for c in CATEGORIES) >= 0.95, shares
    assert min(shares[d.style] for d in DOMAINS) >= 0.95, shares


def test_the_wrong_prompt_fails():
    specs, images = zip(*((s, draw(scene)) for s, scene, _ in _scenes(240)), strict=True)
    shifted = [judge_spec(s, i).strict for s, i in zip(specs, images[7:] + images[:7], strict=True)]
    assert np.mean(shifted) < 0.05


@pytest.mark.parametrize("change", ["style", "backdrop", "extra", "colour"])
def test_one_fault_is_enough_to_fail(change):
    failed = []
    for spec, scene, _ in _scenes(120, UNSEEN + 1):
        if change == "style":
            scene = replace(scene, style=next(d.style for d in DOMAINS if d.style != scene.style))
        elif change == "backdrop":
            scene = replace(scene, backdrop="mint" if scene.backdrop != "mint" else "dusk")
        elif change == "colour":
            if not all(item.colour for item in spec.items):
                continue
            odd = {"red": "blue"}.get(scene.objects[0].colour, "red")
            scene = replace(
                scene, objects=(replace(scene.objects[0], colour=odd), *scene.objects[1:])
            )
        else:
            if len(scene.objects) != 1:
                continue
            more = replace(scene.objects[0], x=0.15, y=0.15, radius=0.1)
            scene = replace(scene, objects=(replace(scene.objects[0], x=0.6, y=0.6), more))
        failed.append(judge_spec(spec, draw(scene)).strict == 0)
    assert len(failed) >= 10
    assert np.mean(failed) > 0.97


@pytest.mark.parametrize("side", [96, 128, 256])
def test_larger_pictures_are_read_too(side):
    assert np.mean([judge_spec(s, draw(c, side)).strict for s, c, _ in _scenes(96)]) > 0.95


def test_noise_and_softness_are_forgiven():
    rng = np.random.default_rng(0)
    noisy, soft = [], []
    for spec, scene, _ in _scenes(120):
        pixels = np.asarray(draw(scene), dtype=float) + rng.normal(0, 6, (64, 64, 3))
        noisy.append(judge_spec(spec, Image.fromarray(pixels.clip(0, 255).astype("uint8"))).strict)
        soft.append(judge_spec(spec, draw(scene).filter(ImageFilter.GaussianBlur(0.6))).strict)
    assert np.mean(noisy) > 0.9
    assert np.mean(soft) > 0.9


def test_soft_counts_the_parts_that_are_right():
    spec, scene, rng = next(s for s in _scenes(40) if s[0].category == "color_attribution")
    verdict = judge_spec(replace(spec, items=spec.items[::-1]), draw(scene))
    assert verdict.strict == 1  # who is named first does not matter without a relation
    wrong = judge_spec(
        replace(spec, items=(replace(spec.items[0], colour=spec.items[1].colour), spec.items[1])),
        draw(scene),
    )
    assert wrong.strict == 0
    assert 0.5 < wrong.soft < 1
    assert judge(caption(spec, rng), draw(scene)).strict == 1


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
def test_an_empty_picture_is_read_and_fails(colour):
    image = Image.new("RGB", (64, 64), colour)
    assert read(image).objects == ()
    assert judge("a red star", image).strict == 0


def test_prompts_of_another_world_are_not_judged():
    assert judge("a cat", Image.new("RGB", (64, 64))) is None


def test_many_objects_of_two_kinds_are_matched_in_a_moment():
    image = draw(next(_scenes(1))[1])
    verdict = judge("six red stars and six blue hearts", image)
    assert verdict.strict == 0
    assert 0 <= verdict.soft < 1
