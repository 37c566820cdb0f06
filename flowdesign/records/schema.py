"""The store's tables, and the steps that bring an older file up to date.

`PRAGMA user_version` counts the steps that a file has taken. A step is never changed once it was
released; a change of the tables is a new step at the end. Each is one transaction.

`facets` has a row for every combination of the low-cardinality values that occurs; triggers count
its records. So the total of a filter is exact at once, and a page of any combination costs a look
at each facet's newest records, however many records there are (`paging`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from flowdesign.records.record import StoreError, StoreTooNew

COMBINED_ID = 0  # of the scorer "combined"
_RECORDS = """
CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE scorers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO scorers VALUES (0, 'combined');
CREATE TABLE weights (
    scorer INTEGER PRIMARY KEY REFERENCES scorers(id),
    weight REAL NOT NULL,
    mean REAL NOT NULL,
    sd REAL NOT NULL
);

CREATE TABLE prompts (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE,
    normalised TEXT NOT NULL,
    split TEXT NOT NULL,
    category TEXT NOT NULL
);
CREATE VIRTUAL TABLE prompts_found USING fts5(
    normalised, content='prompts', content_rowid='id', tokenize='trigram'
);
CREATE TRIGGER prompts_added AFTER INSERT ON prompts BEGIN
    INSERT INTO prompts_found(rowid, normalised) VALUES (new.id, new.normalised);
END;
CREATE TRIGGER prompts_removed AFTER DELETE ON prompts BEGIN
    INSERT INTO prompts_found(prompts_found, rowid, normalised)
        VALUES ('delete', old.id, old.normalised);
END;

CREATE TABLE workflows (
    id INTEGER PRIMARY KEY,
    graph TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL,
    split TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    sampler TEXT NOT NULL
);
CREATE TABLE components (
    workflow INTEGER NOT NULL REFERENCES workflows(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (workflow, kind, value)
) WITHOUT ROWID;

CREATE TABLE facets (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    prompt_split TEXT NOT NULL,
    workflow_split TEXT NOT NULL,
    category TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    sampler TEXT NOT NULL,
    has_image INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    UNIQUE (source, prompt_split, workflow_split, category, checkpoint, sampler, has_image, failed,
        deleted)
);

CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    prompt INTEGER NOT NULL REFERENCES prompts(id),
    workflow INTEGER NOT NULL REFERENCES workflows(id),
    facet INTEGER NOT NULL REFERENCES facets(id),
    seed INTEGER NOT NULL,
    image BLOB,
    sentence INTEGER NOT NULL REFERENCES texts(id),
    assets INTEGER NOT NULL REFERENCES texts(id),
    renderer INTEGER NOT NULL REFERENCES texts(id),
    fidelity INTEGER NOT NULL REFERENCES texts(id),
    seconds REAL NOT NULL,
    failure TEXT NOT NULL,
    created TEXT NOT NULL,
    deletion INTEGER
);
CREATE INDEX records_by_facet ON records(facet, id, prompt);
CREATE INDEX records_by_prompt ON records(prompt, id, facet);
CREATE INDEX records_by_workflow ON records(workflow);
CREATE INDEX records_by_image ON records(image) WHERE image IS NOT NULL;
CREATE TRIGGER records_added AFTER INSERT ON records BEGIN
    UPDATE facets SET records = records + 1 WHERE id = new.facet;
END;
CREATE TRIGGER records_removed AFTER DELETE ON records BEGIN
    UPDATE facets SET records = records - 1 WHERE id = old.facet;
END;
CREATE TRIGGER records_moved AFTER UPDATE OF facet ON records BEGIN
    UPDATE facets SET records = records - 1 WHERE id = old.facet;
    UPDATE facets SET records = records + 1 WHERE id = new.facet;
END;

CREATE TABLE scores (
    record INTEGER NOT NULL REFERENCES records(id) ON DELETE CASCADE,
    scorer INTEGER NOT NULL REFERENCES scorers(id),
    value REAL,
    PRIMARY KEY (record, scorer)
) WITHOUT ROWID;
CREATE INDEX scores_by_value ON scores(scorer, value, record);
"""

_BALLOTS = """
CREATE TABLE votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    "left" INTEGER NOT NULL REFERENCES records(id) ON DELETE CASCADE,
    "right" INTEGER NOT NULL REFERENCES records(id) ON DELETE CASCADE,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'skip')),
    rater TEXT NOT NULL,
    milliseconds INTEGER NOT NULL,
    created TEXT NOT NULL,
    repeat_of INTEGER REFERENCES votes(id) ON DELETE SET NULL,
    mode TEXT NOT NULL,
    undone TEXT NOT NULL DEFAULT '',
    CHECK ("left" <> "right")
);
CREATE INDEX votes_by_rater ON votes(rater, id);
CREATE INDEX votes_by_left ON votes("left");
CREATE INDEX votes_by_right ON votes("right");
CREATE INDEX votes_by_repeat ON votes(repeat_of);

CREATE TABLE ratings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    record INTEGER NOT NULL REFERENCES records(id) ON DELETE CASCADE,
    stars INTEGER NOT NULL CHECK (stars BETWEEN 1 AND 5),
    rater TEXT NOT NULL,
    milliseconds INTEGER NOT NULL,
    created TEXT NOT NULL,
    undone TEXT NOT NULL DEFAULT ''
);
CREATE INDEX ratings_by_rater ON ratings(rater, id);
CREATE INDEX ratings_by_record ON ratings(record);
"""

_DELETIONS = """
CREATE TABLE deletions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    who TEXT NOT NULL,
    created TEXT NOT NULL
);
CREATE INDEX records_by_deletion ON records(deletion) WHERE deletion IS NOT NULL;
"""

MIGRATIONS: tuple[str, ...] = (_RECORDS, _BALLOTS, _DELETIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """How many steps the file has taken; 0 is an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Take the steps that the file lacks. Raises StoreTooNew, StoreError.

    Two processes may open an old file at once: the second waits for the lock and finds it done.
    """
    try:
        while (version := _checked(connection, path)) < len(MIGRATIONS):
            _step(connection, version)
    except sqlite3.DatabaseError as fault:
        raise StoreError(f"{path} cannot be used as a store of records: {fault}.") from fault


def _checked(connection: sqlite3.Connection, path: Path) -> int:
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{path} was written by a newer FlowDesign (its tables are version {version}, this one "
            f"knows up to {len(MIGRATIONS)}). Update FlowDesign, or let FLOWDESIGN_DATA name "
            "another folder."
        )
    return version


def _step(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version_of(connection) == version:  # nobody was quicker
            for statement in _statements(MIGRATIONS[version]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """A script's statements one by one: `executescript` would end the transaction first."""
    found, draft = [], ""
    for line in script.splitlines(keepends=True):
        draft += line
        if sqlite3.complete_statement(draft):
            found.append(draft)
            draft = ""
    return [statement for statement in found if statement.strip()]
