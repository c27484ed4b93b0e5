"""`DocumentRecords`: what the documents of each algorithm have in a client's file.

An algorithm `NAME` has a record for each document in its table `NAME_docs`, whose columns are its
own but for `doc_id`, `version` and, at the end, `sum`. Here are the tables beside it: `NAME_file`
counts the records, so that one that is gone is noticed, and `NAME_quarantine` holds the changes
that the server refused. Every row has a checksum over all its values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from patches.errors import CorruptDataError, DamagedPart
from patches.model.change import Change, QuarantinedChange, TrackedDoc
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.keys import from_key, readable, to_key

#: A new record begins with a version that no other record has had.
_VERSION_BITS: Final = 40

_SCRIPT: Final = """
CREATE TABLE {name}_file (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    docs INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    made INTEGER NOT NULL,
    sum INTEGER NOT NULL
);
CREATE TABLE {name}_quarantine (
    place INTEGER PRIMARY KEY,
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    reason BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    sum INTEGER NOT NULL
);
INSERT INTO {name}_file VALUES (1, 0, 0, 0, {no_records});
"""


class FileCounts(NamedTuple):
    """How many records and quarantined changes there are, and how many records were ever made."""

    docs: int
    quarantined: int
    made: int


class Listed(Protocol):
    """What a list of documents needs of a record."""

    @property
    def committed_rev(self) -> int: ...
    @property
    def deleted(self) -> int: ...


class DocumentRecords:
    """The tables that the documents of the algorithm `name` share.

    `parts` are its tables with rows of documents: rows without a record are damage. Every method
    is called in a transaction of the caller's. Raises `CorruptDataError`.
    """

    def __init__(self, name: str, *parts: str) -> None:
        self._name: Final = name
        #: What makes the tables.
        self.script: Final = _SCRIPT.format(name=name, no_records=row_sum(0, 0, 0))
        self._has_rows = " UNION ALL ".join(
            f"SELECT 1 FROM {part} WHERE doc_id = ?1"  # noqa: S608 -- fixed names
            for part in parts
        )
        self._keys_in_parts = " UNION ".join(f"SELECT doc_id FROM {part}" for part in parts)  # noqa: S608 -- fixed names
        self._in_quarantine = (
            f"SELECT doc_id, change_id, change, reason, quarantined_at, sum FROM {name}_quarantine"  # noqa: S608 -- a fixed name
            " ORDER BY place"
        )

    # ---- records ---------------------------------------------------------------------------------

    def make(self, db: sqlite3.Connection, *, is_known: bool = False) -> int:
        """Count a record that is made now, or put in the place of another; its first version."""
        docs, quarantined, made = self.counts(db)
        self.put_counts(db, FileCounts(docs + (not is_known), quarantined, made + 1))
        return made + 1 << _VERSION_BITS

    def next_version(self, db: sqlite3.Connection) -> int:
        """The version that `make` would give now."""
        return self.counts(db).made + 1 << _VERSION_BITS

    def remove(self, db: sqlite3.Connection, key: bytes, *, is_lost: bool = False) -> None:
        """Forget a record, if there is one. `is_lost`: the file counts one that is gone."""
        found = db.execute(f"DELETE FROM {self._name}_docs WHERE doc_id = ?", (key,)).rowcount  # noqa: S608 -- a fixed name
        if found or is_lost:
            docs, quarantined, made = self.counts(db)
            self.put_counts(db, FileCounts(docs - 1, quarantined, made))

    def check_unknown(self, db: sqlite3.Connection, key: bytes) -> None:
        """Raise `CorruptDataError` for rows of a document that has no record."""
        if db.execute(self._has_rows, (key,)).fetchone() is not None:
            raise damaged(key, "record", "its record is missing")

    def list_docs(
        self,
        db: sqlite3.Connection,
        columns: str,
        checked: Callable[[bytes, Sequence[Any]], Listed],
        *,
        include_deleted: bool,
    ) -> list[TrackedDoc]:
        """All documents. `checked` makes a record of the values of `columns`, or raises.

        A damaged record counts as a document at revision 0; opening it raises.
        """
        found: list[TrackedDoc] = []
        keys: set[bytes] = set()
        rows = f"SELECT doc_id, {columns} FROM {self._name}_docs ORDER BY version"  # noqa: S608 -- fixed names
        for key, *row in db.execute(rows):
            keys.add(key)
            try:
                record = checked(key, row)
            except CorruptDataError:
                found.append(self._damaged_doc(key))
                continue
            if include_deleted or not record.deleted:
                found.append(
                    TrackedDoc(
                        doc_id=from_key(key),
                        committed_rev=record.committed_rev,
                        deleted=bool(record.deleted),
                        algorithm=self._name,
                    )
                )
        lost = {key for (key,) in db.execute(self._keys_in_parts)} - keys
        found += [self._damaged_doc(key) for key in sorted(lost)]
        docs = self.counts(db).docs
        if len(keys) + len(lost) != docs:
            raise CorruptDataError(
                f"the file should hold {docs} records of {self._name!r} and holds {len(keys)}",
                part="record",
            )
        return found

    def _damaged_doc(self, key: bytes) -> TrackedDoc:
        return TrackedDoc(
            doc_id=readable(key), committed_rev=0, algorithm=self._name, is_damaged=True
        )

    def counts(self, db: sqlite3.Connection) -> FileCounts:
        """What the file says that it holds."""
        row = db.execute(f"SELECT docs, quarantined, made, sum FROM {self._name}_file").fetchone()  # noqa: S608 -- a fixed name
        if row is None or row_sum(*row[:3]) != row[3]:
            raise CorruptDataError(
                f"the count of {self._name!r} documents in the file is damaged", part="record"
            )
        return FileCounts(*row[:3])

    def put_counts(self, db: sqlite3.Connection, counts: FileCounts) -> None:
        """Write what `counts` gives."""
        db.execute(
            f"INSERT OR REPLACE INTO {self._name}_file VALUES (1, ?, ?, ?, ?)",  # noqa: S608 -- a fixed name
            (*counts, row_sum(*counts)),
        )

    # ---- quarantine ------------------------------------------------------------------------------

    def list_quarantined(
        self, db: sqlite3.Connection, key: bytes | None
    ) -> list[QuarantinedChange]:
        """What is in quarantine, of one document or all, oldest first."""
        expected = self.counts(db).quarantined
        found, count = [], 0
        for doc_id, change_id, change, reason, at, checksum in (
            db.execute(self._in_quarantine) if expected else ()
        ):
            count += 1
            if key is not None and doc_id != key:
                continue
            if row_sum(doc_id, change_id, change, reason, at) != checksum:
                raise damaged(doc_id, "quarantine", "a quarantined change fails its checksum")
            found.append(
                QuarantinedChange(
                    doc_id=from_key(doc_id),
                    change_id=from_key(change_id),
                    change=Change.from_encoded(change),
                    reason=from_key(reason),
                    quarantined_at=at,
                )
            )
        if count != expected:
            raise CorruptDataError(
                f"the file should hold {expected} quarantined changes of {self._name!r} "
                f"and holds {count}",
                part="quarantine",
            )
        return found

    def quarantine(self, db: sqlite3.Connection, entry: QuarantinedChange) -> None:
        """Put a change into quarantine, in the place of one with its id."""
        values = (
            to_key(entry.doc_id),
            to_key(entry.change_id),
            entry.change.encoded,
            to_key(entry.reason),
            entry.quarantined_at,
        )
        self.take_from_quarantine(db, values[0], [entry.change_id])
        db.execute(
            f"INSERT INTO {self._name}_quarantine"  # noqa: S608 -- a fixed name
            " (doc_id, change_id, change, reason, quarantined_at, sum) VALUES (?, ?, ?, ?, ?, ?)",
            (*values, row_sum(*values)),
        )
        docs, quarantined, made = self.counts(db)
        self.put_counts(db, FileCounts(docs, quarantined + 1, made))

    def take_from_quarantine(
        self, db: sqlite3.Connection, key: bytes, change_ids: Iterable[str] | None = None
    ) -> int:
        """Remove some of a document's changes from quarantine, or all; how many there were."""
        docs, quarantined, made = self.counts(db)
        if not quarantined:
            return 0
        delete = f"DELETE FROM {self._name}_quarantine WHERE doc_id = ?"  # noqa: S608 -- a fixed name
        if change_ids is None:
            count = db.execute(delete, (key,)).rowcount
        else:
            ids = [(key, to_key(change_id)) for change_id in change_ids]
            count = db.executemany(f"{delete} AND change_id = ?", ids).rowcount
        if count > 0:
            self.put_counts(db, FileCounts(docs, quarantined - count, made))
        return max(count, 0)


def damaged(key: bytes, part: DamagedPart, what: str) -> CorruptDataError:
    """The error for damage in a document."""
    doc_id = readable(key)
    return CorruptDataError(f"document {doc_id!r}: {what}", doc_id=doc_id, part=part)
