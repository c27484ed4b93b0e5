"""`ReplayCheckup`: damage in the logs of replay documents.

A log cannot be mended from anything else in the file: what is damaged is reported and stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from patches.errors import CorruptDataError, PatchesError
from patches.rows.row_ops import parse_row_ops
from patches_server.documents.checkup import Problem
from patches_server.replay.stores.sqlite import head_of, read_log


class ReplayCheckup:
    """A `Checkup`."""

    algorithm = "replay"
    tables: tuple[str, ...] = ("replay_heads", "replay_changes")

    def problems(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        for (doc_id,) in conn.execute("SELECT doc_id FROM replay_heads").fetchall():
            try:
                head = head_of(conn, doc_id)
                if head is not None:
                    read_log(conn, doc_id, head[0], head[1])
            except CorruptDataError as exc:
                yield Problem("checksum", doc_id, str(exc))
        for (doc_id,) in conn.execute(
            "SELECT DISTINCT doc_id FROM replay_changes EXCEPT SELECT doc_id FROM replay_heads"
        ).fetchall():
            yield Problem(
                "orphan", doc_id, "there are changes of it in replay_changes, and no head"
            )

    def replayed(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        for (doc_id,) in conn.execute("SELECT doc_id FROM replay_heads").fetchall():
            try:
                head = head_of(conn, doc_id)
                log, _ = read_log(conn, doc_id, head[0], head[1]) if head else ([], [])
            except CorruptDataError:
                continue  # reported by `problems`
            for entry in log:
                try:
                    parse_row_ops(entry.change.ops)
                except PatchesError as exc:
                    yield Problem("unappliable", doc_id, str(exc), entry.change.rev)

    def mended(
        self, conn: sqlite3.Connection, doc_id: str, problems: Iterable[Problem]
    ) -> Iterator[str]:
        yield from ()

    def without_orphans(self, conn: sqlite3.Connection) -> Iterator[str]:
        count = conn.execute(
            "DELETE FROM replay_changes WHERE doc_id NOT IN (SELECT doc_id FROM replay_heads)"
        ).rowcount
        if count:
            yield f"removed {count} changes of no replay document"
