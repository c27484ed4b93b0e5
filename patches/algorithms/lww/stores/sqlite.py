"""`LWWSqliteStore`: a client's LWW documents in an SQLite file that processes may share.

Paths are BLOB keys (UTF-8 with lone surrogates let through), so the children of a path are one
range of the key; ops and states are BLOBs of JSON. Every call of `change` is one transaction, taken
as a writer from its start: what it reads is what it writes over, whatever other processes do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from patches.algorithms.lww.tables import EDITS_KEPT, DocTables, Head
from patches.model import codec
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.history import History
from patches.model.json_values import Op
from patches.runtime import Runtime
from patches.stores.sqlite import histories
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.keys import from_key, range_below, to_key

T = TypeVar("T")

_VERSION_BITS: Final = 40

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS lww_docs (
    doc INTEGER PRIMARY KEY AUTOINCREMENT,
    doc_id BLOB NOT NULL UNIQUE,
    committed_rev INTEGER NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    edits BLOB NOT NULL DEFAULT '[]'  -- ids of the last edits, a JSON list
);
CREATE TABLE IF NOT EXISTS lww_snapshots (
    doc INTEGER PRIMARY KEY REFERENCES lww_docs ON DELETE CASCADE,
    rev INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS lww_rows (
    doc INTEGER NOT NULL REFERENCES lww_docs ON DELETE CASCADE,
    pending INTEGER NOT NULL,
    path BLOB NOT NULL,
    position INTEGER NOT NULL,
    op BLOB NOT NULL,
    PRIMARY KEY (doc, pending, path)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lww_rows_in_order ON lww_rows (doc, pending, position);
CREATE TABLE IF NOT EXISTS lww_pieces (
    doc INTEGER NOT NULL REFERENCES lww_docs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (doc, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lww_quarantine (
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    reason BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
"""


class LWWSqliteStore:
    """Documents, pending ops, pieces and quarantine that survive a restart."""

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        self._database = database
        database.add_schema(_SCHEMA)
        database.add_schema(histories.HISTORIES_SCHEMA)

    async def read(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function that writes nothing over one view of the file."""
        return await self._database.read(lambda connection: fn(_SqliteTables(connection, doc_id)))

    async def change(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function in a transaction and return its result when that is on disk."""
        return await self._database.write(lambda connection: fn(_SqliteTables(connection, doc_id)))

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All documents, with `include_deleted` also those marked as deleted."""

        def run(connection: sqlite3.Connection) -> list[TrackedDoc]:
            rows = connection.execute(
                "SELECT doc_id, committed_rev, deleted FROM lww_docs"
                " WHERE deleted <= ? ORDER BY doc",
                (int(include_deleted),),
            )
            return [
                TrackedDoc(
                    doc_id=from_key(doc_id),
                    committed_rev=rev,
                    deleted=bool(deleted),
                    algorithm="lww",
                )
                for doc_id, rev, deleted in rows
            ]

        return await self._database.read(run)

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """The quarantine of one document, or of all."""

        key = None if doc_id is None else to_key(doc_id)

        def run(connection: sqlite3.Connection) -> list[QuarantinedChange]:
            rows = connection.execute(
                "SELECT doc_id, change, reason, quarantined_at FROM lww_quarantine"
                " WHERE ? IS NULL OR doc_id = ? ORDER BY position",
                (key, key),
            )
            return [_quarantined(*row) for row in rows]

        return await self._database.read(run)


class _SqliteTables:
    """One document's tables in the transaction of a connection."""

    def __init__(self, connection: sqlite3.Connection, doc_id: str) -> None:
        self._connection = connection
        self._doc_id = doc_id
        row = connection.execute(
            "SELECT doc, committed_rev, version, deleted FROM lww_docs WHERE doc_id = ?",
            (to_key(doc_id),),
        ).fetchone()
        self._head: Head | None = None
        self._doc: int | None = None
        if row is not None:
            self._doc = row[0]
            self._head = Head(committed_rev=row[1], version=row[2], deleted=bool(row[3]))
        self.committed = _SqliteRows(self, pending=False)
        self.pending = _SqliteRows(self, pending=True)

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run a statement whose first parameter is the document's key."""
        return self._connection.execute(sql, (self._doc, *values))

    @property
    def doc(self) -> int | None:
        """The document's key."""
        return self._doc

    def make(self) -> None:
        """Create the record that rows belong to, if it is not there."""
        if self._doc is None:
            self.put_head(committed_rev=0)

    def head(self) -> Head | None:
        return self._head

    def put_head(self, *, committed_rev: int, deleted: bool = False) -> Head:
        if self._head is None:
            self._doc = self._connection.execute(
                "INSERT INTO lww_docs (doc_id, committed_rev, version, deleted)"
                " VALUES (?, 0, 0, 0)",
                (to_key(self._doc_id),),
            ).lastrowid
            assert self._doc is not None
            # A document that was forgotten and is known again must not repeat a version.
            version = self._doc << _VERSION_BITS
        else:
            version = self._head.version + 1
        self._connection.execute(
            "UPDATE lww_docs SET committed_rev = ?, version = ?, deleted = ? WHERE doc = ?",
            (committed_rev, version, deleted, self._doc),
        )
        self._head = Head(committed_rev=committed_rev, version=version, deleted=deleted)
        return self._head

    def remove_head(self) -> None:
        self.execute("DELETE FROM lww_docs WHERE doc = ?")
        self._doc = self._head = None

    def history(self) -> History:
        return histories.load_history(self._connection, self._doc_id)

    def put_history(self, history: History) -> None:
        histories.put_history(self._connection, self._doc_id, history)

    def has_edit(self, edit_id: str) -> bool:
        return edit_id in self._edits()

    def note_edit(self, edit_id: str) -> None:
        self.make()
        edits = [*self._edits(), edit_id][-EDITS_KEPT:]
        self._connection.execute(
            "UPDATE lww_docs SET edits = ? WHERE doc = ?", (codec.encode(edits), self._doc)
        )

    def _edits(self) -> list[str]:
        row = self.execute("SELECT edits FROM lww_docs WHERE doc = ?").fetchone()
        edits: list[str] = [] if row is None else codec.decode(row[0])
        return edits

    def snapshot(self) -> Snapshot:
        row = self.execute("SELECT state, rev FROM lww_snapshots WHERE doc = ?").fetchone()
        return Snapshot.from_encoded(row[0], rev=row[1]) if row else Snapshot(state={}, rev=0)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self.make()
        self.execute(
            "INSERT OR REPLACE INTO lww_snapshots (doc, rev, state) VALUES (?, ?, ?)",
            snapshot.rev,
            snapshot.encoded_state,
        )

    def sending(self) -> list[Change]:
        rows = self.execute("SELECT change FROM lww_pieces WHERE doc = ? ORDER BY position")
        return [Change.from_encoded(encoded) for (encoded,) in rows]

    def put_sending(self, pieces: Sequence[Change]) -> None:
        self.make()
        self.execute("DELETE FROM lww_pieces WHERE doc = ?")
        for position, piece in enumerate(pieces):
            self.execute(
                "INSERT INTO lww_pieces (doc, position, change) VALUES (?, ?, ?)",
                position,
                piece.encoded,
            )

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        row = self._connection.execute(
            "SELECT doc_id, change, reason, quarantined_at FROM lww_quarantine"
            " WHERE doc_id = ? AND change_id = ?",
            (to_key(self._doc_id), to_key(change_id)),
        ).fetchone()
        return None if row is None else _quarantined(*row)

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO lww_quarantine"
            " (doc_id, change_id, position, change, reason, quarantined_at)"
            " VALUES (?, ?, (SELECT COALESCE(MAX(position), 0) + 1 FROM lww_quarantine), ?, ?, ?)",
            (
                to_key(quarantined.doc_id),
                to_key(quarantined.change_id),
                quarantined.change.encoded,
                to_key(quarantined.reason),
                quarantined.quarantined_at,
            ),
        )

    def discard_quarantined(self, change_id: str | None = None) -> None:
        key = None if change_id is None else to_key(change_id)
        self._connection.execute(
            "DELETE FROM lww_quarantine WHERE doc_id = ? AND (? IS NULL OR change_id = ?)",
            (to_key(self._doc_id), key, key),
        )

    def clear(self) -> None:
        self.execute("DELETE FROM lww_snapshots WHERE doc = ?")
        self.execute("DELETE FROM lww_rows WHERE doc = ?")
        self.execute("DELETE FROM lww_pieces WHERE doc = ?")
        histories.forget_history(self._connection, self._doc_id)


class _SqliteRows:
    """Committed or pending ops by path. A path that is put again keeps its position."""

    def __init__(self, tables: _SqliteTables, *, pending: bool) -> None:
        self._tables = tables
        self._pending = int(pending)

    def get(self, path: str) -> Op | None:
        row = self._tables.execute(
            "SELECT op FROM lww_rows WHERE doc = ? AND pending = ? AND path = ?",
            self._pending,
            to_key(path),
        ).fetchone()
        return None if row is None else codec.decode(row[0])

    def below(self, path: str) -> list[str]:
        rows = self._tables.execute(
            "SELECT path FROM lww_rows WHERE doc = ? AND pending = ? AND path >= ? AND path < ?"
            " ORDER BY position",
            self._pending,
            *range_below(path),
        )
        return [from_key(name) for (name,) in rows]

    def has_below(self, path: str) -> bool:
        return (
            self._tables.execute(
                "SELECT 1 FROM lww_rows WHERE doc = ? AND pending = ? AND path >= ? AND path < ?"
                " LIMIT 1",
                self._pending,
                *range_below(path),
            ).fetchone()
            is not None
        )

    def put(self, op: Op) -> None:
        self._tables.make()
        self._tables.execute(
            "INSERT INTO lww_rows (doc, pending, path, position, op)"
            " SELECT ?, ?, ?, (SELECT COALESCE(MAX(position), 0) + 1 FROM lww_rows"
            " WHERE doc = ? AND pending = ?), ? WHERE true"
            " ON CONFLICT (doc, pending, path) DO UPDATE SET op = excluded.op",
            self._pending,
            to_key(op["path"]),
            self._tables.doc,
            self._pending,
            codec.encode(op),
        )

    def write(self, op: Op) -> None:
        self.discard(op["path"])
        self.put(op)

    def discard(self, path: str) -> None:
        self._tables.execute(
            "DELETE FROM lww_rows WHERE doc = ? AND pending = ? AND path = ?",
            self._pending,
            to_key(path),
        )

    def ops(self) -> list[Op]:
        rows = self._tables.execute(
            "SELECT op FROM lww_rows WHERE doc = ? AND pending = ? ORDER BY position",
            self._pending,
        )
        return [codec.decode(op) for (op,) in rows]

    def any(self) -> bool:
        row = self._tables.execute(
            "SELECT 1 FROM lww_rows WHERE doc = ? AND pending = ? LIMIT 1", self._pending
        ).fetchone()
        return row is not None

    def clear(self) -> None:
        self._tables.execute("DELETE FROM lww_rows WHERE doc = ? AND pending = ?", self._pending)


def _quarantined(doc_id: bytes, change: bytes, reason: bytes, at: int) -> QuarantinedChange:
    refused = Change.from_encoded(change)
    return QuarantinedChange(
        doc_id=from_key(doc_id),
        change_id=refused.id,
        change=refused,
        reason=from_key(reason),
        quarantined_at=at,
    )
