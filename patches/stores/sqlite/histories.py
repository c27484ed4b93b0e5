"""The histories of a client's documents in its SQLite file, for the transactions of its stores."""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.model.history import NO_HISTORY, History
from patches.stores.sqlite.file_kind import Schema
from patches.stores.sqlite.keys import from_key, to_key

HISTORIES_SCHEMA: Final = Schema(
    name="histories",
    script="""
CREATE TABLE IF NOT EXISTS histories (
    doc_id BLOB PRIMARY KEY, token BLOB, last_rev INTEGER NOT NULL, last_id BLOB
) WITHOUT ROWID;
""",
    known_by=frozenset({"histories"}),
)


def load_history(conn: sqlite3.Connection, doc_id: str) -> History:
    """What is stored of a document's history."""
    row = conn.execute(
        "SELECT token, last_rev, last_id FROM histories WHERE doc_id = ?", (to_key(doc_id),)
    ).fetchone()
    if row is None:
        return NO_HISTORY
    return History(_string(row[0]), row[1], _string(row[2]))


def put_history(conn: sqlite3.Connection, doc_id: str, history: History) -> None:
    """Store a document's history in the place of the one before."""
    conn.execute(
        "INSERT OR REPLACE INTO histories VALUES (?, ?, ?, ?)",
        (to_key(doc_id), _key(history.token), history.last_rev, _key(history.last_id)),
    )


def advance_history(conn: sqlite3.Connection, doc_id: str, rev: int, change_id: str | None) -> None:
    """Store a copy's newest change; its token stays."""
    conn.execute(
        "INSERT INTO histories VALUES (?, NULL, ?, ?) ON CONFLICT (doc_id) DO UPDATE SET "
        "last_rev = excluded.last_rev, last_id = excluded.last_id",
        (to_key(doc_id), rev, _key(change_id)),
    )


def forget_history(conn: sqlite3.Connection, doc_id: str) -> None:
    """The document's copy is gone."""
    conn.execute("DELETE FROM histories WHERE doc_id = ?", (to_key(doc_id),))


def _key(value: str | None) -> bytes | None:
    return None if value is None else to_key(value)


def _string(value: bytes | None) -> str | None:
    return None if value is None else from_key(value)
