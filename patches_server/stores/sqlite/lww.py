"""`LWWSqliteServerStore`: an LWW server's documents in a SQLite file.

A document has a number of its own, so that the keys of its rows are short. A row is updated in
place: the tree of paths changes only when a path is new. Paths and change ids are bytes, since a
browser can send halves of surrogate pairs. Every row has a checksum.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

from patches.algorithms.lww.field_table import ancestor_paths
from patches.errors import CorruptDataError, RevConflictError
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches.stores.sqlite.keys import from_key, range_below, to_key
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.records import Tombstone
from patches_server.documents.version_store import VersionStore
from patches_server.lww.holdings import encode_spans
from patches_server.lww.rows import Row, stored_order
from patches_server.lww.store import LoadedRows, SavedSnapshot
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.documents import SqliteDocuments
from patches_server.stores.sqlite.versions import SqliteVersions, pack, unpack

# droppable: a removal, and not pinned. stored_at: the server time of the commit. head_id: the id of
# the change that made the head. ids_floor: ids of revisions up to this one may be forgotten.
_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS lww_docs (
    doc INTEGER PRIMARY KEY, doc_id TEXT NOT NULL UNIQUE, rev INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0, snapshot_rev INTEGER, snapshot BLOB,
    head_id BLOB, ids_floor INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS lww_rows (
    doc INTEGER NOT NULL, path BLOB NOT NULL, rev INTEGER NOT NULL, pos INTEGER NOT NULL,
    ts NUMERIC NOT NULL, held BLOB NOT NULL,
    hidden INTEGER NOT NULL DEFAULT 0, pinned INTEGER NOT NULL, droppable INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
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


def _keep_head_ids(conn: sqlite3.Connection) -> None:
    conn.execute("ALTER TABLE lww_docs ADD COLUMN head_id BLOB")
    conn.execute("ALTER TABLE lww_docs ADD COLUMN ids_floor INTEGER NOT NULL DEFAULT 0")
    conn.execute("UPDATE lww_docs SET ids_floor = rev")
    conn.execute("ALTER TABLE lww_change_ids ADD COLUMN rev INTEGER")


LWW_SCHEMA: Final = Schema(name="lww", version=2, script=_SCRIPT, migrations={1: _keep_head_ids})
_ROW: Final = "path, rev, pos, ts, held, hidden, pinned, crc, op"
_Values: TypeAlias = tuple[bytes, int, int, float, bytes, int, int, int, bytes]
_PARAMETERS: Final = 500
_LEAST_PRUNED: Final = 16


class LWWSqliteServerStore(SqliteDocuments):
    """An `LWWServerStore` over a database that it shares."""

    versions: VersionStore | None
    branches: BranchStore | None
    keeps_change_ids = True

    def __init__(
        self,
        database: SqliteDatabase,
        versions: SqliteVersions,
        branches: SqliteBranches,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__(database, runtime or Runtime())
        self.versions = versions
        self.branches = branches
        database.add_schema(LWW_SCHEMA)

    async def load_rows(
        self,
        doc_id: str,
        *,
        now: Millis,
        paths: Sequence[str] | None = None,
        since_rev: int | None = None,
        change_ids: Sequence[str] = (),
    ) -> LoadedRows:
        def read(conn: sqlite3.Connection) -> LoadedRows:
            documents.check_not_deleted(conn, doc_id, now=now)
            return _loaded(conn, doc_id, now, paths, since_rev, change_ids)

        return await self._database.read(read)

    async def save_rows(
        self,
        doc_id: str,
        rows: Sequence[Row],
        *,
        expected_rev: int,
        now: Millis,
        hide: Sequence[str] = (),
        change_ids: Sequence[str] = (),
        expires_at: Millis = 0,
        head_id: str | None = None,
        token: str | None = None,
    ) -> None:
        rev = expected_rev + 1

        def write(conn: sqlite3.Connection) -> None:
            doc = _require_head(conn, doc_id, expected_rev, now, token)
            conn.executemany(
                "UPDATE lww_rows SET hidden = 1 WHERE doc = ? AND path = ?",
                [(doc, to_key(path)) for path in hide],
            )
            _write_revision(conn, doc, rows, now)
            conn.execute(
                "UPDATE lww_docs SET head_id = ?, ids_floor = max(ids_floor, ?) WHERE doc = ?",
                (None if head_id is None else to_key(head_id), 0 if change_ids else rev, doc),
            )
            _prune_ids(conn, now, at_most=2 * len(change_ids) + _LEAST_PRUNED)
            conn.executemany(
                "INSERT OR REPLACE INTO lww_change_ids VALUES (?, ?, ?, ?)",
                [(doc, to_key(change_id), expires_at, rev) for change_id in change_ids],
            )

        await self._database.write(write)

    async def seed(self, doc_id: str, state: bytes, rows: Sequence[Row], *, now: Millis) -> None:
        packed = await self._runtime.run_blocking(lambda: pack(state))

        def write(conn: sqlite3.Connection) -> None:
            doc = _require_head(conn, doc_id, 0, now)
            _put_snapshot(conn, doc, packed, 0)
            if rows:
                _write_revision(conn, doc, rows, now)
                conn.execute("UPDATE lww_docs SET ids_floor = 1 WHERE doc = ?", (doc,))

        await self._database.write(write)

    async def made_by(self, doc_id: str, rev: int, change_id: str) -> bool | None:
        key = to_key(change_id)

        def read(conn: sqlite3.Connection) -> bool | None:
            found = conn.execute(
                "SELECT d.rev, d.head_id, d.ids_floor, i.rev, i.change_id FROM lww_docs d "
                "LEFT JOIN lww_change_ids i ON i.doc = d.doc AND i.change_id = ? "
                "WHERE d.doc_id = ?",
                (key, doc_id),
            ).fetchone()
            if found is None:
                return False
            head, head_id, floor, made, is_known = found
            if rev == head and head_id == key:
                return True
            if is_known is not None:
                return None if made is None else bool(made == rev)
            return None if rev <= floor else False

        return await self._database.read(read)

    async def get_current_rev(self, doc_id: str) -> int:
        row = await self._database.read(
            lambda conn: conn.execute(
                "SELECT rev FROM lww_docs WHERE doc_id = ?", (doc_id,)
            ).fetchone()
        )
        return row[0] if row else 0

    async def save_snapshot(self, doc_id: str, state: bytes, rev: int, *, now: Millis) -> None:
        packed = await self._runtime.run_blocking(lambda: pack(state))

        def write(conn: sqlite3.Connection) -> None:
            documents.require_writable(conn, doc_id, "lww", now=now)
            doc, _ = _doc(conn, doc_id)
            _put_snapshot(conn, doc, packed, rev)
            conn.execute("DELETE FROM lww_rows WHERE doc = ? AND rev <= ?", (doc, rev))

        await self._database.write(write)

    async def drop_removals(self, doc_id: str, *, stored_before: Millis, limit: int) -> int:
        def write(conn: sqlite3.Connection) -> int:
            old = conn.execute(
                "SELECT r.rowid, r.rev, r.doc FROM lww_rows r JOIN lww_docs d ON d.doc = r.doc "
                "WHERE d.doc_id = ? AND r.droppable = 1 AND r.stored_at < ? "
                "ORDER BY r.stored_at LIMIT ?",
                (doc_id, stored_before, limit),
            ).fetchall()
            if old:
                conn.executemany(
                    "DELETE FROM lww_rows WHERE rowid = ?", [(rowid,) for rowid, _, _ in old]
                )
                conn.execute(
                    "UPDATE lww_docs SET floor = max(floor, ?) WHERE doc = ?",
                    (max(rev for _, rev, _ in old), old[0][2]),
                )
            return len(old)

        return await self._database.write(write)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        def write(conn: sqlite3.Connection) -> None:
            found = _find(conn, doc_id)
            if found is not None:
                conn.execute("DELETE FROM lww_rows WHERE doc = ?", found[:1])
                conn.execute("DELETE FROM lww_change_ids WHERE doc = ?", found[:1])
                conn.execute("DELETE FROM lww_docs WHERE doc = ?", found[:1])
            documents.forget_document(conn, doc_id)
            if tombstone is not None:
                documents.put_tombstone(conn, tombstone)

        await self._database.write(write)


def _find(conn: sqlite3.Connection, doc_id: str) -> tuple[int, int] | None:
    """The document's number and its head."""
    row: tuple[int, int] | None = conn.execute(
        "SELECT doc, rev FROM lww_docs WHERE doc_id = ?", (doc_id,)
    ).fetchone()
    return row


def _doc(conn: sqlite3.Connection, doc_id: str) -> tuple[int, int]:
    """The same, of a document that is made if there is none."""
    found = _find(conn, doc_id)
    if found is None:
        cursor = conn.execute("INSERT INTO lww_docs (doc_id) VALUES (?)", (doc_id,))
        assert cursor.lastrowid is not None
        found = (cursor.lastrowid, 0)
    return found


def _require_head(
    conn: sqlite3.Connection, doc_id: str, expected_rev: int, now: Millis, token: str | None = None
) -> int:
    """The number of a document that may be written and stands at this revision of a history."""
    documents.require_writable(conn, doc_id, "lww", now=now)
    doc, head = _doc(conn, doc_id)
    if head != expected_rev or (token is not None and token != documents.token_of(conn, doc_id)):
        raise RevConflictError
    return doc


def _put_snapshot(conn: sqlite3.Connection, doc: int, packed: bytes, rev: int) -> None:
    conn.execute(
        "UPDATE lww_docs SET snapshot = ?, snapshot_rev = ? WHERE doc = ?", (packed, rev, doc)
    )


def _write_revision(conn: sqlite3.Connection, doc: int, rows: Sequence[Row], now: Millis) -> None:
    conn.execute("UPDATE lww_docs SET rev = rev + 1 WHERE doc = ?", (doc,))
    for row in rows:
        _write(conn, doc, row, now)


def _loaded(
    conn: sqlite3.Connection,
    doc_id: str,
    now: Millis,
    paths: Sequence[str] | None,
    since_rev: int | None,
    change_ids: Sequence[str],
) -> LoadedRows:
    found = conn.execute(
        "SELECT doc, rev, floor, snapshot_rev, snapshot, head_id FROM lww_docs WHERE doc_id = ?",
        (doc_id,),
    ).fetchone()
    if found is None:
        return LoadedRows()
    doc, rev, floor, snapshot_rev, packed, head_id = found
    snapshot = (
        None if packed is None else SavedSnapshot(rev=snapshot_rev, state=unpack(doc_id, packed))
    )
    if paths is None and since_rev is None:
        where = "doc = ?"
        rows = {row.path: row for row in _rows(conn, doc_id, where, (doc,))}
    else:
        rows = {row.path: row for row in _near(conn, doc_id, doc, paths or ())}
        if since_rev is not None and since_rev < rev:
            newer = _rows(conn, doc_id, "doc = ? AND rev > ?", (doc, since_rev))
            rows.update((row.path, row) for row in newer)
    return LoadedRows(
        rev=rev,
        rows=stored_order(rows.values()),
        floor=floor,
        snapshot=snapshot,
        seen=frozenset(_seen(conn, doc, now, change_ids)),
        head_id=None if head_id is None else from_key(head_id),
        token=documents.token_of(conn, doc_id),
    )


def _near(conn: sqlite3.Connection, doc_id: str, doc: int, paths: Sequence[str]) -> Iterator[Row]:
    """The rows at, above and below the paths."""
    exact = {name for path in paths for name in ("", path, *ancestor_paths(path))}
    for names in _chunks(to_key(name) for name in exact):
        marks = ",".join("?" * len(names))
        yield from _rows(conn, doc_id, f"doc = ? AND path IN ({marks})", (doc, *names))
    for path in paths:
        below = (doc, *range_below(path))
        yield from _rows(conn, doc_id, "doc = ? AND path >= ? AND path < ?", below)


def _rows(
    conn: sqlite3.Connection, doc_id: str, where: str, values: Sequence[object]
) -> Iterator[Row]:
    sql = f"SELECT {_ROW} FROM lww_rows WHERE {where}"  # noqa: S608 -- fixed tests, bound values
    for row in conn.execute(sql, values):
        yield _row(doc_id, row)


def _row(doc_id: str, values: _Values) -> Row:
    path, rev, pos, ts, held, hidden, pinned, crc, op = values
    torn = not isinstance(op, bytes)  # a damaged row may hold any type
    if torn or zlib.crc32(op) != crc:
        raise CorruptDataError(f"document {doc_id!r}: a row of revision {rev} is damaged")
    return Row(
        from_key(path),
        rev=rev,
        pos=pos,
        ts=ts,
        encoded=op,
        held=held,
        hidden=bool(hidden),
        pinned=bool(pinned),
    )


def _seen(
    conn: sqlite3.Connection, doc: int, now: Millis, change_ids: Sequence[str]
) -> Iterator[str]:
    by_key = {to_key(change_id): change_id for change_id in change_ids}
    for keys in _chunks(by_key):
        marks = ",".join("?" * len(keys))
        sql = (
            "SELECT change_id FROM lww_change_ids "  # noqa: S608 -- only question marks
            f"WHERE doc = ? AND expires_at > ? AND change_id IN ({marks})"
        )
        for (key,) in conn.execute(sql, (doc, now, *keys)):
            yield by_key[key]


def _write(conn: sqlite3.Connection, doc: int, row: Row, now: Millis) -> None:
    conn.execute(
        "DELETE FROM lww_rows WHERE doc = ? AND path >= ? AND path < ?",
        (doc, *range_below(row.path)),
    )
    conn.execute(
        "INSERT INTO lww_rows "
        "(doc, path, rev, pos, ts, held, hidden, pinned, droppable, stored_at, crc, op) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (doc, path) DO UPDATE SET "
        "rev = excluded.rev, pos = excluded.pos, ts = excluded.ts, held = excluded.held, "
        "hidden = excluded.hidden, pinned = excluded.pinned, droppable = excluded.droppable, "
        "stored_at = excluded.stored_at, crc = excluded.crc, op = excluded.op",
        (
            doc,
            to_key(row.path),
            row.rev,
            row.pos,
            row.ts,
            encode_spans(row.held),
            int(row.hidden),
            int(row.pinned),
            int(row.is_removal and not row.pinned),
            now,
            zlib.crc32(row.encoded),
            row.encoded,
        ),
    )


def _prune_ids(conn: sqlite3.Connection, now: Millis, *, at_most: int) -> None:
    """A few more than a commit adds: the table shrinks, and no commit pays for all of it."""
    expired = conn.execute(
        "SELECT doc, change_id, rev FROM lww_change_ids WHERE expires_at <= ? "
        "ORDER BY expires_at LIMIT ?",
        (now, at_most),
    ).fetchall()
    # one by one: as a subquery this would look at every id of the document
    conn.executemany(
        "DELETE FROM lww_change_ids WHERE doc = ? AND change_id = ?",
        [(doc, change_id) for doc, change_id, _ in expired],
    )
    conn.executemany(
        "UPDATE lww_docs SET ids_floor = max(ids_floor, ?) WHERE doc = ?",
        [(rev, doc) for doc, _, rev in expired if rev is not None],
    )


def _chunks(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    iterator = iter(keys)
    while chunk := list(islice(iterator, _PARAMETERS)):
        yield chunk
