"""The histories of a client's documents in its SQLite file, for the transactions of its stores."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from patches.model.history import NO_HISTORY, History
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.file_kind import Schema
from patches.stores.sqlite.keys import from_key, to_key

_log = logging.getLogger("patches.stores")


def _with_sums(conn: sqlite3.Connection) -> None:
    """Version 1 had no checksums."""
    conn.execute("ALTER TABLE histories ADD COLUMN sum INTEGER NOT NULL DEFAULT 0")
    for *values, _ in conn.execute("SELECT * FROM histories").fetchall():
        conn.execute("UPDATE histories SET sum = ? WHERE doc_id = ?", (_sum(*values), values[0]))


HISTORIES_SCHEMA: Final = Schema(
    name="histories",
    version=2,
    script="""
CREATE TABLE IF NOT EXISTS histories (
    doc_id BLOB PRIMARY KEY, token BLOB, last_rev INTEGER NOT NULL, last_id BLOB,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
""",
    known_by=frozenset({"histories"}),
    migrations={1: _with_sums},
)


def load_history(conn: sqlite3.Connection, doc_id: str) -> History:
    """What is stored of a document's history; of a damaged row nothing is known.

    The next answer of the server has the history again.
    """
    row = conn.execute("SELECT * FROM histories WHERE doc_id = ?", (to_key(doc_id),)).fetchone()
    if row is None:
        return NO_HISTORY
    *values, checksum = row
    if _sum(*values) != checksum:
        _log.warning("document %r: what is stored of its history is damaged", doc_id)
        return NO_HISTORY
    _, token, last_rev, last_id = values
    return History(_string(token), last_rev, _string(last_id))


def put_history(conn: sqlite3.Connection, doc_id: str, history: History) -> None:
    """Store a document's history in the place of the one before."""
    values = (to_key(doc_id), _key(history.token), history.last_rev, _key(history.last_id))
    conn.execute(
        "INSERT OR REPLACE INTO histories VALUES (?, ?, ?, ?, ?)", (*values, _sum(*values))
    )


def advance_history(conn: sqlite3.Connection, doc_id: str, rev: int, change_id: str | None) -> None:
    """Store a copy's newest change; its token stays."""
    put_history(conn, doc_id, History(load_history(conn, doc_id).token, rev, change_id))


def forget_history(conn: sqlite3.Connection, doc_id: str) -> None:
    """The document's copy is gone."""
    conn.execute("DELETE FROM histories WHERE doc_id = ?", (to_key(doc_id),))


def _sum(doc_id: bytes, token: bytes | None, last_rev: int, last_id: bytes | None) -> int:
    absent = [int(value is None) for value in (token, last_id)]
    return row_sum(doc_id, *absent, token or b"", last_rev, last_id or b"")


def _key(value: str | None) -> bytes | None:
    return None if value is None else to_key(value)


def _string(value: bytes | None) -> str | None:
    return None if value is None else from_key(value)
