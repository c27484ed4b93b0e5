"""`LWWSqliteStore`: a client's LWW documents in an SQLite file that processes may share.

Paths are BLOB keys (UTF-8 with lone surrogates let through), so the children of a path are one
range of the key; ops and states are BLOBs of JSON. Every call of `change` is one transaction, taken
as a writer from its start: what it reads is what it writes over, whatever other processes do.

Every row has a checksum over all its values. A document's record counts its rows, and is written
once, at the end of the transaction. Damage raises `CorruptDataError`, which names the document and
the part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Final

from patches.algorithms.histories import version_after_install
from patches.algorithms.lww.stores import records
from patches.algorithms.lww.stores.records import NO_STATE, Record, record_of
from patches.algorithms.lww.stores.schema import RECORDS, SCHEMA
from patches.algorithms.lww.tables import EDITS_KEPT, Head
from patches.errors import CorruptDataError, DamagedPart
from patches.model import codec
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import History
from patches.model.json_values import Op
from patches.runtime import Runtime
from patches.stores.sqlite import histories
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.document_records import damaged
from patches.stores.sqlite.keys import from_key, range_below, to_key
from patches.stores.sqlite.tables import SqliteTablesStore


class LWWSqliteStore(SqliteTablesStore["_SqliteTables"]):
    """Documents, pending ops, pieces and quarantine that survive a restart."""

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        super().__init__(
            database, RECORDS, _SqliteTables, columns=records.COLUMNS, checked=records.checked
        )
        database.add_schema(SCHEMA)
        database.add_schema(histories.HISTORIES_SCHEMA)


class _SqliteTables:
    """One document's tables in the transaction of a connection."""

    def __init__(self, db: sqlite3.Connection, doc_id: str) -> None:
        self.db = db
        self.doc_id: Final = doc_id
        self.key: Final = to_key(doc_id)
        self._record: Record | None = None
        self._damage: CorruptDataError | None = None
        try:
            self._record = record_of(db, self.key)
        except CorruptDataError as exc:  # it can still be forgotten
            self._damage = exc
        self._stored = self._record
        self.committed = _SqliteRows(self, pending=False)
        self.pending = _SqliteRows(self, pending=True)

    def damaged(self, part: DamagedPart, what: str) -> CorruptDataError:
        """The error for damage in this document."""
        return damaged(self.key, part, what)

    @property
    def record(self) -> Record:
        """The record; that of an unknown document is empty."""
        if self._damage is not None:
            raise self._damage
        return self._record or Record(version=0)

    def update(self, **values: int | bytes) -> None:
        """Change the record, which is created if it is not there."""
        if self._damage is not None:
            raise self._damage
        if self._record is None:
            self._record = Record(version=RECORDS.make(self.db))
        self._record = replace(self._record, **values)  # type: ignore[arg-type]  # by name

    def finish(self) -> None:
        """Write the record, if it has changed."""
        if self._record is None or self._record is self._stored:
            return
        values = (self.key, *astuple(self._record))
        self.db.execute(
            "INSERT OR REPLACE INTO lww_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )

    def head(self) -> Head | None:
        record = self._record
        if self._damage is not None:
            raise self._damage
        if record is None:
            return None
        return Head(
            committed_rev=record.committed_rev,
            version=record.version,
            deleted=bool(record.deleted),
            newest_ts=record.newest_ts,
            pending_id=from_key(record.pending_id),
        )

    def put_head(
        self,
        *,
        committed_rev: int,
        deleted: bool = False,
        newest_ts: int | None = None,
        pending_id: str | None = None,
        is_installed: bool = False,
    ) -> Head:
        version = self._record.version + 1 if self._record else self._first_version()
        self.update(
            committed_rev=committed_rev,
            deleted=int(deleted),
            version=version_after_install(version) if is_installed else version,
        )
        if newest_ts is not None:
            self.update(newest_ts=newest_ts)
        if pending_id is not None:
            self.update(pending_id=to_key(pending_id))
        head = self.head()
        assert head is not None
        return head

    def _first_version(self) -> int:
        self.update()
        return self.record.version

    def remove_head(self) -> None:
        self.clear()
        RECORDS.remove(self.db, self.key)
        self._record = self._damage = None

    def history(self) -> History:
        return histories.load_history(self.db, self.doc_id)

    def put_history(self, history: History) -> None:
        histories.put_history(self.db, self.doc_id, history)

    def has_edit(self, edit_id: str) -> bool:
        return edit_id in self._edits()

    def note_edit(self, edit_id: str) -> None:
        self.update(edits=codec.encode([*self._edits(), edit_id][-EDITS_KEPT:]))

    def _edits(self) -> list[str]:
        edits: list[str] = codec.decode(self.record.edits)
        return edits

    def snapshot(self) -> Snapshot:
        if self.record.state_rev == NO_STATE:
            return Snapshot(state={}, rev=0)
        row = self.db.execute(
            "SELECT rev, state, sum FROM lww_snapshots WHERE doc_id = ?", (self.key,)
        ).fetchone()
        if row is None or row_sum(self.key, *row[:2]) != row[2] or row[0] != self.record.state_rev:
            raise self.damaged("committed", "its state is damaged")
        return Snapshot.from_encoded(row[1], rev=row[0])

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self.update(state_rev=snapshot.rev)
        values = (self.key, snapshot.rev, snapshot.encoded_state)
        self.db.execute(
            "INSERT OR REPLACE INTO lww_snapshots VALUES (?, ?, ?, ?)", (*values, row_sum(*values))
        )

    def sending(self) -> list[Change]:
        if not self.record.pieces:
            return []
        found = []
        for position, change, checksum in self.db.execute(
            "SELECT position, change, sum FROM lww_pieces WHERE doc_id = ? ORDER BY position",
            (self.key,),
        ):
            if row_sum(self.key, position, change) != checksum:
                raise self.damaged("pending", "a piece that is being sent fails its checksum")
            found.append(Change.from_encoded(change))
        if len(found) != self.record.pieces:
            raise self.damaged(
                "pending", f"expected {self.record.pieces} pieces, found {len(found)}"
            )
        return found

    def put_sending(self, pieces: Sequence[Change]) -> None:
        if self.record.pieces:
            self.db.execute("DELETE FROM lww_pieces WHERE doc_id = ?", (self.key,))
        rows = [(self.key, position, piece.encoded) for position, piece in enumerate(pieces)]
        self.db.executemany(
            "INSERT INTO lww_pieces VALUES (?, ?, ?, ?)", [(*row, row_sum(*row)) for row in rows]
        )
        self.update(pieces=len(rows))

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        entries = RECORDS.list_quarantined(self.db, self.key)
        return next((entry for entry in entries if entry.change_id == change_id), None)

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        RECORDS.quarantine(self.db, quarantined)

    def discard_quarantined(self, change_id: str | None = None) -> None:
        RECORDS.take_from_quarantine(self.db, self.key, None if change_id is None else [change_id])

    def clear(self) -> None:
        self.db.execute("DELETE FROM lww_snapshots WHERE doc_id = ?", (self.key,))
        self.db.execute("DELETE FROM lww_rows WHERE doc_id = ?", (self.key,))
        self.db.execute("DELETE FROM lww_pieces WHERE doc_id = ?", (self.key,))
        if self._record is not None:
            self.update(pending=0, committed=0, pieces=0, state_rev=NO_STATE, pending_id=b"")
        histories.forget_history(self.db, self.doc_id)


class _SqliteRows:
    """Committed or pending ops by path. A path that is put again keeps its position."""

    def __init__(self, tables: _SqliteTables, *, pending: bool) -> None:
        self._tables = tables
        self._pending = int(pending)
        self._part: DamagedPart = "pending" if pending else "committed"
        self._mine = (tables.key, self._pending)

    @property
    def _count(self) -> int:
        record = self._tables.record
        return record.pending if self._pending else record.committed

    def _counted(self, more: int, **values: int) -> None:
        self._tables.update(**{self._part: self._count + more}, **values)

    def _find(self, path: str) -> tuple[int, bytes] | None:
        """The position and the op of a path."""
        if not self._count:
            return None
        key = to_key(path)
        row = self._tables.db.execute(
            "SELECT position, op, sum FROM lww_rows WHERE doc_id = ? AND pending = ? AND path = ?",
            (*self._mine, key),
        ).fetchone()
        if row is None:
            return None
        if row_sum(*self._mine, key, *row[:2]) != row[2]:
            raise self._tables.damaged(self._part, f"the row of {path!r} fails its checksum")
        return row[0], row[1]

    def get(self, path: str) -> Op | None:
        found = self._find(path)
        return None if found is None else codec.decode(found[1])

    def below(self, path: str) -> list[str]:
        if not self._count:
            return []
        rows = self._tables.db.execute(
            "SELECT path FROM lww_rows WHERE doc_id = ? AND pending = ? AND path >= ? AND path < ?"
            " ORDER BY position",
            (*self._mine, *range_below(path)),
        )
        return [from_key(name) for (name,) in rows]

    def has_below(self, path: str) -> bool:
        if not self._count:
            return False
        return (
            self._tables.db.execute(
                "SELECT 1 FROM lww_rows WHERE doc_id = ? AND pending = ? AND path >= ? AND path < ?"
                " LIMIT 1",
                (*self._mine, *range_below(path)),
            ).fetchone()
            is not None
        )

    def put(self, op: Op) -> None:
        found = self._find(op["path"])
        if found is None:
            position = self._tables.record.position + 1
            self._counted(1, position=position)
        else:
            position = found[0]
        self._insert(op, position)

    def write(self, op: Op) -> None:
        position = self._tables.record.position + 1
        self._counted(self._find(op["path"]) is None, position=position)
        self._insert(op, position)

    def _insert(self, op: Op, position: int) -> None:
        values = (*self._mine, to_key(op["path"]), position, codec.encode(op))
        self._tables.db.execute(
            "INSERT OR REPLACE INTO lww_rows VALUES (?, ?, ?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )

    def discard(self, path: str) -> None:
        gone = (
            self._count
            and self._tables.db.execute(
                "DELETE FROM lww_rows WHERE doc_id = ? AND pending = ? AND path = ?",
                (*self._mine, to_key(path)),
            ).rowcount
        )
        if gone:
            self._counted(-gone)

    def ops(self) -> list[Op]:
        if not self._count:
            return []
        found = []
        for path, position, op, checksum in self._tables.db.execute(
            "SELECT path, position, op, sum FROM lww_rows WHERE doc_id = ? AND pending = ?"
            " ORDER BY position",
            self._mine,
        ):
            if row_sum(*self._mine, path, position, op) != checksum:
                raise self._tables.damaged(self._part, f"the row at {position} fails its checksum")
            found.append(codec.decode(op))
        if len(found) != self._count:
            raise self._tables.damaged(
                self._part, f"expected {self._count} rows, found {len(found)}"
            )
        return found

    def any(self) -> bool:
        return self._count > 0

    def clear(self) -> None:
        if self._count:
            self._tables.db.execute(
                "DELETE FROM lww_rows WHERE doc_id = ? AND pending = ?", self._mine
            )
            self._counted(-self._count)
