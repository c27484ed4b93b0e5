"""Known weaknesses of the original (`docs/internals/sync.md` 12), which ours must not have."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.model.change import Change, Snapshot
from patches.net.connection import CommitAnswer
from patches.runtime import Runtime
from patches.sync import PatchesSync, SyncedDoc
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import sync_scene

ALGORITHMS = pytest.mark.parametrize("algorithm", ["ot", "lww"])


@asynccontextmanager
async def client(server: LocalServer, seed: int = 1) -> AsyncIterator[tuple[Patches, PatchesSync]]:
    runtime = Runtime(random=random.Random(seed), wall_ms=lambda: 1_000_000)
    async with (
        Patches(runtime=runtime) as patches,
        PatchesSync(patches, server.connection()) as sync,
    ):
        yield patches, sync


def put(doc: Document, **values: object) -> None:
    doc.apply([{"op": "replace", "path": f"/{name}", "value": v} for name, v in values.items()])


def row(value: int, *, rev: int, ts: int, base_rev: int | None = None) -> Change:
    """An LWW change that holds one committed field."""
    op = {"op": "replace", "path": "/n", "value": value, "ts": ts, "rev": rev}
    return Change(
        id=f"row{rev}",
        ops=[op],
        base_rev=rev - 1 if base_rev is None else base_rev,
        rev=rev,
        created_at=ts,
        committed_at=ts,
    )


def local_server(algorithm: str) -> LocalServer:
    runtime = Runtime(random=random.Random(7), wall_ms=lambda: 1_000_000)
    return LocalServer(routes={"*": algorithm}, runtime=runtime)


@ALGORITHMS
def test_1_edits_made_behind_a_lost_commit_leave_after_the_reconnect(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        async with local_server(algorithm) as server, client(server) as (patches, sync):
            doc = await patches.open_doc("d", algorithm=algorithm)
            put(doc, a=1)
            await sync.settled(5)
            put(doc, b=1)
            await doc.flush()  # in the sending slot, and on its way
            server.network.cut(lose=True)
            await idle()
            put(doc, c=1)  # behind it
            await doc.flush()
            await sync.settled(30)
            assert sync.synced["d"] == SyncedDoc(doc.committed_rev, False, "synced")
            async with client(server, 2) as (others, others_sync):
                other = await others.open_doc("d", algorithm=algorithm)
                await others_sync.settled(5)
                assert other.state == doc.state == {"a": 1, "b": 1, "c": 1}

    run()


def test_2_a_late_answer_does_not_restore_an_old_value() -> None:
    """A broadcast with a newer revision that arrives before the answer is applied after it."""

    @virtual_time
    async def run() -> None:
        connection = FakeConnection()
        runtime = Runtime(random=random.Random(3), wall_ms=lambda: 1_000_000)
        async with Patches(runtime=runtime) as patches, PatchesSync(patches, connection):
            doc = await patches.open_doc("d", algorithm="lww")
            load = await connection.next_call("getDoc")
            load.answer(Snapshot(state={}, rev=101, changes=[row(1, rev=101, ts=1001, base_rev=0)]))
            await idle()
            put(doc, mine=1)
            push = await connection.next_call("commitChanges")
            connection.on_changes_committed.emit("d", [row(40, rev=103, ts=1003)])
            await idle()
            (mine,) = push.changes
            older = row(39, rev=102, ts=1002).ops[0]
            own = {**mine.ops[0], "rev": 102}
            push.answer(CommitAnswer([mine.replace(ops=[older, own], base_rev=101, rev=102)]))
            await idle()
            assert doc.state == {"n": 40, "mine": 1}

    run()


def test_3_work_left_after_a_recovery_by_reload_is_sent() -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            doc = await scene.opened_at(1)
            scene.connection.drop()
            await scene.edit(doc, mine=1)
            scene.algorithm.unappliable.add("other2")
            scene.connection.restore()
            push = await scene.connection.next_call("commitChanges")
            push.answer(CommitAnswer([committed(2)]))  # holds the change that cannot be applied
            reload = await scene.connection.next_call("getDoc")
            scene.algorithm.unappliable.clear()
            reload.answer(Snapshot(state={"r2": 2}, rev=2))
            (await scene.connection.next_call("getChangesSince")).answer([committed(2)])
            (await scene.connection.next_call("commitChanges")).commit(3)
            await scene.sync.settled(1)
            assert doc.state == {"r2": 2, "mine": 1}

    run()


@virtual_time
async def test_4_a_lost_answer_and_a_new_connection_id_commit_once_and_converge() -> None:
    async with (
        local_server("ot") as server,
        client(server, 1) as (anns, anns_sync),
        client(server, 2) as (bobs, bobs_sync),
    ):
        ann, bob = await anns.open_doc("d"), await bobs.open_doc("d")
        ann.set({"list": list(range(8)), "n": 0})
        await anns_sync.settled(5)
        await idle()
        bob.apply([{"op": "add", "path": "/list/0", "value": "bob"}])
        ann.apply([{"op": "remove", "path": "/list/4"}])
        ann.apply([{"op": "remove", "path": "/list/4"}, {"op": "@inc", "path": "/n", "value": 1}])
        await ann.flush()
        # the commits reach the server, the answers are lost with the sockets
        for _ in range(40):
            await asyncio.sleep(0)
            if server.server.sessions and any(
                len(session.outbox) for session in server.server.sessions.values()
            ):
                break
        assert ann.has_pending
        assert len(await server.services["ot"].documents.get_changes_since("d", 0)) > 1
        server.network.cut(lose=True)
        await anns_sync.settled(60)
        await bobs_sync.settled(60)
        await idle()
        assert ann.state == bob.state
        assert ann.state["n"] == 1
        assert len(ann.state["list"]) == 7
        head = await server.services["ot"].documents.get_changes_since("d", 0)
        ids = [change.id for change in head]
        assert len(ids) == len(set(ids))


@virtual_time
async def test_5_a_silently_closed_socket_shows_no_error() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection._state = "disconnected"  # and nobody was told
        await scene.edit(doc, a=1)
        assert scene.entry() == SyncedDoc(1, True, "synced")
        assert "error" not in scene.statuses()


@ALGORITHMS
def test_6_committed_rev_does_not_fall_back_on_a_reconnect(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        async with local_server(algorithm) as server, client(server) as (patches, sync):
            doc = await patches.open_doc("d", algorithm=algorithm)
            revs: list[int] = []
            sync.on_synced_change(
                lambda entries: revs.append(entries["d"].committed_rev) if "d" in entries else None
            )
            for number in range(5):
                put(doc, a=number)
                await sync.settled(5)
                server.network.cut()
                await idle()
            await sync.settled(60)
            assert revs == sorted(revs)
            assert revs[-1] == 5

    run()
