"""What is wrong with a server's SQLite file (`docs/internals/reliability.md` T43, T44).

`problems_of` reads everything and changes nothing: SQLite's own check, the checksum of every row,
holes in revisions, rows that belong to no document, states of versions that cannot be read, and, if
asked, committed changes that cannot be applied. `repair.py` mends what can be mended.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal, TypeAlias

from patches.algorithms.ot import SkippedChange, apply_changes_for_reconstruction
from patches.errors import InvalidJsonError
from patches.model import codec
from patches.model.change import Change

Kind: TypeAlias = Literal["file", "checksum", "hole", "head", "ids", "orphan", "version", "poison"]

_LOG: Final = "SELECT doc_id, rev, change_id, crc, change FROM ot_changes ORDER BY doc_id, rev"
_ORPHANS: Final = {
    "ot_changes": "SELECT doc_id FROM ot_changes EXCEPT SELECT doc_id FROM ot_heads",
    "ot_change_ids": "SELECT doc_id FROM ot_change_ids EXCEPT SELECT doc_id FROM ot_heads",
    "lww_rows": "SELECT 'number ' || doc FROM (SELECT doc FROM lww_rows "
    "EXCEPT SELECT doc FROM lww_docs)",
    "lww_change_ids": "SELECT 'number ' || doc FROM (SELECT doc FROM lww_change_ids "
    "EXCEPT SELECT doc FROM lww_docs)",
}
_UNRECORDED: Final = (
    "SELECT doc_id FROM ot_heads UNION SELECT doc_id FROM lww_docs "
    "EXCEPT SELECT doc_id FROM server_documents"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `rev` is the revision that it was found at, if it has one."""

    kind: Kind
    doc_id: str | None
    detail: str
    rev: int | None = None

    def __str__(self) -> str:
        where = "" if self.doc_id is None else f"document {self.doc_id[:128]!r}: "
        return f"{self.kind}: {where}{self.detail}"


def problems_of(conn: sqlite3.Connection, *, replay: bool = False) -> Iterator[Problem]:
    """Everything that is wrong, as it is found. `replay` also applies every log to find poison."""
    try:
        yield from _file_problems(conn)
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master")}
        if "server_documents" not in tables:
            yield Problem("file", None, "this is no file of a Patches server")
            return
        for check in (_version_problems, _log_problems, _row_problems, _orphans):
            yield from check(conn)
        if replay:
            yield from _poison(conn)
    except sqlite3.DatabaseError as exc:
        yield Problem("file", None, f"reading it failed: {exc}")


def good_versions(conn: sqlite3.Connection, doc_id: str) -> list[tuple[int, Any]]:
    """Revision and state of each main version whose state can be read, oldest first."""
    rows = conn.execute(
        "SELECT end_rev, state FROM server_versions WHERE doc_id = ? AND origin = 'main' "
        "ORDER BY end_rev, seq",
        (doc_id,),
    )
    read = ((end_rev, state_of(packed)) for end_rev, packed in rows)
    return [(end_rev, state[0]) for end_rev, state in read if state is not None]


def state_of(packed: bytes | None) -> tuple[Any] | None:
    """A version's state in a tuple, `None` when it is missing or cannot be read."""
    try:
        return None if packed is None else (codec.decode(zlib.decompress(packed)),)
    except (zlib.error, InvalidJsonError):
        return None


def _file_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    for (line,) in conn.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield Problem("file", None, line)


def _version_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    rows = conn.execute("SELECT doc_id, version_id, end_rev, state FROM server_versions")
    for doc_id, version_id, end_rev, packed in rows:
        if state_of(packed) is None:
            yield Problem(
                "version", doc_id, f"the state of version {version_id!r} cannot be read", end_rev
            )


def _log_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    heads = {
        doc_id: (rev, change_id)
        for doc_id, rev, change_id in conn.execute("SELECT doc_id, rev, change_id FROM ot_heads")
    }
    unlisted = (
        "SELECT doc_id, rev, change_id FROM ot_changes c WHERE NOT EXISTS (SELECT 1 "
        "FROM ot_change_ids i WHERE i.doc_id = c.doc_id AND i.change_id = c.change_id)"
    )
    for doc_id, rows in groupby(conn.execute(_LOG), key=itemgetter(0)):
        yield from _one_log(conn, doc_id, rows, heads.pop(doc_id, None))
    for doc_id, (rev, _) in heads.items():
        if not _is_covered(conn, doc_id, rev):
            yield Problem("hole", doc_id, f"the head is at revision {rev}, the log is empty", rev)
    for doc_id, rev, change_id in conn.execute(unlisted):
        yield Problem("ids", doc_id, f"the id {change_id!r} could be taken twice", rev)


def _one_log(
    conn: sqlite3.Connection,
    doc_id: str,
    rows: Iterable[tuple[str, int, str, int, bytes]],
    head: tuple[int, str] | None,
) -> Iterator[Problem]:
    before: int | None = None
    change_id = ""
    for _, rev, change_id, crc, data in rows:  # noqa: B007 -- the last one is the head's
        if before is None and rev > 1 and not _is_covered(conn, doc_id, rev - 1):
            yield Problem("hole", doc_id, f"revisions 1 to {rev - 1} are missing", rev - 1)
        if before is not None and rev != before + 1:
            yield Problem(
                "hole", doc_id, f"revisions {before + 1} to {rev - 1} are missing", rev - 1
            )
        if zlib.crc32(data) != crc:
            yield Problem("checksum", doc_id, f"revision {rev} is damaged", rev)
        before = rev
    if head is not None and before is not None and head != (before, change_id):
        detail = f"the log ends at revision {before}, the head says {head[0]}"
        yield Problem("head", doc_id, detail, max(before, head[0]))


def _is_covered(conn: sqlite3.Connection, doc_id: str, rev: int) -> bool:
    """Whether a version stands for everything up to a revision: the log before it was pruned."""
    return any(end_rev >= rev for end_rev, _ in good_versions(conn, doc_id))


def _row_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    rows = conn.execute(
        "SELECT d.doc_id, d.rev, r.path, r.rev, r.crc, r.op FROM lww_rows r JOIN lww_docs d "
        "ON d.doc = r.doc"
    )
    for doc_id, head, path, rev, crc, op in rows:
        shown = path.decode("utf-8", "replace")[:128]
        if zlib.crc32(op) != crc:
            yield Problem("checksum", doc_id, f"the row of {shown!r} is damaged", rev)
        if rev > head:
            detail = f"the row of {shown!r} is of revision {rev}, the head says {head}"
            yield Problem("head", doc_id, detail, rev)
    snapshots = "SELECT doc_id, snapshot_rev, snapshot FROM lww_docs WHERE snapshot IS NOT NULL"
    for doc_id, rev, packed in conn.execute(snapshots):
        if state_of(packed) is None:
            yield Problem("checksum", doc_id, "its snapshot is damaged", rev)


def _orphans(conn: sqlite3.Connection) -> Iterator[Problem]:
    for table, sql in _ORPHANS.items():
        for (doc_id,) in conn.execute(sql):
            yield Problem("orphan", doc_id, f"there are rows of it in {table}, and no head")
    for (doc_id,) in conn.execute(_UNRECORDED):
        yield Problem("orphan", doc_id, "its algorithm is not recorded")


def _poison(conn: sqlite3.Connection) -> Iterator[Problem]:
    """Committed changes that no replica can apply; each is left out by all."""
    for (doc_id,) in conn.execute("SELECT doc_id FROM ot_heads").fetchall():
        rows = conn.execute(
            "SELECT rev, change_id, crc, change FROM ot_changes WHERE doc_id = ? ORDER BY rev",
            (doc_id,),
        ).fetchall()
        if not rows or any(zlib.crc32(data) != crc for _, _, crc, data in rows):
            continue
        changes = [Change.from_encoded(data) for *_, data in rows]
        if any(isinstance(codec.decode(data)["ops"], str) for *_, data in rows):
            continue  # a compressing store's: only it can read them
        base: Any = None
        if changes[0].rev > 1:
            covering = [
                (end_rev, state)
                for end_rev, state in good_versions(conn, doc_id)
                if end_rev >= changes[0].rev - 1
            ]
            if not covering:
                continue
            end_rev, base = covering[0]
            changes = [change for change in changes if change.rev > end_rev]
        skipped: list[SkippedChange] = []
        apply_changes_for_reconstruction(base, changes, on_skipped_change=skipped.append)
        for each in skipped:
            detail = f"change {each.change.id!r} (revision {each.change.rev}) cannot be applied"
            yield Problem("poison", doc_id, detail, each.change.rev)
