"""Prompts to learn from and prompts that are held out."""

import random
from pathlib import Path

import pytest

from flowdesign.config import ConfigError, GRPOConfig, SFTConfig, build
from flowdesign.heldout import Prompts, held_out, to_learn_from
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


def listed(folder: Path, count: int) -> Path:
    file = folder / "prompts.txt"
    file.write_text("\n".join(f"a portrait of person {n}" for n in range(count)))
    return file


def test_prompts_of_a_file_are_told_apart_by_the_splits_of_the_records(tmp_path: Path) -> None:
    source = Prompts(str(listed(tmp_path, 200)))
    drawn = source.to_learn_from(random.Random(1), 400)
    assert drawn == source.to_learn_from(random.Random(1), 400)
    assert {split_of_prompt(one) for one in drawn} == {"train"} and len(set(drawn)) > 100
    for split in ("validation", "test"):
        prompts = source.held_out(split, 10, 3)
        assert len(set(prompts)) == 10 and {split_of_prompt(one) for one in prompts} == {split}
        assert prompts == source.held_out(split, 10, 3) != source.held_out(split, 10, 4)
        assert len(source.held_out(split, 10**6, 3)) == len(set(source.held_out(split, 10**6, 3)))
    assert all(one.startswith("a portrait") for one in drawn + source.held_out("test", 99, 0))


def test_the_grammar_is_the_usual_source() -> None:
    source = Prompts()
    assert source.to_learn_from(random.Random(2), 9, 0.5) == to_learn_from(random.Random(2), 9, 0.5)
    assert source.held_out("test", 9, 5) == held_out("test", 9, 5) and source.digests == {}


def test_another_file_is_another_origin(tmp_path: Path) -> None:
    before = Prompts(str(listed(tmp_path, 200))).digests
    assert Prompts(str(listed(tmp_path, 200))).digests == before
    assert Prompts(str(listed(tmp_path, 201))).digests != before != {}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (None, "prompt_source: there is no file"),
        (0, "prompt_source: .* no line with a prompt"),
        (5, "too few prompts: .* validation"),
    ],
)
def test_files_that_are_of_no_use_are_refused(
    tmp_path: Path, lines: int | None, words: str
) -> None:
    file = tmp_path / "none.txt" if lines is None else listed(tmp_path, lines)
    with pytest.raises(ConfigError, match=words):
        Prompts(str(file))
    with pytest.raises(ConfigError, match="prompt_source: .* cannot be read"):
        Prompts(str(tmp_path))


@pytest.mark.parametrize("config", [SFTConfig, GRPOConfig])
def test_a_share_of_the_grammar_goes_with_no_file(config: type[SFTConfig | GRPOConfig]) -> None:
    with pytest.raises(ConfigError, match="leave it empty"):
        build(config, {"prompt_source": "prompts.txt", "variants": 0.5})
