"""`OTCheckup`: damage in the logs of OT documents, and what of it can be mended.

A damaged or missing revision that a later version covers: the log up to that version is dropped.
The state of a version that cannot be read is built again from the log. A head or an id that is
missing beside a whole log is made from the log.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from patches.algorithms.ot import SkippedChange, apply_changes_for_reconstruction
from patches.model import codec
from patches.model.change import Change
from patches_server.documents.checkup import Problem
from patches_server.documents.measure import Bounds
from patches_server.ot.store import DocHead
from patches_server.ot.stores.log import (
    ROW,
    Log,
    find_log,
    is_whole,
    is_whole_head,
    put_log,
)
from patches_server.stores.sqlite.checkup import good_versions, state_of

#: Beyond every limit, so that the next commit measures the document.
_UNKNOWN: Final = Bounds(2**62, 2**62)
_UNLISTED: Final = (
    "SELECT doc_id, rev, change_id FROM ot_changes c WHERE NOT EXISTS (SELECT 1 "
    "FROM ot_change_ids i WHERE i.doc_id = c.doc_id AND i.change_id = c.change_id)"
)
_ORPHANS: Final = {
    "ot_changes": "SELECT doc_id FROM ot_changes EXCEPT SELECT doc_id FROM ot_heads",
    "ot_change_ids": "SELECT doc_id FROM ot_change_ids EXCEPT SELECT doc_id FROM ot_heads",
}


class OTCheckup:
    """A `Checkup`."""

    algorithm = "ot"
    tables: tuple[str, ...] = ("ot_heads", "ot_changes", "ot_change_ids")

    def problems(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        rows = conn.execute(f"SELECT doc_id, {ROW} FROM ot_changes ORDER BY doc_id, rev")  # noqa: S608 -- fixed names
        logs = {doc_id: _rows(found) for doc_id, found in groupby(rows, key=itemgetter(0))}
        heads = [doc_id for (doc_id,) in conn.execute("SELECT doc_id FROM ot_heads")]
        for doc_id in dict.fromkeys((*logs, *heads)):
            yield from _of_log(conn, doc_id, logs.get(doc_id, []))
        for doc_id, rev, change_id in conn.execute(_UNLISTED):
            yield Problem("ids", doc_id, f"the id {change_id!r} could be taken twice", rev)
        for doc_id in heads:
            log = find_log(conn, doc_id)
            found = _count_ids(conn, doc_id)
            if log is not None and log.ids != found:
                yield Problem("ids", doc_id, f"expected {log.ids} change ids, found {found}")
        for table, sql in _ORPHANS.items():
            for (doc_id,) in conn.execute(sql):
                yield Problem("orphan", doc_id, f"there are rows of it in {table}, and no head")

    def replayed(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        for (doc_id,) in conn.execute("SELECT doc_id FROM ot_heads").fetchall():
            base_rev, base = 0, None
            log = find_log(conn, doc_id)
            if log is not None and log.pruned:
                covering = [each for each in good_versions(conn, doc_id) if each[0] >= log.pruned]
                if not covering:
                    continue
                base_rev, base = covering[0]
            changes = _whole_log(conn, doc_id, base_rev, 2**62)
            skipped: list[SkippedChange] = []
            apply_changes_for_reconstruction(base, changes or [], on_skipped_change=skipped.append)
            for each in skipped:
                detail = f"change {each.change.id!r} (revision {each.change.rev}) cannot be applied"
                yield Problem("unappliable", doc_id, detail, each.change.rev)

    def mended(
        self, conn: sqlite3.Connection, doc_id: str, problems: Iterable[Problem]
    ) -> Iterator[str]:
        problems = list(problems)
        if any(problem.kind == "version" for problem in problems):
            yield from _states_built(conn, doc_id)
        broken = [
            problem.rev
            for problem in problems
            if problem.kind in ("checksum", "hole") and problem.rev is not None
        ]
        if broken:
            yield from _pruned(conn, doc_id, max(broken))
        yield from _ids_listed(conn, doc_id)
        yield from _head_made(conn, doc_id)

    def without_orphans(self, conn: sqlite3.Connection) -> Iterator[str]:
        removed = conn.execute(
            "DELETE FROM ot_change_ids WHERE doc_id NOT IN "
            "(SELECT doc_id FROM ot_heads UNION SELECT doc_id FROM ot_changes)"
        ).rowcount
        if removed:
            yield f"removed {removed} ids of no document"


def _rows(found: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row[1:] for row in found]


def _of_log(
    conn: sqlite3.Connection, doc_id: str, rows: list[tuple[Any, ...]]
) -> Iterator[Problem]:
    log = find_log(conn, doc_id)
    before = log.pruned if log is not None else 0
    change_id = log.head.change_id if log is not None and log.pruned == log.head.rev else None
    for row in rows:
        rev, prev = row[0], row[1]
        if not is_whole(doc_id, row):
            yield Problem("checksum", doc_id, f"revision {rev} is damaged", rev)
        elif prev > before:
            detail = f"revisions {before + 1} to {rev - 1} are missing"
            yield Problem("hole", doc_id, detail, rev - 1)
        elif prev < before and row is not rows[0]:
            yield Problem("hole", doc_id, f"revision {rev} does not follow on {before}", rev)
        before, change_id = rev, row[2]
    if log is None:
        return
    head = log.head.rev
    if not rows and log.pruned != head:
        yield Problem("hole", doc_id, f"the head is at revision {head}, the log is empty", head)
    elif (before, change_id) != (head, log.head.change_id):
        detail = f"the log ends at revision {before}, the head says {head}"
        yield Problem("head", doc_id, detail, max(before, head))
    if not is_whole_head(conn, doc_id):
        yield Problem("head", doc_id, "the head is damaged", head)


def _count_ids(conn: sqlite3.Connection, doc_id: str) -> int:
    sql = "SELECT count(*) FROM ot_change_ids WHERE doc_id = ?"
    return int(conn.execute(sql, (doc_id,)).fetchone()[0])


def _pruned(conn: sqlite3.Connection, doc_id: str, broken: int) -> Iterator[str]:
    covering = [end_rev for end_rev, _ in good_versions(conn, doc_id) if end_rev >= broken]
    log = find_log(conn, doc_id)
    if not covering or log is None:
        return
    end_rev = covering[0]
    following = conn.execute(
        "SELECT prev FROM ot_changes WHERE doc_id = ? AND rev > ? ORDER BY rev LIMIT 1",
        (doc_id, end_rev),
    ).fetchone()
    if following is not None and following[0] > end_rev:
        return  # there is a hole behind it too
    conn.execute("DELETE FROM ot_changes WHERE doc_id = ? AND rev <= ?", (doc_id, end_rev))
    put_log(conn, doc_id, Log(log.head, end_rev, log.ids))
    yield f"document {doc_id!r}: starts from its version at revision {end_rev}"


def _states_built(conn: sqlite3.Connection, doc_id: str) -> Iterator[str]:
    versions = conn.execute(
        "SELECT version_id, end_rev, state FROM server_versions "
        "WHERE doc_id = ? AND origin = 'main' ORDER BY end_rev, seq",
        (doc_id,),
    ).fetchall()
    for version_id, end_rev, packed in versions:
        if state_of(packed) is not None:
            continue
        before = [each for each in good_versions(conn, doc_id) if each[0] < end_rev]
        base_rev, state = before[-1] if before else (0, None)
        changes = _whole_log(conn, doc_id, base_rev, end_rev)
        if changes is None:
            continue
        built = apply_changes_for_reconstruction(state, changes)
        conn.execute(
            "UPDATE server_versions SET state = ? WHERE doc_id = ? AND version_id = ?",
            (zlib.compress(codec.encode(built), 1), doc_id, version_id),
        )
        yield f"document {doc_id!r}: built the state of version {version_id!r} from the log"


def _whole_log(
    conn: sqlite3.Connection, doc_id: str, after: int, through: int
) -> list[Change] | None:
    """The changes between two revisions, `None` unless every one is there and whole."""
    rows = conn.execute(
        f"SELECT {ROW} FROM ot_changes WHERE doc_id = ? AND rev > ? AND rev <= ? ORDER BY rev",  # noqa: S608 -- fixed names
        (doc_id, after, through),
    ).fetchall()
    before = after
    for row in rows:
        if not is_whole(doc_id, row) or row[1] > before:
            return None
        before = row[0]
    if through < 2**62 and before != through:
        return None
    return [Change.from_encoded(row[-1]) for row in rows]


def _head_made(conn: sqlite3.Connection, doc_id: str) -> Iterator[str]:
    """A head that fits the end of a log. A whole one beyond the log stays: that was lost."""
    last = conn.execute(
        f"SELECT {ROW} FROM ot_changes WHERE doc_id = ? ORDER BY rev DESC",  # noqa: S608 -- fixed names
        (doc_id,),
    ).fetchone()
    log, ids = find_log(conn, doc_id), _count_ids(conn, doc_id)
    if last is None or not is_whole(doc_id, last):
        return
    (first,) = conn.execute(
        "SELECT prev FROM ot_changes WHERE doc_id = ? ORDER BY rev", (doc_id,)
    ).fetchone()
    if log is not None and is_whole_head(conn, doc_id) and log.head.rev >= last[0]:
        if log.ids != ids and log.pruned == 0:
            put_log(conn, doc_id, Log(log.head, log.pruned, ids))
            yield f"document {doc_id!r}: counted {ids} change ids"
        return
    head = DocHead(rev=last[0], change_id=last[2], created_at=last[3], bounds=_UNKNOWN)
    put_log(conn, doc_id, Log(head, first, ids))
    yield f"document {doc_id!r}: the head is revision {last[0]}, where its log ends"


def _ids_listed(conn: sqlite3.Connection, doc_id: str) -> Iterator[str]:
    added = conn.execute(
        "INSERT OR IGNORE INTO ot_change_ids SELECT doc_id, change_id FROM ot_changes "
        "WHERE doc_id = ?",
        (doc_id,),
    ).rowcount
    if added:
        yield f"document {doc_id!r}: listed {added} change ids"
