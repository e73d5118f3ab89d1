"""The tables of `run.sqlite`, as the steps that made them. Append only: a step that was released is never edited.

Columns that hold floats have no type on purpose: SQLite would store -0.0 in a REAL column as 0. See `values.py` for NaN.
"""

from __future__ import annotations

import sqlite3

from maao.store.attempts import SUMMED


def m001_initial(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        # loss and accuracy repeat what `score` holds, for people and listings. *_tensors name files in tensors/.
        """CREATE TABLE rounds (
            round INTEGER PRIMARY KEY, date TEXT NOT NULL, steps INTEGER NOT NULL, asked INTEGER NOT NULL, step INTEGER NOT NULL,
            loss, accuracy, chosen INTEGER, reason TEXT NOT NULL,
            leg TEXT NOT NULL, score TEXT NOT NULL, clues TEXT NOT NULL,
            cost TEXT NOT NULL, advice_cost TEXT NOT NULL, verdict_cost TEXT NOT NULL,
            verdict_tensors TEXT NOT NULL, verdict_meta TEXT NOT NULL, state_tensors TEXT NOT NULL, state_meta TEXT NOT NULL)""",
        """CREATE TABLE observations (
            round INTEGER NOT NULL REFERENCES rounds, position INTEGER NOT NULL, step INTEGER NOT NULL, loss, note TEXT,
            params_tensors TEXT, cost TEXT NOT NULL, PRIMARY KEY (round, position)) WITHOUT ROWID""",
        """CREATE TABLE proposals (
            round INTEGER NOT NULL REFERENCES rounds, position INTEGER NOT NULL, text TEXT NOT NULL, source TEXT NOT NULL, note TEXT,
            fields TEXT NOT NULL, params_tensors TEXT NOT NULL, PRIMARY KEY (round, position)) WITHOUT ROWID""",
        """CREATE TABLE rejected (
            round INTEGER NOT NULL REFERENCES rounds, position INTEGER NOT NULL, text TEXT NOT NULL, reason TEXT NOT NULL,
            PRIMARY KEY (round, position)) WITHOUT ROWID""",
        """CREATE TABLE considered (
            round INTEGER NOT NULL REFERENCES rounds, position INTEGER NOT NULL, proposal INTEGER, loss, accuracy, age INTEGER NOT NULL,
            weight, score TEXT NOT NULL, PRIMARY KEY (round, position)) WITHOUT ROWID""",
        """CREATE TABLE calls (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL,
            date TEXT NOT NULL, seconds, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, usd, created TEXT NOT NULL)""",
        """CREATE TABLE finals (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, split TEXT NOT NULL, loss, accuracy, score TEXT NOT NULL, text TEXT NOT NULL,
            date TEXT NOT NULL, UNIQUE (name, split))""",
    ):
        connection.execute(statement)


def m002_checksum(connection: sqlite3.Connection) -> None:
    # Over all rows of a round, so that rows that are gone or changed are found out. NULL: stored before there was one.
    connection.execute("ALTER TABLE rounds ADD COLUMN checksum TEXT")


def m003_kinds(connection: sqlite3.Connection) -> None:
    # NULL: stored before there was one, when the reason began with what it was. `rows.py` reads it so.
    connection.execute("ALTER TABLE rejected ADD COLUMN kind TEXT")
    connection.execute("ALTER TABLE proposals ADD COLUMN mentor TEXT NOT NULL DEFAULT ''")
    connection.execute("ALTER TABLE proposals ADD COLUMN replaces INTEGER")
    child = "evoprompt de, child of member "  # a proposal's source began so, and ended with the number
    connection.execute(
        "UPDATE proposals SET replaces = CAST(substr(source, ?) AS INTEGER) WHERE source LIKE ?", (len(child) + 1, child + "%")
    )


def m004_walks(connection: sqlite3.Connection) -> None:
    # The points that a rule looked at, where it keeps all walks.
    connection.execute("ALTER TABLE considered ADD COLUMN params_tensors TEXT")


def m005_awaited(connection: sqlite3.Connection) -> None:
    # Requests whose replies come as a file. They stay when they are answered: what is open is what `calls` has no reply to.
    connection.execute(
        "CREATE TABLE awaited (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, request TEXT NOT NULL, created TEXT NOT NULL)"
    )


def m006_attempts(connection: sqlite3.Connection) -> None:
    # Every attempt, before it goes (`attempts.py`). What brought a reply is counted in `calls`.
    connection.execute(
        """CREATE TABLE attempts (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL, who TEXT NOT NULL, state TEXT NOT NULL, waited INTEGER NOT NULL DEFAULT 0,
            calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, usd, created TEXT NOT NULL)"""
    )
    connection.execute("CREATE INDEX attempts_by_key ON attempts (key)")


def m007_sums(connection: sqlite3.Connection) -> None:
    # What attempts came to, kept with every change (`attempts.py`).
    for statement in SUMMED:
        connection.execute(statement)


def m008_asked(connection: sqlite3.Connection) -> None:
    # Requests, before they go. One that brought a reply stands in `calls` instead; one that never went has no attempt.
    connection.execute(
        "CREATE TABLE asked (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, request TEXT NOT NULL, created TEXT NOT NULL)"
    )


# The schema version is how many of these were made.
MIGRATIONS = (m001_initial, m002_checksum, m003_kinds, m004_walks, m005_awaited, m006_attempts, m007_sums, m008_asked)
