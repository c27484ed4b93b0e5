"""`CollectionsSqliteStore`: a client's collections documents in an SQLite file.

Every call of `change` is one transaction, taken as a writer from its start. Every row has a
checksum over all its values; the document's record, written once at the end of a transaction,
counts rows and changes and has the sum of the rows' checksums, so that a row that is gone or was
put back to an older content is found when the document is loaded. Damage raises `CorruptDataError`,
which names the document and the part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Final

from patches.algorithms.collections.stores.schema import RECORDS, SCHEMA
from patches.algorithms.collections.tables import Head
from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.change import Change, QuarantinedChange
from patches.rows.row_ops import Row
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.document_records import damaged
from patches.stores.sqlite.keys import from_key, to_key
from patches.stores.sqlite.tables import SqliteTablesStore

#: Sums of checksums are kept below this, which SQLite can hold.
_SUM_MODULUS: Final = 1 << 62
_COLUMNS: Final = (
    "committed_rev, version, deleted, token, schema_version, rows, rows_sum, pending, position, sum"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A document's row, in the order of the columns behind its id."""

    committed_rev: int = 0
    version: int
    deleted: int = 0
    token: bytes = b"null"
    schema_version: int = 0
    rows: int = 0
    rows_sum: int = 0
    pending: int = 0
    position: int = 0


def _record_of(db: sqlite3.Connection, key: bytes) -> _Record | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM collections_docs WHERE doc_id = ?",  # noqa: S608 -- fixed names
        (key,),
    ).fetchone()
    if row is not None:
        return _checked(key, row)
    RECORDS.check_unknown(db, key)
    return None


def _checked(key: bytes, row: Sequence[Any]) -> _Record:
    *values, checksum = row
    if row_sum(key, *values) != checksum:
        raise damaged(key, "record", "its record fails its checksum")
    return _Record(**dict(zip(_Record.__slots__, values, strict=True)))


class CollectionsSqliteStore(SqliteTablesStore["_SqliteTables"]):
    """Rows, pending changes and quarantine that survive a restart."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database, RECORDS, _SqliteTables, columns=_COLUMNS, checked=_checked)
        database.add_schema(SCHEMA)


class _SqliteTables:
    """One document's tables in the transaction of a connection."""

    def __init__(self, db: sqlite3.Connection, doc_id: str) -> None:
        self._db = db
        self._key: Final = to_key(doc_id)
        self._damage: CorruptDataError | None = None
        self._stored: _Record | None = None
        try:
            self._stored = _record_of(db, self._key)
        except CorruptDataError as exc:  # it can still be forgotten
            self._damage = exc
        self._changed: _Record | None = self._stored

    @property
    def _record(self) -> _Record:
        if self._damage is not None:
            raise self._damage
        return self._changed or _Record(version=0)

    def _update(self, **values: int | bytes) -> None:
        record = self._record
        if self._changed is None:
            record = _Record(version=RECORDS.make(self._db))
        self._changed = replace(record, **values)  # type: ignore[arg-type]  # by name

    def finish(self) -> None:
        """Write the record, if it has changed."""
        if self._changed is not None and self._changed is not self._stored:
            values = (self._key, *astuple(self._changed))
            self._db.execute(
                "INSERT OR REPLACE INTO collections_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, row_sum(*values)),
            )

    # ---- the record ------------------------------------------------------------------------------

    def head(self) -> Head | None:
        record = self._record
        if self._changed is None:
            return None
        return Head(
            committed_rev=record.committed_rev,
            version=record.version,
            deleted=bool(record.deleted),
            token=codec.decode(record.token),
            schema_version=record.schema_version,
        )

    def put_head(self, head: Head) -> None:
        is_new = self._changed is None
        self._update(
            committed_rev=head.committed_rev,
            deleted=int(head.deleted),
            token=codec.encode(head.token),
            schema_version=head.schema_version,
        )
        if not is_new:  # a new record begins with a version that no other has had
            self._update(version=head.version)

    def remove_head(self) -> None:
        self._db.execute("DELETE FROM collections_rows WHERE doc_id = ?", (self._key,))
        self._db.execute("DELETE FROM collections_pending WHERE doc_id = ?", (self._key,))
        RECORDS.remove(self._db, self._key, is_lost=self._damage is not None)
        self._stored = self._changed = self._damage = None

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
            raise damaged(key_of, "committed", f"expected {record.rows} rows, found {count}")
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
            "SELECT change_id, position, change, sum FROM collections_pending"
            " WHERE doc_id = ? ORDER BY position",
            (self._key,),
        ):
            if row_sum(self._key, change_id, position, change) != checksum:
                raise damaged(self._key, "pending", "a pending change fails its checksum")
            found.append(Change.from_encoded(change))
        if len(found) != expected:
            raise damaged(
                self._key, "pending", f"expected {expected} pending changes, found {len(found)}"
            )
        return found

    def has_pending(self) -> bool:
        return self._record.pending > 0

    def find_pending(self, change_id: str) -> Change | None:
        if not self._record.pending:
            return None
        key = to_key(change_id)
        row = self._db.execute(
            "SELECT position, change, sum FROM collections_pending"
            " WHERE doc_id = ? AND change_id = ?",
            (self._key, key),
        ).fetchone()
        if row is None:
            return None
        if row_sum(self._key, key, *row[:2]) != row[2]:
            raise damaged(self._key, "pending", "a pending change fails its checksum")
        return Change.from_encoded(row[1])

    def add_pending(self, change: Change) -> None:
        position = self._record.position + 1
        values = (self._key, to_key(change.id), position, change.encoded)
        self._db.execute(
            "INSERT INTO collections_pending VALUES (?, ?, ?, ?, ?)", (*values, row_sum(*values))
        )
        self._update(pending=self._record.pending + 1, position=position)

    def remove_pending(self, ids: Collection[str]) -> list[str]:
        if not self._record.pending:
            return []
        gone = [
            change_id
            for change_id in ids
            if self._db.execute(
                "DELETE FROM collections_pending WHERE doc_id = ? AND change_id = ?",
                (self._key, to_key(change_id)),
            ).rowcount
        ]
        if gone:
            self._update(pending=self._record.pending - len(gone))
        return gone

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        entries = RECORDS.list_quarantined(self._db, self._key)
        return next((entry for entry in entries if entry.change_id == change_id), None)

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        RECORDS.quarantine(self._db, quarantined)

    def discard_quarantined(self, change_id: str | None = None) -> None:
        RECORDS.take_from_quarantine(
            self._db, self._key, None if change_id is None else [change_id]
        )
