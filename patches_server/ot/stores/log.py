"""A document's log in a SQLite file: its rows, read so that damage and holes show."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from patches.errors import CorruptDataError, DuplicateChangeIdsError
from patches.model.change import Change
from patches.stores.sqlite.file_kind import Schema, statements
from patches_server.documents.measure import Bounds
from patches_server.ot.rows import ALGORITHM
from patches_server.ot.store import NO_DOC, DocHead
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.checksums import require_row, row_crc

# The ids stand in a table of their own: they stay when changes are pruned. `prev` is the revision
# of the change before, `pruned` of the last one that was pruned, `ids` how many ids there are.
_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS ot_heads (
    doc_id TEXT PRIMARY KEY, rev INTEGER NOT NULL, change_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, size_bound INTEGER NOT NULL, depth_bound INTEGER NOT NULL,
    pruned INTEGER NOT NULL, ids INTEGER NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ot_changes (
    doc_id TEXT NOT NULL, rev INTEGER NOT NULL, prev INTEGER NOT NULL, change_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, batch_id TEXT, client_id TEXT,
    crc INTEGER NOT NULL, change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ot_change_ids (
    doc_id TEXT NOT NULL, change_id TEXT NOT NULL, PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
"""
ROW: Final = "rev, prev, change_id, created_at, batch_id, client_id, crc, change"
INSERT: Final = "INSERT INTO ot_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_ID: Final = "INSERT INTO ot_change_ids VALUES (?, ?)"
_HEAD: Final = "rev, change_id, created_at, size_bound, depth_bound, pruned, ids"


def _to_version_2(conn: sqlite3.Connection) -> None:
    """Let checksums cover keys, and changes name the one before. What was damaged stays so."""
    for table in ("ot_heads", "ot_changes"):
        conn.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in statements(_SCRIPT):
        conn.execute(statement)
    pruned: dict[str, int] = {}
    before: tuple[str | None, int] = (None, 0)
    for old in conn.execute("SELECT * FROM old_ot_changes ORDER BY doc_id, rev").fetchall():
        doc_id, rev, change_id, created_at, batch_id, client_id, crc, data = old
        if before[0] != doc_id:
            before = (doc_id, rev - 1)
            pruned[doc_id] = rev - 1 if _is_covered(conn, doc_id, rev - 1) else 0
        columns = (doc_id, rev, before[1], change_id, created_at, batch_id, client_id)
        is_whole = isinstance(data, bytes) and zlib.crc32(data) == crc
        crc = row_crc(*columns, data) if is_whole else crc
        conn.execute(
            "INSERT INTO ot_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*columns, crc, data)
        )
        before = (doc_id, rev)
    for head in conn.execute("SELECT * FROM old_ot_heads").fetchall():
        (ids,) = conn.execute(
            "SELECT count(*) FROM ot_change_ids WHERE doc_id = ?", head[:1]
        ).fetchone()
        columns = (*head, pruned.get(head[0], head[1]), ids)
        conn.execute(
            "INSERT INTO ot_heads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*columns, row_crc(*columns))
        )
    for table in ("ot_heads", "ot_changes"):
        conn.execute(f"DROP TABLE old_{table}")


def _is_covered(conn: sqlite3.Connection, doc_id: str, rev: int) -> bool:
    """Whether a version stands for everything up to a revision: the log before it was pruned."""
    found = conn.execute(
        "SELECT 1 FROM server_versions WHERE doc_id = ? AND origin = 'main' AND end_rev >= ?",
        (doc_id, rev),
    ).fetchone()
    return found is not None


OT_SCHEMA: Final = Schema(
    name="ot",
    version=2,
    script=_SCRIPT,
    known_by=frozenset({"ot_heads"}),
    migrations={1: _to_version_2},
)
#: A size bound grows by doubling and may be larger than what an INTEGER holds.
_LARGEST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Log:
    """Where a log ends and begins: changes up to `pruned` are gone. `ids`: ids of all of them."""

    head: DocHead = NO_DOC
    pruned: int = 0
    ids: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a document's log, read with a check that nothing in it is missing.

    Each change names the one before, so a hole inside shows; at the end stands the head, or the
    change that comes next.
    """

    doc_id: str
    log: Log
    start_after: int | None
    end_before: int | None

    @property
    def _first_prev(self) -> int:
        """The highest revision that the first change may name as the one before."""
        return max(self.log.pruned, self.start_after or 0)

    def read(self, conn: sqlite3.Connection) -> Iterator[Change]:
        """The changes, ascending. Raises `CorruptDataError` once it comes to damage."""
        low = -1 if self.start_after is None else self.start_after
        high = 2**62 if self.end_before is None else self.end_before
        before: int | None = None
        for row in conn.execute(
            f"SELECT {ROW} FROM ot_changes WHERE doc_id = ? AND rev > ? AND rev < ? ORDER BY rev",  # noqa: S608 -- fixed names
            (self.doc_id, low, high),
        ):
            change = change_of(self.doc_id, row)
            self._check_link(row[1], before)
            yield change
            before = change.rev
        self._check_end(conn, before)

    def _check_link(self, prev: int, before: int | None) -> None:
        expected = self._first_prev if before is None else before
        if prev > expected or (before is not None and prev != before):
            raise self._hole(expected, prev)

    def _check_end(self, conn: sqlite3.Connection, last: int | None) -> None:
        rev = self._first_prev if last is None else last
        if self.end_before is None or self.end_before > self.log.head.rev:
            if rev < self.log.head.rev:
                raise self._hole(rev, self.log.head.rev)
            return
        following = conn.execute(
            "SELECT prev FROM ot_changes WHERE doc_id = ? AND rev >= ? ORDER BY rev LIMIT 1",
            (self.doc_id, self.end_before),
        ).fetchone()
        if following is None or (following[0] > rev if last is None else following[0] != rev):
            raise self._hole(rev, self.end_before)

    def _hole(self, before: int, after: int) -> CorruptDataError:
        return CorruptDataError(
            f"document {self.doc_id!r}: changes between revisions {before} and {after} are missing"
        )


def load_log(conn: sqlite3.Connection, doc_id: str) -> Log:
    """A document's log. Raises `DocDeletedError`, `CorruptDataError`."""
    return checked_log(conn, doc_id, documents.load(conn, doc_id))


def find_log(conn: sqlite3.Connection, doc_id: str) -> Log | None:
    """What is stored of a document's log, damaged or not."""
    row = conn.execute(f"SELECT {_HEAD} FROM ot_heads WHERE doc_id = ?", (doc_id,)).fetchone()  # noqa: S608 -- fixed names
    return None if row is None else _log(row, None)


def is_whole_head(conn: sqlite3.Connection, doc_id: str) -> bool:
    """Whether a document's head has its checksum."""
    row = conn.execute(f"SELECT {_HEAD}, crc FROM ot_heads WHERE doc_id = ?", (doc_id,)).fetchone()  # noqa: S608 -- fixed names
    return row is not None and row[-1] == row_crc(doc_id, *row[:-1])


def checked_log(conn: sqlite3.Connection, doc_id: str, record: documents.Record | None) -> Log:
    row = conn.execute(
        f"SELECT {_HEAD}, crc FROM ot_heads WHERE doc_id = ?",  # noqa: S608 -- fixed names
        (doc_id,),
    ).fetchone()
    is_ours = record is not None and record.algorithm == ALGORITHM
    require_row((row is not None) == is_ours, f"document {doc_id!r}: its record or its head")
    if row is None or record is None:
        return Log()
    require_row(row[-1] == row_crc(doc_id, *row[:-1]), f"the head of document {doc_id!r}")
    return _log(row[:-1], record.token)


def _log(row: tuple[Any, ...], token: str | None) -> Log:
    rev, change_id, created_at, size, depth, pruned, ids = row
    head = DocHead(
        rev=rev,
        change_id=change_id,
        created_at=created_at,
        bounds=Bounds(size, depth),
        token=token,
    )
    return Log(head, pruned, ids)


def put_log(conn: sqlite3.Connection, doc_id: str, log: Log) -> None:
    """Store where a log ends and begins."""
    put_logs(conn, [(doc_id, log)])


def put_logs(conn: sqlite3.Connection, logs: Iterable[tuple[str, Log]]) -> None:
    """The same for the logs of several documents."""
    conn.executemany(
        "INSERT OR REPLACE INTO ot_heads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_head_row(doc_id, log) for doc_id, log in logs],
    )


def _head_row(doc_id: str, log: Log) -> tuple[Any, ...]:
    columns = (
        doc_id,
        log.head.rev,
        log.head.change_id,
        log.head.created_at,
        min(log.head.bounds.size, _LARGEST),
        min(log.head.bounds.depth, _LARGEST),
        log.pruned,
        log.ids,
    )
    return (*columns, row_crc(*columns))


def insert_ids(conn: sqlite3.Connection, doc_id: str, changes: Sequence[Change]) -> None:
    """Raises `DuplicateChangeIdsError` naming those that are there already."""
    insert = "INSERT OR IGNORE INTO ot_change_ids VALUES (?, ?)"
    taken = [
        change.id
        for change in changes
        if not conn.execute(insert, (doc_id, change.id)).rowcount  # ignored: it is there already
    ]
    if taken:
        raise DuplicateChangeIdsError(doc_id, dict.fromkeys(taken))


def row_of(doc_id: str, change: Change, prev: int) -> tuple[Any, ...]:
    """A change as a row; `prev` is the revision of the one before."""
    data = change.encoded
    columns = (
        doc_id,
        change.rev,
        prev,
        change.id,
        change.created_at,
        change.batch_id,
        change.client_id,
    )
    return (*columns, row_crc(*columns, data), data)


def is_whole(doc_id: str, row: tuple[Any, ...]) -> bool:
    """Whether a row has its checksum: `rev, prev, change_id, ..., crc, change`."""
    *columns, crc, data = row
    return isinstance(data, bytes) and row_crc(doc_id, *columns, data) == crc


def change_of(doc_id: str, row: tuple[Any, ...]) -> Change:
    """The change of a row. Raises `CorruptDataError`."""
    rev, _, change_id, created_at, batch_id, client_id, _, data = row
    if not is_whole(doc_id, row):
        raise CorruptDataError(f"document {doc_id!r}: revision {rev} fails its checksum")
    return Change.from_encoded(
        data,
        rev=rev,
        id=change_id,
        created_at=created_at,
        batch_id=batch_id,
        client_id=client_id,
    )
