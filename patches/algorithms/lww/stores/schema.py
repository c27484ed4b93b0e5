"""The tables of `LWWSqliteStore`, and how older files get them.

Ids and paths are bytes, because text columns hold no lone surrogates. `sum` is the checksum of a
row. A document's record counts its rows.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.model.codec import decode
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.document_records import DocumentRecords, FileCounts
from patches.stores.sqlite.file_kind import Schema, statements

RECORDS: Final = DocumentRecords("lww", "lww_snapshots", "lww_rows", "lww_pieces")

_SCRIPT: Final = """
CREATE TABLE lww_docs (
    doc_id BLOB PRIMARY KEY,
    committed_rev INTEGER NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    newest_ts INTEGER NOT NULL,
    pending_id BLOB NOT NULL,
    edits BLOB NOT NULL,  -- ids of the last edits, a JSON list
    pending INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    state_rev INTEGER NOT NULL,
    position INTEGER NOT NULL,  -- of the last row that was put
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE lww_snapshots (
    doc_id BLOB PRIMARY KEY,
    rev INTEGER NOT NULL,
    state BLOB NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE lww_rows (
    doc_id BLOB NOT NULL,
    pending INTEGER NOT NULL,
    path BLOB NOT NULL,
    position INTEGER NOT NULL,
    op BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, pending, path)
) WITHOUT ROWID;
CREATE TABLE lww_pieces (
    doc_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, position)
) WITHOUT ROWID;
"""
_TABLES: Final = ("lww_docs", "lww_snapshots", "lww_rows", "lww_pieces", "lww_quarantine")
#: From each table of version 1, with which statement its rows go into that of version 2.
_COPIES: Final = (
    (
        "SELECT d.doc_id, s.rev, s.state FROM old_lww_snapshots s JOIN old_lww_docs d USING (doc)",
        "INSERT INTO lww_snapshots VALUES (?, ?, ?, ?)",
    ),
    (
        (
            "SELECT d.doc_id, r.pending, r.path, r.position, r.op FROM old_lww_rows r"
            " JOIN old_lww_docs d USING (doc)"
        ),
        "INSERT INTO lww_rows VALUES (?, ?, ?, ?, ?, ?)",
    ),
    (
        (
            "SELECT d.doc_id, p.position, p.change FROM old_lww_pieces p"
            " JOIN old_lww_docs d USING (doc)"
        ),
        "INSERT INTO lww_pieces VALUES (?, ?, ?, ?)",
    ),
    (
        (
            "SELECT doc_id, change_id, change, reason, quarantined_at FROM old_lww_quarantine"
            " ORDER BY position"
        ),
        (
            "INSERT INTO lww_quarantine (doc_id, change_id, change, reason, quarantined_at, sum)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        ),
    ),
)
_OPS: Final = "SELECT op FROM lww_rows WHERE doc_id = ? AND NOT pending"
_DOCS: Final = """
SELECT doc_id, committed_rev, deleted, edits,
    (SELECT count(*) FROM old_lww_rows r WHERE r.doc = d.doc AND r.pending),
    (SELECT count(*) FROM old_lww_rows r WHERE r.doc = d.doc AND NOT r.pending),
    (SELECT count(*) FROM old_lww_pieces p WHERE p.doc = d.doc),
    coalesce((SELECT rev FROM old_lww_snapshots s WHERE s.doc = d.doc), -1),
    coalesce((SELECT max(position) FROM old_lww_rows r WHERE r.doc = d.doc), 0)
FROM old_lww_docs d ORDER BY doc
"""


def _with_checksums(db: sqlite3.Connection) -> None:
    """Version 1 had no checksums, and numbered documents."""
    db.execute("DROP INDEX IF EXISTS lww_rows_in_order")
    db.execute("PRAGMA legacy_alter_table=ON")  # else the references follow the old names
    for table in _TABLES:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in statements(SCHEMA.script):
        db.execute(statement)
    for read, write in _COPIES:
        rows = db.execute(read).fetchall()
        db.executemany(write, [(*row, row_sum(*row)) for row in rows])
    docs = db.execute(_DOCS).fetchall()
    for number, (key, rev, deleted, edits, *counts) in enumerate(docs, start=1):
        newest_ts = max([0, *(ts for ts in map(_ts_of, db.execute(_OPS, (key,))) if ts)])
        values = (key, rev, number << 40, deleted, newest_ts, b"", _bytes(edits), *counts)
        db.execute(
            "INSERT INTO lww_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )
    (quarantined,) = db.execute("SELECT count(*) FROM lww_quarantine").fetchone()
    RECORDS.put_counts(db, FileCounts(len(docs), quarantined, len(docs)))
    for table in reversed(_TABLES):
        db.execute(f"DROP TABLE old_{table}")


def _ts_of(row: tuple[bytes]) -> int | None:
    ts: int | None = decode(row[0]).get("ts")
    return ts


def _bytes(edits: bytes | str) -> bytes:
    return edits.encode() if isinstance(edits, str) else edits


SCHEMA: Final = Schema(
    name="lww",
    version=2,
    script=_SCRIPT + RECORDS.script,
    migrations={1: _with_checksums},
)
