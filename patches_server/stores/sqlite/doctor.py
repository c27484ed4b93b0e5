"""What is wrong with a server's SQLite file.

`problems_of` reads everything and changes nothing: SQLite's own check, the checksum of every row,
rows that are missing or belong to no document, states of versions that cannot be read, and, if
asked, committed changes that cannot be applied. What only an algorithm knows of its tables is in
the `Checkup` that it brings. `repair.py` mends what can be mended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from patches.errors import CorruptDataError
from patches.stores.sqlite.file_kind import damaged_parts
from patches_server.documents.checkup import Checkup, Problem
from patches_server.stores.sqlite import branches, documents, versions
from patches_server.stores.sqlite.checksums import load_sums, row_crc
from patches_server.stores.sqlite.checkup import state_of


def problems_of(
    conn: sqlite3.Connection, checkups: Iterable[Checkup], *, replay: bool = False
) -> Iterator[Problem]:
    """Everything that is wrong, as it is found. `replay` also applies every log.

    `checkups` are those of the algorithms that a server here has.

    A file from before there were checksums over keys must be opened by a server first.
    """
    try:
        yield from _file_problems(conn)
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master")}
        if "server_documents" not in tables:
            yield Problem("file", None, "this is no file of a Patches server")
            return
        if "server_sums" not in tables or not _has_column(conn, "server_time", "crc"):
            yield Problem("file", None, "an older server wrote it; start this one on it once")
            return
        for check in (_record_problems, _tombstone_problems, _version_problems, _branch_problems):
            yield from check(conn)
        checked = set()
        for checkup in present(conn, checkups):
            checked.add(checkup.algorithm)
            yield from checkup.problems(conn)
            yield from _unrecorded(conn, checkup)
            if replay:
                yield from checkup.replayed(conn)
        yield from _unchecked(conn, checked)
    except sqlite3.DatabaseError as exc:
        yield Problem("file", None, f"reading it failed: {exc}")


def present(conn: sqlite3.Connection, checkups: Iterable[Checkup]) -> list[Checkup]:
    """The checkups of algorithms that have tables in the file: a server makes them when it needs
    them.
    """
    tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master")}
    return [checkup for checkup in checkups if checkup.tables[0] in tables]


def _has_column(conn: sqlite3.Connection, table: str, column: str) -> bool:
    return column in {row[1] for row in conn.execute(f"PRAGMA table_info({table})")}


def _file_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    for (line,) in conn.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield Problem("file", None, line)


def _record_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    for part in damaged_parts(conn):
        yield Problem("checksum", None, f"the recorded version of its {part} is damaged")
    for table in documents.damaged_singles(conn):
        yield Problem("checksum", None, f"{table} is damaged")
    if conn.execute("SELECT 1 FROM server_file").fetchone() is None:
        yield Problem("file", None, "it has no epoch")
    for doc_id, algorithm, life, crc in conn.execute("SELECT * FROM server_documents"):
        if crc != row_crc(doc_id, algorithm, life):
            yield Problem("checksum", doc_id, "its record is damaged")
    has_documents = conn.execute("SELECT 1 FROM server_documents").fetchone() is not None
    if has_documents and conn.execute("SELECT 1 FROM server_time").fetchone() is None:
        yield Problem("count", None, "the server time is missing")


def _tombstone_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    for *columns, crc in conn.execute("SELECT * FROM server_tombstones"):
        if crc != row_crc(*columns):
            yield Problem("checksum", columns[0], "its tombstone is damaged")
    try:
        documents.require_tombstones(conn)
    except CorruptDataError as exc:
        yield Problem("count", None, str(exc))


def _version_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    rows = conn.execute(
        f"SELECT doc_id, state, {versions.RECORD} FROM server_versions"  # noqa: S608 -- fixed names
    )
    for doc_id, packed, version_id, *row in rows:
        end_rev, crc = row[3], row[-1]
        if state_of(packed) is None:
            detail = f"the state of version {version_id!r} cannot be read"
            yield Problem("version", doc_id, detail, end_rev)
        if crc != row_crc(doc_id, version_id, *row[:-1]):
            yield Problem("count", doc_id, f"the record of version {version_id!r} is damaged")
    for doc_id in _with_sums(conn, versions.VERSIONS, "server_versions"):
        found, kept = versions.counted(conn, doc_id), load_sums(conn, versions.VERSIONS, doc_id)
        if found != kept:
            yield Problem("count", doc_id, f"expected {kept.count} versions, found {found.count}")


def _branch_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    for doc_id, *row in conn.execute(f"SELECT doc_id, {branches.ROW} FROM server_branches"):  # noqa: S608 -- fixed names
        if row[-1] != row_crc(*row[:-1]):
            yield Problem("count", doc_id, f"the record of branch {row[0]!r} is damaged")
    for doc_id in _with_sums(conn, branches.BRANCHES, "server_branches"):
        found, kept = branches.counted(conn, doc_id), load_sums(conn, branches.BRANCHES, doc_id)
        if found != kept:
            yield Problem("count", doc_id, f"expected {kept.count} branches, found {found.count}")


def _with_sums(conn: sqlite3.Connection, part: str, table: str) -> list[str]:
    rows = conn.execute(
        f"SELECT doc_id FROM server_sums WHERE part = ? UNION SELECT doc_id FROM {table}",  # noqa: S608 -- two names
        (part,),
    )
    return [doc_id for (doc_id,) in rows.fetchall()]


def _unrecorded(conn: sqlite3.Connection, checkup: Checkup) -> Iterator[Problem]:
    table = checkup.tables[0]
    unrecorded = f"SELECT doc_id FROM {table} EXCEPT SELECT doc_id FROM server_documents"  # noqa: S608 -- a fixed name
    for (doc_id,) in conn.execute(unrecorded):
        yield Problem("orphan", doc_id, "its algorithm is not recorded")
    headless = (
        "SELECT doc_id FROM server_documents WHERE algorithm = ? "  # noqa: S608 -- a fixed name
        f"AND doc_id NOT IN (SELECT doc_id FROM {table})"
    )
    for (doc_id,) in conn.execute(headless, (checkup.algorithm,)):
        yield Problem("head", doc_id, "it is recorded, and has no head")


def _unchecked(conn: sqlite3.Connection, checked: set[str]) -> Iterator[Problem]:
    rows = conn.execute("SELECT algorithm, count(*) FROM server_documents GROUP BY algorithm")
    for algorithm, count in rows:
        if algorithm not in checked:
            detail = f"{count} documents of {algorithm!r} were not checked: its tables are unknown"
            yield Problem("file", None, detail)
