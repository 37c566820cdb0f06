"""Prompts to learn from and prompts that are held out."""

import random

import pytest

from flowdesign.heldout import held_out, to_learn_from
from flowdesign.records import split_of_prompt
from flowdesign.scenes import is_variant, parse, split_of


@pytest.mark.parametrize("share", [None, 0.0, 0.6, 1.0])
def test_the_share_of_prompts_that_want_a_lora_is_what_was_asked_for(share: float | None) -> None:
    prompts = to_learn_from(random.Random(5), 400, share)
    assert prompts == to_learn_from(random.Random(5), 400, share)
    assert {(split_of(one), split_of_prompt(one)) for one in prompts} == {("train", "train")}
    found = sum(is_variant(parse(one)) for one in prompts) / len(prompts)
    wanted = 1 / 3 if share is None else share
    assert abs(found - wanted) < (0.08 if 0 < wanted < 1 else 1e-9)


def test_held_out_prompts_are_distinct_and_of_their_split() -> None:
    for split in ("validation", "test"):
        prompts = held_out(split, 40, 2)
        assert len(set(prompts)) == 40 and {split_of_prompt(one) for one in prompts} == {split}
