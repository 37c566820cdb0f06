"""The miniature world: prompts say what they mean, splits hold, pictures are drawn as asked."""

import random
from collections import Counter

import pytest

from flowdesign.drawing import GROUND, draw, random_scene
from flowdesign.scenes import (
    CATEGORIES,
    DOMAINS,
    Item,
    Spec,
    caption,
    domain_of,
    example_prompts,
    parse,
    prompt_set,
    random_prompt,
    random_spec,
    split_of,
)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: d.style)
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_caption_reads_back_as_its_spec(domain, category):
    rng = random.Random(f"{domain.style}/{category}")
    for _ in range(200):
        spec = random_spec(rng, domain, category, rng.random() < 0.5)
        assert parse(caption(spec, rng)) == spec
        assert spec.category == category
        assert domain_of(spec) == domain


def test_people_may_write_freely_around_the_objects():
    spec = parse("Please draw me THREE lovely red stars, outlined, and make it pretty!")
    assert spec == Spec((Item("star", "red", 3),), style="outline")
    assert parse("a cat on a mat") is None
    assert parse("") is None


def test_relations_need_both_words_and_two_objects():
    assert parse("a star left of a heart").relation == "left of"
    assert parse("a star to the right of a heart").relation == "right of"
    assert parse("a star that I left behind").relation is None


def test_held_out_prompts_are_distinct_and_never_in_the_train_split():
    for domain in DOMAINS:
        prompts = prompt_set(domain, 50, seed=7)
        assert len(set(prompts)) == len(prompts) == 300
        counts = Counter(parse(p).category for p in prompts)
        assert min(counts.values()) >= 30
        assert {split_of(p) for p in prompts} == {"test"}
        assert prompts == prompt_set(domain, 50, seed=7)


def test_the_split_ignores_case_and_spacing():
    assert split_of("A  red STAR ") == split_of("a red star")


def test_random_prompts_keep_to_their_split():
    rng = random.Random(0)
    assert all(split_of(random_prompt(rng, split="train")) == "train" for _ in range(200))


def test_examples_name_objects_of_the_world():
    assert all(parse(prompt) for prompt in example_prompts())
    assert {domain_of(parse(p)) for p in example_prompts()} == set(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: d.style)
def test_a_scene_has_what_its_spec_names(domain):
    rng = random.Random(3)
    for category in CATEGORIES:
        spec = random_spec(rng, domain, category)
        scene = random_scene(rng, spec)
        assert len(scene.objects) == sum(i.count for i in spec.items)
        image = draw(scene)
        assert image.size == (64, 64)
        assert image.getpixel((0, 0)) == GROUND[spec.backdrop or spec.style]
        assert draw(scene).tobytes() == image.tobytes()
