"""Mends what `doctor` finds, as far as nothing that was committed is made up or lost in silence.

What is in an algorithm's tables its `Checkup` mends, from versions, which hold the whole state at a
revision, and from the log. Here: records that are missing beside a head are made, and what is left
of tombstones, versions and branch records is counted anew, so that it is served again; each such
loss is reported.

What remains afterwards takes a backup. Run it while no server has the file open.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from patches_server.documents.checkup import Checkup, Problem
from patches_server.stores.sqlite import branches, versions
from patches_server.stores.sqlite.checksums import NO_ROWS, load_sums, put_sums, row_crc
from patches_server.stores.sqlite.doctor import present, problems_of
from patches_server.stores.sqlite.documents import TOMBSTONES, mend_singles

_COUNTED: Final = {versions.VERSIONS: "server_versions", branches.BRANCHES: "server_branches"}


def repair(conn: sqlite3.Connection, checkups: Iterable[Checkup]) -> list[str]:
    """Mend the file in one transaction; what was done, a line each."""
    checkups = present(conn, checkups)
    by_document: dict[str | None, list[Problem]] = defaultdict(list)
    for problem in problems_of(conn, checkups):
        by_document[problem.doc_id].append(problem)
    conn.execute("BEGIN IMMEDIATE")
    try:
        done: list[str] = []
        if by_document:
            for checkup in checkups:
                done += checkup.without_orphans(conn)
                for doc_id, problems in by_document.items():
                    if doc_id is not None and _has_rows(conn, checkup, doc_id):
                        done += checkup.mended(conn, doc_id, problems)
            done += mend_singles(conn)
            done += _records_made(conn, checkups)
            done += _counted_anew(conn)
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    return done


def _has_rows(conn: sqlite3.Connection, checkup: Checkup, doc_id: str) -> bool:
    """Whether anything of a document is left in an algorithm's tables."""
    return any(
        conn.execute(f"SELECT 1 FROM {table} WHERE doc_id = ?", (doc_id,)).fetchone() is not None  # noqa: S608 -- a fixed name
        for table in checkup.tables
    )


def _records_made(conn: sqlite3.Connection, checkups: Iterable[Checkup]) -> Iterator[str]:
    for checkup in checkups:
        heads = conn.execute(f"SELECT doc_id FROM {checkup.tables[0]}").fetchall()  # noqa: S608 -- a fixed name
        made = 0
        for (doc_id,) in heads:
            row = conn.execute(
                "SELECT algorithm, life, crc FROM server_documents WHERE doc_id = ?", (doc_id,)
            ).fetchone()
            if row is not None and row[2] == row_crc(doc_id, row[0], row[1]):
                continue
            columns = (doc_id, checkup.algorithm, 0)
            conn.execute(
                "INSERT OR REPLACE INTO server_documents VALUES (?, ?, ?, ?)",
                (*columns, row_crc(*columns)),
            )
            made += 1
        if made:
            yield f"recorded the algorithm {checkup.algorithm} of {made} documents"


def _counted_anew(conn: sqlite3.Connection) -> Iterator[str]:
    crcs = [crc for (crc,) in conn.execute("SELECT crc FROM server_tombstones")]
    found, kept = NO_ROWS.plus(crcs), load_sums(conn, TOMBSTONES, "")
    if found != kept:
        put_sums(conn, TOMBSTONES, "", found)
        yield f"counted {found.count} tombstones, where there were {kept.count}"
    for part, table in _COUNTED.items():
        rows = conn.execute(
            f"SELECT doc_id FROM server_sums WHERE part = ? UNION SELECT doc_id FROM {table}",  # noqa: S608 -- two names
            (part,),
        )
        for (doc_id,) in rows.fetchall():
            left = conn.execute(f"SELECT crc FROM {table} WHERE doc_id = ?", (doc_id,))  # noqa: S608 -- a fixed name
            found, kept = NO_ROWS.plus(crc for (crc,) in left), load_sums(conn, part, doc_id)
            if found != kept:
                put_sums(conn, part, doc_id, found)
                yield (
                    f"document {doc_id!r}: counted {found.count} {part}, where there were "
                    f"{kept.count}"
                )
