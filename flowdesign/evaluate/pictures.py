"""Pictures of the prompts where guidance wins and where it loses, beside an evaluation's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowdesign.reward.pictures import picture_name
from flowdesign.tokens import parse_sentence

FOLDER = "examples"


def shown(example: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The designs of an example, and the file of each one's picture."""
    for one in example["designs"]:
        yield one, picture_name(_pictured(example, one))


def pictured(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The prompts, sentences and seeds of all examples."""
    return [_pictured(each, one) for each in figures["examples"] for one in each["designs"]]


def _pictured(example: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how a picture looks."""
    tokens = parse_sentence(one["sentence"])
    return {"prompt": example["prompt"], "sentence": tokens, "seed": example["seed"]}
