"""What the Train tab shows of a policy that GRPO improves."""

import json
import random
import re
from html import escape
from pathlib import Path

from flowdesign import runs
from flowdesign.catalog import known_assets
from flowdesign.samples import Shown, keep_samples
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence, sentence_text
from flowdesign.ui import policy_card

GRAMMAR = Automaton(VOCABULARY, known_assets())


def write_samples(folder: Path, *steps: int) -> None:
    rng = random.Random(0)
    lines = [
        json.dumps(
            {
                "step": step, "prompt": f"a <red> star of look {step}", "reward": 0.25 * step,
                "sentence": sentence_text(random_sentence(GRAMMAR, rng)),
            }
        )
        for step in steps
        for _ in range(2)
    ]  # fmt: skip
    (folder / policy_card.SAMPLES).write_text("\n".join([*lines, "{cut sho"]))


def test_a_run_without_a_look_shows_nothing(tmp_path: Path) -> None:
    assert policy_card.report(tmp_path) == ""
    (tmp_path / policy_card.SAMPLES).write_text("\n[]\nnull\n")
    assert policy_card.report(tmp_path) == ""


def test_every_look_is_shown_with_graphs_the_newest_open(tmp_path: Path) -> None:
    write_samples(tmp_path, 9, 19, 29)
    shown = policy_card.report(tmp_path)
    places = [shown.index(f"After step {step}: ") for step in (30, 20, 10)]
    assert places == sorted(places)
    assert shown.count("<details open>") == 1 and shown.index("<details open>") < places[0]
    assert shown.count("<svg") == 6 and shown.count("a &lt;red&gt; star of look 29") >= 2
    assert "+7.25 expected" in shown and "After step 30: +7.25 on average" in shown


def test_samples_are_shown_with_their_sentence(tmp_path: Path) -> None:
    sentence = sentence_text(random_sentence(GRAMMAR, random.Random(1)))
    keep_samples(tmp_path, 4, [Shown(4, "a star", sentence, 0.5)])
    shown = policy_card.report(tmp_path)
    assert f"<code>{escape(sentence)}</code>" in shown and "<svg" in shown and "+0.50" in shown


def test_of_many_looks_some_are_shown_with_the_first_and_the_newest(tmp_path: Path) -> None:
    write_samples(tmp_path, *range(9, 1000, 10))
    shown = policy_card.report(tmp_path)
    found = [int(step) for step in re.findall(r"After step ([\d,]+):", shown.replace(",", ""))]
    assert found[0] == 1000 and found[-1] == 10
    assert policy_card.LOOKS <= len(found) <= policy_card.LOOKS + 1
    assert f"{len(found)} of 100 looks" in shown and policy_card.SAMPLES in shown


def test_samples_that_no_ensemble_judged_are_shown_without_a_score(tmp_path: Path) -> None:
    keep_samples(tmp_path, 4, [Shown(4, "a star", "<ckpt:gone>")])
    shown = policy_card.report(tmp_path)
    assert "After step 5</summary>" in shown and "a star" in shown and "expected" not in shown


def test_a_sentence_of_another_vocabulary_is_shown_as_it_is(tmp_path: Path) -> None:
    row = {"step": 0, "prompt": "p", "reward": 0.0, "sentence": "<ckpt:gone> <b>"}
    (tmp_path / policy_card.SAMPLES).write_text(json.dumps(row))
    assert "<code>&lt;ckpt:gone&gt; &lt;b&gt;</code>" in policy_card.report(tmp_path)


def test_the_figures_stand_beside_the_yardsticks(tmp_path: Path) -> None:
    reward = {"policy": 0.8, "low": 0.7, "high": 0.9, "sft": -0.2, "fixed": 0.5, "best": 1.1}
    distinct = {"many": 0.5, "samples": 500, "one": 40.0}
    runs.write_figures(tmp_path, {"reward": reward, "distinct": distinct})
    shown = policy_card.report(tmp_path)
    assert shown.index("+0.50") < shown.index("+0.80") < shown.index("+1.10")
    assert "50% of 500 samples" in shown and "40 of 64" in shown
    runs.write_figures(tmp_path, {"reward": "x", "distinct": distinct})
    assert policy_card.report(tmp_path) == ""
