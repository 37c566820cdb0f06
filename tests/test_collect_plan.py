"""Collect: the prompts, the plan and what is rendered together."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from flowdesign import __main__, runs
from flowdesign.catalog import ROOT, installed, known_assets
from flowdesign.collect import collect
from flowdesign.collect.batches import PlannedWorkflow, make_batches, plan_workflow, trunk
from flowdesign.collect.plan import (
    BLOCK,
    Pair,
    Stopped,
    keep_plan,
    policy_pairs,
    random_pairs,
)
from flowdesign.collect.prompts import grammar_prompts, read_prompts
from flowdesign.collect.redrawing import read_groups, redrawn
from flowdesign.collect.saying import open_sayer
from flowdesign.commands import training
from flowdesign.config import CollectConfig, ConfigError, Step
from flowdesign.records import record_key, split_of_prompt
from flowdesign.records.splits import split_of_digest, split_of_workflow
from flowdesign.reward.ensemble import RewardMismatch
from flowdesign.scenes import CATEGORIES, domain_of, is_variant, parse, split_of
from flowdesign.tokens import (
    VOCABULARY,
    Automaton,
    decode,
    parse_sentence,
    random_sentence,
    sentence_text,
    workflow_of,
)
from flowdesign.workflow import workflow_hash

LANGUAGE = Automaton(VOCABULARY, known_assets())


def config(**options: object) -> CollectConfig:
    return CollectConfig(**options)  # type: ignore[arg-type]


def plan(**options: object) -> list[Pair]:
    asked = config(**options)
    return random_pairs(asked, grammar_prompts(asked.prompt_count, asked.seed), LANGUAGE)


# --- prompts -------------------------------------------------------------------------------------


def test_prompts_of_the_grammar_are_spread_over_domains_and_categories() -> None:
    prompts = grammar_prompts(96, 3)
    assert len(set(prompts)) == 96
    specs = [parse(prompt) for prompt in prompts]
    domains = Counter(domain_of(spec).style for spec in specs if spec)  # type: ignore[union-attr]
    assert set(domains.values()) == {24}
    kinds = Counter(spec.category for spec in specs if spec)
    assert {kinds[category] for category in CATEGORIES} == {16}
    assert 0.15 < sum(split_of(prompt) == "test" for prompt in prompts) / 96 < 0.45
    assert prompts == grammar_prompts(96, 3) != grammar_prompts(96, 4)


def test_prompts_of_the_grammar_want_a_lora_as_often_as_asked() -> None:
    def wanting(share: float) -> list[bool]:
        specs = [parse(prompt) for prompt in grammar_prompts(120, 3, variants=share)]
        return [is_variant(spec) for spec in specs if spec]

    assert not any(wanting(0.0)) and all(wanting(1.0)) and len(wanting(1.0)) == 120
    assert 60 < sum(wanting(0.7)) < 108


def test_prompts_of_a_file_are_its_distinct_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox\n\n  a blue\u2028door \na red fox\n", encoding="utf-8")
    assert read_prompts(str(file), 400, 0) == ["a red fox", "a blue\u2028door"]


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_prompts_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="prompts"):
        read_prompts(str(file), 400, 0)


def test_more_prompts_than_the_grammar_has_are_told() -> None:
    with pytest.raises(ConfigError, match="no new prompt after"):
        grammar_prompts(10**6, 0)


# --- the plan ------------------------------------------------------------------------------------


def test_prompts_meet_equally_many_workflows_and_workflows_one_prompt_of_each_domain() -> None:
    pairs = plan(n=320, prompt_count=40, seeds=4, repeated=0.25)
    assert len(pairs) == len({(pair.prompt, pair.sentence) for pair in pairs}) == 320
    assert set(Counter(pair.prompt for pair in pairs).values()) == {8}
    by_workflow: dict[str, set[str]] = {}
    for pair in pairs:
        domain = domain_of(parse(pair.prompt))  # type: ignore[arg-type]
        by_workflow.setdefault(pair.sentence, set()).add(domain.style)  # type: ignore[union-attr]
    assert len(by_workflow) == 80
    assert all(len(styles) == 4 for styles in by_workflow.values())


def test_a_share_of_the_pairs_has_all_seeds_and_the_others_one_of_them() -> None:
    pairs = plan(n=400, prompt_count=40, seeds=4, repeated=0.25)
    assert Counter(len(pair.seeds) for pair in pairs) == {1: 300, 4: 100}
    of_prompt: dict[str, set[int]] = {}
    for pair in pairs:
        of_prompt.setdefault(pair.prompt, set()).update(pair.seeds)
    assert {len(seeds) for seeds in of_prompt.values()} == {4}
    assert len(set.union(*of_prompt.values())) == 160  # no two prompts share one
    singles = Counter(pair.prompt for pair in pairs if len(pair.seeds) == 4)
    assert len(singles) > 30  # spread over the prompts, not over a few


def test_all_pairs_have_all_seeds_unless_told_otherwise() -> None:
    assert {len(pair.seeds) for pair in plan(n=8, prompt_count=8)} == {4}


def test_a_plan_follows_from_its_config() -> None:
    assert plan(n=60) == plan(n=60)
    assert plan(n=60) != plan(n=60, seed=1)
    # A longer plan of the same prompts begins with the same workflows.
    short, long = plan(n=60), plan(n=120)
    assert [pair.sentence for pair in short] == [pair.sentence for pair in long[:60]]


def test_fewer_prompts_than_a_workflow_is_tried_on() -> None:
    pairs = random_pairs(config(n=7, per_workflow=4), ["one", "two"], LANGUAGE)
    assert Counter(pair.prompt for pair in pairs) == {"one": 4, "two": 3}


def test_a_plan_may_keep_to_one_split_and_make_a_whole_grid(tmp_path: Path) -> None:
    """Every test prompt with every workflow: what a reward ensemble is measured on."""
    asked = config(n=24, split="test", prompt_count=6, per_workflow=6)
    prompts = read_prompts("grammar", 6, 0, "test")
    pairs = random_pairs(asked, prompts, LANGUAGE)
    assert {split_of_prompt(pair.prompt) for pair in pairs} == {"test"}
    texts = {pair.sentence: workflow_of(pair.sentence) for pair in pairs}
    assert len(texts) == 4 and len(pairs) == len({(p.prompt, p.sentence) for p in pairs}) == 24
    found = {split_of_digest(workflow_hash(each)) for each in texts.values() if each}
    assert found == {"test"}
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts), encoding="utf-8")
    assert read_prompts(str(file), 1, 0, "test") == prompts
    with pytest.raises(ConfigError, match="no prompt of the train split"):
        read_prompts(str(file), 1, 0, "train")


def test_every_sentence_of_a_plan_is_a_workflow() -> None:
    for pair in plan(n=40):
        assert not decode(parse_sentence(pair.sentence)).problems


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    pairs = [Pair('say "no"\u2028twice', "<end>", (1, 2**32 - 1)), Pair("b", "<end>", (3,))]
    assert keep_plan(tmp_path, lambda: pairs) == pairs

    def fails() -> list[Pair]:
        raise AssertionError("made twice")

    assert keep_plan(tmp_path, fails) == pairs


class Speaker:
    """Says a few sentences, some of them twice."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], int, int]] = []

    def __call__(self, prompts: Sequence[str], count: int, seed: int) -> list[list[str]]:
        self.asked.append((tuple(prompts), count, seed))
        rng = random.Random(seed)
        return [[f"sentence {rng.randrange(3)} for {p}" for _ in range(count)] for p in prompts]


PROMPTS = [f"prompt {number}" for number in range(2 * BLOCK + 3)]


def test_a_policy_speaks_for_every_prompt_and_equal_workflows_count_once(tmp_path: Path) -> None:
    speaker, asked = Speaker(), config(n=7 * len(PROMPTS) + 1, policy="mine", seeds=2)
    pairs = policy_pairs(asked, PROMPTS, speaker, tmp_path)
    assert [(len(prompts), count) for prompts, count, _ in speaker.asked] == [
        (BLOCK, 8), (BLOCK, 8), (3, 8),
    ]  # fmt: skip
    assert len({seed for _, _, seed in speaker.asked}) == 3
    assert len(pairs) == len({(pair.prompt, pair.sentence) for pair in pairs}) <= 3 * len(PROMPTS)
    assert all(pair.sentence.endswith(f"for {pair.prompt}") for pair in pairs)
    assert {pair.prompt for pair in pairs} == set(PROMPTS)


def test_a_policy_is_asked_again_only_for_what_was_not_written(tmp_path: Path) -> None:
    asked = config(n=4 * len(PROMPTS), policy="mine")
    whole = policy_pairs(asked, PROMPTS, Speaker(), tmp_path)
    lines = (tmp_path / "drawn.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "drawn.jsonl").write_text(lines[0] + lines[1][:9])  # killed while writing
    again = Speaker()
    assert policy_pairs(asked, PROMPTS, again, tmp_path) == whole
    assert [prompts[0] for prompts, _, _ in again.asked] == [PROMPTS[BLOCK], PROMPTS[2 * BLOCK]]
    assert len((tmp_path / "drawn.jsonl").read_text().splitlines()) == 3


def test_choices_are_drawn_anew_and_all_else_stays() -> None:
    plain, rng = random_sentence(LANGUAGE, random.Random(3)), random.Random(0)
    found = [redrawn(plain, ["lora", "cfg"], LANGUAGE, rng) for _ in range(400)]
    loras = Counter(VOCABULARY.tokens[one[1]] for one in found)
    assert len(loras) == 5 and min(loras.values()) > 50
    kept = [VOCABULARY.words[token] for token in plain if not of_lora(token)]
    first = next(at for at, word in enumerate(kept) if word.group == "cfg")
    for one in found:
        words = [VOCABULARY.words[token] for token in one if not of_lora(token)]
        assert words[:first] + words[first + 1 :] == kept[:first] + kept[first + 1 :]
    assert len({one[at] for one in found for at in range(len(one))}) > 20


def of_lora(token: int) -> bool:
    return VOCABULARY.words[token].group in ("lora", "strength")


def test_an_unknown_choice_is_told() -> None:
    with pytest.raises(ConfigError, match="redrawn: unknown choice 'lorra'. Did you mean 'lora'"):
        read_groups("ckpt, lorra")


def test_of_what_a_policy_says_one_split_may_be_kept(tmp_path: Path) -> None:
    def say(prompts: Sequence[str], count: int, seed: int) -> list[list[str]]:
        rng = random.Random(seed)
        return [
            [sentence_text(random_sentence(LANGUAGE, rng)) for _ in range(count)] for _ in prompts
        ]

    asked = config(n=40, policy="mine", split="train")
    pairs = policy_pairs(asked, ["a", "b"], say, tmp_path)
    found = [workflow_of(pair.sentence) for pair in pairs]
    assert {split_of_workflow(one) for one in found if one} == {"train"} and 20 < len(pairs) < 40


def test_a_stop_file_ends_the_speaking(tmp_path: Path) -> None:
    (tmp_path / "STOP").touch()
    with pytest.raises(Stopped):
        policy_pairs(config(n=2, policy="mine"), ["a"], Speaker(), tmp_path)


# --- batches -------------------------------------------------------------------------------------


def designs(pairs: list[Pair]) -> dict[str, PlannedWorkflow]:
    return {pair.sentence: plan_workflow(pair.sentence, lambda _: {"m": "0"}) for pair in pairs}


def test_every_job_is_in_one_batch_and_a_workflow_stays_together() -> None:
    pairs = plan(n=60, repeated=0.25)
    batches = make_batches(pairs, designs(pairs), "here", 16)
    jobs = [job for batch in batches for job in batch.jobs]
    wanted = Counter((p.prompt, p.sentence, seed) for p in pairs for seed in p.seeds)
    assert Counter((job.prompt, job.sentence, job.seed) for job in jobs) == wanted
    assert len({job.key for job in jobs}) == len(jobs)
    assert all(len(batch.jobs) <= 16 for batch in batches)
    homes = Counter(s for batch in batches for s in {job.sentence for job in batch.jobs})
    assert set(homes.values()) == {1}
    assert batches == make_batches(pairs, designs(pairs), "here", 16)


def test_a_workflow_with_more_jobs_than_a_batch_holds_is_cut() -> None:
    pairs = [Pair(f"prompt {i}", plan(n=1)[0].sentence, (1, 2, 3)) for i in range(3)]
    batches = make_batches(pairs, designs(pairs), "here", 4)
    assert [len(batch.jobs) for batch in batches] == [4, 4, 1]


def test_a_job_has_the_key_that_the_store_will_give_its_record() -> None:
    (pair,) = plan(n=1, seeds=1)
    (batch,) = make_batches([pair], designs([pair]), "here", 4)
    (job,) = batch.jobs
    assert job.key == record_key(job.prompt, job.workflow, job.seed, job.assets, "here")


def test_workflows_whose_first_samplers_are_alike_are_neighbours() -> None:
    first, other = (pair.sentence for pair in plan(n=8)[::4])
    alike = _with(first, "negative", "blurry"), _with(first, "negative", "messy")
    found = [trunk(_workflow(one)) for one in (*alike, other, _with(first, "cfg", "9"))]
    assert found[0] == found[1] != found[2]
    assert found[3] not in (found[0], found[2])
    pairs = [Pair("a", one, (1,)) for one in (alike[0], other, alike[1])]
    ((*order,),) = (batch.jobs for batch in make_batches(pairs, designs(pairs), "here", 4))
    places = [order.index(job) for job in order if job.sentence in alike]
    assert places[1] - places[0] == 1


def _workflow(sentence: str) -> dict[str, dict[str, object]]:
    decoded = decode(parse_sentence(sentence))
    assert decoded.workflow is not None and not decoded.problems
    return decoded.workflow


def _with(sentence: str, group: str, value: str) -> str:
    """The sentence with another value for the first choice of a group."""
    words = sentence.split()
    at = next(i for i, word in enumerate(words) if word.startswith(f"<{group}:"))
    words[at] = f"<{group}:{value}>"
    return " ".join(words)


def test_a_sentence_of_another_language_is_told() -> None:
    with pytest.raises(ValueError):
        plan_workflow("<ckpt:none_such> <end>", lambda _: {})


def test_the_config_is_saved_and_read_as_it_is() -> None:
    asked = config(weights="scene_soft=1,sharpness=0.5", also="scene_gist, clip_similarity")
    assert config(**json.loads(asked.model_dump_json())) == asked
    names = ("scene_soft", "sharpness", "scene_strict", "scene_gist", "clip_similarity")
    assert asked.all_scorers == names


def test_what_is_said_for_a_prompt_is_tried_on_others_too(tmp_path: Path) -> None:
    asked = config(n=2 * len(PROMPTS), policy="mine", foils=3)
    pairs = [
        (pair.prompt, pair.sentence) for pair in policy_pairs(asked, PROMPTS, Speaker(), tmp_path)
    ]
    plain = config(n=2 * len(PROMPTS), policy="mine")
    own = [
        (pair.prompt, pair.sentence) for pair in policy_pairs(plain, PROMPTS, Speaker(), tmp_path)
    ]
    assert pairs[: len(own)] == own and len(set(pairs)) == len(pairs) > 3 * len(own)
    met = Counter(sentence for _, sentence in pairs)
    assert set(met) == {sentence for _, sentence in own} and max(met.values()) >= 4


def test_what_is_said_can_be_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random walks, changed to what the ensemble likes: here one checkpoint for each prompt."""
    wanted = {"a": VOCABULARY.index("<ckpt:mini_flat>"), "b": VOCABULARY.index("<ckpt:mini_night>")}

    def bound(prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> list[float]:
        return [float(wanted[p] in s) for p, s in zip(prompts, sentences, strict=True)]

    monkeypatch.setattr("flowdesign.reward.bound.open_bound", lambda *_: bound)
    asked = config(policy="random", searched="mine", heat=0)
    say = open_sayer(asked, installed([ROOT / "checkpoints" / "miniature"]))
    found = say(["a", "b"], 5, 3)
    assert found == say(["a", "b"], 5, 3) != say(["a", "b"], 5, 4)
    assert all("<ckpt:mini_flat>" in one for one in found[0]) and len(set(found[0])) == 5
    assert all("<ckpt:mini_night>" in one for one in found[1]) and len(found[1]) == 5


def test_an_ensemble_that_lacks_a_word_is_told_by_whoever_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trained before a word was added, it cannot judge what walks and a search come upon."""

    def bound(prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> list[float]:
        raise RewardMismatch("trained before the word <cfg:9> was in the vocabulary")

    monkeypatch.setattr("flowdesign.reward.bound.open_bound", lambda *_: bound)
    say = open_sayer(config(searched="old"), installed([ROOT / "checkpoints" / "miniature"]))
    with pytest.raises(ConfigError, match="searched: trained before the word <cfg:9>"):
        say(["a"], 1, 0)


def test_a_search_takes_the_threads_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no policy speaks: torch would take all there are."""
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr("flowdesign.reward.bound.open_bound", lambda *_: None)
    open_sayer(config(searched="mine", threads=3), installed([ROOT / "checkpoints" / "miniature"]))
    assert taken == [3]


def test_workflows_none_of_which_is_of_the_split_are_told(tmp_path: Path) -> None:
    asked = config(policy="mine", n=3, split="test")
    sentence = next(each for each in sentences() if each[1] == "train")[0]

    def say(prompts: Sequence[str], count: int, seed: int) -> list[list[str]]:
        return [[sentence] * count for _ in prompts]

    with pytest.raises(ConfigError, match=r"is of the test split.*--n.*--split all"):
        policy_pairs(asked, PROMPTS[:3], say, tmp_path)


def sentences() -> Iterator[tuple[str, str]]:
    """Random sentences, each with its split."""
    rng = random.Random(0)
    while True:
        sentence = sentence_text(random_sentence(LANGUAGE, rng))
        workflow = workflow_of(sentence)
        assert workflow is not None
        yield sentence, split_of_workflow(workflow)


@pytest.mark.parametrize(
    "asked", [{"redrawn": "lora"}, {"foils": 2}], ids=lambda one: next(iter(one))
)
def test_random_workflows_have_no_prompt_of_their_own(
    asked: dict[str, object], tmp_path: Path
) -> None:
    """It was silently left undone."""
    steps = collect(config(**asked, n=4), tmp_path, recipe=object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"{next(iter(asked))}: .*--policy.*--searched"):
        next(iter(steps))


def test_a_missing_ensemble_is_told() -> None:
    asked = config(policy="random", searched="nobodys")
    with pytest.raises(ConfigError, match="searched: .*nobodys"):
        open_sayer(asked, installed([ROOT / "checkpoints" / "miniature"]))


def test_a_run_that_found_all_its_images_made_is_not_told_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "CHECKPOINTS", tmp_path)
    runs.prepare(tmp_path / "again", config(run="again"))
    steps: list[Step] = []
    runs.execute(tmp_path / "again", lambda _: iter(steps))  # type: ignore[arg-type, return-value]
    assert __main__.main(["collect", "--run", "again", "--report"]) == 1
    said = capsys.readouterr().out
    assert "again is finished" in said and "goes on" not in said
