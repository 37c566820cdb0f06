"""What `python -m flowdesign votes` tells: scores from votes, and how far the raters agree."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flowdesign.records import Store, UnknownRecord
from flowdesign.votes.agreement import Agreement
from flowdesign.votes.book import Book
from flowdesign.votes.combining import combine
from flowdesign.votes.scoring import SCORER, fit, store_scores
from flowdesign.votes.strengths import Strengths

SHOWN = 10  # records with the highest strengths that are printed

Report = dict[str, Any]


def report(store: Store, weight: float, save: bool) -> tuple[Report, str]:
    """The figures as JSON and as text; `save` stores the strengths as scores of "votes".

    `weight` is that of the votes beside the automatic score. Raises ValueError for one outside 0 to 1.
    """
    book = Book()
    for vote in store.votes():
        book.add_vote(vote)
    strengths = fit(book.votes.values())
    raters = sorted({vote.rater for vote in book.votes.values()})
    found: Report = {
        "votes": sum(vote.choice != "skip" for vote in book.votes.values()),
        "skipped": sum(vote.choice == "skip" for vote in book.votes.values()),
        "nu": strengths.nu,
        "between": asdict(book.standing("").between),
        "raters": [_rater(book, rater) for rater in raters],
        "records": _rows(store, strengths, weight),
        "saved": store_scores(store, strengths) if save else 0,
    }
    return found, _text(found)


def _rater(book: Book, rater: str) -> Report:
    standing = book.standing(rater)
    return {"rater": rater, "votes": standing.votes, "own": asdict(standing.own)}


def _rows(store: Store, strengths: Strengths, weight: float) -> list[Report]:
    """The voted records, strongest first; `automatic` is the store's weighted score."""
    automatic: dict[int, float] = {}
    for record in strengths.items:
        try:
            score = store.get(record).combined
        except UnknownRecord:  # deleted for good in this very moment
            continue
        if score is not None:
            automatic[record] = score
    combined = combine(strengths.items, automatic, weight)
    order = sorted(strengths.items.items(), key=lambda item: -item[1].value)
    return [
        {"record": record, **asdict(one), "automatic": automatic.get(record)}
        | {"combined": combined[record]}
        for record, one in order
    ]


def _text(found: Report) -> str:
    if not found["records"]:
        return "Nobody has voted yet. The Label tab of the app asks for votes."
    lines = [
        f"{found['votes']:,} votes by {len(found['raters'])} raters on {len(found['records']):,} "
        f"records, {found['skipped']:,} skipped; nu {found['nu']:.2f}",
        f"between raters: {_told(Agreement(**found['between']))}",
    ]
    lines += [
        f"{row['rater']}: {row['votes']:,} votes; with their own earlier answers: "
        f"{_told(Agreement(**row['own']))}"
        for row in found["raters"]
    ]
    lines.append(f"highest of {len(found['records']):,} (strength ± standard error, in logits):")
    lines += [
        f"  record {row['record']}  {row['value']:+.2f} ± {row['error']:.2f}  {row['votes']} votes"
        for row in found["records"][:SHOWN]
    ]
    if found["saved"]:
        lines.append(f"{found['saved']:,} strengths are stored as scores of '{SCORER}'.")
    return "\n".join(lines)


def _told(one: Agreement) -> str:
    if one.equal is None:
        return "nothing to compare yet"
    alpha = "" if one.alpha is None else f", Krippendorff's alpha {one.alpha:.2f}"
    return f"{one.equal:.0%} equal on {one.units} pairs{alpha}"
