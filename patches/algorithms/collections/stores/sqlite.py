"""`CollectionsSqliteStore`: a client's collections documents in an SQLite file.

Every call of `change` is one transaction, taken as a writer from its start. Every row has a
checksum over all its values; the document's record, written once at the end of a transaction,
counts rows and changes and has the sum of the rows' checksums, so that a row that is gone or was
put back to an older content is found when the document is loaded. Damage raises `CorruptDataError`,
which names the document and the part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from patches.algorithms.collections.stores import records
from patches.algorithms.collections.stores.records import Record, damaged, put_record, record_of
from patches.algorithms.collections.stores.schema import SCHEMA
from patches.algorithms.collections.tables import DocTables, Head
from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.change import Change, QuarantinedChange, TrackedDoc
from patches.rows.row_ops import Row
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.keys import from_key, to_key

T = TypeVar("T")

#: Sums of checksums are kept below this, which SQLite can hold.
_SUM_MODULUS: Final = 1 << 62


class CollectionsSqliteStore:
    """Rows, pending changes and quarantine that survive a restart."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.add_schema(SCHEMA)

    async def read(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function that writes nothing over one view of the file."""
        return await self._database.read(lambda db: fn(_SqliteTables(db, doc_id)))

    async def change(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function in a transaction and return its result when that is on disk."""

        def write(db: sqlite3.Connection) -> T:
            tables = _SqliteTables(db, doc_id)
            result = fn(tables)
            tables.finish()
            return result

        return await self._database.write(write)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All documents, with `include_deleted` also those marked as deleted."""
        return await self._database.read(lambda db: records.list_docs(db, include_deleted))

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """The quarantine of one document, or of all, oldest first."""
        key = None if doc_id is None else to_key(doc_id)
        return await self._database.read(lambda db: records.list_quarantined(db, key))


class _SqliteTables:
    """One document's tables in the transaction of a connection."""

    def __init__(self, db: sqlite3.Connection, doc_id: str) -> None:
        self._db = db
        self._key: Final = to_key(doc_id)
        self._damage: CorruptDataError | None = None
        self._stored: Record | None = None
        try:
            self._stored = record_of(db, self._key)
        except CorruptDataError as exc:  # it can still be forgotten
            self._damage = exc
        self._changed: Record | None = self._stored

    @property
    def _record(self) -> Record:
        if self._damage is not None:
            raise self._damage
        return self._changed or Record()

    def _update(self, **values: int | bytes) -> None:
        self._changed = replace(self._record, **values)  # type: ignore[arg-type]  # by name

    def finish(self) -> None:
        """Write the record, if it has changed."""
        if self._changed is not None and self._changed is not self._stored:
            put_record(self._db, self._key, self._changed, is_new=self._stored is None)

    # ---- the record ------------------------------------------------------------------------------

    def head(self) -> Head | None:
        record = self._record
        if not record.is_kept:
            return None
        return Head(
            committed_rev=record.committed_rev,
            version=record.version,
            deleted=bool(record.deleted),
            token=codec.decode(record.token),
            schema_version=record.schema_version,
        )

    def put_head(self, head: Head) -> None:
        self._update(
            is_kept=1,
            committed_rev=head.committed_rev,
            version=head.version,
            deleted=int(head.deleted),
            token=codec.encode(head.token),
            schema_version=head.schema_version,
        )

    def remove_head(self) -> None:
        self._db.execute("DELETE FROM collections_rows WHERE doc_id = ?", (self._key,))
        self._db.execute(
            "DELETE FROM collections_changes WHERE doc_id = ? AND is_quarantined = 0", (self._key,)
        )
        if self._damage is not None:
            (quarantined,) = self._db.execute(
                "SELECT count(*) FROM collections_changes WHERE doc_id = ?", (self._key,)
            ).fetchone()
            stored = self._db.execute(
                "SELECT 1 FROM collections_docs WHERE doc_id = ?", (self._key,)
            ).fetchone()
            self._damage, self._stored = None, Record() if stored else None
            self._changed = Record(quarantined=quarantined)
        else:
            record = self._record
            self._changed = Record(quarantined=record.quarantined, position=record.position)

    # ---- rows ------------------------------------------------------------------------------------

    def rows(self) -> dict[str, dict[str, Row]]:
        found: dict[str, dict[str, Row]] = {}
        names: dict[bytes, dict[str, Row]] = {}
        count = total = 0
        decode, key_of = codec.decode, self._key
        for name, key, row, checksum in self._db.execute(
            "SELECT name, key, row, sum FROM collections_rows WHERE doc_id = ?", (self._key,)
        ):
            if row_sum(key_of, name, key, row) != checksum:
                raise damaged(key_of, "committed", f"the row {from_key(key)!r} is damaged")
            table = names.get(name)
            if table is None:
                table = names[name] = found[from_key(name)] = {}
            table[from_key(key)] = decode(row)
            count, total = count + 1, total + checksum
        record = self._record
        if count != record.rows:
            raise damaged(key_of, "committed", f"of {record.rows} rows {count} are there")
        if total % _SUM_MODULUS != record.rows_sum:
            raise damaged(key_of, "committed", "a row is of another time")
        return found

    def row(self, table: str, key: str) -> Row | None:
        names = (self._key, to_key(table), to_key(key))
        found = self._db.execute(
            "SELECT row, sum FROM collections_rows WHERE doc_id = ? AND name = ? AND key = ?", names
        ).fetchone()
        if found is None:
            return None
        if row_sum(*names, found[0]) != found[1]:
            raise damaged(self._key, "committed", f"the row {key!r} is damaged")
        row: Row = codec.decode(found[0])
        return row

    def put_row(self, table: str, key: str, row: Row) -> None:
        values = (self._key, to_key(table), to_key(key), codec.encode(row))
        checksum = row_sum(*values)
        before = self._sum_of(values[1], values[2])
        self._db.execute(
            "INSERT OR REPLACE INTO collections_rows VALUES (?, ?, ?, ?, ?)", (*values, checksum)
        )
        self._count_rows(int(before is None), checksum - (before or 0))

    def remove_row(self, table: str, key: str) -> None:
        name, row_key = to_key(table), to_key(key)
        before = self._sum_of(name, row_key)
        if before is not None:
            self._db.execute(
                "DELETE FROM collections_rows WHERE doc_id = ? AND name = ? AND key = ?",
                (self._key, name, row_key),
            )
            self._count_rows(-1, -before)

    def clear_rows(self, table: str) -> None:
        names = (self._key, to_key(table))
        count, total = self._db.execute(
            "SELECT count(*), coalesce(sum(sum), 0) FROM collections_rows"
            " WHERE doc_id = ? AND name = ?",
            names,
        ).fetchone()
        self._db.execute("DELETE FROM collections_rows WHERE doc_id = ? AND name = ?", names)
        self._count_rows(-count, -total)

    def replace_rows(self, rows: Mapping[str, Mapping[str, Row]]) -> None:
        self._db.execute("DELETE FROM collections_rows WHERE doc_id = ?", (self._key,))
        count = total = 0
        doc_key, encode = self._key, codec.encode
        values: list[tuple[bytes, bytes, bytes, bytes, int]] = []
        for table, table_rows in rows.items():
            name = to_key(table)
            for key, row in table_rows.items():
                row_key, encoded = to_key(key), encode(row)
                checksum = row_sum(doc_key, name, row_key, encoded)
                values.append((doc_key, name, row_key, encoded, checksum))
                count, total = count + 1, total + checksum
        self._db.executemany("INSERT INTO collections_rows VALUES (?, ?, ?, ?, ?)", values)
        self._update(rows=count, rows_sum=total % _SUM_MODULUS)

    def _sum_of(self, name: bytes, key: bytes) -> int | None:
        row = self._db.execute(
            "SELECT sum FROM collections_rows WHERE doc_id = ? AND name = ? AND key = ?",
            (self._key, name, key),
        ).fetchone()
        return None if row is None else row[0]

    def _count_rows(self, more: int, difference: int) -> None:
        record = self._record
        self._update(
            rows=record.rows + more, rows_sum=(record.rows_sum + difference) % _SUM_MODULUS
        )

    # ---- pending changes and quarantine ----------------------------------------------------------

    def pending(self) -> list[Change]:
        expected = self._record.pending
        if not expected:
            return []
        found: list[Change] = []
        for change_id, position, change, checksum in self._db.execute(
            "SELECT change_id, position, change, sum FROM collections_changes"
            " WHERE doc_id = ? AND is_quarantined = 0 ORDER BY position",
            (self._key,),
        ):
            if row_sum(self._key, change_id, 0, position, change, b"", 0) != checksum:
                raise damaged(self._key, "pending", "a pending change fails its checksum")
            found.append(Change.from_encoded(change))
        if len(found) != expected:
            raise damaged(
                self._key, "pending", f"of {expected} pending changes {len(found)} are there"
            )
        return found

    def has_pending(self) -> bool:
        return self._record.pending > 0

    def find_pending(self, change_id: str) -> Change | None:
        if not self._record.pending:
            return None
        key = to_key(change_id)
        row = self._db.execute(
            "SELECT position, change, sum FROM collections_changes"
            " WHERE doc_id = ? AND change_id = ? AND is_quarantined = 0",
            (self._key, key),
        ).fetchone()
        if row is None:
            return None
        if row_sum(self._key, key, 0, row[0], row[1], b"", 0) != row[2]:
            raise damaged(self._key, "pending", "a pending change fails its checksum")
        return Change.from_encoded(row[1])

    def add_pending(self, change: Change) -> None:
        self._put_change(change, is_quarantined=0, reason=b"", at=0)
        self._update(pending=self._record.pending + 1)

    def remove_pending(self, ids: Collection[str]) -> list[str]:
        if not self._record.pending:
            return []
        gone = [
            change_id
            for change_id in ids
            if self._db.execute(
                "DELETE FROM collections_changes"
                " WHERE doc_id = ? AND change_id = ? AND is_quarantined = 0",
                (self._key, to_key(change_id)),
            ).rowcount
        ]
        if gone:
            self._update(pending=self._record.pending - len(gone))
        return gone

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        if not self._record.quarantined:
            return None
        entries = records.list_quarantined(self._db, self._key)
        return next((entry for entry in entries if entry.change_id == change_id), None)

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        self._put_change(
            quarantined.change,
            is_quarantined=1,
            reason=to_key(quarantined.reason),
            at=quarantined.quarantined_at,
        )
        self._update(quarantined=self._record.quarantined + 1)

    def discard_quarantined(self, change_id: str | None = None) -> None:
        if not self._record.quarantined:
            return
        key = None if change_id is None else to_key(change_id)
        gone = self._db.execute(
            "DELETE FROM collections_changes WHERE doc_id = ? AND is_quarantined = 1"
            " AND (? IS NULL OR change_id = ?)",
            (self._key, key, key),
        ).rowcount
        if gone:
            self._update(quarantined=self._record.quarantined - gone)

    def _put_change(self, change: Change, *, is_quarantined: int, reason: bytes, at: int) -> None:
        position = self._record.position + 1
        values = (
            self._key,
            to_key(change.id),
            is_quarantined,
            position,
            change.encoded,
            reason,
            at,
        )
        self._db.execute(
            "INSERT INTO collections_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )
        self._update(position=position)
