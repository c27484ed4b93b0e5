"""`LWWCheckup`: damage in the rows of LWW documents, and what of it can be mended.

A damaged row that a later version covers is written again from that version's state. A head that is
damaged beside whole rows is made from them. A row that is missing stays missing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from patches.errors import CorruptDataError
from patches.json_patch import pointer
from patches.model import codec
from patches.stores.sqlite.keys import from_key
from patches_server.documents.checkup import Problem
from patches_server.lww.stores.sqlite_docs import ROW, DocRow, find_doc, is_whole_doc, put_doc
from patches_server.lww.stores.sqlite_rows import (
    INDEXES,
    counted_ids,
    counted_rows,
    crc_of,
    is_whole,
)
from patches_server.stores.sqlite.checksums import NO_ROWS, Sums
from patches_server.stores.sqlite.checkup import good_versions, state_of

_ORPHANS: Final = {
    "lww_rows": "SELECT 'number ' || doc FROM (SELECT doc FROM lww_rows "
    "EXCEPT SELECT doc FROM lww_docs)",
    "lww_change_ids": "SELECT 'number ' || doc FROM (SELECT doc FROM lww_change_ids "
    "EXCEPT SELECT doc FROM lww_docs)",
}


class LWWCheckup:
    """A `Checkup`."""

    algorithm = "lww"
    tables: tuple[str, ...] = ("lww_docs",)

    def problems(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        for (doc_id,) in conn.execute("SELECT doc_id FROM lww_docs").fetchall():
            found = find_doc(conn, doc_id)
            if found is not None:
                yield from _of_doc(conn, doc_id, found)
        snapshots = "SELECT doc_id, snapshot_rev, snapshot FROM lww_docs"
        for doc_id, rev, packed in conn.execute(snapshots):
            if (rev is None) != (packed is None) or (rev is not None and not state_of(packed)):
                yield Problem("checksum", doc_id, "its snapshot is damaged", rev)
        for table, sql in _ORPHANS.items():
            for (doc_id,) in conn.execute(sql):
                yield Problem("orphan", doc_id, f"there are rows of it in {table}, and no head")

    def replayed(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        yield from ()

    def mended(
        self, conn: sqlite3.Connection, doc_id: str, problems: Iterable[Problem]
    ) -> Iterator[str]:
        found = find_doc(conn, doc_id)
        if found is None:
            return
        mended = list(_rows_mended(conn, doc_id, found.doc))
        yield from mended
        rows, ids = _all_rows(conn, found.doc), counted_ids(conn, found.doc)
        if mended and is_whole_doc(conn, doc_id) and rows.count == found.rows.count:
            put_doc(conn, doc_id, replace(found, rows=rows))
        all_whole = all(
            is_whole(found.doc, row)
            for row in conn.execute(f"SELECT {ROW} FROM lww_rows WHERE doc = ?", (found.doc,))  # noqa: S608 -- fixed names
        )
        if all_whole and not is_whole_doc(conn, doc_id):
            (newest,) = conn.execute(
                "SELECT max(rev) FROM lww_rows WHERE doc = ?", (found.doc,)
            ).fetchone()
            rev = max(newest or 0, found.floor if found.floor < 2**40 else 0)
            made = replace(found, rev=rev, head_id=None, ids_floor=rev, rows=rows, ids=ids)
            put_doc(conn, doc_id, made)
            yield f"document {doc_id!r}: made its head from its rows, at revision {rev}"

    def without_orphans(self, conn: sqlite3.Connection) -> Iterator[str]:
        for table in ("lww_rows", "lww_change_ids"):
            removed = conn.execute(
                f"DELETE FROM {table} WHERE doc NOT IN (SELECT doc FROM lww_docs)"  # noqa: S608 -- two names
            ).rowcount
            if removed:
                yield f"removed {removed} rows of no document from {table}"


def _of_doc(conn: sqlite3.Connection, doc_id: str, found: DocRow) -> Iterator[Problem]:
    if not is_whole_doc(conn, doc_id):
        yield Problem("head", doc_id, "the head is damaged", found.rev)
    is_damaged = False
    for row in conn.execute(f"SELECT {ROW} FROM lww_rows WHERE doc = ?", (found.doc,)):  # noqa: S608 -- fixed names
        shown = str(row[0], "utf-8", "replace")[:128] if isinstance(row[0], bytes) else "?"
        if not is_whole(found.doc, row):
            is_damaged = True
            yield Problem("checksum", doc_id, f"the row of {shown!r} is damaged", row[1])
        elif row[1] > found.rev:
            detail = f"the row of {shown!r} is of revision {row[1]}, the head says {found.rev}"
            yield Problem("head", doc_id, detail, row[1])
    if is_damaged:
        return
    for index in INDEXES:
        try:
            rows = counted_rows(conn, doc_id, found.doc, index)
        except CorruptDataError:
            yield Problem("count", doc_id, f"the index {index} leads to other rows")
            continue
        if rows != found.rows:
            detail = f"expected {found.rows.count} rows by {index}, found {rows.count}"
            yield Problem("count", doc_id, detail)
            break
    if counted_ids(conn, found.doc) != found.ids:
        yield Problem("ids", doc_id, "change ids are missing or damaged")


def _all_rows(conn: sqlite3.Connection, doc: int) -> Sums:
    return NO_ROWS.plus(
        crc for (crc,) in conn.execute("SELECT crc FROM lww_rows WHERE doc = ?", (doc,))
    )


def _rows_mended(conn: sqlite3.Connection, doc_id: str, doc: int) -> Iterator[str]:
    versions = good_versions(conn, doc_id)
    rows = conn.execute(f"SELECT rowid, {ROW} FROM lww_rows WHERE doc = ?", (doc,))  # noqa: S608 -- fixed names
    for rowid, *row in rows.fetchall():
        if is_whole(doc, row):
            continue
        *columns, _, _ = row
        path, rev, _, ts, *_ = row
        # A version at or after the row's revision holds what it wrote: it has not changed since.
        found = [_value_at(state, from_key(path)) for end_rev, state in versions if end_rev >= rev]
        if not found or found[0] is None:
            continue
        op = codec.encode(
            {
                "op": "replace",
                "path": from_key(path),
                "value": found[0][0],
                "ts": ts,
                "rev": rev,
            }
        )
        conn.execute(
            "UPDATE lww_rows SET op = ?, crc = ? WHERE rowid = ?",
            (op, crc_of(doc, columns, op), rowid),
        )
        yield f"document {doc_id!r}: wrote the row of {from_key(path)[:128]!r} again from a version"


def _value_at(state: Any, path: str) -> tuple[Any] | None:
    for key in pointer.parse(path):
        if isinstance(state, dict) and key in state:
            state = state[key]
        elif isinstance(state, list) and pointer.is_index(key) and int(key) < len(state):
            state = state[int(key)]
        else:
            return None
    return (state,)
