"""The tables of `OTSqliteStore`, and how older files get them.

Ids are bytes, because text columns hold no lone surrogates. `sum` is the checksum of a row.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.document_records import DocumentRecords, FileCounts
from patches.stores.sqlite.file_kind import Schema, statements

RECORDS: Final = DocumentRecords("ot", "ot_snapshots", "ot_committed", "ot_pending")

_SCRIPT: Final = """
CREATE TABLE ot_docs (
    doc_id BLOB PRIMARY KEY,
    committed_rev INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    version INTEGER NOT NULL,
    tail_rev INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    state_rev INTEGER NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE ot_snapshots (
    doc_id BLOB PRIMARY KEY,
    rev INTEGER NOT NULL,
    state BLOB NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE ot_committed (
    doc_id BLOB NOT NULL,
    rev INTEGER NOT NULL,
    change BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE TABLE ot_pending (
    doc_id BLOB NOT NULL,
    rev INTEGER NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
"""
#: From each table of version 1, with which statement its rows go into that of version 2.
_COPIES: Final = (
    (
        "SELECT doc_id, rev, state FROM old_ot_snapshots",
        "INSERT INTO ot_snapshots VALUES (?, ?, ?, ?)",
    ),
    (
        "SELECT doc_id, rev, change FROM old_ot_committed",
        "INSERT INTO ot_committed VALUES (?, ?, ?, ?)",
    ),
    (
        "SELECT doc_id, rev, change_id, change FROM old_ot_pending",
        "INSERT INTO ot_pending VALUES (?, ?, ?, ?, ?)",
    ),
    (
        (
            "SELECT doc_id, change_id, change, reason, quarantined_at FROM old_ot_quarantine"
            " ORDER BY place"
        ),
        (
            "INSERT INTO ot_quarantine (doc_id, change_id, change, reason, quarantined_at, sum)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        ),
    ),
)
_TABLES: Final = ("ot_docs", "ot_snapshots", "ot_committed", "ot_pending", "ot_quarantine")


def _with_checksums(db: sqlite3.Connection) -> None:
    """Version 1 had no checksums and no versions of queues."""
    db.execute("DROP INDEX IF EXISTS ot_pending_ids")
    for table in _TABLES:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in statements(SCHEMA.script):
        db.execute(statement)
    for read, write in _COPIES:
        rows = db.execute(read).fetchall()
        db.executemany(write, [(*row, row_sum(*row)) for row in rows])
    docs = db.execute("SELECT doc_id, committed_rev, deleted FROM old_ot_docs").fetchall()
    for number, (key, rev, deleted) in enumerate(docs, start=1):
        pending, tail = db.execute(
            "SELECT count(*), max(rev) FROM ot_pending WHERE doc_id = ?", (key,)
        ).fetchone()
        (committed,) = db.execute(
            "SELECT count(*) FROM ot_committed WHERE doc_id = ?", (key,)
        ).fetchone()
        state = db.execute("SELECT rev FROM ot_snapshots WHERE doc_id = ?", (key,)).fetchone()
        values = (
            rev,
            deleted,
            number << 40,
            rev if tail is None else tail,
            pending,
            committed,
            -1 if state is None else state[0],
        )
        db.execute(
            "INSERT INTO ot_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, *values, row_sum(key, *values)),
        )
    (quarantined,) = db.execute("SELECT count(*) FROM ot_quarantine").fetchone()
    RECORDS.put_counts(db, FileCounts(len(docs), quarantined, len(docs)))
    for table in _TABLES:
        db.execute(f"DROP TABLE old_{table}")


SCHEMA: Final = Schema(
    name="ot",
    version=2,
    script=_SCRIPT + RECORDS.script,
    migrations={1: _with_checksums},
)
