"""Commits to one document that are written together: decided one on the other, one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from patches.errors import StorageError
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Op
from patches_server.ot.server import OTServer
from patches_server.stores.sqlite import SqliteBackend


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path / "server.db")
    await backend.epoch()
    yield backend
    await backend.close()


def change(id: str, base_rev: int) -> ChangeInput:
    ops: list[Op] = [{"op": "replace", "path": f"/{id}", "value": 1}]
    return ChangeInput(id=id, ops=ops, base_rev=base_rev)


async def commit(server: OTServer, id: str, base_rev: int) -> list[str]:
    result = await server.commit_changes("d", [change(id, base_rev)])
    return [each.id for each in result.changes]


async def test_commits_that_wait_for_one_document_share_transactions(
    backend: SqliteBackend,
) -> None:
    server = OTServer(backend)
    told: list[str] = []
    server.on_changes_committed(lambda _doc, changes, *_: told.extend(each.id for each in changes))
    await commit(server, "first", 0)
    commits: list[str] = []
    await backend.database.write(lambda conn: conn.set_trace_callback(commits.append))
    answers = await asyncio.gather(*(commit(server, f"c{n}", 1) for n in range(48)))
    await backend.database.write(lambda conn: conn.set_trace_callback(None))
    stored = await server.get_changes_since("d", 0)
    assert [each.rev for each in stored] == list(range(1, 50))
    assert told == [each.id for each in stored], "in the order of the log"
    for number, answer in enumerate(answers):
        assert answer == [each.id for each in stored[1:] if each.rev <= number + 2]
    transactions = commits.count("COMMIT")
    assert transactions * 3 <= 48, f"{transactions} transactions"


async def test_what_another_process_has_written_is_no_loss(backend: SqliteBackend) -> None:
    ours, theirs = OTServer(backend), OTServer(backend)
    await commit(ours, "first", 0)
    await commit(theirs, "second", 1)
    answers = await asyncio.gather(*(commit(ours, f"c{n}", 1) for n in range(8)))
    stored = await theirs.get_changes_since("d", 0)
    assert [each.rev for each in stored] == list(range(1, 11))
    assert {each.id for each in stored} == {"first", "second", *(f"c{n}" for n in range(8))}
    assert all("second" in answer for answer in answers)


async def test_commits_on_one_that_fails_are_decided_again(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = OTServer(backend)
    await commit(server, "first", 0)
    begin, failed = backend.database.begin_together, asyncio.Event()

    def failing(_fn: object, _item: object) -> asyncio.Future[object]:
        def fail(conn: sqlite3.Connection) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(backend.database, "begin_together", begin)
        failed.set()
        return backend.database.begin_write(fail)

    monkeypatch.setattr(backend.database, "begin_together", failing)
    outcomes = await asyncio.gather(
        *(commit(server, f"c{n}", 1) for n in range(4)), return_exceptions=True
    )
    assert failed.is_set()
    assert isinstance(outcomes[0], StorageError)
    assert [isinstance(each, list) for each in outcomes[1:]] == [True] * 3
    stored: list[Change] = await server.get_changes_since("d", 0)
    assert [each.id for each in stored] == ["first", "c1", "c2", "c3"]
    assert await commit(server, "c0", 1) == ["c1", "c2", "c3", "c0"]


async def test_a_deletion_comes_after_the_commits_before_it(backend: SqliteBackend) -> None:
    server = OTServer(backend)
    await commit(server, "first", 0)
    commits = [asyncio.ensure_future(commit(server, f"c{n}", 1)) for n in range(4)]
    await asyncio.sleep(0)
    await server.delete_doc("d")
    assert [len(each) for each in await asyncio.gather(*commits)] == [1, 2, 3, 4]
    tombstone = await backend.get_tombstone("d")
    assert tombstone is not None
    assert tombstone.last_rev == 5
