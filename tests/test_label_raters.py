"""Fifty raters at once through the HTTP interface of a running app: nothing lost, nothing doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from studio_toys import toy_studio
from votes_toys import fill

from flowdesign.bench.raters import simulate
from flowdesign.ui.shared import SharedStore


@pytest.mark.slow
def test_fifty_raters_cast_two_thousand_votes(
    serve: Callable[..., str], served_folder: Path, tmp_path: Path
) -> None:
    records = SharedStore(tmp_path)
    fill(records(), [f"a red star number {n}" for n in range(40)], 6, scores=True)
    address = serve(toy_studio(served_folder), records=records)
    found = simulate(address, raters=50, votes=2000)
    print(found.figures)
    assert found.resent > 20  # answers that arrived twice at the same time

    stored = list(records().votes())
    assert len(stored) == records().count_votes() == 2000
    assert {vote.token: vote.choice for vote in stored} == found.sent
    assert set(Counter(vote.rater for vote in stored).values()) == {40}

    firsts = [vote for vote in stored if vote.repeat_of is None]
    pairs = {(vote.rater, frozenset((vote.left, vote.right))) for vote in firsts}
    assert len(pairs) == len(firsts)  # nobody was asked the same pair twice, but for repeats
    modes = Counter(vote.mode for vote in stored)
    assert modes["uncertain"] > modes["shared"] > 0
    assert modes["easy"] and modes["repeat"]
    asked = {vote.id: (vote.rater, frozenset((vote.left, vote.right))) for vote in stored}
    for vote in stored:
        if vote.repeat_of is not None:
            assert asked[vote.repeat_of] == asked[vote.id]
