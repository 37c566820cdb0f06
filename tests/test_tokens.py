"""Sentences: every one the automaton allows is a workflow, and every such workflow a sentence."""

import math
import random
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_toys import AUTOMATON, KNOWN, PLAIN, random_sentences

from flowdesign import tokens
from flowdesign.catalog import (
    ASSETS,
    FAMILIES,
    KINDS,
    MODELS,
    Installed,
    NothingInstalled,
    asset,
    known_assets,
)
from flowdesign.nodes import NODES
from flowdesign.tokens import (
    END,
    MAX_TOKENS,
    VOCABULARY,
    Automaton,
    UnknownToken,
    Vocabulary,
    VocabularyMismatch,
    count_sentences,
    decode,
    encode,
    longest_sentence,
    parse_sentence,
    random_sentence,
    sentence_text,
)
from flowdesign.tokens.vocabulary import FROZEN, WORDS
from flowdesign.workflow import bind, canonical, sizes, validate

# --- the vocabulary ------------------------------------------------------------------------------


def test_the_vocabulary_is_frozen() -> None:
    frozen = FROZEN.read_text("utf-8").splitlines()
    assert VOCABULARY.tokens[: len(frozen)] == tuple(frozen), "words may only be appended"
    new = VOCABULARY.tokens[len(frozen) :]
    assert not new, f"append these lines to {FROZEN.name}: {new}"


def test_a_vocabulary_is_saved_and_read_back() -> None:
    again = Vocabulary.from_json(VOCABULARY.to_json())
    assert again == VOCABULARY and again.hash == VOCABULARY.hash
    assert len(VOCABULARY.hash) == 64
    again.require(VOCABULARY)
    assert [VOCABULARY.index(token) for token in VOCABULARY] == list(range(len(VOCABULARY)))
    assert VOCABULARY.tokens[VOCABULARY.end] == END


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "not a saved vocabulary"),
        ("[1]", "not a saved vocabulary"),
        ("nonsense", "not a saved vocabulary"),
        ('{"hash": "0", "tokens": ["<end>"]}', "its own hash"),
        ('{"hash": "0", "tokens": ["<steps:9>"]}', "no token '<steps:9>'. Did you mean"),
        ('{"hash": "0", "tokens": ["<end>", "<end>"]}', "twice"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(VocabularyMismatch, match=message):
        Vocabulary.from_json(text)


def test_the_place_where_vocabularies_differ_is_named() -> None:
    with pytest.raises(VocabularyMismatch, match="differ from token 1 on: .* 1 there"):
        VOCABULARY.require(Vocabulary(VOCABULARY.tokens[:1]))


def test_every_token_can_be_said() -> None:
    automaton = Automaton(VOCABULARY, KNOWN)
    found, waiting, seen = set(), [automaton.start()], {automaton.start()}
    while waiting:
        state = waiting.pop()
        for token in automaton.allowed(state):
            found.add(token)
            following = automaton.advance(state, token)
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    assert found == set(range(len(VOCABULARY)))


# --- text ----------------------------------------------------------------------------------------


def test_a_sentence_is_written_and_read() -> None:
    for sentence in random_sentences(50):
        assert parse_sentence(sentence_text(sentence)) == sentence
    with pytest.raises(UnknownToken, match="Unknown token '<stepz:8>'. Did you mean '<steps:8>'"):
        parse_sentence("<ckpt:mini_flat> <stepz:8>")
    with pytest.raises(UnknownToken, match="written <group:value>"):
        parse_sentence("mini_flat")
    assert parse_sentence("") == ()


# --- the automaton -------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_walk_is_a_valid_workflow_and_comes_back(data: st.DataObject) -> None:
    """Walks choose evenly among what is allowed, so they reach what random sentences rarely do."""
    state, tokens = AUTOMATON.start(), list[int]()
    rng = data.draw(st.randoms(use_true_random=False))
    while not AUTOMATON.done(state):
        allowed = AUTOMATON.allowed(state)
        assert allowed == tuple(sorted(allowed)) != ()
        tokens.append(rng.choice(allowed))
        state = AUTOMATON.advance(state, tokens[-1])
    assert 15 <= len(tokens) <= MAX_TOKENS
    check(tuple(tokens))


def test_every_random_sentence_is_a_valid_workflow_and_comes_back() -> None:
    for sentence in random_sentences(500, seed=1):
        check(sentence)


def check(sentence: tuple[int, ...]) -> None:
    decoded = decode(sentence)
    assert decoded.problems == () and decoded.workflow is not None
    workflow = decoded.workflow
    assert validate(workflow, KNOWN) == []
    assert canonical(workflow) == workflow
    encoded = encode(workflow)
    assert encoded.tokens == sentence and encoded.notes == ()
    assert decode(encoded.tokens).workflow == workflow
    bound = encode(bind(workflow, "a red star", 2**64 - 1))
    assert (bound.tokens, bound.notes) == (sentence, ())
    assert (bound.prompt, bound.seed) == ("a red star", 2**64 - 1)
    check_sizes(workflow)


def check_sizes(workflow: Any) -> None:
    """Nothing is larger than the family allows, and every sampled side is a multiple."""
    family = FAMILIES["miniature"]
    for key, size in sizes(workflow).items():
        sides = size.width, size.height
        assert max(sides) <= family.max_image
        if "Sampler" in workflow[key]["class_type"]:
            assert max(sides) <= family.max_sampling
            assert all(side % family.multiple == 0 for side in sides)


def test_random_sentences_have_a_sensible_spread() -> None:
    sentences = random_sentences(2000, seed=2)
    passes = Counter(sentence_text(each).count("<pass:") + 1 for each in sentences)
    assert 0.4 < passes[1] / len(sentences) < 0.6
    assert passes[2] > 300 and passes[3] > 300
    lengths = [len(each) for each in sentences]
    assert min(lengths) >= 15 and max(lengths) <= MAX_TOKENS
    assert 18 < sum(lengths) / len(lengths) < 30
    assert len(set(sentences)) > 1990
    sizes_said = Counter(t for each in sentences for t in each if "<size" in VOCABULARY.tokens[t])
    assert len(sizes_said) == 4


def test_chance_follows_from_the_generator() -> None:
    assert random_sentences(5, seed=3) == random_sentences(5, seed=3)
    assert random_sentences(5, seed=3) != random_sentences(5, seed=4)


def test_no_sentence_is_longer_than_the_limit() -> None:
    assert longest_sentence(AUTOMATON) == 43 <= MAX_TOKENS


def test_a_token_that_may_not_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="may not follow"):
        AUTOMATON.advance(AUTOMATON.start(), VOCABULARY.end)


def test_a_step_is_fast() -> None:
    sentences = random_sentences(200, seed=6)
    started, steps = time.process_time(), 0
    for sentence in sentences:
        state = AUTOMATON.start()
        for token in sentence:
            AUTOMATON.allowed(state)
            state = AUTOMATON.advance(state, token)
            steps += 1
    assert steps / (time.process_time() - started) > 50_000


def part(**names: tuple[str, ...]) -> Installed:
    """A machine where only some models of the catalogue are installed."""
    wanted = {kind: names.get(kind, ()) for kind in KINDS}
    return Installed({k: {n: MODELS / k / n for n in wanted[k]} for k in KINDS})


def test_what_is_not_installed_is_never_said() -> None:
    models = part(checkpoints=("mini_night", "unknown"), vae=("mini_vae",), loras=("flat_dusk",))
    automaton, rng = Automaton(VOCABULARY, models), random.Random(0)
    for _ in range(300):
        sentence = random_sentence(automaton, rng)
        text = sentence_text(sentence)
        assert "mini_flat" not in text and "mini_2x" not in text and "soft" not in text
        assert "<pass:refine>" not in text and "unknown" not in text
        workflow = decode(sentence).workflow
        assert validate(workflow, models) == []
    assert count_sentences(automaton) < count_sentences(AUTOMATON)


def test_without_a_checkpoint_there_is_nothing_to_say() -> None:
    with pytest.raises(NothingInstalled, match="python -m flowdesign zoo"):
        Automaton(VOCABULARY, part(loras=("flat_dusk",), checkpoints=("unknown",)))


# --- counting ------------------------------------------------------------------------------------


def test_the_language_is_rich() -> None:
    """The number stands in the documentation of `flowdesign.tokens`, too."""
    count = count_sentences(AUTOMATON)
    assert count == 43_198_808_439_142_177_695_498_240
    assert f"{count:,}" in str(tokens.__doc__) and f"{count:.1e}".replace("+", "") in str(
        tokens.__doc__
    )


def small(*tokens: str) -> Automaton:
    """The automaton of an old, small vocabulary."""
    head = ["<ckpt:mini_flat>", "<lora:none>", "<clip_skip:none>", "<vae:none>", "<freeu:none>"]
    head += ["<pag:none>", "<prefix:none>", "<concat:none>", "<negative:none>", "<size:64x64>"]
    head += ["<sampler:euler>", "<scheduler:normal>", "<steps:8>", "<cfg:4>", "<end>"]
    return Automaton(Vocabulary([*head, *tokens]), KNOWN)


def every_sentence(automaton: Automaton) -> list[tuple[int, ...]]:
    """All sentences, one after the other."""
    found, waiting = [], [((), automaton.start())]
    while waiting:
        tokens, state = waiting.pop()
        if automaton.done(state):
            found.append(tokens)
        for token in automaton.allowed(state):
            waiting.append(((*tokens, token), automaton.advance(state, token)))
    return found


@pytest.mark.parametrize(
    ("tokens", "count"),
    [
        ((), 1),
        (("<steps:4>", "<cfg:1>", "<cfg:2>", "<pag:1>"), 2 * 3 * 2),
        # 0 to 3 of four LoRAs in one order, two strengths each
        (
            ("<strength:1>", "<strength:0.4>", *(f"<lora:{row.name}>" for row in ASSETS if row.base)),
            sum(math.comb(4, k) * 2**k for k in range(4)),
        ),
        # after the first pass nothing, or a refine pass of either switch
        (("<pass:refine>", "<model:mini_night>", "<switch:0.5>", "<switch:0.25>"), 3),
        # 64 -> 128 in a latent pass, then no further; every pass in one of two models
        (
            ("<pass:latent>", "<method:area>", "<scale:2>", "<model:base>", "<denoise:0.5>"),
            2,
        ),
        # an upscale model at the end (128), or it and a resize to 64, which is the sampled size
        (("<upscaler:mini_2x>", "<resize:area>", "<scale:0.5>"), 3),
    ],
)  # fmt: skip
def test_counting_is_exact(tokens: tuple[str, ...], count: int) -> None:
    automaton = small(*tokens)
    assert count_sentences(automaton) == count
    assert_counted(automaton)


def test_counting_agrees_with_a_list_of_all_sentences() -> None:
    automaton = small(
        "<ckpt:mini_night>", "<lora:flat_dusk>", "<strength:1>", "<negative:zero>",
        "<pass:refine>", "<pass:latent>", "<pass:pixel>", "<model:base>", "<model:mini_night>",
        "<model:mini_flat>", "<switch:0.5>", "<method:area>", "<scale:1.5>", "<scale:0.5>",
        "<upscaler:mini_4x>", "<resize:lanczos>", "<denoise:0.5>",
    )  # fmt: skip
    assert 400 < count_sentences(automaton) < 5_000
    assert_counted(automaton)


def assert_counted(automaton: Automaton) -> None:
    """The count is that of all sentences, and no two sentences say the same workflow."""
    sentences = every_sentence(automaton)
    assert len(sentences) == len(set(sentences)) == count_sentences(automaton)
    workflows = [decode(each, automaton.vocabulary).workflow for each in sentences]
    assert all(workflow is not None for workflow in workflows)
    assert len({repr(workflow) for workflow in workflows}) == len(sentences)
    assert longest_sentence(automaton) == max(map(len, sentences))


def test_bins_are_the_nodes_own() -> None:
    said = {str(word.value) for word in WORDS.values() if word.group == "steps"}
    assert said == {str(value) for value in NODES["KSampler"].input("steps").bins}


def test_a_resize_never_ends_below_what_was_sampled() -> None:
    text = PLAIN.replace("<end>", "<upscaler:mini_2x> <resize:area> <scale:0.25> <end>")
    assert decode(parse_sentence(text)).problems
    row = asset("upscale_models", "mini_2x")
    assert row is not None and row.scale == 2


def test_all_of_the_catalogue_is_in_the_language() -> None:
    text = " ".join(VOCABULARY)
    assert all(name in text for kind in KINDS for name in known_assets().names(kind))
