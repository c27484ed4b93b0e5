"""`ReplaySqliteStore`: a client's replay documents in an SQLite file that processes may share.

Every call of `change` is one transaction, taken as a writer from its start. Every row has a
checksum over all its values; a document's record counts its rows and adds their checksums up, so
that a row that was changed or removed by something else is found when the document is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final

from patches.algorithms.replay.changes import in_order
from patches.algorithms.replay.clock import Time
from patches.algorithms.replay.stores import units
from patches.algorithms.replay.tables import ClientRun, Head, Unit
from patches.errors import CorruptDataError, DamagedPart
from patches.model import codec
from patches.model.change import Change, QuarantinedChange
from patches.model.history import History
from patches.rows.row_ops import Row, State
from patches.stores.sqlite import histories
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.document_records import DocumentRecords, damaged
from patches.stores.sqlite.file_kind import Schema
from patches.stores.sqlite.keys import from_key, to_key
from patches.stores.sqlite.tables import SqliteTablesStore

RECORDS: Final = DocumentRecords("replay", "replay_rows", "replay_pending")
_SCRIPT: Final = """
CREATE TABLE replay_docs (
    doc_id BLOB PRIMARY KEY,
    committed_rev INTEGER NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    clock_ms INTEGER NOT NULL,
    clock_n INTEGER NOT NULL,
    client BLOB NOT NULL,
    row_count INTEGER NOT NULL,
    row_sums INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE replay_rows (
    doc_id BLOB NOT NULL,
    table_name BLOB NOT NULL,
    key BLOB NOT NULL,
    content BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, table_name, key)
) WITHOUT ROWID;
CREATE TABLE replay_pending (
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
"""
SCHEMA: Final = Schema(
    name="replay", script=_SCRIPT + RECORDS.script, known_by=frozenset({"replay_docs"})
)
_COLUMNS: Final = (
    "committed_rev, version, deleted, clock_ms, clock_n, client, row_count, row_sums, pending, sum"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A document's row, in the order of the columns behind its id."""

    committed_rev: int = 0
    version: int
    deleted: int = 0
    clock_ms: int = 0
    clock_n: int = 0
    client: bytes = b""
    row_count: int = 0
    row_sums: int = 0
    pending: int = 0


class ReplaySqliteStore(SqliteTablesStore["_SqliteTables"]):
    """Rows, pending changes and quarantine that survive a restart."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database, RECORDS, _SqliteTables, columns=_COLUMNS, checked=_checked)
        database.add_schema(SCHEMA)
        database.add_schema(units.UNITS_SCHEMA)
        database.add_schema(histories.HISTORIES_SCHEMA)


class _SqliteTables:
    """One document's tables in the transaction of a connection."""

    def __init__(self, db: sqlite3.Connection, doc_id: str) -> None:
        self._db, self._doc_id, self._key = db, doc_id, to_key(doc_id)
        self._record: _Record | None = None
        self._damage: CorruptDataError | None = None
        try:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM replay_docs WHERE doc_id = ?",  # noqa: S608 -- fixed names
                (self._key,),
            ).fetchone()
            if row is None:
                RECORDS.check_unknown(db, self._key)
            else:
                self._record = _checked(self._key, row)
        except CorruptDataError as exc:  # it can still be forgotten
            self._damage = exc
        self._stored = self._record

    def finish(self) -> None:
        """Write the record, if it has changed."""
        if self._record is None or self._record is self._stored:
            return
        values = (self._key, *astuple(self._record))
        self._db.execute(
            "INSERT OR REPLACE INTO replay_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )

    def head(self) -> Head | None:
        if self._damage is not None:
            raise self._damage
        record = self._record
        if record is None:
            return None
        return Head(
            committed_rev=record.committed_rev,
            version=record.version,
            deleted=bool(record.deleted),
            time=Time(record.clock_ms, record.clock_n),
            client=from_key(record.client),
        )

    def put_head(self, head: Head) -> Head:
        self._update(
            committed_rev=head.committed_rev,
            deleted=int(head.deleted),
            clock_ms=head.time.ms,
            clock_n=head.time.n,
            client=to_key(head.client),
            version=self._known.version + 1,
        )
        return replace(head, version=self._known.version)

    def remove_head(self) -> None:
        self.clear()
        RECORDS.remove(self._db, self._key)
        self._record = self._damage = None

    def history(self) -> History:
        return histories.load_history(self._db, self._doc_id)

    def put_history(self, history: History) -> None:
        histories.put_history(self._db, self._doc_id, history)

    # ---- rows ------------------------------------------------------------------------------------

    def state(self) -> State:
        state: dict[str, dict[str, Row]] = {}
        count = sums = 0
        for table, key, content, checksum in self._db.execute(
            "SELECT table_name, key, content, sum FROM replay_rows WHERE doc_id = ?", (self._key,)
        ):
            count, sums = count + 1, sums + checksum
            if row_sum(self._key, table, key, content) != checksum:
                raise self._damaged("committed", f"row {from_key(key)!r} fails its checksum")
            state.setdefault(from_key(table), {})[from_key(key)] = codec.decode(content)
        if self._record is not None and (count, sums) != (
            self._record.row_count,
            self._record.row_sums,
        ):
            raise self._damaged("committed", f"its rows are not the {self._record.row_count} put")
        return state

    def put_state(self, state: State) -> None:
        self._db.execute("DELETE FROM replay_rows WHERE doc_id = ?", (self._key,))
        values = [
            (self._key, to_key(table), to_key(key), codec.encode(row))
            for table, rows in state.items()
            for key, row in rows.items()
        ]
        rows = [(*each, row_sum(*each)) for each in values]
        self._db.executemany("INSERT INTO replay_rows VALUES (?, ?, ?, ?, ?)", rows)
        self._update(row_count=len(rows), row_sums=sum(row[-1] for row in rows))

    def row(self, table: str, key: str) -> Row | None:
        place = (self._key, to_key(table), to_key(key))
        found = self._row(place)
        if found is None:
            return None
        content, checksum = found
        if row_sum(*place, content) != checksum:
            raise self._damaged("committed", f"row {key!r} fails its checksum")
        row: Row = codec.decode(content)
        return row

    def put_row(self, table: str, key: str, row: Row | None) -> None:
        place = (self._key, to_key(table), to_key(key))
        found = self._row(place)
        count, sums = self._known.row_count, self._known.row_sums
        if found is not None:
            count, sums = count - 1, sums - found[1]
        if row is None:
            self._db.execute(
                "DELETE FROM replay_rows WHERE doc_id = ? AND table_name = ? AND key = ?", place
            )
        else:
            values = (*place, codec.encode(row))
            checksum = row_sum(*values)
            self._db.execute(
                "INSERT OR REPLACE INTO replay_rows VALUES (?, ?, ?, ?, ?)", (*values, checksum)
            )
            count, sums = count + 1, sums + checksum
        self._update(row_count=count, row_sums=sums)

    def clear_rows(self, table: str | None = None) -> None:
        if table is None:
            self._db.execute("DELETE FROM replay_rows WHERE doc_id = ?", (self._key,))
            if self._record is not None:
                self._update(row_count=0, row_sums=0)
            return
        place = (self._key, to_key(table))
        count, sums = self._db.execute(
            "SELECT count(*), coalesce(sum(sum), 0) FROM replay_rows"
            " WHERE doc_id = ? AND table_name = ?",
            place,
        ).fetchone()
        self._db.execute("DELETE FROM replay_rows WHERE doc_id = ? AND table_name = ?", place)
        self._update(row_count=self._known.row_count - count, row_sums=self._known.row_sums - sums)

    def _row(self, place: tuple[bytes, bytes, bytes]) -> tuple[bytes, int] | None:
        found: tuple[bytes, int] | None = self._db.execute(
            "SELECT content, sum FROM replay_rows WHERE doc_id = ? AND table_name = ? AND key = ?",
            place,
        ).fetchone()
        return found

    # ---- actions that are run by who commits them ------------------------------------------------

    def is_client_run(self) -> bool:
        return units.is_client_run(self._db, self._key)

    def is_partial(self) -> bool:
        return units.is_partial(self._db, self._key)

    def client_run(self) -> ClientRun | None:
        return units.read(self._db, self._key, self._known.committed_rev)

    def begin_client_run(self, rev: int, *, partial: bool) -> None:
        units.begin(self._db, self._key, rev, partial=partial)

    def add_unit(self, unit: Unit) -> None:
        units.add(self._db, self._key, unit)

    def end_client_run(self) -> None:
        units.end(self._db, self._key)

    # ---- pending ---------------------------------------------------------------------------------

    def pending(self) -> list[Change]:
        found = []
        for change_id, change, checksum in self._db.execute(
            "SELECT change_id, change, sum FROM replay_pending WHERE doc_id = ?", (self._key,)
        ):
            if row_sum(self._key, change_id, change) != checksum:
                raise self._damaged("pending", "a pending change fails its checksum")
            found.append(Change.from_encoded(change))
        expected = self._record.pending if self._record is not None else 0
        if len(found) != expected:
            raise self._damaged(
                "pending", f"expected {expected} pending changes, found {len(found)}"
            )
        return in_order(found)

    def has_pending(self) -> bool:
        return self._record is not None and self._record.pending > 0

    def has_change(self, change_id: str) -> bool:
        return (
            self._db.execute(
                "SELECT 1 FROM replay_pending WHERE doc_id = ? AND change_id = ?",
                (self._key, to_key(change_id)),
            ).fetchone()
            is not None
        )

    def put_pending(self, change: Change) -> None:
        is_new = not self.has_change(change.id)
        values = (self._key, to_key(change.id), change.encoded)
        self._db.execute(
            "INSERT OR REPLACE INTO replay_pending VALUES (?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )
        self._update(pending=self._known.pending + is_new)

    def take_pending(self, change_ids: Collection[str]) -> None:
        if not self.has_pending():
            return
        taken = self._db.executemany(
            "DELETE FROM replay_pending WHERE doc_id = ? AND change_id = ?",
            [(self._key, to_key(change_id)) for change_id in change_ids],
        ).rowcount
        if taken > 0:
            self._update(pending=self._known.pending - taken)

    # ---- quarantine ------------------------------------------------------------------------------

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        entries = RECORDS.list_quarantined(self._db, self._key)
        return next((entry for entry in entries if entry.change_id == change_id), None)

    def put_quarantined(self, entry: QuarantinedChange) -> None:
        RECORDS.quarantine(self._db, entry)

    def discard_quarantined(self, change_id: str | None = None) -> None:
        RECORDS.take_from_quarantine(
            self._db, self._key, None if change_id is None else [change_id]
        )

    def clear(self) -> None:
        self.clear_rows()
        self._db.execute("DELETE FROM replay_pending WHERE doc_id = ?", (self._key,))
        if self._record is not None:
            self._update(pending=0)
        histories.forget_history(self._db, self._doc_id)
        self.end_client_run()

    # ---- inside ----------------------------------------------------------------------------------

    @property
    def _known(self) -> _Record:
        """The record, which is made if it is not there."""
        if self._damage is not None:
            raise self._damage
        if self._record is None:
            self._record = _Record(version=RECORDS.make(self._db))
        return self._record

    def _update(self, **values: int | bytes) -> None:
        self._record = replace(self._known, **values)  # type: ignore[arg-type]  # by name

    def _damaged(self, part: DamagedPart, what: str) -> CorruptDataError:
        return damaged(self._key, part, what)


def _checked(key: bytes, row: Sequence[int | bytes]) -> _Record:
    *values, checksum = row
    if row_sum(key, *values) != checksum:
        raise damaged(key, "record", "its record fails its checksum")
    return _Record(**dict(zip(_Record.__slots__, values, strict=True)))  # type: ignore[arg-type]  # as summed
