"""Damage in a client's file is told, mended where the server has the truth, and never sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.damaged_files import run
from patches import Patches, PatchesSync
from patches.errors import CorruptDataError, ErrorContext, PatchesError
from patches.testing.local_server import LocalServer

COMMITTED = {
    "plan": "UPDATE ot_committed SET change = replace(change, '1000', '9000') WHERE rev = 1",
    "lww/plan": "UPDATE lww_rows SET op = replace(op, '1000', '9000') WHERE NOT pending",
}
PENDING = {
    "plan": "UPDATE ot_pending SET change = replace(change, '2000', '9000')",
    "lww/plan": "UPDATE lww_rows SET op = replace(op, '2000', '9000') WHERE pending",
}


async def prepare(server: LocalServer, path: Path, doc_id: str, damage: str) -> None:
    """A price that the server has, an offer that waits here, and damage in the file."""
    async with Patches(store=path) as patches:
        algorithm = "lww" if doc_id.startswith("lww/") else "ot"
        doc = await patches.open_doc(doc_id, algorithm=algorithm)
        async with PatchesSync(patches, server.connection()) as sync:
            doc.change(lambda draft: draft.update(price="1000 EUR"))
            await sync.settled(10)
        doc.change(lambda draft: draft.update(offer="2000 EUR"))
        await doc.flush()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(damage).rowcount
        db.commit()


def noting(errors: list[Exception]) -> Callable[[Exception, ErrorContext], Any]:
    return lambda error, _context: errors.append(error)


@pytest.mark.parametrize("doc_id", COMMITTED)
async def test_a_damaged_committed_part_is_fetched_anew(tmp_path: Path, doc_id: str) -> None:
    path = tmp_path / "client.db"
    async with LocalServer() as server:
        await prepare(server, path, doc_id, COMMITTED[doc_id])
        async with Patches(store=path) as patches:
            with pytest.raises(CorruptDataError):  # offline, nobody knows better
                await patches.open_doc(doc_id)
            errors: list[Exception] = []
            patches.on_error(noting(errors))
            async with PatchesSync(patches, server.connection()) as sync:
                doc = await patches.open_doc(doc_id)
                assert doc.state == {"price": "1000 EUR", "offer": "2000 EUR"}
                assert [type(error) for error in errors] == [CorruptDataError]
                await sync.settled(10)
        async with Patches(store=path) as patches:
            assert (await patches.open_doc(doc_id)).state == doc.state


@pytest.mark.parametrize("doc_id", PENDING)
async def test_damaged_unsent_work_is_not_sent_and_can_be_given_up(
    tmp_path: Path, doc_id: str
) -> None:
    path = tmp_path / "client.db"
    async with LocalServer() as server:
        await prepare(server, path, doc_id, PENDING[doc_id])
        async with Patches(store=path) as patches:
            async with PatchesSync(patches, server.connection()) as sync:
                with pytest.raises(CorruptDataError):
                    await patches.open_doc(doc_id)
                with suppress(TimeoutError, PatchesError):
                    await sync.settled(1)
                assert isinstance(sync.synced[doc_id].error, CorruptDataError)
                await patches.untrack_docs([doc_id])
                algorithm = "lww" if doc_id.startswith("lww/") else "ot"
                doc = await patches.open_doc(doc_id, algorithm=algorithm)
                await sync.settled(10)
                assert doc.state == {"price": "1000 EUR"}


@pytest.mark.parametrize("doc_id", ["plan", "lww/plan"])
async def test_a_document_without_its_record_is_told_of_and_can_be_forgotten(
    tmp_path: Path, doc_id: str
) -> None:
    path = tmp_path / "client.db"
    async with LocalServer() as server:
        table = "lww_docs" if doc_id.startswith("lww/") else "ot_docs"
        await prepare(server, path, doc_id, f"UPDATE {table} SET committed_rev = 7")
        patches = Patches(store=path)
        errors: list[Exception] = []
        patches.on_error(noting(errors))
        async with patches:
            assert [type(error) for error in errors] == [CorruptDataError]
            assert patches.tracked_docs == {doc_id}
            with pytest.raises(CorruptDataError):
                await patches.open_doc(doc_id)
            await patches.untrack_docs([doc_id])
            algorithm = "lww" if doc_id.startswith("lww/") else "ot"
            assert (await patches.open_doc(doc_id, algorithm=algorithm)).state == {}


async def test_no_flipped_bit_and_no_lost_row_goes_unnoticed(tmp_path: Path) -> None:
    figures = await run(tmp_path, files=16, seed=1)
    assert figures.silently_wrong == []
