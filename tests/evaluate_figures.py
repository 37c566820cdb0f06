"""Figures as an evaluation stores them, small and made up, for what shows them."""

from typing import Any


def _estimate(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _row(name: str, score: float, scale: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "about": f"what {name} is", "scale": scale, "runs": [], "prompts": 60, "images": 240,
        "failed": 0, "scores": {"combined": _estimate(score, 0.1), "scene_strict": _estimate(0.7, 0.05)},
        "each": [score], "predicted": _estimate(score + 0.1, 0.1), "bound": _estimate(score, 0.1),
        "optimism": _estimate(0.1, 0.05), "valid": 1.0, "distinct": 0.9, "similarity": 0.71, "copies": 0.0,
        "information": 1.2, "seconds": {"design": 0.2, "image": 0.5},
    } | more  # fmt: skip


_DUEL = {
    "prompts": 60, "combined": _estimate(0.4, 0.2), "win": _estimate(0.6, 0.1), "tie": 0.1,
    "scene_strict": _estimate(0.1, 0.05),
}  # fmt: skip
_ROWS = [
    _row("fixed", 0.8),
    _row("sft", 0.3, 0.0),
    _row("grpo", 1.2, 1.0, runs=["one", "two"], each=[1.1, 1.3]),
]
FIGURES: dict[str, Any] = {
    "prompts": 60, "seeds": 4, "scale": 1.0, "weights": {"scene_soft": 1.0}, "held_out": "scene_strict",
    "best_of": 8, "trust": 1.0, "tie": 0.05, "contestants": _ROWS,
    "pairs": {
        one["name"]: {other["name"]: _DUEL for other in _ROWS if other is not one} for one in _ROWS
    },
    "curve": [
        {
            "scale": one["scale"], "name": one["name"], "prompts": 60, "scores": one["scores"],
            "optimism": one["optimism"], "predicted": one["predicted"], "bound": one["bound"],
            "distinct": 0.9, "valid": 0.97,
        }
        for one in _ROWS if one["scale"] is not None
    ],
    "reached": {"grpo": _estimate(0.5, 0.1), "search": _estimate(1.0, 0.0)},
    "examples": [
        {
            "prompt": "a red star, night style", "gain": 1.5, "seed": 3,
            "designs": [
                {
                    "name": "grpo", "score": 1.7,
                    "sentence": (
                        "<ckpt:mini_night> <lora:none> <clip_skip:none> <vae:none> <freeu:none> <pag:none> "
                        "<prefix:none> <concat:none> <negative:none> <size:64x64> <sampler:euler> "
                        "<scheduler:normal> <steps:20> <cfg:7> <end>"
                    ),
                },
            ],
        },
    ],
    "free": {}, "measured": "2026-11-28T00:00:00+00:00", "with": {"python": "3.11"},
}  # fmt: skip
