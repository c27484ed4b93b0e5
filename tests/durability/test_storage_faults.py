"""A server whose disk is full, read-only or failing (`docs/internals/reliability.md` 5, T44)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from patches.errors import StorageError
from patches_server.auth.access import allow_all
from patches_server.http.app import create_app
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.backup import backup

Call: TypeAlias = Callable[..., Any]


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path / "server.db")
    yield backend
    await backend.close()


@pytest.fixture
async def client(backend: SqliteBackend, aiohttp_client: Any) -> TestClient[Any, Any]:
    made: TestClient[Any, Any] = await aiohttp_client(
        create_app(backend, auth=allow_all, relay=False)
    )
    return made


@pytest.fixture
async def call(client: TestClient[Any, Any]) -> AsyncIterator[Call]:
    """Calls a method on one connection: the answer's error, or else its result."""
    async with client.ws_connect("/ws") as ws:

        async def call(method: str, *params: Any) -> Any:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
            await ws.send_json(request)
            answer = await ws.receive_json(timeout=10)
            return answer.get("error") or answer["result"]

        yield call


def change(number: int, size: int = 1) -> list[dict[str, Any]]:
    ops = [{"op": "replace", "path": f"/f{number}", "value": "x" * size}]
    return [{"id": f"c{number}", "ops": ops, "baseRev": number - 1}]


async def limit_pages(backend: SqliteBackend, more: int | None) -> None:
    def limit(conn: sqlite3.Connection) -> None:
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
        conn.execute(f"PRAGMA max_page_count={1_000_000 if more is None else pages + more}")

    await backend.database.write(limit)


def reason(error: dict[str, Any]) -> tuple[int, str]:
    assert set(error["data"]) == {"reason", "ref"}, "nothing of the path or the SQL"
    assert "server.db" not in error["message"]
    return error["code"], error["data"]["reason"]


@pytest.mark.parametrize("doc_id", ["plan", "lww/board"])
async def test_on_a_full_disk_commits_are_refused_reads_go_on_and_room_heals_it(
    backend: SqliteBackend, call: Call, doc_id: str
) -> None:
    assert (await call("commitChanges", doc_id, change(1)))["changes"]
    await limit_pages(backend, 1)
    refused = await call("commitChanges", doc_id, change(2, size=50_000))
    assert reason(refused) == (503, "STORAGE")
    held = await call("getChangesSince", doc_id, 0)
    assert [len(held), held[-1]["rev"]] == [1, 1], "no part of the refused commit"
    await limit_pages(backend, None)
    assert (await call("commitChanges", doc_id, change(2, size=50_000)))["changes"]
    assert (await call("getChangesSince", doc_id, 0))[-1]["rev"] == 2


async def test_a_read_only_file_is_served_and_commits_are_refused(
    backend: SqliteBackend, call: Call, client: TestClient[Any, Any]
) -> None:
    await call("commitChanges", "plan", change(1))
    # As it looks to SQLite when the file system was mounted read-only after an error.
    backend.database._opened().execute("PRAGMA query_only=ON")
    assert reason(await call("commitChanges", "plan", change(2))) == (503, "STORAGE")
    assert len(await call("getChangesSince", "plan", 0)) == 1
    assert (await client.get("/healthz")).status == 200
    backend.database._opened().execute("PRAGMA query_only=OFF")
    assert (await call("commitChanges", "plan", change(2)))["changes"]


class FailsToCommit:
    """A connection whose disk fails when a transaction is to be written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("doc_id", ["plan", "lww/board"])
async def test_an_io_error_at_the_commit_is_no_ack_and_leaves_nothing(
    backend: SqliteBackend, call: Call, doc_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call("commitChanges", doc_id, change(1))
    with monkeypatch.context() as patched:
        patched.setattr(backend.database, "_writer", FailsToCommit(backend.database._opened()))
        assert reason(await call("commitChanges", doc_id, change(2))) == (503, "STORAGE")
        assert (await call("getChangesSince", doc_id, 0))[-1]["rev"] == 1
    again = await call("commitChanges", doc_id, change(2))
    assert again["changes"][-1]["rev"] == 2, "the same change, once"
    assert (await call("getChangesSince", doc_id, 0))[-1]["rev"] == 2


async def test_a_damaged_row_stops_its_document_alone(
    backend: SqliteBackend, call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for doc_id in ("plan", "notes", "lww/board", "lww/other"):
        await call("commitChanges", doc_id, change(1))
    with closing(sqlite3.connect(tmp_path / "server.db")) as conn, conn:
        conn.execute("UPDATE ot_changes SET crc = crc + 1 WHERE doc_id = 'plan'")
        conn.execute("UPDATE lww_rows SET op = x'7b7d' WHERE doc = 1")
    for doc_id in ("plan", "lww/board"):
        assert reason(await call("getDoc", doc_id)) == (503, "CORRUPT")
        assert reason(await call("getChangesSince", doc_id, 0)) == (503, "CORRUPT")
    for doc_id in ("notes", "lww/other"):
        assert len((await call("getDoc", doc_id))["changes"]) == 1
        assert (await call("commitChanges", doc_id, change(2)))["changes"]
    assert "'plan': revision 1" in caplog.text, "the log says where"


async def test_a_file_of_a_newer_server_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    backend = SqliteBackend(path)
    epoch = await backend.epoch()
    await backend.close()
    again = SqliteBackend(path)
    assert await again.epoch() == epoch, "it is the same file"
    await again.close()
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA user_version=99")
    runner = web.AppRunner(create_app(path, auth=allow_all))
    with pytest.raises(StorageError, match="format 99, this one knows"):
        await runner.setup()
    await runner.cleanup()


async def test_the_epoch_tells_a_restored_copy_from_its_original(
    tmp_path: Path, client: TestClient[Any, Any], backend: SqliteBackend, aiohttp_client: Any
) -> None:
    shown = (await (await client.get("/healthz")).json())["epoch"]
    assert shown == await backend.epoch()
    made = backup(tmp_path / "server.db", tmp_path / "copy.db", epoch="another")
    assert made.epoch == "another"
    restored = await aiohttp_client(create_app(tmp_path / "copy.db", auth=allow_all))
    assert (await (await restored.get("/healthz")).json())["epoch"] == "another"


async def test_a_read_that_failed_does_not_hold_later_reads_at_its_moment(
    backend: SqliteBackend,
) -> None:
    database = backend.database

    await backend.epoch()
    await database.write(lambda conn: conn.execute("CREATE TABLE t (n)"))
    await database.write(lambda conn: conn.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)]))
    kept: list[BaseException] = []

    def fail(conn: sqlite3.Connection) -> None:
        rows = conn.execute("SELECT n FROM t")
        for _ in rows:
            raise ValueError("in the middle of the rows")

    try:
        await database.read(fail)
    except ValueError as exc:
        kept.append(exc)  # as a log does, with the rows that are still to come
    await database.write(lambda conn: conn.execute("INSERT INTO t VALUES (3)"))
    count = "SELECT count(*) FROM t"
    assert await database.read(lambda conn: conn.execute(count).fetchone()) == (3,)
    assert kept
