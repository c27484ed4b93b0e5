"""A server's file from before there were history tokens and checksums over keys."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from patches import Patches
from patches.errors import CorruptDataError, WrongFileError
from patches.model import codec
from patches.model.json_values import Json
from patches.stores.sqlite.keys import to_key
from patches_server.algorithms import CHECKUPS, services_on
from patches_server.documents.history import KnownHistory
from patches_server.lww.holdings import encode_spans
from patches_server.stores.sqlite import SqliteBackend
from patches_server.stores.sqlite.doctor import problems_of

OLD: Final = """
CREATE TABLE server_file (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, schema INTEGER NOT NULL);
CREATE TABLE server_documents (doc_id TEXT PRIMARY KEY, algorithm TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE server_tombstones (doc_id TEXT PRIMARY KEY, deleted_at INTEGER NOT NULL,
    last_rev INTEGER NOT NULL, deleted_by_client_id TEXT, expires_at INTEGER) WITHOUT ROWID;
CREATE TABLE server_time (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
CREATE TABLE ot_heads (doc_id TEXT PRIMARY KEY, rev INTEGER NOT NULL, change_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, size_bound INTEGER NOT NULL, depth_bound INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE ot_changes (doc_id TEXT NOT NULL, rev INTEGER NOT NULL, change_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, batch_id TEXT, client_id TEXT, crc INTEGER NOT NULL, change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)) WITHOUT ROWID;
CREATE TABLE ot_change_ids (doc_id TEXT NOT NULL, change_id TEXT NOT NULL,
    PRIMARY KEY (doc_id, change_id)) WITHOUT ROWID;
CREATE TABLE lww_docs (doc INTEGER PRIMARY KEY, doc_id TEXT NOT NULL UNIQUE, rev INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0, snapshot_rev INTEGER, snapshot BLOB);
CREATE TABLE lww_rows (doc INTEGER NOT NULL, path BLOB NOT NULL, rev INTEGER NOT NULL, pos INTEGER NOT NULL,
    ts NUMERIC NOT NULL, held BLOB NOT NULL, hidden INTEGER NOT NULL DEFAULT 0, pinned INTEGER NOT NULL,
    droppable INTEGER NOT NULL, stored_at INTEGER NOT NULL, crc INTEGER NOT NULL, op BLOB NOT NULL,
    UNIQUE (doc, path));
CREATE TABLE lww_change_ids (doc INTEGER NOT NULL, change_id BLOB NOT NULL, expires_at INTEGER NOT NULL,
    PRIMARY KEY (doc, change_id)) WITHOUT ROWID;
CREATE TABLE server_versions (seq INTEGER PRIMARY KEY, doc_id TEXT NOT NULL, version_id TEXT NOT NULL,
    origin TEXT NOT NULL, group_id TEXT, start_rev INTEGER NOT NULL, end_rev INTEGER NOT NULL,
    started_at NOT NULL, record BLOB NOT NULL, state BLOB, UNIQUE (doc_id, version_id));
CREATE TABLE server_branches (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL,
    modified_at INTEGER NOT NULL, deleted INTEGER NOT NULL, record BLOB NOT NULL);
INSERT INTO server_file VALUES (1, 'oldepoch', 1);
INSERT INTO server_time VALUES (1, 5);
INSERT INTO server_tombstones VALUES ('gone', 3, 2, NULL, NULL);
"""  # noqa: E501 -- as it was


def op(rev: int) -> dict[str, Json]:
    return {"op": "replace", "path": f"/f{rev}", "value": rev}


def old_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executescript(OLD)
        for doc_id in ("plan", "torn"):
            conn.execute("INSERT INTO server_documents VALUES (?, 'ot')", (doc_id,))
            for rev in (1, 2, 3):
                change = {"id": f"c{rev}", "ops": [op(rev)], "baseRev": rev - 1, "rev": rev}
                data = codec.encode({**change, "createdAt": rev, "committedAt": rev})
                crc = zlib.crc32(data) + (doc_id == "torn" and rev == 2)
                row = (doc_id, rev, f"c{rev}", rev, None, None, crc, data)
                conn.execute("INSERT INTO ot_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
                conn.execute("INSERT INTO ot_change_ids VALUES (?, ?)", (doc_id, f"c{rev}"))
            conn.execute("INSERT INTO ot_heads VALUES (?, 3, 'c3', 3, 100, 3)", (doc_id,))
        conn.execute("INSERT INTO server_documents VALUES ('board', 'lww')")
        conn.execute("INSERT INTO lww_docs (doc_id, rev) VALUES ('board', 3)")
        for rev in (1, 2, 3):
            data = codec.encode({**op(rev), "ts": rev, "rev": rev})
            held = encode_spans(((rev, None),))
            path_key = to_key(f"/f{rev}")
            cells = (1, path_key, rev, 0, rev, held, 0, 0, 0, rev, zlib.crc32(data), data)
            conn.execute("INSERT INTO lww_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", cells)
            conn.execute("INSERT INTO lww_change_ids VALUES (1, ?, ?)", (to_key(f"c{rev}"), 2**40))


async def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    old_file(path)
    backend = SqliteBackend(path)
    assert await backend.epoch() == "oldepoch"
    services = services_on(backend)
    ot, lww = services["ot"].documents, services["lww"].documents
    snapshot = await ot.get_doc("plan")
    assert [change.ops for change in snapshot.changes] == [[op(1)], [op(2)], [op(3)]]
    (change,) = (await lww.get_doc("board")).changes
    assert [each["value"] for each in change.ops] == [1, 2, 3]
    for documents, doc_id in ((ot, "plan"), (lww, "board")):
        mark = await documents.history_of(doc_id)
        assert mark is not None
        assert (mark.token, mark.rev) == ("oldepoch.0", 3)
        assert await documents.history_of(doc_id, KnownHistory("oldepoch.0", 2, "c2"), 2) == mark
        assert await documents.change(doc_id, lambda patch: patch.replace("/new", 1)) is not None
    assert await backend.get_tombstone("gone") is not None
    with pytest.raises(CorruptDataError):
        await ot.get_doc("torn")
    await backend.close()
    with closing(sqlite3.connect(path)) as conn:
        assert [str(problem) for problem in problems_of(conn, CHECKUPS)] == [
            "checksum: document 'torn': revision 2 is damaged"
        ]


async def test_tables_about_the_file_get_checksums(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    backend = SqliteBackend(path)
    documents = services_on(backend)["ot"].documents
    assert await documents.change("plan", lambda patch: patch.replace("/a", 1)) is not None
    epoch = await backend.epoch()
    await backend.close()
    with closing(sqlite3.connect(path)) as conn, conn:  # as version 2 had it
        conn.execute("ALTER TABLE file_parts DROP COLUMN sum")
        conn.execute("UPDATE file_parts SET version = 2 WHERE name = 'documents'")
        for table in ("server_file", "server_lives", "server_time"):
            conn.execute(f"ALTER TABLE {table} DROP COLUMN crc")
        problems = [str(problem) for problem in problems_of(conn, CHECKUPS)]
        assert problems == ["file: an older server wrote it; start this one on it once"]
    backend = SqliteBackend(path)
    assert await backend.epoch() == epoch
    documents = services_on(backend)["ot"].documents
    assert await documents.change("plan", lambda patch: patch.replace("/b", 1)) is not None
    await backend.close()
    with closing(sqlite3.connect(path)) as conn:
        assert list(problems_of(conn, CHECKUPS)) == []


async def test_the_file_of_a_client_is_refused_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    async with Patches(store=path) as patches:
        await patches.open_doc("d")
    before = path.read_bytes()
    backend = SqliteBackend(path)
    with pytest.raises(WrongFileError):
        await backend.epoch()
    await backend.close()
    assert path.read_bytes() == before
