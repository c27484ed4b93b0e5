"""The rows of documents in `LWWSqliteServerStore`, and all its tables.

A document has a number of its own, so that the keys of its rows are short. Its row has a checksum,
and says how many rows and change ids belong to it.
"""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import dataclass
from typing import Final

from patches.errors import RevConflictError
from patches.runtime import Millis
from patches.stores.sqlite.file_kind import Schema, statements
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.checksums import NO_ROWS, Sums, require_row, row_crc

# droppable: a removal, and not pinned. stored_at: the server time of the commit. head_id: the id of
# the change that made the head. ids_floor: ids of revisions up to this one may be forgotten.
# row_count to id_sum: how many rows and ids there are, and the sums of their checksums.
_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS lww_docs (
    doc INTEGER PRIMARY KEY, doc_id TEXT NOT NULL UNIQUE, rev INTEGER NOT NULL,
    floor INTEGER NOT NULL, snapshot_rev INTEGER, head_id BLOB, ids_floor INTEGER NOT NULL,
    row_count INTEGER NOT NULL, row_sum INTEGER NOT NULL,
    id_count INTEGER NOT NULL, id_sum INTEGER NOT NULL, crc INTEGER NOT NULL, snapshot BLOB
);
CREATE TABLE IF NOT EXISTS lww_rows (
    doc INTEGER NOT NULL, path BLOB NOT NULL, rev INTEGER NOT NULL, pos INTEGER NOT NULL,
    ts NUMERIC NOT NULL, held BLOB NOT NULL,
    hidden INTEGER NOT NULL DEFAULT 0, pinned INTEGER NOT NULL, droppable INTEGER NOT NULL,
    stored_at INTEGER NOT NULL, author BLOB,
    crc INTEGER NOT NULL, op BLOB NOT NULL,
    UNIQUE (doc, path)
);
CREATE INDEX IF NOT EXISTS lww_rows_by_rev ON lww_rows (doc, rev);
CREATE INDEX IF NOT EXISTS lww_removals ON lww_rows (doc, stored_at) WHERE droppable = 1;
CREATE TABLE IF NOT EXISTS lww_change_ids (
    doc INTEGER NOT NULL, change_id BLOB NOT NULL, expires_at INTEGER NOT NULL, rev INTEGER,
    PRIMARY KEY (doc, change_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lww_change_ids_by_expiry ON lww_change_ids (expires_at);
"""
ROW: Final = "path, rev, pos, ts, held, hidden, pinned, droppable, stored_at, author, crc, op"
_ROW_OF_VERSION_1: Final = "path, rev, pos, ts, held, hidden, pinned, droppable, stored_at, crc, op"
ID: Final = "change_id, expires_at, rev"


def _to_version_2(conn: sqlite3.Connection) -> None:
    """Let checksums cover keys, and documents count their rows. What was damaged stays so."""
    docs = conn.execute(
        "SELECT doc, doc_id, rev, floor, snapshot_rev, snapshot FROM lww_docs"
    ).fetchall()
    conn.execute("DROP TABLE lww_docs")
    conn.execute("ALTER TABLE lww_change_ids ADD COLUMN rev INTEGER")
    for statement in statements(_SCRIPT):
        conn.execute(statement)
    for doc, doc_id, rev, floor, snapshot_rev, packed in docs:
        rows, ids = Sums(), Sums()
        for rowid, *row in conn.execute(
            f"SELECT rowid, {_ROW_OF_VERSION_1} FROM lww_rows WHERE doc = ?",  # noqa: S608 -- fixed names
            (doc,),
        ).fetchall():
            *columns, crc, op = row
            if isinstance(op, bytes) and zlib.crc32(op) == crc:
                crc = row_crc(doc, *columns, op)
                conn.execute("UPDATE lww_rows SET crc = ? WHERE rowid = ?", (crc, rowid))
            rows = rows.plus([crc])
        ids = ids.plus(
            row_crc(*each)
            for each in conn.execute(f"SELECT {ID} FROM lww_change_ids WHERE doc = ?", (doc,))  # noqa: S608 -- fixed names
        )
        head = DocRow(doc, rev, floor, snapshot_rev, None, rev, rows, ids)
        _insert(conn, doc_id, head)
        conn.execute("UPDATE lww_docs SET snapshot = ? WHERE doc = ?", (packed, doc))


def _to_version_3(conn: sqlite3.Connection) -> None:
    """Let rows have authors. The checksum of a row without one is as before."""
    if "author" not in {row[1] for row in conn.execute("PRAGMA table_info(lww_rows)")}:
        conn.execute("ALTER TABLE lww_rows ADD COLUMN author BLOB")


LWW_SCHEMA: Final = Schema(
    name="lww",
    version=3,
    script=_SCRIPT,
    known_by=frozenset({"lww_docs"}),
    migrations={1: _to_version_2, 2: _to_version_3},
)


@dataclass(frozen=True, slots=True)
class DocRow:
    """A document's row: its number, its head, and what there must be of it."""

    doc: int
    rev: int = 0
    floor: int = 0
    snapshot_rev: int | None = None
    head_id: bytes | None = None
    ids_floor: int = 0
    rows: Sums = NO_ROWS
    ids: Sums = NO_ROWS

    @property
    def columns(self) -> tuple[object, ...]:
        """As it is stored, without id and checksum."""
        return (
            self.rev,
            self.floor,
            self.snapshot_rev,
            self.head_id,
            self.ids_floor,
            self.rows.count,
            self.rows.sum,
            self.ids.count,
            self.ids.sum,
        )

    def crc(self, doc_id: str) -> int:
        """Its checksum."""
        return row_crc(self.doc, doc_id, *self.columns)


def find_doc(conn: sqlite3.Connection, doc_id: str) -> DocRow | None:
    """A document's row, damaged or not."""
    found = _with_crc(conn, doc_id)
    return None if found is None else found[0]


def is_whole_doc(conn: sqlite3.Connection, doc_id: str) -> bool:
    """Whether a document's row has its checksum."""
    found = _with_crc(conn, doc_id)
    return found is not None and found[0].crc(doc_id) == found[1]


def _with_crc(conn: sqlite3.Connection, doc_id: str) -> tuple[DocRow, int] | None:
    row = conn.execute(
        "SELECT doc, rev, floor, snapshot_rev, head_id, ids_floor, row_count, row_sum, id_count, "
        "id_sum, crc FROM lww_docs WHERE doc_id = ?",
        (doc_id,),
    ).fetchone()
    if row is None:
        return None
    rows, ids = Sums(row[6], row[7]), Sums(row[8], row[9])
    return DocRow(row[0], row[1], row[2], row[3], row[4], row[5], rows, ids), row[10]


def checked_doc(
    conn: sqlite3.Connection, doc_id: str, record: documents.Record | None
) -> DocRow | None:
    """A document's row. Raises `CorruptDataError` if it is damaged, or missing beside a record."""
    found = _with_crc(conn, doc_id)
    is_ours = record is not None and record.algorithm == "lww"
    require_row((found is not None) == is_ours, f"document {doc_id!r}: its record or its head")
    if found is None:
        return None
    require_row(found[0].crc(doc_id) == found[1], f"the head of document {doc_id!r}")
    return found[0]


def made_doc(conn: sqlite3.Connection, doc_id: str) -> DocRow:
    (last,) = conn.execute("SELECT max(doc) FROM lww_docs").fetchone()
    made = DocRow((last or 0) + 1)
    _insert(conn, doc_id, made)
    return made


def _insert(conn: sqlite3.Connection, doc_id: str, row: DocRow) -> None:
    conn.execute(
        "INSERT INTO lww_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        (row.doc, doc_id, *row.columns, row.crc(doc_id)),
    )


def put_doc(conn: sqlite3.Connection, doc_id: str, row: DocRow) -> None:
    conn.execute(
        "UPDATE lww_docs SET rev = ?, floor = ?, snapshot_rev = ?, head_id = ?, ids_floor = ?, "
        "row_count = ?, row_sum = ?, id_count = ?, id_sum = ?, crc = ? WHERE doc = ?",
        (*row.columns, row.crc(doc_id), row.doc),
    )


def put_snapshot(conn: sqlite3.Connection, doc: int, packed: bytes) -> None:
    conn.execute("UPDATE lww_docs SET snapshot = ? WHERE doc = ?", (packed, doc))


def require_head(
    conn: sqlite3.Connection, doc_id: str, expected_rev: int, now: Millis, token: str | None = None
) -> DocRow:
    """The row of a document that may be written and stands at this revision of a history."""
    record = documents.require_writable(conn, doc_id, "lww", now=now)
    found = checked_doc(conn, doc_id, record)
    head = 0 if found is None else found.rev
    if head != expected_rev or (
        token is not None and token != (None if record is None else record.token)
    ):
        raise RevConflictError
    return found or made_doc(conn, doc_id)
