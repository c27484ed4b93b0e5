"""A server on PostgreSQL: it serves as on any backend, and says what is wrong with a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import StorageError, WrongFileError
from patches.model.change import ChangeInput
from patches.testing.local_server import LocalServer
from patches_server.algorithms import services_on
from patches_server.cli.main import main
from patches_server.stores.url import open_backend
from tests.support.postgres import PostgresServer

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.identity import new_epoch
from patches_server.stores.postgres.migrations import migrate, missing, on_one_connection


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(postgres_url, durability="relaxed")
    yield backend
    await backend.close()


def setting(key: str) -> Callable[[Any], object]:
    return lambda draft: draft.update({key: 1})


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_it_serves(backend: PostgresBackend, algorithm: str) -> None:
    async with (
        LocalServer(backend, routes={"*": algorithm}) as server,
        Patches() as anns,
        Patches() as bobs,
        PatchesSync(anns, server.connection()) as ann_sync,
        PatchesSync(bobs, server.connection()) as bob_sync,
    ):
        ann = await anns.open_doc("d", algorithm=algorithm)
        ann.change(lambda draft: draft.update(title="Hello"))
        await ann_sync.settled(10)
        bob = await bobs.open_doc("d", algorithm=algorithm)
        await bob_sync.settled(10)
        for number in range(10):
            ann.change(setting(f"a{number}"))
            bob.change(setting(f"b{number}"))
        await ann_sync.settled(10)
        await bob_sync.settled(10)
        await ann_sync.settled(10)
        assert bob.state == ann.state
        assert len(ann.state) == 21
        assert await backend.algorithm_of("d") == algorithm


async def test_processes_started_at_once_on_an_empty_database_come_up(
    postgres: PostgresServer,
) -> None:
    """Scenario 32."""
    url = await postgres.create_empty_database()
    backends = [PostgresBackend(url) for _ in range(3)]
    epochs = await asyncio.gather(*(backend.epoch() for backend in backends))
    assert len(set(epochs)) == 1
    assert await missing(url) == []
    assert await migrate(url) == []
    for backend in backends:
        await backend.close()
    await postgres.drop_database(url)


async def test_a_database_of_another_level_is_refused(postgres_url: str) -> None:
    """Scenario 31."""

    async def alter(sql: str) -> None:
        await on_one_connection(postgres_url, lambda conn: conn.execute(sql))

    for sql, words in (
        ("UPDATE patches.meta SET level = 0", "run patches-server migrate"),
        ("UPDATE patches.meta SET level = 99, usable_from = 99", "install a newer version"),
    ):
        await alter(sql)
        backend = PostgresBackend(postgres_url)
        with pytest.raises(WrongFileError, match=words):
            await backend.epoch()
        await backend.close()


async def test_a_wrong_database_or_host_is_a_storage_error_without_a_password(
    postgres: PostgresServer,
) -> None:
    """Scenario 31."""
    missing_database = postgres.url("nowhere").replace("postgres@", "postgres:secret@")
    for url in (missing_database, "postgresql://u:secret@127.0.0.1:1/db"):
        backend = PostgresBackend(url, timeout_s=0.3)
        with pytest.raises(StorageError) as raised:
            await backend.epoch()
        assert "secret" not in str(raised.value)
        await backend.close()


async def test_a_new_epoch_gives_every_document_another_token(
    backend: PostgresBackend, postgres_url: str
) -> None:
    services = services_on(backend)
    before = {}
    for name in ("ot", "lww"):
        ops = [{"op": "replace", "path": "/a", "value": 1}]
        await services[name].documents.commit_changes(name, [ChangeInput(id="c", ops=ops)])
        before[name] = await services[name].documents.history_of(name)
    epoch = await backend.epoch()
    assert await on_one_connection(postgres_url, new_epoch) == await backend.epoch() != epoch
    for name in ("ot", "lww"):
        after = await services[name].documents.history_of(name)
        assert after is not None
        assert before[name] is not None
        assert after.token != before[name].token  # type: ignore[union-attr]
    reset = await services["lww"].documents.get_changes_since("lww", 1)
    assert reset[0].ops[0]["path"] == "", "the whole document"


async def test_another_identity_is_another_epoch(
    backend: PostgresBackend, postgres_url: str
) -> None:
    """A base backup that was restored, or a standby that was promoted."""
    epoch = await backend.epoch()
    await on_one_connection(
        postgres_url,
        lambda conn: conn.execute("UPDATE patches.meta SET identity = 'elsewhere'"),
    )
    others = [PostgresBackend(postgres_url) for _ in range(2)]
    found = [await other.epoch() for other in others]
    assert found[0] == found[1] == await backend.epoch() != epoch
    for other in others:
        await other.close()


def test_commands_migrate_and_give_an_epoch(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = asyncio.run(postgres.create_empty_database())
    assert main(["migrate", "--check", "--store", url]) == 1
    assert main(["migrate", "--store", url]) == 0
    assert main(["migrate", "--check", "--store", url]) == 0
    assert main(["new-epoch", "--store", url]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["missing: 0001_initial", "applied: 0001_initial"]
    assert said[-1].startswith("epoch ")
    asyncio.run(postgres.drop_database(url))
    assert main(["migrate", "--store", url]) == 1
    assert main(["migrate", "--store", "sqlite:///x.db"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_url_names_it() -> None:
    assert isinstance(open_backend("postgresql://h/db"), PostgresBackend)
