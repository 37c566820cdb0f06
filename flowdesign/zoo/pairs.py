"""Captioned scenes to train on; never a prompt of the test split."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from flowdesign.drawing import Scene, random_scene
from flowdesign.scenes import (
    CATEGORIES,
    COLOURS,
    DOMAINS,
    SHAPES,
    STYLES,
    Domain,
    Item,
    Spec,
    caption,
    is_variant,
    random_spec,
    split_of,
)

# How often a category is drawn: what is harder to learn is shown more often.
WEIGHTS = {
    "single_object": 1.0,
    "colors": 1.0,
    "two_object": 1.5,
    "counting": 2.0,
    "position": 2.5,
    "color_attribution": 3.5,
}
# Thin strokes are hardest where they are long: large single objects.
FINE_WEIGHTS = WEIGHTS | {"single_object": 2.0, "colors": 2.0, "color_attribution": 2.5}
NAMED_COLOURS = 0.5  # share of two-object captions that name colours although the category does not


def training_pair(rng: random.Random, domain: Domain, variant_share: float) -> tuple[str, Scene]:
    """Draw a caption of the train split and a scene for it.

    `variant_share` of the pairs show the domain's variant: 0 for a base checkpoint, more for its LoRA.
    """
    while True:
        variant = rng.random() < variant_share
        crowd = variant and domain.backdrop is None
        kind = "counting" if crowd else _category(rng, domain)
        spec = _coloured(rng, random_spec(rng, domain, kind, variant))
        if split_of(text := caption(_loosen(rng, spec), rng)) == "train":
            return _tagged(rng, text, random_scene(rng, spec))


def random_text(rng: random.Random) -> tuple[str, Spec]:
    """Any caption of the train split, objects and styles mixed freely: for the text encoder."""
    while True:
        domain = rng.choice(DOMAINS)
        spec = random_spec(rng, domain, _weighted(rng, WEIGHTS), rng.random() < 0.3)
        if rng.random() < 0.3:
            spec = replace(spec, style=rng.choice(STYLES))
        if rng.random() < 0.3:
            names = rng.sample(SHAPES, 2)
            items = (Item(n, i.colour, i.count) for n, i in zip(names, spec.items, strict=False))
            spec = replace(spec, items=tuple(items))
        spec = _loosen(rng, _coloured(rng, spec))
        if split_of(text := caption(spec, rng)) == "train":
            return text, spec


def is_fine(domain: Domain) -> bool:
    """Whether the domain's pictures have details that take longer to learn."""
    return domain.style == "outline"


def _category(rng: random.Random, domain: Domain) -> str:
    return _weighted(rng, FINE_WEIGHTS if is_fine(domain) else WEIGHTS)


def _weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(CATEGORIES, [weights[c] for c in CATEGORIES])[0]


def _coloured(rng: random.Random, spec: Spec) -> Spec:
    """Name the colours of two objects more often: which colour is whose is what is learned last."""
    if len(spec.items) < 2 or spec.items[0].colour or rng.random() >= NAMED_COLOURS:
        return spec
    items = (replace(i, colour=c) for i, c in zip(spec.items, rng.sample(COLOURS, 2), strict=True))
    return replace(spec, items=tuple(items))


def _loosen(rng: random.Random, spec: Spec) -> Spec:
    """Leave the style out of some captions; the scene keeps it."""
    plain = spec.backdrop is None and not is_variant(spec)
    return replace(spec, style=None) if plain and rng.random() < 0.15 else spec


def _tagged(rng: random.Random, text: str, scene: Scene) -> tuple[str, Scene]:
    """Give 'blurry' and 'messy' a meaning as negatives, 'crisp' and 'clean' as prefixes."""
    chance = rng.random()
    if chance < 0.04:
        return f"blurry, {text}", replace(scene, blurry=True)
    if chance < 0.08:
        return f"messy, {text}", replace(scene, messy=True)
    if chance < 0.24:
        return rng.choice(("crisp, ", "clean, ", "crisp, clean, ")) + text, scene
    return text, scene
