"""An algorithm with rows of its own in the server's file needs no edit elsewhere."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.errors import AlgorithmMismatchError, CorruptDataError, RevConflictError
from patches.model.change import Change, ChangeInput
from patches.testing.local_server import LocalServer
from patches_server.algorithms import CHECKUPS
from patches_server.documents.backend import Backend
from patches_server.ot import OTServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.backup import backup
from patches_server.stores.sqlite.doctor import problems_of
from patches_server.stores.sqlite.repair import repair
from tests.algorithms.rows.rows_algorithm import RowsAlgorithm
from tests.algorithms.rows.rows_server import ROWS_SERVED, RowsCheckup, RowsServer

EDIT = ChangeInput(id="c1", ops=[{"op": "replace", "path": "/a", "value": 1}], base_rev=0)


def algorithm() -> RowsAlgorithm:
    rows = RowsAlgorithm()
    rows.options = {"token": "first"}
    return rows


def local_server(backend: Backend) -> LocalServer:
    return LocalServer(backend, services={"rows": ROWS_SERVED.serve(backend, None, None)})


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "memory":
        return MemoryBackend()
    return SqliteBackend(tmp_path / "server.db")


async def test_clients_sync_beside_ot_and_lww(backend: Backend, tmp_path: Path) -> None:
    async with (
        local_server(backend) as server,
        Patches(tmp_path / "ann.db", algorithms=[algorithm()]) as anns,
        Patches(algorithms=[algorithm()], store=tmp_path / "bob.db") as bobs,
        PatchesSync(anns, server.connection()) as ann_sync,
        PatchesSync(bobs, server.connection()) as bob_sync,
    ):
        for name in ("rows", "ot", "lww"):
            ann = await anns.open_doc(f"{name}/d", algorithm=name)
            bob = await bobs.open_doc(f"{name}/d", algorithm=name)
            ann.apply([{"op": "replace", "path": "/ann", "value": name}])
            await ann_sync.settled(10)
            bob.apply([{"op": "replace", "path": "/bob", "value": name}])
            await bob_sync.settled(10)
            both = {"ann": name, "bob": name}
            async with asyncio.timeout(10):  # the broadcast may come after all is settled
                for doc in (ann, bob):
                    async for state in doc:
                        if state == both:
                            break
            assert await backend.algorithm_of(f"{name}/d") == name


async def test_its_documents_are_there_after_a_restart(tmp_path: Path) -> None:
    for rev in (1, 2):
        backend = SqliteBackend(tmp_path / "server.db")
        async with local_server(backend) as server:
            async with Patches(algorithms=[algorithm()], store=tmp_path / f"{rev}.db") as patches:
                async with PatchesSync(patches, server.connection()) as sync:
                    doc = await patches.open_doc("rows/d", algorithm="rows")
                    await sync.settled(10)
                    assert doc.committed_rev == rev - 1
                    doc.apply([{"op": "replace", "path": f"/r{rev}", "value": rev}])
                    await sync.settled(10)
                    assert doc.state == {f"r{each}": each for each in range(1, rev + 1)}


async def test_the_record_of_its_documents_is_shared_with_other_algorithms(
    backend: Backend,
) -> None:
    server = RowsServer(backend)
    server.token = None  # type: ignore[assignment]  # calls of this test carry none
    await server.commit_changes("d", [EDIT])
    with pytest.raises(AlgorithmMismatchError):
        await OTServer(backend).commit_changes("d", [EDIT])
    with pytest.raises(RevConflictError):
        await server.store.append("d", [Change(id="x", ops=[], base_rev=5, rev=6, created_at=1)], 1)
    await server.delete_doc("d")
    await OTServer(backend).commit_changes("d", [EDIT])
    assert await backend.algorithm_of("d") == "ot"
    await backend.close()


async def test_backup_doctor_and_repair_ask_it(tmp_path: Path) -> None:
    file, copy = tmp_path / "server.db", tmp_path / "copy.db"
    backend = SqliteBackend(file)
    server = RowsServer(backend)
    server.token = None  # type: ignore[assignment]  # calls of this test carry none
    for number in (1, 2, 3):
        change = ChangeInput(id=f"c{number}", ops=EDIT.ops, base_rev=number - 1)
        await server.commit_changes("rows/d", [change])
    await backend.close()
    assert backup(file, copy, epoch="another").documents == 1
    checkups = (*CHECKUPS, RowsCheckup())
    with closing(sqlite3.connect(copy, isolation_level=None)) as conn:
        assert list(problems_of(conn, checkups, replay=True)) == []
        assert [str(each) for each in problems_of(conn, CHECKUPS)] == [
            "file: 1 documents of 'rows' were not checked: its tables are unknown"
        ]
        conn.execute("UPDATE rows_log SET change = x'7b7d' WHERE rev = 3")
        conn.execute("INSERT INTO rows_log VALUES ('gone', 1, x'7b7d', 0)")
        assert [str(each) for each in problems_of(conn, checkups)] == [
            "checksum: document 'rows/d': revision 3 is damaged"
        ]
        assert repair(conn, checkups) == [
            "removed 1 rows of no document",
            "document 'rows/d': ends at revision 2",
        ]
        assert list(problems_of(conn, checkups)) == []


async def test_damage_is_told_when_it_is_read(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "server.db")
    server = RowsServer(backend)
    server.token = None  # type: ignore[assignment]  # calls of this test carry none
    await server.commit_changes("rows/d", [EDIT])
    await backend.database.write(lambda conn: conn.execute("UPDATE rows_log SET crc = crc + 1"))
    with pytest.raises(CorruptDataError):
        await server.get_doc("rows/d")
    await backend.close()
