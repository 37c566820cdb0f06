"""Which pair is asked: information first, the other kinds mixed in, nobody asked twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from flowdesign.records import Vote
from flowdesign.votes import Chooser, Chosen, Group
from flowdesign.votes.choosing import EASY, REPEAT_AFTER, pair_of

ONLY = {mode: {mode: 1.0} for mode in ("uncertain", "shared", "easy", "repeat")}


def group(prompt: str, first: int, expected: Sequence[float]) -> Group:
    """Images with consecutive ids and these expected strengths."""
    return Group(prompt, range(first, first + len(expected)), np.array(expected, dtype=float))


def chooser(groups: Sequence[Group], mode: str | None = None, seed: int = 0) -> Chooser:
    found = Chooser(random.Random(seed), ONLY[mode]) if mode else Chooser(random.Random(seed))
    found.load(groups, [])
    return found


class Poll:
    """Raters who answer what they are asked; votes get ids as a store would give them."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.votes: list[Vote] = []

    def ask(self, rater: str, choice: str = "left") -> tuple[Chosen, Vote] | None:
        found = self.chooser.choose(rater)
        if found is None:
            return None
        number = len(self.votes) + 1
        vote = Vote(
            found.left, found.right, choice, rater, f"t{number}",  # type: ignore[arg-type]
            repeat_of=found.repeat_of, mode=found.mode, id=number,
        )  # fmt: skip
        self.chooser.add(vote)
        self.votes.append(vote)
        return found, vote


def test_the_closest_pair_is_asked_first() -> None:
    found = chooser([group("p", 1, [0.0, 3.0, 3.1, 8.0])], "uncertain").choose("ann")
    assert found is not None
    assert found.pair == (2, 3)
    assert found.prompt == "p"


def test_what_is_known_well_is_not_asked_before_what_is_not() -> None:
    """Two prompts with pairs equally close: the one with many votes teaches less."""
    chosen = chooser([group("known", 1, [0, 0]), group("new", 5, [0, 0])], "uncertain")
    for number in range(20):
        chosen.add(Vote(1, 2, ("left", "right")[number % 2], f"r{number}", f"t{number}", id=number))  # type: ignore[arg-type]
    found = chosen.choose("ann")
    assert found is not None
    assert found.prompt == "new"


def test_votes_change_what_is_uncertain() -> None:
    """After a run of wins the pair is decided, and its neighbour is asked."""
    chosen = chooser([group("p", 1, [0, 0.05, 1.2])], "uncertain")
    first = chosen.choose("ann")
    assert first is not None
    assert first.pair == (1, 2)
    for number in range(30):
        chosen.add(Vote(1, 2, "left", f"r{number}", f"t{number}", id=number))
    then = chosen.choose("ann")
    assert then is not None
    assert then.pair == (1, 3)


def test_easy_pairs_have_a_likely_winner_and_without_any_another_kind_is_asked() -> None:
    found = chooser([group("p", 1, [0.0, 0.1, 4.0])], "easy").choose("ann")
    assert found is not None
    assert (found.mode, found.pair) == ("easy", (1, 3))
    close = chooser([group("p", 1, [0.0, EASY / 2])], "easy").choose("ann")
    assert close is not None
    assert close.mode == "uncertain"


def test_a_pair_that_others_judged_is_shared() -> None:
    poll = Poll(chooser([group("p", 1, [0] * 6)], "shared"))
    asked, _ = poll.ask("ann") or pytest.fail("nothing to ask")
    assert asked.mode == "uncertain"  # nobody has judged anything yet
    again, _ = poll.ask("bob") or pytest.fail("nothing to ask")
    assert again.mode == "shared"
    assert again.pair == asked.pair


def test_a_repeat_comes_after_a_while_once_and_names_its_vote() -> None:
    poll = Poll(chooser([group("p", 1, [0] * 8)], "repeat"))
    repeats = []
    for number in range(28):
        asked, _ = poll.ask("ann") or pytest.fail("nothing to ask")
        if asked.mode == "repeat":
            assert number >= REPEAT_AFTER
            first = poll.votes[(asked.repeat_of or 0) - 1]
            assert pair_of(first.left, first.right) == asked.pair
            repeats.append(asked.repeat_of)
    assert repeats
    assert len(set(repeats)) == len(repeats)


def test_a_skipped_pair_is_neither_repeated_nor_shared_nor_asked_again() -> None:
    poll = Poll(chooser([group("p", 1, [0, 0])], "repeat"))
    assert poll.ask("ann", "skip")
    assert poll.ask("ann") is None
    other = poll.chooser.choose("bob")
    assert other is not None
    assert other.mode == "uncertain"


def test_everybody_is_asked_every_pair_once_before_there_is_nothing_left() -> None:
    poll = Poll(chooser([group("p", 1, [0] * 4), group("q", 9, [0, 1, 2])]))
    while poll.ask("ann"):
        pass
    firsts = [pair_of(v.left, v.right) for v in poll.votes if v.repeat_of is None]
    assert len(firsts) == len(set(firsts)) == 6 + 3


def test_open_pairs_are_not_given_out_twice_to_a_rater_nor_as_new_to_others() -> None:
    chosen = chooser([group("p", 1, [0, 0, 0])])
    mine = {(1, 2), (1, 3)}
    found = chosen.choose("ann", mine=mine)
    assert found is not None
    assert found.pair == (2, 3)
    other = chosen.choose("bob", busy={(1, 2), (2, 3)})
    assert other is not None
    assert other.pair == (1, 3)


def test_sides_are_even() -> None:
    sides = Counter()
    for seed in range(400):
        found = chooser([group("p", 1, [0, 0])], seed=seed).choose("ann")
        assert found is not None
        sides[found.left] += 1
    assert 150 < sides[1] < 250  # 400 tosses: five standard deviations are 50


def test_the_mix_is_as_declared() -> None:
    poll = Poll(chooser([group(str(n), 100 * n, np.linspace(-3, 3, 10)) for n in range(1, 40)]))
    for _ in range(200):
        for rater in ("ann", "bob", "cem"):
            poll.ask(rater, random.choice(["left", "right", "tie"]))
    modes = Counter(vote.mode for vote in poll.votes)
    assert 330 < modes["uncertain"] < 480  # of 600: 390 and what the others could not use
    for mode, share in (("shared", 90), ("easy", 60), ("repeat", 60)):
        assert share / 2 < modes[mode] < share * 1.5, mode


def test_information_learns_faster_than_chance() -> None:
    """After as many votes, the order of the images is nearer to the truth than with random pairs."""
    truth = dict(enumerate(np.linspace(-2.5, 2.5, 10), start=1))

    def errors(informed: bool, seed: int) -> float:
        chance = random.Random(seed)
        asked = chooser([group("p", 1, [0.0] * 10)], "uncertain", seed)
        for number in range(60):
            rater = f"r{number}"
            found = asked.choose(rater)
            assert found is not None
            left, right = (found.left, found.right) if informed else chance.sample(list(truth), 2)
            wins = chance.random() < 1 / (1 + np.exp(truth[right] - truth[left]))
            asked.add(Vote(left, right, "left" if wins else "right", rater, rater, id=number + 1))
        pairs, difference, _ = asked.groups["p"].pairs()
        wrong = [difference[n] * (truth[a] - truth[b]) < 0 for n, (a, b) in enumerate(pairs)]
        return float(np.mean(wrong))

    rounds = range(12)
    informed = float(np.mean([errors(True, seed) for seed in rounds]))
    chance = float(np.mean([errors(False, seed) for seed in rounds]))
    assert informed < chance


def test_an_image_that_has_gone_is_asked_no_more() -> None:
    chosen = chooser([group("p", 1, [0, 0, 0]), group("q", 7, [0, 0])])
    chosen.drop(2)
    chosen.drop(8)
    poll = Poll(chosen)
    asked, _ = poll.ask("ann") or pytest.fail("nothing to ask")
    assert asked.pair == (1, 3)
    assert poll.ask("ann") is None


def test_a_vote_taken_back_is_unlearnt() -> None:
    chosen = chooser([group("p", 1, [0, 0, 0])])
    before = chosen.groups["p"].pairs()[2].copy()
    vote = Vote(1, 2, "left", "ann", "t", id=1)
    chosen.add(vote)
    assert not np.allclose(chosen.groups["p"].pairs()[2], before)
    chosen.remove(vote)
    assert np.allclose(chosen.groups["p"].pairs()[2], before)
