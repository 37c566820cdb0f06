"""What is read of sentences that are being said, against reading each of them whole."""

import pytest
import torch
from toys import write_tiny_base

from flowdesign.catalog import known_assets
from flowdesign.growing import Growing, in_order
from flowdesign.guidance import Pair
from flowdesign.habits import MEMORY, Habits
from flowdesign.policy import Anatomy, Policy
from flowdesign.sampling import Unconstrained

PROMPTS = ["a red star", "two blue circles on mint", "a red star"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    base = str(write_tiny_base(tmp_path_factory.mktemp("base")))
    return Policy.create(Anatomy(base, 4), models=known_assets())


def test_equal_beginnings_are_read_once_and_see_themselves_only() -> None:
    """Row 0 has a prompt of two tokens and three sentences, row 1 one of one token and one sentence."""
    _, places = in_order([[7, 8], [7]], 0)
    growing = Growing([0, 0, 0, 1], places.there)
    lot = growing.grow([[1], [1], [1], [1]])
    assert lot.ids.tolist() == [[1], [1]] and lot.which == [0, 0, 0, 1]
    assert lot.places.sees.int().tolist() == [[[1, 1, 1]], [[1, 0, 1]]]
    assert lot.places.positions.tolist() == [[2], [1]]
    lot = growing.grow([[2], [3, 4], [2], [5]])
    assert lot.ids.tolist() == [[2, 3, 4], [5, 0, 0]] and lot.which == [0, 1, 0, 2]
    assert lot.places.there.int().tolist() == [[1, 1, 1], [1, 0, 0]]
    assert lot.places.sees[0].int().tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 1, 0, 1, 1],
    ]
    assert lot.ends.tolist() == [[0], [2], [3]]


def test_a_guess_that_came_true_is_not_read_again() -> None:
    growing = Growing([0, 0], torch.ones(1, 1).bool())
    lot = growing.grow([[1], [1]], [[2, 3], [2, 3]])
    assert lot.ids.tolist() == [[1, 2, 3]] and lot.ends.tolist() == [[0, 1, 2]]
    lot = growing.grow([[2, 3, 4], [2, 5]])
    assert lot.ids.tolist() == [[4, 5]]
    assert lot.places.sees.int().tolist() == [[[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 1]]]
    assert lot.places.positions.tolist() == [[4, 3]]


def test_rows_that_nobody_needs_are_told() -> None:
    growing = Growing([0, 1, 2, 2], torch.ones(3, 1).bool())
    growing.grow([[1]] * 4)
    assert growing.keep([3, 1]) == [1, 2]
    assert growing.grow([[5], [6]]).ids.tolist() == [[6], [5]]


@torch.no_grad()
def test_logits_are_those_of_sentences_that_are_read_alone(policy: Policy) -> None:
    """Sentences that part, that catch up with others, with guesses that are right, wrong and half right."""
    said: list[list[int]] = [[], [], []]
    session = policy.open(PROMPTS)
    begin = policy.begin
    for tokens, guesses in (
        ([[begin], [begin], [begin]], [[3, 4], [3], [3, 4]]),
        ([[3, 4, 5], [6], [3, 7]], [[8], [], [4, 4]]),
        ([[9], [2, 2], [4, 1]], [[], [1, 2, 3], []]),
        ([[1], [1, 2, 9], [2]], ()),
    ):
        logits = session.feed(tokens, guesses)
        for number, new in enumerate(tokens):
            said[number] += new
            guess = list(guesses[number]) if guesses else []
            whole = [*said[number], *guess, 0][1:]  # `logits` opens a sentence itself
            alone = policy.logits([PROMPTS[number]], [whole])[0, len(said[number]) - 1 :]
            torch.testing.assert_close(
                logits[number, : 1 + len(guess)], alone, rtol=1e-4, atol=1e-4
            )


def test_habits_guess_what_followed_most_often() -> None:
    language, habits = Unconstrained(9, end=8, longest=20), Habits()
    for said in ([0, 1, 2, 3], [0, 1, 2, 4], [5, 1, 2, 4], [5, 1, 2, 4], [4, 6]):
        for place in range(1, len(said)):
            habits.learn(said[:place], said[place])
    start = language.start()
    assert habits.guess([7, 1, 2], language, start, 9) == [4, 6]
    assert habits.guess([0, 1], language, start, 1) == [2]
    assert habits.guess([7], language, start, 9) == []
    habits.learn([6], 8)
    assert habits.guess([4], language, start, 9) == [6]  # nothing follows the end


def test_habits_never_guess_what_is_forbidden() -> None:
    habits, language = Habits(), Unconstrained(3, end=2, longest=20)
    habits.learn([0], 5)
    habits.learn([0], 5)
    assert habits.guess([0], language, language.start(), 9) == []
    habits.learn([0], 1)
    assert habits.guess([0], language, language.start(), 1) == [1]


def test_habits_forget_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MEMORY > 1000
    monkeypatch.setattr("flowdesign.habits.MEMORY", 10)
    habits = Habits()
    for number in range(100):
        habits.learn([number], 0)
    assert len(habits._followed) <= 11


def test_what_cannot_be_answered_is_refused() -> None:
    growing = Growing([0, 0], torch.ones(1, 1).bool())
    with pytest.raises(ValueError, match="guess the same"):
        growing.grow([[1], [1]], [[2], [3]])
    growing.grow([[1], [1]], [[2, 3], [2, 3]])
    with pytest.raises(ValueError, match="not guessed"):
        growing.grow([[2, 3], [2, 3, 4]])


def test_nothing_is_guessed_where_rounding_would_show(policy: Policy) -> None:
    coarse = Policy.create(policy.anatomy, "bf16", models=known_assets())
    assert coarse.habits is None and coarse.twin().habits is None
    assert policy.habits is not None and policy.twin().habits is not policy.habits
    assert Pair(coarse, coarse.twin()).at(2.0).habits is None
    one, again = (coarse.sample("a red star", 6, 1) for _ in range(2))
    assert one == again  # to the last bit
