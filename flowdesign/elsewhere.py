"""Prompts of the world outside the miniature: what people ask text-to-image models for. No torch."""

from __future__ import annotations

import random

SUBJECTS = (
    "an old fisherman", "a red fox", "a steaming bowl of ramen", "a lighthouse", "two dancers",
    "a vintage motorcycle", "an astronaut", "a snowy owl", "three wooden boats", "a city street",
    "a field of sunflowers", "a robot gardener", "a castle", "a cup of coffee", "a sleeping cat",
    "a mountain lake", "a jazz band", "a dragon", "a young woman with freckles", "a spaceship",
)  # fmt: skip
SETTINGS = (
    "", " at sunset", " in heavy rain", " under a starry sky", " in a forest", " by the sea",
    " in the snow", " on a rooftop", " in a museum", " in the morning fog",
)  # fmt: skip
LOOKS = (
    "", ", oil painting", ", watercolor", ", 35mm photograph", ", pixel art", ", studio lighting",
    ", highly detailed", ", anime style", ", black and white", ", minimalist vector art",
)  # fmt: skip


def other_prompt(rng: random.Random) -> str:
    """Draw a prompt that no scene of the miniature world shows."""
    return rng.choice(SUBJECTS) + rng.choice(SETTINGS) + rng.choice(LOOKS)
