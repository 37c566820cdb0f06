"""Votes and ratings, stored once each: the token that came with the pair says whether it is new."""

from __future__ import annotations

import sqlite3

from flowdesign.records.record import Rating, TokenTaken, Vote, now
from flowdesign.records.writing import check_known, check_one_prompt

TABLES = ("votes", "ratings")


def store_vote(connection: sqlite3.Connection, vote: Vote) -> int:
    """Store a vote and give its id, or the id of the vote that has its token."""
    known = _known(connection, "votes", vote.token, vote.rater)
    if known is not None:
        return known
    check_known(connection, (vote.left, vote.right))
    check_one_prompt(connection, vote.left, vote.right)
    cursor = connection.execute(
        'INSERT INTO votes (token, "left", "right", choice, rater, milliseconds, created,'
        " repeat_of, mode) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            vote.token, vote.left, vote.right, vote.choice, vote.rater, vote.milliseconds,
            vote.created or now(), vote.repeat_of, vote.mode,
        ),
    )  # fmt: skip
    return int(cursor.lastrowid or 0)


def store_rating(connection: sqlite3.Connection, rating: Rating) -> int:
    """Store a rating and give its id, or the id of the rating that has its token."""
    known = _known(connection, "ratings", rating.token, rating.rater)
    if known is not None:
        return known
    check_known(connection, (rating.record,))
    cursor = connection.execute(
        "INSERT INTO ratings (token, record, stars, rater, milliseconds, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            rating.token, rating.record, rating.stars, rating.rater, rating.milliseconds,
            rating.created or now(),
        ),
    )  # fmt: skip
    return int(cursor.lastrowid or 0)


def undo(connection: sqlite3.Connection, token: str, rater: str) -> bool:
    """Mark a rater's vote or rating as undone. Its row stays, so that a reload cannot revive it."""
    changed = [
        connection.execute(
            f"UPDATE {table} SET undone = ? WHERE token = ? AND rater = ? AND undone = ''",
            (now(), token, rater),
        ).rowcount
        for table in TABLES
    ]
    return any(changed)


def _known(connection: sqlite3.Connection, table: str, token: str, rater: str) -> int | None:
    row = connection.execute(f"SELECT id, rater FROM {table} WHERE token = ?", (token,)).fetchone()
    if row is None:
        return None
    if row[1] != rater:
        raise TokenTaken("This vote was made for another rater; ask for a new pair.")
    return int(row[0])
