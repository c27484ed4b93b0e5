"""A client whose store fails: reported, tried three times, then latched, and nothing lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patches.client.patches import Patches
from patches.errors import ErrorContext, StorageError, StorageFullError
from patches.runtime import Runtime
from patches.stores.sqlite.backend import SqliteBackend
from patches.sync.patches_sync import PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import virtual_time


async def inline(fn: Callable[[], Any], /) -> Any:
    """Virtual time has no threads."""
    await asyncio.sleep(0)
    return fn()


def limit_pages(backend: SqliteBackend, more: int | None) -> None:
    connection: sqlite3.Connection = backend.database._opened()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    limit = 1_000_000 if more is None else pages + more
    connection.execute(f"PRAGMA max_page_count={limit}")


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
def test_a_full_disk_latches_the_document_and_room_lets_everything_go_out(
    tmp_path: Path, algorithm: str
) -> None:
    @virtual_time
    async def run() -> None:
        backend = SqliteBackend(tmp_path / "client.db", runtime=Runtime(run_blocking=inline))
        told: list[tuple[type[Exception], ErrorContext]] = []
        async with (
            LocalServer(routes={"*": algorithm}) as server,
            Patches(store=backend) as patches,
            PatchesSync(patches, server.connection()) as sync,
        ):
            patches.on_error(lambda error, context: told.append((type(error), context)))
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.apply([{"op": "replace", "path": "/a", "value": 1}])
            await sync.settled(10)
            limit_pages(backend, 0)
            begun = asyncio.get_running_loop().time()
            doc.apply([{"op": "replace", "path": "/big", "value": "x" * 100_000}])
            with pytest.raises(StorageError):
                await doc.flush()
            assert asyncio.get_running_loop().time() - begun >= 3.0, "a pause after each try"
            assert [error for error, _ in told] == [StorageFullError] * 3
            assert [context.will_retry for _, context in told] == [True, True, False]
            assert patches.write_latched_docs == ["d"]

            doc.apply([{"op": "replace", "path": "/b", "value": 2}])  # still editable
            assert set(doc.state) == {"a", "big", "b"}
            with pytest.raises(StorageError):
                await doc.flush()
            assert told[-1][1].latched, "an edit of a latched document says so"
            served = await server.services[algorithm].documents.get_doc("d")
            assert served.head == 1, "what is not stored here is not sent"

            limit_pages(backend, None)
            await patches.retry_saving_changes("d")
            await sync.settled(10)
            assert not patches.is_write_latched("d")
            assert (await server.services[algorithm].documents.get_doc("d")).head > 1
        await backend.close()
        again = SqliteBackend(tmp_path / "client.db", runtime=Runtime(run_blocking=inline))
        async with Patches(store=again) as reopened:
            assert set((await reopened.open_doc("d")).state) == {"a", "big", "b"}
        await again.close()

    run()


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
def test_a_failure_that_passes_is_reported_and_heals_by_itself(
    tmp_path: Path, algorithm: str
) -> None:
    @virtual_time
    async def run() -> None:
        backend = SqliteBackend(tmp_path / "client.db", runtime=Runtime(run_blocking=inline))
        told: list[bool] = []
        async with Patches(store=backend) as patches:
            patches.on_error(lambda error, context: told.append(context.will_retry))
            doc = await patches.open_doc("d", algorithm=algorithm)
            backend.database._opened().execute("PRAGMA query_only=ON")  # a read-only disk
            doc.apply([{"op": "replace", "path": "/a", "value": 1}])
            await asyncio.sleep(0.5)
            assert told == [True]
            backend.database._opened().execute("PRAGMA query_only=OFF")
            await doc.flush()
            assert doc.has_pending
        await backend.close()

    run()
