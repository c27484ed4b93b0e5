"""The rows of `LWWSqliteServerStore`: what its transactions are made of.

A row is updated in place: the tree of paths changes only when a path is new. Paths and change ids
are bytes, since a browser can send lone surrogates. Every row has a checksum.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from patches.algorithms.lww.field_table import ancestor_paths
from patches.runtime import Millis
from patches.stores.sqlite.keys import from_key, range_below, to_key
from patches_server.lww.holdings import encode_spans
from patches_server.lww.rows import Row, stored_order
from patches_server.lww.store import LoadedRows, SavedSnapshot
from patches_server.lww.stores.sqlite_docs import (
    ID,
    ROW,
    DocRow,
    find_doc,
    is_whole_doc,
    put_doc,
)
from patches_server.stores.sqlite.checksums import (
    NO_ROWS,
    Sums,
    require_row,
    require_rows,
    row_crc,
)
from patches_server.stores.sqlite.versions import unpack

_PARAMETERS: Final = 500
LEAST_PRUNED: Final = 16


def hide_rows(conn: sqlite3.Connection, doc: DocRow, paths: Sequence[str]) -> DocRow:
    rows = doc.rows
    for path in paths:
        found = conn.execute(
            f"SELECT rowid, {ROW} FROM lww_rows WHERE doc = ? AND path = ?",  # noqa: S608 -- fixed names
            (doc.doc, to_key(path)),
        ).fetchone()
        if found is None or found[6]:
            continue
        rowid, *columns, crc, op = found
        columns[5] = 1
        new = crc_of(doc.doc, columns, op)
        conn.execute("UPDATE lww_rows SET hidden = 1, crc = ? WHERE rowid = ?", (new, rowid))
        rows = rows.minus([crc]).plus([new])
    return replace(doc, rows=rows)


def write_revision(
    conn: sqlite3.Connection, doc: DocRow, rows: Sequence[Row], now: Millis
) -> DocRow:
    sums = doc.rows
    for row in rows:
        sums = _write(conn, doc.doc, sums, row, now)
    return replace(doc, rev=doc.rev + 1, rows=sums)


def without_rows(conn: sqlite3.Connection, doc: DocRow, where: str, *values: object) -> DocRow:
    """Remove rows; the document without them."""
    test = f"FROM lww_rows WHERE doc = ? AND {where}"
    gone = conn.execute(f"SELECT crc {test}", (doc.doc, *values)).fetchall()
    if gone:
        conn.execute(f"DELETE {test}", (doc.doc, *values))
    return replace(doc, rows=doc.rows.minus(crc for (crc,) in gone))


def read_rows(
    conn: sqlite3.Connection,
    doc_id: str,
    found: DocRow,
    token: str,
    now: Millis,
    paths: Sequence[str] | None,
    since_rev: int | None,
    change_ids: Sequence[str],
) -> LoadedRows:
    doc = found.doc
    if paths is None and since_rev is None:
        sql = f"SELECT {ROW} FROM lww_rows WHERE doc = ?"  # noqa: S608 -- fixed names
        whole = conn.execute(sql, (doc,)).fetchall()
        require_rows(found.rows, NO_ROWS.plus(row[-2] for row in whole), f"document {doc_id!r}")
        rows = {row.path: row for row in (_row(doc_id, doc, each) for each in whole)}
    else:
        rows = {row.path: row for row in _near(conn, doc_id, doc, paths or ())}
        if since_rev is not None and since_rev < found.rev:
            newer = _rows(conn, doc_id, doc, "AND rev > ?", since_rev)
            rows.update((row.path, row) for row in newer)
    return LoadedRows(
        rev=found.rev,
        rows=stored_order(rows.values()),
        floor=found.floor,
        snapshot=_snapshot(conn, doc_id, found),
        seen=frozenset(_seen(conn, doc, now, change_ids)),
        head_id=None if found.head_id is None else from_key(found.head_id),
        token=token,
    )


def _snapshot(conn: sqlite3.Connection, doc_id: str, found: DocRow) -> SavedSnapshot | None:
    if found.snapshot_rev is None:
        return None
    (packed,) = conn.execute("SELECT snapshot FROM lww_docs WHERE doc = ?", (found.doc,)).fetchone()
    require_row(packed is not None, f"the snapshot of document {doc_id!r}")
    return SavedSnapshot(rev=found.snapshot_rev, state=unpack(doc_id, packed))


def _near(conn: sqlite3.Connection, doc_id: str, doc: int, paths: Sequence[str]) -> Iterator[Row]:
    """The rows at, above and below the paths."""
    exact = {name for path in paths for name in ("", path, *ancestor_paths(path))}
    for names in _chunks(to_key(name) for name in exact):
        marks = ",".join("?" * len(names))
        yield from _rows(conn, doc_id, doc, f"AND path IN ({marks})", *names)
    for path in paths:
        yield from _rows(conn, doc_id, doc, "AND path >= ? AND path < ?", *range_below(path))


def _rows(
    conn: sqlite3.Connection, doc_id: str, doc: int, test: str, *values: object
) -> Iterator[Row]:
    sql = f"SELECT {ROW} FROM lww_rows WHERE doc = ? {test}"  # noqa: S608 -- fixed tests, bound values
    for row in conn.execute(sql, (doc, *values)):
        yield _row(doc_id, doc, row)


def is_whole(doc: int, row: Sequence[object]) -> bool:
    """Whether a row has its checksum: `path, rev, ..., stored_at, crc, op`."""
    *columns, crc, op = row
    return isinstance(op, bytes) and crc_of(doc, columns, op) == crc


def crc_of(doc: int, columns: Sequence[object], op: bytes) -> int:
    """The checksum of a row: `path, rev, ..., stored_at, author`, and its operation."""
    *others, author = columns
    return row_crc(doc, *others, op) if author is None else row_crc(doc, *columns, op)


def _row(doc_id: str, doc: int, row: Sequence[Any]) -> Row:
    path, rev, pos, ts, held, hidden, pinned, _, _, author, _, op = row
    require_row(is_whole(doc, row), f"document {doc_id!r}: a row of revision {rev}")
    return Row(
        from_key(path),
        rev=rev,
        pos=pos,
        ts=ts,
        encoded=op,
        held=held,
        hidden=bool(hidden),
        pinned=bool(pinned),
        author=None if author is None else from_key(author),
    )


def counted_rows(conn: sqlite3.Connection, doc_id: str, doc: int, index: str) -> Sums:
    """The rows that an index leads to, each checked. Raises `CorruptDataError`."""
    test = "" if index == _BY_PATH else "AND rev >= 0"
    sql = f"SELECT {ROW} FROM lww_rows INDEXED BY {index} WHERE doc = ? {test}"  # noqa: S608 -- fixed names
    crcs = []
    for row in conn.execute(sql, (doc,)):
        require_row(is_whole(doc, row), f"document {doc_id!r}: a row of revision {row[1]}")
        crcs.append(row[-2])
    return Sums().plus(crcs)


def counted_ids(conn: sqlite3.Connection, doc: int) -> Sums:
    """The change ids of a document."""
    rows = conn.execute(f"SELECT {ID} FROM lww_change_ids WHERE doc = ?", (doc,))  # noqa: S608 -- fixed names
    return Sums().plus(row_crc(*row) for row in rows)


_BY_PATH: Final = "sqlite_autoindex_lww_rows_1"
#: The indexes that rows are found by.
INDEXES: Final = (_BY_PATH, "lww_rows_by_rev")


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


def _write(conn: sqlite3.Connection, doc: int, sums: Sums, row: Row, now: Millis) -> Sums:
    path, below = to_key(row.path), (doc, *range_below(row.path))
    gone = conn.execute(
        "SELECT crc FROM lww_rows WHERE doc = ? AND path >= ? AND path < ? "
        "UNION ALL SELECT crc FROM lww_rows WHERE doc = ? AND path = ?",
        (*below, doc, path),
    ).fetchall()
    if gone:
        conn.execute("DELETE FROM lww_rows WHERE doc = ? AND path >= ? AND path < ?", below)
    columns = (
        path,
        row.rev,
        row.pos,
        row.ts,
        encode_spans(row.held),
        int(row.hidden),
        int(row.pinned),
        int(row.is_removal and not row.pinned),
        now,
        None if row.author is None else to_key(row.author),
    )
    crc = crc_of(doc, columns, row.encoded)
    conn.execute(
        "INSERT INTO lww_rows "
        "(doc, path, rev, pos, ts, held, hidden, pinned, droppable, stored_at, author, crc, op) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (doc, path) DO UPDATE SET "
        "rev = excluded.rev, pos = excluded.pos, ts = excluded.ts, held = excluded.held, "
        "hidden = excluded.hidden, pinned = excluded.pinned, droppable = excluded.droppable, "
        "stored_at = excluded.stored_at, author = excluded.author, "
        "crc = excluded.crc, op = excluded.op",
        (doc, *columns, crc, row.encoded),
    )
    return sums.minus(each for (each,) in gone).plus([crc])


def insert_ids(
    conn: sqlite3.Connection, doc: DocRow, rev: int, change_ids: Sequence[str], expires_at: Millis
) -> DocRow:
    ids = doc.ids
    for change_id in change_ids:
        key = to_key(change_id)
        old = conn.execute(
            f"SELECT {ID} FROM lww_change_ids WHERE doc = ? AND change_id = ?",  # noqa: S608 -- fixed names
            (doc.doc, key),
        ).fetchone()
        if old is not None:  # it had expired
            ids = ids.minus([row_crc(*old)])
        conn.execute(
            "INSERT OR REPLACE INTO lww_change_ids VALUES (?, ?, ?, ?)",
            (doc.doc, key, expires_at, rev),
        )
        ids = ids.plus([row_crc(key, expires_at, rev)])
    return replace(doc, ids=ids)


def prune_ids(conn: sqlite3.Connection, now: Millis, *, at_most: int) -> None:
    """A few more than a commit adds: the table shrinks, and no commit pays for all of it."""
    expired = conn.execute(
        f"SELECT i.doc, d.doc_id, {_PRUNED} FROM lww_change_ids i JOIN lww_docs d USING (doc) "  # noqa: S608 -- fixed names
        "WHERE i.expires_at <= ? ORDER BY i.expires_at LIMIT ?",
        (now, at_most),
    ).fetchall()
    # one by one: as a subquery this would scan every id of the document
    conn.executemany(
        "DELETE FROM lww_change_ids WHERE doc = ? AND change_id = ?",
        [(doc, change_id) for doc, _, change_id, *_ in expired],
    )
    for doc_id in dict.fromkeys(each[1] for each in expired):
        found = find_doc(conn, doc_id)
        if found is None or not is_whole_doc(conn, doc_id):
            continue  # damaged: its sums say so, and are not made anew
        gone = [tuple(each[2:]) for each in expired if each[1] == doc_id]
        floor = max(found.ids_floor, *(rev or 0 for _, _, rev in gone))
        ids = found.ids.minus(row_crc(*each) for each in gone)
        put_doc(conn, doc_id, replace(found, ids_floor=floor, ids=ids))


_PRUNED: Final = "i.change_id, i.expires_at, i.rev"


def _chunks(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    iterator = iter(keys)
    while chunk := list(islice(iterator, _PARAMETERS)):
        yield chunk
