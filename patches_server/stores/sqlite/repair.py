"""Mends what `doctor` finds, as far as nothing that was committed is made up or lost in silence.

From versions, which hold the whole state at a revision, and from the log:

- A damaged or missing revision that a later version covers: the log up to that version is dropped.
  The document is served again, its earlier history is gone.
- The state of a version that cannot be read: built again from the log.
- A damaged LWW row that a later version covers: written again from that version's state.
- A head, a record or an id that is missing beside a whole log: made from the log.
- Rows of no document: removed.

What remains afterwards takes a backup. Run it while no server has the file open.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from patches.algorithms.ot import apply_changes_for_reconstruction
from patches.json_patch import pointer
from patches.model import codec
from patches.model.change import Change
from patches.stores.sqlite.keys import from_key
from patches_server.stores.sqlite.doctor import Problem, good_versions, problems_of, state_of

#: Beyond every limit, so that the next commit measures the document.
_UNKNOWN_BOUND: Final = 2**62


def repair(conn: sqlite3.Connection) -> list[str]:
    """Mend the file in one transaction; what was done, a line each."""
    by_document: dict[str | None, list[Problem]] = defaultdict(list)
    for problem in problems_of(conn):
        by_document[problem.doc_id].append(problem)
    conn.execute("BEGIN IMMEDIATE")
    try:
        done = list(_orphans_removed(conn))
        for doc_id, problems in by_document.items():
            if doc_id is not None:
                done += _document(conn, doc_id, problems)
        done += _records_made(conn)
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    return done


def _document(conn: sqlite3.Connection, doc_id: str, problems: Iterable[Problem]) -> Iterator[str]:
    row = conn.execute("SELECT doc FROM lww_docs WHERE doc_id = ?", (doc_id,)).fetchone()
    if row is not None:
        yield from _rows_mended(conn, doc_id, row[0])
        return
    if any(problem.kind == "version" for problem in problems):
        yield from _states_built(conn, doc_id)
    broken = [problem.rev for problem in problems if problem.kind in ("checksum", "hole")]
    if broken:
        yield from _pruned(conn, doc_id, max(rev for rev in broken if rev is not None))
    yield from _head_made(conn, doc_id)
    yield from _ids_listed(conn, doc_id)


# The log.


def _pruned(conn: sqlite3.Connection, doc_id: str, broken: int) -> Iterator[str]:
    covering = [end_rev for end_rev, _ in good_versions(conn, doc_id) if end_rev >= broken]
    if not covering:
        return
    conn.execute("DELETE FROM ot_changes WHERE doc_id = ? AND rev <= ?", (doc_id, covering[0]))
    yield f"document {doc_id!r}: starts from its version at revision {covering[0]}"


def _states_built(conn: sqlite3.Connection, doc_id: str) -> Iterator[str]:
    versions = conn.execute(
        "SELECT version_id, end_rev, state FROM server_versions "
        "WHERE doc_id = ? AND origin = 'main' ORDER BY end_rev, seq",
        (doc_id,),
    ).fetchall()
    for version_id, end_rev, packed in versions:
        if state_of(packed) is not None:
            continue
        base_rev, state = _newest_before(conn, doc_id, end_rev)
        changes = _whole_log(conn, doc_id, base_rev, end_rev)
        if changes is None:
            continue
        built = apply_changes_for_reconstruction(state, changes)
        conn.execute(
            "UPDATE server_versions SET state = ? WHERE doc_id = ? AND version_id = ?",
            (zlib.compress(codec.encode(built), 1), doc_id, version_id),
        )
        yield f"document {doc_id!r}: built the state of version {version_id!r} from the log"


def _newest_before(conn: sqlite3.Connection, doc_id: str, rev: int) -> tuple[int, Any]:
    before = [each for each in good_versions(conn, doc_id) if each[0] < rev]
    return before[-1] if before else (0, None)


def _whole_log(
    conn: sqlite3.Connection, doc_id: str, after: int, through: int
) -> list[Change] | None:
    """The changes between two revisions, `None` unless every one is there and whole."""
    rows = conn.execute(
        "SELECT crc, change FROM ot_changes WHERE doc_id = ? AND rev > ? AND rev <= ? ORDER BY rev",
        (doc_id, after, through),
    ).fetchall()
    if len(rows) != through - after or any(zlib.crc32(data) != crc for crc, data in rows):
        return None
    if any(isinstance(codec.decode(data)["ops"], str) for _, data in rows):
        return None  # a compressing store's: only it can read them
    return [Change.from_encoded(data) for _, data in rows]


def _head_made(conn: sqlite3.Connection, doc_id: str) -> Iterator[str]:
    """A head that fits the end of a log without holes. One beyond the log stays: that was lost."""
    last = conn.execute(
        "SELECT rev, change_id, created_at FROM ot_changes WHERE doc_id = ? ORDER BY rev DESC",
        (doc_id,),
    ).fetchone()
    head = conn.execute("SELECT rev FROM ot_heads WHERE doc_id = ?", (doc_id,)).fetchone()
    if last is None or (head is not None and head[0] >= last[0]):
        return
    conn.execute(
        "INSERT OR REPLACE INTO ot_heads VALUES (?, ?, ?, ?, ?, ?)",
        (doc_id, *last, _UNKNOWN_BOUND, _UNKNOWN_BOUND),
    )
    yield f"document {doc_id!r}: the head is revision {last[0]}, where its log ends"


def _ids_listed(conn: sqlite3.Connection, doc_id: str) -> Iterator[str]:
    added = conn.execute(
        "INSERT OR IGNORE INTO ot_change_ids SELECT doc_id, change_id FROM ot_changes "
        "WHERE doc_id = ?",
        (doc_id,),
    ).rowcount
    if added:
        yield f"document {doc_id!r}: listed {added} change ids"


# LWW rows.


def _rows_mended(conn: sqlite3.Connection, doc_id: str, doc: int) -> Iterator[str]:
    versions = good_versions(conn, doc_id)
    rows = conn.execute("SELECT rowid, path, rev, ts, crc, op FROM lww_rows WHERE doc = ?", (doc,))
    for rowid, key, rev, ts, crc, op in rows.fetchall():
        if zlib.crc32(op) == crc:
            continue
        path = from_key(key)
        # A version at or after the row's revision holds what it wrote: it has not changed since.
        found = [_value_at(state, path) for end_rev, state in versions if end_rev >= rev]
        if not found or found[0] is None:
            continue
        value = {"op": "replace", "path": path, "value": found[0][0], "ts": ts, "rev": rev}
        encoded = codec.encode(value)
        conn.execute(
            "UPDATE lww_rows SET op = ?, crc = ? WHERE rowid = ?",
            (encoded, zlib.crc32(encoded), rowid),
        )
        yield f"document {doc_id!r}: wrote the row of {path[:128]!r} again from a version"


def _value_at(state: Any, path: str) -> tuple[Any] | None:
    for key in pointer.parse(path):
        if isinstance(state, dict) and key in state:
            state = state[key]
        elif isinstance(state, list) and pointer.is_index(key) and int(key) < len(state):
            state = state[int(key)]
        else:
            return None
    return (state,)


# What all documents have.


def _orphans_removed(conn: sqlite3.Connection) -> Iterator[str]:
    for table in ("lww_rows", "lww_change_ids"):
        removed = conn.execute(
            f"DELETE FROM {table} WHERE doc NOT IN (SELECT doc FROM lww_docs)"  # noqa: S608 -- two names
        ).rowcount
        if removed:
            yield f"removed {removed} rows of no document from {table}"
    removed = conn.execute(
        "DELETE FROM ot_change_ids WHERE doc_id NOT IN "
        "(SELECT doc_id FROM ot_heads UNION SELECT doc_id FROM ot_changes)"
    ).rowcount
    if removed:
        yield f"removed {removed} ids of no document"


def _records_made(conn: sqlite3.Connection) -> Iterator[str]:
    for algorithm, table in (("ot", "ot_heads"), ("lww", "lww_docs")):
        made = conn.execute(
            f"INSERT OR IGNORE INTO server_documents SELECT doc_id, ?, 0 FROM {table}",  # noqa: S608 -- two names
            (algorithm,),
        ).rowcount
        if made:
            yield f"recorded the algorithm {algorithm} of {made} documents"
