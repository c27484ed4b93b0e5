"""`ReplaySqliteServerStore`: a replay server's documents in a SQLite file.

Every row has a checksum over all its columns. The revisions of a document have no holes, so a row
of the log that is missing is found when the document is loaded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from patches.errors import DuplicateChangeIdsError, RevConflictError
from patches.model import codec
from patches.model.change import Change
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches.stores.sqlite.keys import from_key, to_key
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import require_algorithm
from patches_server.documents.version_store import VersionStore
from patches_server.replay.store import LoadedDoc, Logged
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.checksums import require_row, row_crc
from patches_server.stores.sqlite.documents import SqliteDocuments
from patches_server.stores.sqlite.versions import SqliteVersions

REPLAY_SCHEMA: Final = Schema(
    name="replay",
    script="""
CREATE TABLE replay_heads (
    doc_id TEXT PRIMARY KEY, rev INTEGER NOT NULL, floor INTEGER NOT NULL, state BLOB NOT NULL,
    clock_ms INTEGER NOT NULL, clock_n INTEGER NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE replay_changes (
    doc_id TEXT NOT NULL, rev INTEGER NOT NULL, change_id BLOB NOT NULL,
    content BLOB,  -- NULL: folded into the snapshot
    rights BLOB, crc INTEGER NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE UNIQUE INDEX replay_change_ids ON replay_changes (doc_id, change_id);
""",
    known_by=frozenset({"replay_heads"}),
)
_HEAD: Final = "rev, floor, state, clock_ms, clock_n, crc"
Head = tuple[int, int, bytes, int, int]


class ReplaySqliteServerStore(SqliteDocuments):
    """A `ReplayServerStore` over a database that it shares."""

    versions: VersionStore | None

    def __init__(
        self,
        database: SqliteDatabase,
        versions: SqliteVersions,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__(database, runtime or Runtime())
        self.versions = versions
        database.add_schema(REPLAY_SCHEMA)

    async def load(self, doc_id: str, *, now: Millis) -> LoadedDoc:
        def read(conn: sqlite3.Connection) -> LoadedDoc:
            record = documents.load(conn, doc_id)
            head = head_of(conn, doc_id)
            require_row((record is None) == (head is None), f"the record of document {doc_id!r}")
            if record is None or head is None:
                return LoadedDoc()
            rev, floor, state, ms, n = head
            log, folded = read_log(conn, doc_id, rev, floor)
            return LoadedDoc(
                token=record.token,
                floor=floor,
                state=state,
                clock=(ms, n),
                log=log,
                folded_ids=folded,
            )

        return await self._database.read(read)

    async def append(
        self, doc_id: str, entries: Sequence[Logged], *, expected_rev: int, now: Millis
    ) -> str:
        def write(conn: sqlite3.Connection) -> str:
            documents.require_writable(conn, doc_id, "replay", now=now)
            head = head_of(conn, doc_id) or (0, 0, b"{}", 0, 0)
            if head[0] != expected_rev:
                raise RevConflictError
            for entry in entries:
                change = entry.change
                rights = None if entry.rights is None else codec.encode(sorted(entry.rights))
                row = (doc_id, change.rev, to_key(change.id), change.encoded, rights)
                try:
                    conn.execute(
                        "INSERT INTO replay_changes VALUES (?, ?, ?, ?, ?, ?)",
                        (*row, row_crc(*row)),
                    )
                except sqlite3.IntegrityError as exc:
                    raise DuplicateChangeIdsError(doc_id, [change.id]) from exc
            if entries:
                put_head(conn, doc_id, (entries[-1].change.rev, *head[1:]))
            token = documents.token_of(conn, doc_id)
            assert token is not None
            return token

        return await self._database.write(write)

    async def fold(
        self, doc_id: str, rev: int, state: bytes, clock: tuple[int, int], *, now: Millis
    ) -> None:
        def write(conn: sqlite3.Connection) -> None:
            documents.require_writable(conn, doc_id, "replay", now=now)
            head = head_of(conn, doc_id)
            if head is None or rev <= head[1]:
                return
            for folded_rev, change_id in conn.execute(
                "SELECT rev, change_id FROM replay_changes"
                " WHERE doc_id = ? AND rev <= ? AND content IS NOT NULL",
                (doc_id, rev),
            ).fetchall():
                row = (doc_id, folded_rev, change_id, None, None)
                conn.execute(
                    "INSERT OR REPLACE INTO replay_changes VALUES (?, ?, ?, ?, ?, ?)",
                    (*row, row_crc(*row)),
                )
            put_head(conn, doc_id, (head[0], rev, state, *clock))

        await self._database.write(write)

    async def get_current_rev(self, doc_id: str) -> int:
        def read(conn: sqlite3.Connection) -> int:
            head = head_of(conn, doc_id)
            return 0 if head is None else head[0]

        return await self._database.read(read)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        def write(conn: sqlite3.Connection) -> None:
            require_algorithm(doc_id, documents.algorithm_of(conn, doc_id), "replay")
            conn.execute("DELETE FROM replay_heads WHERE doc_id = ?", (doc_id,))
            conn.execute("DELETE FROM replay_changes WHERE doc_id = ?", (doc_id,))
            documents.forget_document(conn, doc_id)
            if tombstone is not None:
                documents.put_tombstone(conn, tombstone)

        await self._database.write(write)


def head_of(conn: sqlite3.Connection, doc_id: str) -> Head | None:
    """A document's head. Raises `CorruptDataError` for a damaged one."""
    row = conn.execute(
        f"SELECT {_HEAD} FROM replay_heads WHERE doc_id = ?",  # noqa: S608 -- fixed names
        (doc_id,),
    ).fetchone()
    if row is None:
        return None
    *values, crc = row
    require_row(row_crc(doc_id, *values) == crc, f"the head of document {doc_id!r}")
    rev, floor, state, ms, n = values
    return rev, floor, state, ms, n


def put_head(conn: sqlite3.Connection, doc_id: str, head: Head) -> None:
    """Write a document's head."""
    conn.execute(
        "INSERT OR REPLACE INTO replay_heads VALUES (?, ?, ?, ?, ?, ?, ?)",
        (doc_id, *head, row_crc(doc_id, *head)),
    )


def read_log(
    conn: sqlite3.Connection, doc_id: str, rev: int, floor: int
) -> tuple[list[Logged], list[tuple[str, int]]]:
    """The changes after the floor, and the ids of those up to it.

    Raises `CorruptDataError` for a damaged row, or one that is missing.
    """
    log: list[Logged] = []
    folded: list[tuple[str, int]] = []
    expected = 0
    for found_rev, change_id, content, rights, crc in conn.execute(
        "SELECT rev, change_id, content, rights, crc FROM replay_changes"
        " WHERE doc_id = ? ORDER BY rev",
        (doc_id,),
    ):
        expected += 1
        is_whole = crc == row_crc(doc_id, found_rev, change_id, content, rights)
        is_placed = found_rev == expected and (content is None) == (found_rev <= floor)
        require_row(is_whole and is_placed, f"revision {expected} of document {doc_id!r}")
        if content is None:
            folded.append((from_key(change_id), found_rev))
        else:
            change = Change.from_encoded(content, id=from_key(change_id), rev=found_rev)
            log.append(Logged(change, None if rights is None else codec.decode(rights)))
    require_row(expected == rev, f"revision {rev} of document {doc_id!r}")
    return log, folded
