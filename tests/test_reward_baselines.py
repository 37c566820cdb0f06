"""Baselines: each learns what it can, by hand where that is possible, and chooses on validation only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
from reward_tables import table_of

from flowdesign.catalog import known_assets
from flowdesign.records import Split
from flowdesign.reward import baselines
from flowdesign.reward.baselines import (
    BASELINES,
    BoostedTrees,
    ComponentMeans,
    Examples,
    NearestNeighbour,
    Ridge,
    fit_baselines,
)
from flowdesign.reward.bootstrap import Values
from flowdesign.reward.components import Columns, components_of, words_of
from flowdesign.reward.data import Table
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence

Sentence = tuple[int, ...]
CHECKPOINTS = ("mini_flat", "mini_outline", "mini_night", "mini_striped")
THINGS = ("star", "fish", "house", "tree")


@lru_cache(maxsize=1)
def _sentences() -> tuple[Sentence, ...]:
    rng = random.Random("baselines")
    language = Automaton(VOCABULARY, known_assets())
    return tuple(dict.fromkeys(random_sentence(language, rng) for _ in range(160)))


def _examples(pairs: Sequence[tuple[str, Sentence]], score: Values) -> Examples:
    prompts, sentences = zip(*pairs, strict=True)
    return Examples(prompts, sentences, score, np.ones(len(score)))


def test_components_tell_the_passes_apart() -> None:
    for sentence in _sentences():
        parts = components_of(sentence)
        assert len(parts) == len(set(parts))
        tokens = [VOCABULARY.words[token] for token in sentence]
        assert f"checkpoint={tokens[0].value}" in parts
        samplers = [str(word.value) for word in tokens if word.group == "sampler"]
        said = [part.partition("=")[2] for part in parts if " sampler=" in part]
        assert said == samplers
        loras = [word.value for word in tokens if word.group == "lora" and word.value != "none"]
        assert [part for part in parts if part.startswith("lora=")] == [f"lora={n}" for n in loras]
        passes = 1 + sum(word.group == "pass" for word in tokens)
        assert f"passes={passes}" in parts
    assert len({components_of(sentence) for sentence in _sentences()}) == len(_sentences())


def test_columns_are_what_training_met() -> None:
    columns = Columns.of([("a", "b"), ("a", "c"), ("a", "b")], fewest=2)
    assert list(columns.places) == ["a", "b"]
    assert columns([("b", "x"), ("a", "b"), ()]).tolist() == [[0, 1], [1, 1], [0, 0]]
    assert words_of("A red STAR, a fish") == ("a", "red", "star", "fish")


def test_examples_are_means_of_seeds() -> None:
    table = table_of([(0, 0, 0, 1.0), (0, 0, 1, 2.0), (1, 0, 0, 4.0)])
    found = Examples.of(table, np.arange(3))
    assert found.score.tolist() == [1.5, 4.0]
    assert found.weight.tolist() == [2, 1]
    assert found.prompts == ["prompt 0", "prompt 1"]
    # Twice (1.5 - 2)^2 and once (4 - 2)^2, over three images.
    assert found.error(np.full(2, 2.0)) == pytest.approx((0.5 + 4) / 3)


def _halves(score: Values, prompts: Sequence[str] = ("a star",)) -> tuple[Examples, Examples]:
    """Examples of all sentences, the even ones to learn from and the odd ones to choose with."""
    pairs = [(prompts[i % len(prompts)], s) for i, s in enumerate(_sentences())]
    even, odd = slice(0, None, 2), slice(1, None, 2)
    return _examples(pairs[even], score[even]), _examples(pairs[odd], score[odd])


def test_component_means_by_hand() -> None:
    """Where one component alone decides, the sum of all means is led by it."""
    one, other = _sentences()[0], next(s for s in _sentences() if s[0] != _sentences()[0][0])
    training = _examples([("p", one), ("p", other)], np.array([3.0, 1.0]))
    baseline = ComponentMeans()
    baseline.fit(training, training)
    # Each component that one has alone lies 1 above the mean, each of the other alone 1 below: the
    # factor turns their sums into the scores only if both have equally many.
    mine = len(set(components_of(one)) - set(components_of(other)))
    theirs = len(set(components_of(other)) - set(components_of(one)))
    factor = (mine + theirs) / (mine**2 + theirs**2)
    expected = [2 + factor * mine, 2 - factor * theirs]
    assert baseline.predict(["p", "q"], [one, other]).tolist() == pytest.approx(expected)


def test_ridge_is_the_solution_of_its_equation() -> None:
    score = np.random.default_rng(0).normal(size=len(_sentences()))
    training, validation = _halves(score)
    training.weight[:5] = 3.0
    baseline = Ridge()
    baseline.fit(training, validation)
    parts = [components_of(sentence) for sentence in training.sentences]
    x = Columns.of(parts)(parts)
    centre = np.average(x, axis=0, weights=training.weight)
    mean = np.average(training.score, weights=training.weight)
    w = np.diag(training.weight)
    left = (x - centre).T @ w @ (x - centre) + baseline.strength * np.eye(x.shape[1])
    solution = np.linalg.solve(left, (x - centre).T @ w @ (training.score - mean))
    expected = mean + (x - centre) @ solution
    np.testing.assert_allclose(
        baseline.predict(training.prompts, training.sentences), expected, atol=1e-8
    )


def test_the_strength_is_chosen_on_validation() -> None:
    rng = np.random.default_rng(1)
    additive = np.array([len(components_of(s)) + 2.0 * (s[0] % 2) for s in _sentences()])
    strengths = []
    for score in (additive, rng.normal(size=len(additive))):
        baseline = Ridge()
        baseline.fit(*_halves(score))
        strengths.append(baseline.strength)
    assert strengths[0] < strengths[1]  # nothing can be learned of noise: hold all weights down


def test_the_nearest_neighbour_by_hand() -> None:
    a, b, c = _sentences()[:3]
    training = _examples(
        [("a red star", a), ("a red star", b), ("two fish", a)], np.array([1.0, 5.0, 9.0])
    )
    baseline = NearestNeighbour()
    baseline.fit(training, training)
    assert baseline.k == 1  # every pair is its own neighbour
    assert baseline.predict(training.prompts, training.sentences).tolist() == [1, 5, 9]
    (distances,) = baseline._distances(["a star"], [c], share=0.5)
    parts = [set(components_of(each)) for each in (a, b, c)]
    alike = [len(parts[2] & other) / len(parts[2] | other) for other in parts[:2]]
    expected = [
        0.5 * (1 - 2 / 3) + 0.5 * (1 - alike[0]),
        0.5 * (1 - 2 / 3) + 0.5 * (1 - alike[1]),
        0.5 * 1 + 0.5 * (1 - alike[0]),
    ]
    assert distances[0].tolist() == pytest.approx(expected)
    # A word that training never met makes prompts less alike.
    (more,) = baseline._distances(["a star unseen"], [c], share=1.0)
    assert more[0].tolist() == pytest.approx([1 - 2 / 4, 1 - 2 / 4, 1])


def test_neighbours_by_embedding_and_weight() -> None:
    a = _sentences()[0]
    training = Examples(
        ["north", "north east", "south"], [a] * 3, np.array([1.0, 4.0, 9.0]), np.array([3.0, 1, 1])
    )
    known = {"north": (0, 2), "north east": (1, 1), "south": (0, -1), "up": (0.1, 1)}
    baseline = NearestNeighbour(lambda prompts: np.array([known[each] for each in prompts]))
    baseline.fit(training, training)
    assert baseline._means(["up"], [a], 0.5, (1, 2, 100)).tolist() == [
        pytest.approx([1, (3 * 1 + 4) / 4, (3 * 1 + 4 + 9) / 5])
    ]


def _suits(thing: str, sentence: Sentence) -> float:
    """What is best depends on the prompt: each thing has a checkpoint of its own."""
    return float(VOCABULARY.words[sentence[0]].value == CHECKPOINTS[THINGS.index(thing)])


def _keyed_table() -> Table:
    """Prompts whose thing decides which checkpoint is good; the test rows are of new prompts."""
    rng = random.Random("keyed")
    prompts = [f"a {colour} {thing}" for colour in "abcdefghij" for thing in THINGS]
    splits: list[Split] = ["train"] * 28 + ["validation"] * 4 + ["test"] * 8
    rows = [
        (p, s, 0, _suits(prompt.split()[-1], _sentences()[s]) + rng.gauss(0, 0.1))
        for p, prompt in enumerate(prompts)
        for s in rng.sample(range(len(_sentences())), 60)
    ]
    many = len(_sentences())
    return table_of(rows, splits, ["train"] * many, prompts, _sentences())


def test_only_what_reads_the_prompt_learns_what_depends_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baselines, "MOST_TREES", 100)
    table = _keyed_table()
    fitted = fit_baselines(table)
    assert list(fitted) == list(BASELINES)
    rows = table.rows(["test"], ["train"])
    test = Examples.of(table, rows)
    errors = {
        name: test.error(each.predict(test.prompts, test.sentences)) / test.score.var()
        for name, each in fitted.items()
    }
    assert errors["boosted trees"] < 0.3
    assert errors["nearest neighbour"] < 0.8
    assert min(errors["ridge"], errors["component means"]) > 0.85  # blind to the prompt


def test_trees_take_an_embedding_and_their_number_is_chosen_on_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baselines, "MOST_TREES", 100)
    table = _keyed_table()
    read: list[str] = []

    def embed(prompts: Sequence[str]) -> Values:
        read.extend(prompts)
        return np.array([[THINGS.index(each.split()[-1])] for each in prompts], float)

    found = fit_baselines(table, embed, names=["boosted trees"])["boosted trees"]
    assert isinstance(found, BoostedTrees)
    assert 1 < found.trees < 100
    assert not {p for p, split in zip(table.prompts, table.prompt_split, strict=True)
                if split == "test"} & set(read)  # fmt: skip
    test = Examples.of(table, table.rows(["test"], ["train"]))
    assert test.error(found.predict(test.prompts, test.sentences)) < 0.3 * test.score.var()
    # A validation split of noise is not improved by any tree.
    noise = Examples(test.prompts, test.sentences, -test.score, test.weight)
    worse = BoostedTrees()
    worse.fit(Examples.of(table, table.training), noise)
    assert worse.trees == 1


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_never_see_test_rows_and_are_repeatable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "MOST_TREES", 20)  # what is tested does not need more
    table = _keyed_table()
    test = table.rows(["test"], ["train"])
    changed = table.combined.copy()
    changed[test] += 100
    other = table_of(
        [*zip(table.prompt.tolist(), table.sentence.tolist(), table.seed.tolist(), changed, strict=True)],
        table.prompt_split, table.sentence_split, table.prompts, table.sentences,
    )  # fmt: skip
    examples = Examples.of(table, test)
    said = [
        fit_baselines(each, names=[name])[name].predict(examples.prompts, examples.sentences)
        for each in (table, other)
    ]
    np.testing.assert_array_equal(said[0], said[1])
    assert fit_baselines(table, names=[name])[name].predict([], []).shape == (0,)


def test_a_split_without_rows_is_named() -> None:
    table = table_of([(0, 0, 0, 1.0)], ["train"], ["train"])
    with pytest.raises(ValueError, match="validation split"):
        fit_baselines(table)
